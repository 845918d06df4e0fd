"""A run's network for other tools: torchvision, timm, safetensors and ONNX, each read back and compared with ours.

What is written is loaded again by the tool that it is for before it gets its name, so that a file that is there has
been seen to work.

Legend: N pictures, H W pixels.
"""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
import torchvision
from torch import nn
from torch.nn import functional

from train.depth import DepthNet
from train.encoders import CLASSIFIERS, Encoder, make_encoder
from train.errors import TrainError
from train.files import remove, sync_folder, temporary_name, write_atomically
from train.frames import size_of_level
from train.restore import depth_net_of_run, encoder_of_run
from train.runs import read_run
from train.weights import DIGEST_KEY, State, load_weights, read_state, state_digest

Network = TypeVar("Network", bound=nn.Module)
EncoderFormat = Literal["torchvision", "timm", "safetensors"]
# Below torch's own choice (20 in torch 2.14), so that older runtimes read it too.
ONNX_OPSET = 18

_SUFFIXES = {"torchvision": ".pth", "timm": ".safetensors", "safetensors": ".safetensors", "onnx": ".onnx"}
FORMATS = tuple(_SUFFIXES)
# Pictures that outputs are compared on: networks are convolutions, a small one shows what a large one would.
_COMPARED_N3HW = (2, 3, 96, 128)


class Exported(NamedTuple):
    """The file written, and the largest absolute difference between our outputs and those of what it holds."""

    path: Path
    difference: float


def export_run(
    run: Path, to: str, out: Path | None = None, *, size_WH: tuple[int, int] | None = None, say: Callable[[str], None]
) -> Exported:
    """Export the network that a run ended with.

    Parameters
    ----------
    run
        Folder of a pre-training or a fine-tuning.
    to
        ``"torchvision"``, ``"timm"`` and ``"safetensors"``: the encoder, as `export_encoder`. ``"onnx"``: the depth
        network of a fine-tuning, the encoder of a pre-training, as `export_onnx`.
    out
        The file; by default one in ``RUN/export/`` named after the network.
    size_WH
        Size in pixels of ONNX's input; the run's by default.
    say
        Is told of a damaged checkpoint that was passed over.

    Raises
    ------
    TrainError
        If there is no such format or run, a package is missing, or the file cannot be written.
    """
    if to not in FORMATS:
        raise TrainError(f"export to {to!r} is unknown, wanted {', '.join(FORMATS)}")
    meta = read_run(run)
    module: DepthNet | Encoder
    if to == "onnx" and meta["command"] == "finetune":
        module, meta = depth_net_of_run(run, say)
        name = f"{module.network}-{module.encoder.name}"
    else:
        module = encoder_of_run(run, say)
        name = module.name
    width, height = size_WH or size_of_level(meta["arguments"]["size"])
    if out is None:
        tail = {"timm": "-timm", "onnx": f"-{width}x{height}"}.get(to, "")
        out = run / "export" / f"{name}{tail}{_SUFFIXES[to]}"
        out.parent.mkdir(exist_ok=True)
        sync_folder(run)
    if to == "onnx":
        return Exported(out, export_onnx(module, out, (width, height)))
    assert isinstance(module, Encoder)
    return Exported(out, export_encoder(module, out, to))


def export_encoder(encoder: Encoder, out: Path, to: str) -> float:
    """Write an encoder's weights, float32 on the CPU, and read them back.

    Parameters
    ----------
    encoder
        The encoder, on any device; it is not changed.
    out
        The file; one that is there is replaced.
    to
        ``"torchvision"``: a ``.pth`` with torchvision's names without the classifier's, plain tensors that
        ``torch.load(weights_only=True)`` reads. ``"timm"``: a ``.safetensors`` that
        ``timm.create_model(name, num_classes=0)`` loads strictly, also by its ``checkpoint_path``.
        ``"safetensors"``: the same names, with the encoder's in the file's metadata; `train.weights.imagenet_weights`
        takes it as a file. In the metadata of both is a digest of the tensors, which `train.weights.read_state` checks.

    Returns
    -------
    float
        The largest absolute difference between the encoder's last map (torchvision: that map averaged,
        which is what its classifier is given) and that of the other tool's model with the weights of the file.

    Raises
    ------
    TrainError
        If the format is unknown, ``out`` has another suffix or cannot be written, or a package is missing.
    """
    if to not in get_args(EncoderFormat):
        raise TrainError(f"export to {to!r} is unknown, wanted {', '.join(get_args(EncoderFormat))}")
    ours = _plain_copy(encoder)
    state: State = {name: tensor.contiguous() for name, tensor in ours.state_dict().items()}
    rgb_N3HW = _pictures(*_COMPARED_N3HW)
    with _published(out, _SUFFIXES[to]) as temporary, torch.no_grad():
        if to == "torchvision":
            torch.save(state, temporary)
        else:
            metadata = {"encoder": ours.name, DIGEST_KEY: state_digest(state)}
            _import("safetensors.torch").save_file(state, str(temporary), metadata=metadata)
        seen = read_state(temporary)
        wanted = ours(rgb_N3HW)[-1]
        if to == "torchvision":
            wanted = functional.adaptive_avg_pool2d(wanted, 1).flatten(1)
            return _largest_difference(wanted, _torchvision_features(ours.name, seen, rgb_N3HW))
        if to == "timm":
            model = _import("timm").create_model(ours.name, pretrained=False, num_classes=0).eval()
            model.load_state_dict(seen, strict=True)
            return _largest_difference(wanted, model.forward_features(rgb_N3HW))
        loaded = make_encoder(ours.name, 0).eval()
        load_weights(loaded, seen, str(out))
        return _largest_difference(wanted, loaded(rgb_N3HW)[-1])


def export_onnx(module: DepthNet | Encoder, out: Path, size_WH: tuple[int, int]) -> float:
    """Write a network as ONNX (opset 18), weights included, and run it by ONNX Runtime on the CPU.

    The input ``rgb`` is (batch, 3, H, W) float32 in [0, 1], of any batch and the size given. A depth network's output
    ``depth_m`` is (batch, 1, h, w) in metres, half the size; an encoder's are its maps, ``stride2`` to ``stride32``.

    ONNX has no checksum that its readers look at: one stands beside the file in ``<name>.onnx.sha256``, for
    ``sha256sum --check``.

    Parameters
    ----------
    module
        The network, on any device; it is not changed.
    out
        The file; one that is there is replaced.
    size_WH
        Width and height of the input in pixels.

    Returns
    -------
    float
        The largest absolute difference between the outputs on one picture and on two: metres of a depth network.

    Raises
    ------
    TrainError
        If ``out`` has another suffix or cannot be written, or a package is missing.
    """
    runtime = _import("onnxruntime")
    for needed in ("onnx", "onnxscript"):
        _import(needed)
    width, height = size_WH
    network = _Outputs(_plain_copy(module))
    rgb_N3HW = _pictures(2, 3, height, width)
    with _published(out, ".onnx", checksum=True) as temporary, torch.no_grad():
        with warnings.catch_warnings():
            # Of torch's own doings with the graph; what matters is compared below.
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (rgb_N3HW,),
                dynamo=True,
                opset_version=ONNX_OPSET,
                input_names=["rgb"],
                output_names=network.names,
                dynamic_shapes={"rgb_N3HW": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
        program.save(str(temporary), external_data=False)
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        differences = []
        for count in (1, 2):
            seen = session.run(network.names, {"rgb": rgb_N3HW[:count].numpy()})
            wanted = network(rgb_N3HW[:count])
            differences += [
                _largest_difference(ours, torch.from_numpy(theirs)) for ours, theirs in zip(wanted, seen, strict=True)
            ]
        return max(differences)


class _Outputs(nn.Module):
    """A network whose outputs are a tuple, as ONNX names them."""

    def __init__(self, network: DepthNet | Encoder) -> None:
        super().__init__()
        self.network = network
        depth = isinstance(network, DepthNet)
        self.names = ["depth_m"] if depth else [f"stride{2**power}" for power in range(1, 6)]

    def forward(self, rgb_N3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if isinstance(self.network, DepthNet):
            return (self.network.to_metres(self.network(rgb_N3HW)),)
        return tuple(self.network(rgb_N3HW))


def _torchvision_features(name: str, state: State, rgb_N3HW: torch.Tensor) -> torch.Tensor:
    """What torchvision's own forward hands to its classifier, with these weights."""
    model = torchvision.models.get_model(name, weights=None).eval()
    classifier = next(child for child_name, child in model.named_children() if child_name in CLASSIFIERS)
    of_classifier = {key: value for key, value in model.state_dict().items() if key.partition(".")[0] in CLASSIFIERS}
    model.load_state_dict({**state, **of_classifier}, strict=True)
    seen: list[torch.Tensor] = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(rgb_N3HW)
    return seen[0]


def _plain_copy(module: Network) -> Network:
    plain = copy.deepcopy(module).cpu().float().eval()
    plain.to(memory_format=torch.contiguous_format)
    return plain


def _pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())


def _import(package: str) -> Any:
    try:
        return __import__(package, fromlist=["_"])
    except ImportError:
        name = package.partition(".")[0]
        raise TrainError(f"{name} is not installed, wanted for this export: pip install {name}") from None


@contextmanager
def _published(out: Path, suffix: str, *, checksum: bool = False) -> Iterator[Path]:
    """A file of the same name in a temporary folder beside ``out``, which replaces ``out`` if all goes well.

    With ``checksum``, a second file tells its SHA-256. An older one goes first, so that it never belies a new file.
    """
    if out.suffix != suffix:
        raise TrainError(f"{out}: suffix {out.suffix!r}, wanted {suffix}")
    folder = temporary_name(out.parent)
    beside = out.with_name(f"{out.name}.sha256")
    try:
        folder.mkdir()
        try:
            yield folder / out.name
            with (folder / out.name).open("rb+") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest() if checksum else ""
            if checksum:
                beside.unlink(missing_ok=True)
            (folder / out.name).replace(out)
            if checksum:
                write_atomically(beside, f"{digest}  {out.name}\n".encode(), folder)
            sync_folder(out.parent)
        finally:
            remove(folder)
    except OSError as error:
        raise TrainError(f"{out}: {error.strerror or error}, wanted a file that can be written") from error
