"""Exports: other tools load what is written, strictly, and compute the same with it."""

from __future__ import annotations

import hashlib
import sys

import onnx
import onnxruntime
import pytest
import safetensors
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from train.batchnorm import split_batchnorm
from train.checkpoint import save_checkpoint
from train.depth import DepthNet, make_depth_net
from train.encoders import ENCODERS, Encoder, make_encoder
from train.errors import TrainError
from train.export import export_encoder, export_onnx, export_run
from train.runs import create_run
from train.weights import imagenet_weights, load_weights, state_digest

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def unlike_new(module: nn.Module) -> nn.Module:
    """Give the batch norms numbers that training might have left, so that losing them shows."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    return module


def trained_encoder(name: str) -> Encoder:
    return unlike_new(make_encoder(name, 0))


def trained_net(network: str) -> DepthNet:
    return unlike_new(make_depth_net(network, make_encoder("resnet18", 0), normalise=True, seed=0))


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_torchvision_takes_the_weights_with_its_own_classifier(tmp_path, name):
    encoder = trained_encoder(name)
    assert export_encoder(encoder, tmp_path / "encoder.pth", "torchvision") < 1e-5
    state = torch.load(tmp_path / "encoder.pth", weights_only=True)
    model = torchvision.models.get_model(name, weights=None).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert {key.split(".")[0] for key in missing} <= {"fc", "classifier"}
    assert not unexpected
    for classifier in ("fc", "classifier"):
        if hasattr(model, classifier):
            setattr(model, classifier, nn.Identity())
    rgb_N3HW = pictures(2, 3, 64, 64)
    wanted = functional.adaptive_avg_pool2d(encoder.eval()(rgb_N3HW)[-1], 1).flatten(1)
    torch.testing.assert_close(model(rgb_N3HW), wanted)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_timm_takes_the_weights_strictly_and_by_its_checkpoint_path(tmp_path, name):
    encoder = trained_encoder(name)
    path = tmp_path / "encoder.safetensors"
    assert export_encoder(encoder, path, "timm") < 1e-4
    model = timm.create_model(name, num_classes=0, checkpoint_path=str(path)).eval()
    rgb_N3HW = pictures(2, 3, 64, 64)
    torch.testing.assert_close(model.forward_features(rgb_N3HW), encoder.eval()(rgb_N3HW)[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("to", "suffix"), [("torchvision", ".pth"), ("timm", ".safetensors")])
def test_every_encoder_goes_to_torchvision_and_timm(tmp_path, name, to, suffix):
    assert export_encoder(make_encoder(name, 0), tmp_path / f"encoder{suffix}", to) < 1e-4


def test_safetensors_come_back_as_a_file_of_weights(tmp_path):
    encoder = trained_encoder("resnet18")
    path = tmp_path / "encoder.safetensors"
    assert export_encoder(encoder, path, "safetensors") == 0
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"encoder": "resnet18", "tensors_blake3": state_digest(encoder.state_dict())}
    back = make_encoder("resnet18", 1)
    load_weights(back, imagenet_weights("resnet18", path), "test")
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in back.state_dict().items())


def test_an_encoder_as_it_trains_is_exported_and_left_as_it_is(tmp_path):
    # Split batch norm, bfloat16 activations' layout and training mode are the trainer's own business.
    encoder = split_batchnorm(trained_encoder("resnet18"), 2).to(memory_format=torch.channels_last).train()
    assert export_encoder(encoder, tmp_path / "encoder.pth", "torchvision") < 1e-5
    assert encoder.training
    assert encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    state = torch.load(tmp_path / "encoder.pth", weights_only=True)
    assert state["conv1.weight"].is_contiguous()
    assert type(state) is dict
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("network", ["densedepth", pytest.param("fcrn", marks=pytest.mark.slow)])
def test_onnx_gives_metres_for_any_number_of_pictures(tmp_path, network):
    net = trained_net(network)
    path = tmp_path / "net.onnx"
    assert export_onnx(net, path, (75, 50)) < 1e-3
    assert net.training
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model)
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", 18)]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.sha256"]
    digest, _, name = (tmp_path / "net.onnx.sha256").read_text().partition("  ")
    assert (digest, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), "net.onnx\n")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        rgb_N3HW = pictures(count, 3, 50, 75)
        (depth_m,) = session.run(["depth_m"], {"rgb": rgb_N3HW.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(depth_m), net.eval().predict(rgb_N3HW), rtol=1e-4, atol=1e-4, msg=f"{count} pictures"
        )


@pytest.mark.slow
def test_onnx_of_an_encoder_gives_its_five_maps(tmp_path):
    encoder = trained_encoder("resnet18")
    assert export_onnx(encoder, tmp_path / "encoder.onnx", (64, 96)) < 1e-3
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"), providers=["CPUExecutionProvider"])
    shapes = {output.name: output.shape[1:] for output in session.get_outputs()}
    assert shapes == {
        "stride2": [64, 48, 32],
        "stride4": [64, 24, 16],
        "stride8": [128, 12, 8],
        "stride16": [256, 6, 4],
        "stride32": [512, 3, 2],
    }


def test_a_wrong_copy_would_show_as_a_difference(tmp_path, monkeypatch):
    # What is compared is the file: with other numbers in it the difference is large.
    write = torch.save
    monkeypatch.setattr(
        torch, "save", lambda state, path: write({**state, "conv1.weight": state["conv1.weight"] * 1.5}, path)
    )
    assert export_encoder(make_encoder("resnet18", 0), tmp_path / "encoder.pth", "torchvision") > 1e-3


@pytest.mark.parametrize(
    ("package", "to", "suffix"),
    [
        ("timm", "timm", ".safetensors"),
        ("safetensors", "safetensors", ".safetensors"),
        ("onnxruntime", "onnx", ".onnx"),
    ],
)
def test_a_missing_package_is_told_and_nothing_is_left(tmp_path, monkeypatch, package, to, suffix):
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    encoder, path = make_encoder("resnet18", 0), tmp_path / f"encoder{suffix}"
    with pytest.raises(TrainError, match=rf"^{package} is not installed.*pip install {package}$"):
        _ = export_onnx(encoder, path, (64, 64)) if to == "onnx" else export_encoder(encoder, path, to)
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_file_from_before(tmp_path, monkeypatch):
    path = tmp_path / "encoder.pth"
    path.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainError, match=r"encoder\.pth: No space left on device"):
        export_encoder(make_encoder("resnet18", 0), path, "torchvision")
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.pth"]


def test_wrong_names_are_one_line(tmp_path):
    encoder = make_encoder("resnet18", 0)
    with pytest.raises(TrainError, match=r"encoder\.bin: suffix '\.bin', wanted \.safetensors$"):
        export_encoder(encoder, tmp_path / "encoder.bin", "timm")
    with pytest.raises(TrainError, match=r"export to 'keras' is unknown, wanted torchvision, timm, safetensors$"):
        export_encoder(encoder, tmp_path / "encoder.bin", "keras")
    with pytest.raises(TrainError, match=r"none/encoder\.pth: No such file or directory"):
        export_encoder(encoder, tmp_path / "none" / "encoder.pth", "torchvision")


@pytest.fixture
def runs(tmp_path):
    """A pre-training and a fine-tuning that have saved one checkpoint each, by their command."""
    net = trained_net("densedepth")
    models = {
        "pretrain": {f"encoder_q.{key}": value for key, value in net.encoder.state_dict().items()},
        "finetune": net.state_dict(),
    }
    arguments = {
        "encoder": "resnet18",
        "network": "densedepth",
        "size": "64x48",
        "depth_range_m": [0.1, 10.0],
        "normalise": True,
    }
    for command, model in models.items():
        with create_run(tmp_path / command, {"command": command, "arguments": arguments}):
            save_checkpoint(tmp_path / command, 1, {"model": model}, {})
    return {command: tmp_path / command for command in models}


@pytest.mark.parametrize(
    ("command", "to", "name"),
    [
        ("pretrain", "torchvision", "resnet18.pth"),
        ("finetune", "torchvision", "resnet18.pth"),
        ("finetune", "timm", "resnet18-timm.safetensors"),
        ("pretrain", "safetensors", "resnet18.safetensors"),
        pytest.param("pretrain", "onnx", "resnet18-64x48.onnx", marks=pytest.mark.slow),
        pytest.param("finetune", "onnx", "densedepth-resnet18-64x48.onnx", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_exported_into_its_folder(runs, command, to, name):
    exported = export_run(runs[command], to, say=pytest.fail)
    assert exported.path == runs[command] / "export" / name
    assert exported.path.is_file()
    assert 0 <= exported.difference < 1e-3


def test_a_second_export_takes_the_place_of_the_first(runs):
    first = export_run(runs["finetune"], "safetensors", say=pytest.fail)
    assert export_run(runs["finetune"], "safetensors", say=pytest.fail) == first
    assert [file.name for file in (runs["finetune"] / "export").iterdir()] == [first.path.name]


@pytest.mark.slow
def test_a_size_and_a_path_may_be_given(runs, tmp_path):
    exported = export_run(runs["finetune"], "onnx", tmp_path / "mine.onnx", size_WH=(96, 64), say=pytest.fail)
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 64, 96]


def test_an_unknown_format_is_told_before_the_run_is_looked_at(tmp_path):
    with pytest.raises(TrainError, match=r"^export to 'jax' is unknown, wanted torchvision, timm, safetensors, onnx$"):
        export_run(tmp_path / "none", "jax", say=pytest.fail)
