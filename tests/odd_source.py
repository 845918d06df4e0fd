"""Small frames with what an export may trip over: odd names, holes, extreme values, a grid of its own, a bad frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import gfield
from gfield.codec import CodecName
from gfield.frame import BadFrame, Frame, LeftOut

FRAMES, BAD = 11, 5
NAMES = ("<script>alert('1')</script>", "a/b.c", "ünï", "two words", "d.e.f", "bad", *map(str, range(6, FRAMES)))
SPLITS = ("train", "test", "train", "train", "test", "train", "train", "unlabeled", "train", "train", "train")


@dataclass(frozen=True)
class OddSource:
    """A source of the frames that `write_odd_frames` has written."""

    path: Path
    kind: str = "odd"
    names: Sequence[str] = NAMES
    splits: Sequence[str] = SPLITS
    scenes: Sequence[str] = ("", *["hall"] * (FRAMES - 1))
    columns: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"weather": ["rain & sun"] * FRAMES})
    size_WH: tuple[int, int] = (64, 48)
    provides: frozenset[str] = frozenset({"rgb", "depth", "label"})
    depth_shape_HW: tuple[int, int] = (48, 32)
    valid_region: None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    frames_per_chunk: int = 1
    reading: str = "numpy"
    warnings: Sequence[str] = ()

    def inputs(self) -> Sequence[Path]:
        """The one file."""
        return (self.path,)

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Frames out of it."""
        with np.load(self.path) as held:
            for index in range(start, stop):
                if index == BAD:
                    yield BadFrame(index, f"{self.path}: frame {index} is bad")
                else:
                    yield Frame(index, {name: held[name][index] for name in arrays})


def write_odd_frames(path: Path) -> OddSource:
    """Write the frames as .npz; returns the source of them."""
    rng = np.random.default_rng(3)
    depth_NHW = rng.uniform(0.5, 80, (FRAMES, 48, 32)).astype(np.float32)
    depth_NHW[rng.random(depth_NHW.shape) < 0.3] = np.nan
    depth_NHW[:, 0, :3] = np.float32(1e-40), np.float32(1e30), np.float32(0.1)
    np.savez(
        path,
        rgb=rng.integers(0, 256, (FRAMES, 48, 64, 3), np.uint8),
        depth=depth_NHW,
        label=rng.integers(0, 1 << 16, (FRAMES, 48, 32), np.uint16),
    )
    return OddSource(path)


def odd_store(folder: Path, codec: CodecName = "lz4") -> Path:
    """A store of them, two frames a shard, without the bad one."""
    source = write_odd_frames(folder / "odd.npz")
    levels = [(64, 48), (32, 24)]
    spec = gfield.make_spec(source, levels_WH=levels, optional=["label"], codec=codec, frames_per_shard=2)
    gfield.build_store(source, folder / "odd.zarr", spec, on_error="skip")
    return folder / "odd.zarr"
