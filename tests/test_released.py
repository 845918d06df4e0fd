"""The released code's depth networks: its own forward from its own names, and its files as runs of ours."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os

import cv2
import numpy as np
import pytest
import torch
import torchvision

from train.depth import DepthNet
from train.encoder_files import find_encoder
from train.encoders import make_encoder
from train.errors import TrainError
from train.importing import import_file
from train.released import RELEASED_DENSEDEPTH, ReleasedDenseDepth, released_depth_net, released_network
from train.restore import depth_net_of_run, encoder_of_run

from .foreign_weights import (
    State,
    released_densedepth,
    released_densedepth_output,
    released_fcrn,
    released_fcrn_output,
    torchvision_state,
)
from .small_runs import SMALL, train

pytestmark = pytest.mark.usefixtures("one_thread")
DENSENET121 = (64, 64, 128, 256, 1024)


@functools.cache
def fcrn() -> State:
    """On ResNet-18, which that code has too; not to be changed."""
    return released_fcrn("resnet18", 512)


@functools.cache
def densedepth() -> State:
    """On DenseNet-121, in the widths that its rule would give; not to be changed."""
    return released_densedepth("densenet121", DENSENET121)


def network_of(tensors: State) -> DepthNet:
    network = released_network(tensors)
    assert network is not None
    return released_depth_net(tensors, network, find_encoder(tensors, None, "file.pth"), "file.pth")[0]


def pictures(*size_HW: int) -> torch.Tensor:
    return torch.rand(2, 3, *size_HW, generator=torch.Generator().manual_seed(0))


def assert_same_outputs(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float(theirs.std()) > 0.01, "an output that says nothing"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


# Outputs --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_fcrn_computes_what_it_does_there():
    net = network_of(fcrn())
    assert net.network == "fcrn"
    rgb_N3HW = pictures(96, 128)
    assert_same_outputs(net(rgb_N3HW), released_fcrn_output(fcrn(), "resnet18", rgb_N3HW))


@torch.no_grad()
@pytest.mark.parametrize("size_HW", [(96, 128), (75, 101)])
def test_densedepth_computes_what_it_does_there(size_HW):
    net = network_of(densedepth())
    assert net.network == RELEASED_DENSEDEPTH
    rgb_N3HW = pictures(*size_HW)
    out = net(rgb_N3HW)
    assert out.shape[-2:] == ((size_HW[0] + 1) // 2, (size_HW[1] + 1) // 2)
    assert_same_outputs(out, released_densedepth_output(densedepth(), "densenet121", rgb_N3HW))


@torch.no_grad()
def test_depth_is_ten_over_the_output_within_the_released_range():
    net = network_of(fcrn())
    rgb_N3HW = pictures(64, 64)
    out, depth = net(rgb_N3HW), net.predict(rgb_N3HW)
    inside = (out > 1) & (out < 100)
    torch.testing.assert_close(depth[inside], 10 / out[inside])
    assert torch.all(depth[out <= 1] == 10)
    assert torch.all(depth[out >= 100] == 0.1)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "network"), [("resnet50", "fcrn"), ("densenet161", RELEASED_DENSEDEPTH)])
def test_the_published_networks_names_and_shapes_are_all_taken(encoder, network):
    """Of the two files that were published, by shapes that take no memory."""
    with torch.device("meta"):
        model = torchvision.models.get_model(encoder, weights=None)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    if network == "fcrn":
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith("fc.")}
        widths = [1024, 512, 256, 128, 64]
        shapes |= {"conv2.weight": (1024, 2048, 1, 1), **norm_shapes("bn2", 1024), "conv3.weight": (1, 64, 3, 3)}
        for layer, (wide, half) in enumerate(itertools.pairwise(widths), start=1):
            upper, bottom = (f"upSample.layer{layer}.{branch}_branch" for branch in ("upper", "bottom"))
            shapes |= {f"{upper}.conv1.weight": (half, wide, 5, 5), f"{upper}.conv2.weight": (half, half, 3, 3)}
            shapes |= {f"{bottom}.conv.weight": (half, wide, 5, 5), **norm_shapes(f"{bottom}.batchnorm", half)}
            shapes |= {**norm_shapes(f"{upper}.batchnorm1", half), **norm_shapes(f"{upper}.batchnorm2", half)}
    else:
        shapes = {f"encoder.original_model.{key}": shape for key, shape in shapes.items()}
        shapes |= {"decoder.conv2.weight": (1104, 2208, 1, 1), "decoder.conv2.bias": (1104,)}
        for step, (inputs, out) in enumerate([(1488, 552), (744, 276), (372, 138), (234, 69)], start=1):
            for name, channels in (("convA", inputs), ("convB", out)):
                shapes |= {f"decoder.up{step}.{name}.weight": (out, channels, 3, 3)}
                shapes |= {f"decoder.up{step}.{name}.bias": (out,)}
        shapes |= {"decoder.conv3.weight": (1, 69, 3, 3), "decoder.conv3.bias": (1,)}
    tensors = {f"module.{key}": torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    found = find_encoder(tensors, None, "file.pth")
    assert (found.name, released_network(tensors)) == (encoder, network)
    _, used = released_depth_net(tensors, network, found, "file.pth")
    left = {name for name in tensors if name not in used}
    assert all("original_model.classifier." in name for name in left)
    assert len(left) == (0 if network == "fcrn" else 2)


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.num_batches_tracked": ()}
    return shapes | {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize(
    ("tensors", "dropped", "changed"),
    [
        (fcrn, "upSample.layer2.bottom_branch.conv.weight", "upSample.layer1.upper_branch.conv1.weight"),
        (densedepth, "decoder.up3.convB.bias", "decoder.conv2.weight"),
    ],
)
def test_a_decoder_that_is_not_whole_is_told_in_the_files_names(tensors, dropped, changed):
    state = dict(tensors())
    del state[dropped]
    seen, wanted = state[changed][:, :-1], "x".join(map(str, state[changed].shape))
    state[changed] = seen
    with pytest.raises(TrainError) as caught:
        network_of(state)
    message = str(caught.value)
    assert "of the released code: 1 missing" in message
    assert f"1 missing ({dropped})" in message
    assert f"{changed} {'x'.join(map(str, seen.shape))} where {wanted} is wanted" in message
    assert "\n" not in message


def test_a_decoder_with_values_that_are_not_finite_is_told():
    state = {**fcrn(), "conv3.weight": torch.full((1, 16, 3, 3), float("inf"))}
    with pytest.raises(TrainError, match=r"^file\.pth: conv3\.weight has values that are not finite$"):
        network_of(state)


def test_the_released_densedepth_wants_a_densenet():
    with pytest.raises(TrainError, match="encoder resnet18 in the released code's DenseDepth, wanted a DenseNet"):
        ReleasedDenseDepth(make_encoder("resnet18", 0), min_depth_m=0.1, max_depth_m=10)


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The released code's FCRN, as DataParallel would have it, and of a larger file's dict."""
    path = tmp_path_factory.mktemp("released") / "fcrn_18.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in fcrn().items()}, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def imported(file, tmp_path_factory):
    """The run that it becomes."""
    run = tmp_path_factory.mktemp("imported") / "run"
    said = train("import", file, "--out", run, "--size", "80x60").output
    assert (
        f"{file}: {len(fcrn())} of {len(fcrn())} names matched fcrn on resnet18 (prefix 'state_dict.module.')" in said
    )
    assert f"train evaluate STORE {run}" in said
    return run


@torch.no_grad()
def test_an_imported_network_is_the_files(imported):
    net, meta = depth_net_of_run(imported, pytest.fail)
    rgb_N3HW = pictures(64, 96)
    assert_same_outputs(net(rgb_N3HW), released_fcrn_output(fcrn(), "resnet18", rgb_N3HW))
    assert meta["arguments"]["network"] == "fcrn"
    assert not net.normalise


def test_an_imported_network_is_evaluated_and_predicts(imported, small_store, frames, tmp_path):
    said = train("evaluate", small_store, imported, "--protocol", "nyu-eigen", "--device", "cpu").output
    assert "3 images" in said
    picture = tmp_path / "room.png"
    cv2.imwrite(str(picture), frames[0].rgb_HWC)
    train("predict", picture, "--run", imported, "--device", "cpu")
    depth = np.load(tmp_path / "room-depth.npy")
    assert depth.shape == (480, 640)
    assert 0.1 <= depth.min() < depth.max() <= 10


def test_an_imported_network_is_exported_and_starts_a_fine_tuning(imported, small_store, tmp_path):
    assert "difference" in train("export", imported, "--to", "torchvision", "--out", tmp_path / "encoder.pth").output
    run = tmp_path / "run"
    train("finetune", small_store, "--init", imported, "--network", "fcrn", *SMALL, "--steps", 1, "--lr", 0,
          "--out", run)  # fmt: skip
    assert torch.equal(encoder_of_run(run, pytest.fail).layer4[1].conv2.weight, fcrn()["layer4.1.conv2.weight"])


def test_an_encoders_file_becomes_a_pre_training(tmp_path):
    path, run = tmp_path / "resnet_18.pth", tmp_path / "run"
    state = torchvision_state("resnet18")
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    said = train("import", path, "--out", run).output
    assert "120 of 120 names matched resnet18 (prefix '')" in said
    assert f"--init {run}" in said
    encoder = encoder_of_run(run, pytest.fail)
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    assert "no depth network" in train("predict", path, "--run", run, code=1).output


def test_densedepth_becomes_a_run_that_computes_as_there(tmp_path):
    torch.save(densedepth(), tmp_path / "densedepth.pth")
    said: list[str] = []
    assert (
        import_file(tmp_path / "densedepth.pth", tmp_path / "run", network="densedepth", say=said.append) == "finetune"
    )
    assert "not used: encoder.original_model.classifier (2 names)" in said[0]
    net, meta = depth_net_of_run(tmp_path / "run", pytest.fail)
    assert meta["arguments"]["size"] == "640x480"
    rgb_N3HW = pictures(64, 64)
    with torch.no_grad():
        assert_same_outputs(net(rgb_N3HW), released_densedepth_output(densedepth(), "densenet121", rgb_N3HW))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network", "densedepth"], "a fcrn in it, wanted densedepth (--network)"),
        (["--encoder", "resnet50"], "its encoder is resnet18, wanted resnet50 (--encoder)"),
        (["--size", "0x60"], "--size 0x60: wanted a width and height in pixels"),
    ],
)
def test_what_is_expected_and_not_there_is_one_line(file, tmp_path, options, said):
    result = train("import", file, "--out", tmp_path / "run", *options, code=1)
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert said in line
    assert not (tmp_path / "run").exists()


def test_what_is_no_regular_file_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "no regular file, wanted a file"), (tmp_path, "a folder, wanted a file")):
        assert f"{path}: {said} of weights" in train("import", path, "--out", tmp_path / "run", code=1).output


def test_torchvisions_own_file_is_sent_to_its_option(tmp_path, monkeypatch):
    """As a run it would be given pictures that it has not learnt from."""
    path = tmp_path / "mine.pth"
    torch.save(torchvision_state("resnet18"), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"].value
    monkeypatch.setattr(published, "url", f"https://example.org/resnet18-{digest[:8]}.pth")
    said = train("import", path, "--out", tmp_path / "run", code=1).output
    assert f"wanted as --init imagenet --weights {path}" in said
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_alone(file, imported, tmp_path):
    before = json.loads((imported / "meta.json").read_text())
    assert "holds a run; --overwrite replaces it" in train("import", file, "--out", imported, code=1).output
    (tmp_path / "mine.txt").write_text("mine")
    assert "wanted a new or empty folder" in train("import", file, "--out", tmp_path, code=1).output
    # A file that is no network costs no run, with --overwrite neither.
    (tmp_path / "text.pth").write_text("text")
    train("import", tmp_path / "text.pth", "--out", imported, "--overwrite", code=1)
    assert json.loads((imported / "meta.json").read_text()) == before
    train("import", file, "--out", imported, "--overwrite", "--size", "80x60")
