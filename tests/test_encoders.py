"""Encoders and their weights: torchvision's own networks, names and numbers, and one line for every wrong file."""

from __future__ import annotations

import functools
import hashlib
import pickle

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional

from train.encoders import ENCODERS, Encoder, make_encoder
from train.errors import TrainError
from train.random import seeded_layers
from train.weights import imagenet_weights, load_weights

from .foreign_weights import Canary, dotted, torchvision_state

SMALL_N3HW = (2, 3, 64, 96)


pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(seed: int = 0, shape=SMALL_N3HW) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def shapes_only(name: str) -> Encoder:
    """An encoder without numbers."""
    with torch.device("meta"):
        return make_encoder(name, 0).eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_parameters_are_the_published_ones_without_the_classifiers(name):
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta["num_params"]
    encoder = shapes_only(name)
    with torch.device("meta"):
        whole = torchvision.models.get_model(name, weights=None)
    of_classifier = (encoder.channels[-1] + 1) * 1000
    assert sum(parameter.numel() for parameter in encoder.parameters()) == published - of_classifier
    kept = {key: value.shape for key, value in whole.state_dict().items() if not key.startswith(("fc.", "classifier."))}
    assert {key: value.shape for key, value in encoder.state_dict().items()} == kept


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size_HW", [(480, 640), (240, 320), (640, 480)])
def test_maps_halve_the_size_five_times(name, size_HW):
    maps = shapes_only(name)(torch.zeros(2, 3, *size_HW, device="meta"))
    sizes = [(-(-size_HW[0] // stride), -(-size_HW[1] // stride)) for stride in (2, 4, 8, 16)]
    assert [tuple(map_NChw.shape[-2:]) for map_NChw in maps[:-1]] == sizes
    # 240 rows are no multiple of 32; DenseNet's pooling leaves out the odd row.
    round_up = 0 if name.startswith("densenet") else 31
    assert tuple(maps[-1].shape[-2:]) == tuple((side + round_up) // 32 for side in size_HW)


@given(name=st.sampled_from(ENCODERS), height=st.integers(32, 99), width=st.integers(32, 99))
@settings(max_examples=12)
def test_maps_of_odd_sizes_have_the_channels_told(name, height, width):
    encoder = shapes_only(name)
    maps = encoder(torch.zeros(1, 3, height, width, device="meta"))
    assert tuple(map_NChw.shape[1] for map_NChw in maps) == encoder.channels
    for stride, map_NChw in zip((2, 4, 8, 16, 32), maps, strict=True):
        assert abs(map_NChw.shape[2] - height / stride) < 1
        assert abs(map_NChw.shape[3] - width / stride) < 1


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("training", [False, True])
def test_the_maps_are_those_inside_torchvisions_own_forward(name, training):
    state = torchvision_state(name)
    model = torchvision.models.get_model(name, weights=None)
    model.load_state_dict(state)
    encoder = make_encoder(name, 1)
    load_weights(encoder, {key: value for key, value in state.items() if key in encoder.state_dict()}, "test")
    ends = {
        "resnet18": ["relu", "layer1", "layer2", "layer3", "layer4"],
        "densenet121": [f"features.{name}" for name in ("relu0", "pool0", "transition1", "transition2", "norm5")],
    }[name]
    seen: list[torch.Tensor] = []
    for end in ends:
        # Copied, since torchvision applies the last ReLU in place.
        model.get_submodule(end).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    model.train(training)(pictures())
    seen[-1] = functional.relu(seen[-1])
    for ours, theirs in zip(encoder.train(training)(pictures()), seen, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_every_map_keeps_its_values_while_later_layers_run(name):
    # A later layer that worked in place would change the map handed out before, and its gradient.
    encoder = make_encoder(name, 0).eval()
    last = {"resnet18": ["bn1", "layer1", "layer2", "layer3"], "densenet121": ["features.norm0", "features.pool0"]}[
        name
    ]
    at_the_time: list[torch.Tensor] = []
    for end in last:
        encoder.get_submodule(end).register_forward_hook(lambda _, __, output: at_the_time.append(output.clone()))
    maps = encoder(pictures())
    at_the_time[0] = functional.relu(at_the_time[0])
    for ours, then in zip(maps, at_the_time, strict=False):
        assert torch.equal(ours, then)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = make_encoder("resnet18", 7).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = make_encoder("resnet18", 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], make_encoder("resnet18", 8).state_dict()["conv1.weight"])


def test_random_weights_are_torchvisions():
    with seeded_layers(3, "encoder"):
        model = torchvision.models.resnet18()
    ours = make_encoder("resnet18", 3).state_dict()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in ours.items())


def test_seeded_layers_of_other_purposes_draw_other_numbers():
    with seeded_layers(3, "encoder"):
        a = torch.rand(4)
    with seeded_layers(3, "decoder"):
        b = torch.rand(4)
    assert not torch.equal(a, b)


def test_an_unknown_encoder_lists_the_known_ones():
    with pytest.raises(TrainError, match=r"^encoder 'resnet34' is unknown, wanted resnet18, resnet50, .*densenet161$"):
        make_encoder("resnet34", 0)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of torch's of our own, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def published_name(name: str) -> str:
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url.rsplit("/", 1)[-1]


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_imagenet_weights_come_from_torchs_cache(hub, name, monkeypatch):
    state = torchvision_state(name)
    stored = dotted(state)
    torch.save(stored, hub / "made.pth")
    digest = hashlib.sha256((hub / "made.pth").read_bytes()).hexdigest()
    # The published file cannot be had here, so torchvision is told of one with the same rule of names.
    of_name = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].value
    monkeypatch.setattr(of_name, "url", f"https://example.org/models/{name}-{digest[:8]}.pth", raising=False)
    (hub / "made.pth").rename(hub / f"{name}-{digest[:8]}.pth")
    encoder = make_encoder(name, 1)
    load_weights(encoder, imagenet_weights(name), "test")
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, torch.tensor(0) if key.endswith("num_batches_tracked") else state[key]), key


def test_a_cached_file_of_other_bytes_is_refused(hub):
    torch.save(torchvision_state("resnet18"), hub / published_name("resnet18"))
    with pytest.raises(TrainError, match=r"resnet18-f37072fd\.pth: SHA-256 begins with [0-9a-f]{8}, wanted f37072fd"):
        imagenet_weights("resnet18")


def test_weights_that_are_nowhere_are_told_with_file_folder_and_url(hub):
    with pytest.raises(TrainError) as caught:
        imagenet_weights("densenet161")
    message = str(caught.value)
    assert str(hub) in message
    assert "https://download.pytorch.org/models/densenet161-8d451a50.pth" in message
    assert "\n" not in message


def test_a_file_of_safetensors_is_read(tmp_path):
    state = torchvision_state("resnet18")
    save_file(state, tmp_path / "mine.safetensors")
    read = imagenet_weights("resnet18", tmp_path / "mine.safetensors")
    assert set(read) == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(value, state[key]) for key, value in read.items())


def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path):
    canary = tmp_path / "executed"
    for name, write in (("plain.pth", pickle.dump), ("zip.pth", torch.save)):
        with (tmp_path / name).open("wb") as file:
            write({"conv1.weight": Canary(canary)}, file)
        with pytest.raises(TrainError, match=name) as caught:
            imagenet_weights("resnet18", tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, 100_000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_one_line(tmp_path, kept, suffix):
    path = tmp_path / f"cut{suffix}"
    state = {"conv1.weight": pictures(shape=(64, 3, 30, 30))}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrainError, match=f"{path.name}: ") as caught:
        imagenet_weights("resnet18", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {3: torch.zeros(1)}])
def test_a_file_without_a_plain_state_dict_is_told(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(TrainError, match="wanted a state dict: names with tensors"):
        imagenet_weights("resnet18", tmp_path / "other.pth")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(TrainError, match=r"none\.pth: No such file or directory"):
        imagenet_weights("resnet18", tmp_path / "none.pth")


def test_weights_of_another_network_are_told_and_change_nothing():
    encoder = make_encoder("resnet18", 0)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = make_encoder("resnet50", 0).state_dict()
    with pytest.raises(TrainError) as caught:
        load_weights(encoder, state, "run/checkpoint")
    message = str(caught.value)
    assert message.startswith("run/checkpoint: weights of another network: ")
    unknown = [key for key in state if key not in before]
    assert f"{len(unknown)} unknown ({', '.join(unknown[:3])}, …)" in message
    assert "layer1.0.conv1.weight 64x64x1x1 where 64x64x3x3 is wanted" in message
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_missing_weights_are_counted_and_named():
    state = make_encoder("resnet18", 0).state_dict()
    del state["conv1.weight"]
    with pytest.raises(TrainError, match=r"1 missing \(conv1\.weight\)$"):
        load_weights(make_encoder("resnet18", 1), state, "file")
