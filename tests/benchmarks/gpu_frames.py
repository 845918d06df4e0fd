"""What the steps on a card read: a store, given or built here, or frames in memory where no store can be built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gfield
from gfield.sample import write_sample
from train.frames import Frames

_LEVELS_WH = [(640, 480), (320, 240), (160, 120), (80, 60)]
_TYPES = {"rgb": np.uint8, "gradient": np.float16, "depth": np.float32}


class MemoryFrames:
    """Made-up frames in memory, with what `train.frames.Frames` has for a stream; nothing is decoded."""

    def __init__(self, names: Sequence[str], size_WH: tuple[int, int], count: int) -> None:
        width, height = size_WH
        rng = np.random.default_rng(0)
        whole = {"rgb": (height, width, 3), "gradient": (height, width), "depth": (height // 2, width // 2)}
        few = 8
        self._frames = {
            name: rng.integers(1, 200, (few, *whole[name])).astype(_TYPES[name]) * (0.02 if name == "depth" else 1)
            for name in names
        }
        self._frames = {name: frames.astype(_TYPES[name]) for name, frames in self._frames.items()}
        self._count = count

    def __len__(self) -> int:
        """Number of frames."""
        return self._count

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._frames)

    def frame_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one frame of an array."""
        return self._frames[name].shape[1:]

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of an array."""
        return self._frames[name].dtype

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of all arrays."""
        return sum(prod(self.frame_shape(name)) * frames.itemsize for name, frames in self._frames.items())

    def empty(self, name: str, count: int) -> np.ndarray[Any, Any]:
        """A new array for some frames."""
        return np.empty((count, *self.frame_shape(name)), _TYPES[name])

    def read(self, name: str, index_N: Any, out: np.ndarray[Any, Any]) -> None:
        """Copy frames into ``out``."""
        frames = self._frames[name]
        np.take(frames, np.asarray(index_N) % len(frames), axis=0, out=out, mode="clip")


class Input(NamedTuple):
    """Where frames come from: a store, or memory where there is none; and that in words."""

    store: gfield.Store | None
    what: str

    def frames(self, names: Sequence[str], size_WH: tuple[int, int], count: int) -> Any:
        """``count`` frames or more, those of the store again and again where it has fewer."""
        if self.store is None:
            return MemoryFrames(names, size_WH, count)
        rows_N = self.store.rows()
        return Frames([(self.store, np.resize(rows_N, max(count, len(rows_N))))], self._keys(names, size_WH))

    def _keys(self, names: Sequence[str], size_WH: tuple[int, int]) -> Mapping[str, str]:
        assert self.store is not None
        own, half = (f"{size_WH[0] // part}x{size_WH[1] // part}" for part in (1, 2))
        if own not in self.store.levels:
            raise SystemExit(f"{self.store.path}: no level {own}, it has {', '.join(self.store.levels)}")
        levels = {name: half if name == "depth" and half in self.store.levels else own for name in names}
        return {name: f"{level}/{name}" for name, level in levels.items()}


def find_input(store: Path | None, folder: Path, rooms: int) -> Input:
    """The given store, or one of rendered rooms that is built into ``folder``, or frames in memory.

    Building takes Dask, reading does not: a machine without it may be given a store.
    """
    if store is not None:
        opened = gfield.open_store(store)
        return Input(opened, f"{len(opened)} frames of {opened.path}")
    try:
        source = gfield.open_nyuv2(write_sample(folder / "sample", rooms=rooms, outdoor=2).nyu_mat)
        built = folder / "rooms.zarr"
        gfield.build_store(source, built, gfield.make_spec(source, levels_WH=_LEVELS_WH))
    except ImportError as error:
        return Input(None, f"made-up frames in memory, so that nothing is decoded: no store was built ({error})")
    return Input(gfield.open_store(built), f"{rooms} rendered rooms, default codec")
