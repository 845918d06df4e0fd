"""Single flipped bits, in everything that is kept for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.trust.campaign import Campaign, Wrong
from train.checkpoint import load_checkpoint, save_checkpoint
from train.errors import TrainError


def _checkpoint(folder: Path) -> Path:
    return save_checkpoint(folder, 1, {"x": torch.arange(30), "y": [1, "z"]}, {"of": "a test"})


def _flip(whole: Path, number: int, rng: np.random.Generator, folder: Path) -> str:
    name = ("state.pt", "meta.json")[number % 2]
    copy = folder / "checkpoints" / whole.name
    copy.mkdir(parents=True)
    for each in whole.iterdir():
        (copy / each.name).write_bytes(each.read_bytes())
    data = bytearray((copy / name).read_bytes())
    place = int(rng.integers(8 * len(data)))
    data[place // 8] ^= 1 << place % 8
    (copy / name).write_bytes(data)
    try:
        load_checkpoint(folder, say=lambda text: None)
    except TrainError:
        return f"{name}: refused"
    raise Wrong(f"bit {place} of {name} is flipped, and the checkpoint loads")


CAMPAIGNS = [
    Campaign(
        "checkpoint-flips",
        "one bit flipped in a checkpoint",
        "loading refuses it",
        quick=100,
        soak=10_000,
        prepare=_checkpoint,
        case=_flip,
    )
]
