"""The frames of a store as a map-style data set of torch, for people with a loop of their own.

The trainer itself reads by `train.stream`, which copies nothing between processes.

data = FrameDataset(["nyu.zarr"], split="train")
loader = DataLoader(data, batch_size=64, shuffle=True, num_workers=2, multiprocessing_context="spawn")
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from gfield import open_store
from train.errors import TrainError
from train.frames import Frames, level_of, preflight

Sample = dict[str, torch.Tensor | int]


class FrameDataset(Dataset[Sample]):
    """Frames of one or more stores, each a dict of tensors and its ``"index"``.

    It pickles as paths and opens the stores anew in every process, so that it is safe under any start method.

    Parameters
    ----------
    paths
        Folders of stores.
    arrays
        Names of arrays, such as ``"rgb"`` (uint8 H,W,3), ``"gradient"`` (float16 H,W) and ``"depth"`` (float32 H,W,
        metres, NaN where there is none).
    size_WH
        Level that is read; see `train.frames.level_of`.
    split
        Only the frames of this split; by default all that could be read.

    Raises
    ------
    TrainError
        If there is no such level or array, or the stores' frames have different sizes.
    StoreError
        If a store cannot be opened, misses a shard, or has no such split.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        arrays: Sequence[str] = ("rgb", "gradient"),
        size_WH: tuple[int, int] = (640, 480),
        split: str | None = None,
    ) -> None:
        if isinstance(paths, str | Path) or not paths:
            raise TrainError(f"paths {paths!r}: wanted a list of stores")
        self._paths, self._arrays, self._size_WH, self._split = tuple(map(Path, paths)), tuple(arrays), size_WH, split
        preflight(open_store(path) for path in self._paths)
        self._length = len(self._frames)

    @cached_property
    def _frames(self) -> Frames:
        stores = [open_store(path) for path in self._paths]
        level = level_of(stores[0], self._size_WH)
        parts = [(store, store.rows(self._split)) for store in stores]
        return Frames(parts, {name: f"{level}/{name}" for name in self._arrays})

    def __len__(self) -> int:
        """Number of frames."""
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """One frame."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Frames of a batch, each array of it read in one go; a DataLoader calls this where it exists.

        The tensors are parts of one tensor a batch, which the default collation copies into its own.
        """
        read: dict[str, torch.Tensor] = {}
        for name in self._arrays:
            out = self._frames.empty(name, len(indices))
            self._frames.read(name, indices, out)
            read[name] = torch.from_numpy(out)
        return [
            {**{name: tensor[place] for name, tensor in read.items()}, "index": int(index)}
            for place, index in enumerate(indices)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_frames"}
