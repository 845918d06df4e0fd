"""What `tests.trust.flips` does to a run's checkpoint and to an encoder's exports."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.trust.bits import flipped
from tests.trust.campaign import Wrong
from tests.trust.children import Child
from train.checkpoint import load_checkpoint, save_checkpoint
from train.encoder_files import read_encoder
from train.encoders import make_encoder
from train.errors import TrainError
from train.export import export_encoder, export_onnx
from train.weights import read_state, state_digest

CHECKPOINT = ("state.pt", "meta.json")
_RUN, _ENCODER = "run", "resnet18"
_FORMATS = {"encoder.pth": "torchvision", "timm.safetensors": "timm", "encoder.safetensors": "safetensors"}
_ONNX = "encoder.onnx"
_EXPORTS = (*_FORMATS, _ONNX)


@dataclass(frozen=True)
class Weights:
    """The checkpoint's folder inside of what is kept, and the digest of the exported encoder."""

    checkpoint: Path
    digest: str


def prepare(kept: Path) -> Weights:
    """A checkpoint like those of a run, and an encoder in all formats."""
    (kept / _RUN).mkdir()
    state = {"model": {"x": torch.arange(30.0), "y": torch.ones(3, dtype=torch.int64)}, "step": 1, "of": [1, "z"]}
    path = save_checkpoint(kept / _RUN, 1, state, {"command": "pretrain", "arguments": {"seed": 0}})
    children = [Child(_export_onnx, kept / _ONNX), Child(_export, kept)]
    _, digest = [child.result() for child in children]
    return Weights(path.relative_to(kept), digest)


def _export(kept: Path) -> str:
    torch.set_num_threads(1)
    encoder = make_encoder(_ENCODER, 0)
    for name, to in _FORMATS.items():
        export_encoder(encoder, kept / name, to)
    return state_digest(encoder.state_dict())


def _export_onnx(path: Path) -> None:
    torch.set_num_threads(1)
    export_onnx(make_encoder(_ENCODER, 0), path, (32, 32))


def flip_checkpoint(weights: Weights, own: Path, name: str, rng: np.random.Generator) -> str:
    """A bit of a checkpoint's file."""
    file = own / weights.checkpoint / name
    bit = int(rng.integers(8 * file.stat().st_size))
    with flipped(file, bit):
        try:
            load_checkpoint(own / _RUN, say=lambda text: None)
        except TrainError:
            return f"checkpoint: {name} refused"
    raise Wrong(f"bit {bit} of {name} is flipped, and the checkpoint loads")


def flip_export(weights: Weights, own: Path, turn: int, rng: np.random.Generator) -> str:
    """A bit of an export: half of the time in its first or last 64 KiB, where its names and places stand."""
    name = _EXPORTS[turn % len(_EXPORTS)]
    file = own / name
    size = file.stat().st_size
    first, last = [(0, size), (0, 1 << 16), (0, size), (size - (1 << 16), size)][rng.integers(4)]
    bit = int(rng.integers(8 * first, 8 * last))
    with flipped(file, bit):
        if name == _ONNX:
            return _check_sum(file, bit)
        try:
            # As `--init FILE` does; and now and then the quicker part of it that all readers of weights go through.
            state = read_encoder(file, _ENCODER).state if rng.random() < 0.5 else read_state(file)
        except TrainError:
            return f"export: {name} refused"
        if state_digest(state) != weights.digest:
            raise Wrong(f"bit {bit} of {name} is flipped, and other weights are read, silently")
    return f"export: {name} reads as it was"


def _check_sum(file: Path, bit: int) -> str:
    """What `sha256sum --check` does."""
    wanted, name = file.with_name(f"{file.name}.sha256").read_text().split()
    with (file.parent / name).open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() == wanted:
            raise Wrong(f"bit {bit} of {file.name} is flipped, and its SHA-256 is the one beside it")
    return f"export: {file.name} is not that of its .sha256"
