"""Chosen frames of one or more stores, as one list: what a stream, a cache and a data set read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield import Store, StoreError
from train.errors import TrainError

Index = npt.NDArray[np.integer[Any]]
Array = npt.NDArray[np.generic]
_METADATA_BYTES = 1 << 20


class Frames:
    """Some arrays of chosen rows of stores, indexed from 0.

    Parameters
    ----------
    parts
        Stores, each with the rows that belong to the list.
    keys
        Key of every array in the stores, by the name that it has here, such as ``{"rgb": "640x480/rgb"}``.

    Raises
    ------
    TrainError
        If a store lacks an array, or its frames have another shape than those of the first store.
    """

    def __init__(self, parts: Sequence[tuple[Store, Index]], keys: Mapping[str, str]) -> None:
        self.parts = [(store, np.asarray(rows, dtype=np.intp)) for store, rows in parts]
        self.keys = dict(keys)
        self._starts = np.cumsum([0, *(len(rows) for _, rows in self.parts)])
        first = self.parts[0][0]
        for store, _ in self.parts:
            for key in self.keys.values():
                if key not in store.arrays:
                    raise TrainError(f"{store.path}: no array {key}, it has {', '.join(store.arrays)}")
                seen, wanted = store.arrays[key], first.arrays[key]
                if (seen.frame_shape, seen.dtype) != (wanted.frame_shape, wanted.dtype):
                    raise TrainError(
                        f"{store.path}: {key} is {seen.dtype} {seen.frame_shape}, "
                        f"wanted {wanted.dtype} {wanted.frame_shape} as in {first.path}"
                    )

    def __len__(self) -> int:
        """Number of frames."""
        return int(self._starts[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self.keys)

    def frame_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one frame of an array."""
        return self.parts[0][0].arrays[self.keys[name]].frame_shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of an array."""
        return np.dtype(self.parts[0][0].arrays[self.keys[name]].dtype)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of all arrays, decoded."""
        return sum(int(np.prod(self.frame_shape(name))) * self.dtype(name).itemsize for name in self.names)

    def empty(self, name: str, count: int) -> Array:
        """A new array for some frames."""
        return np.empty((count, *self.frame_shape(name)), self.dtype(name))

    def locate(self, index: int) -> tuple[Store, int]:
        """The store and the row of a frame."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        store, rows = self.parts[part]
        return store, int(rows[index - self._starts[part]])

    def select(self, index_N: Index) -> Frames:
        """A list of some of these frames, store by store."""
        index_N = np.asarray(index_N)
        chosen = []
        for place, (store, rows) in enumerate(self.parts):
            inside = (index_N >= self._starts[place]) & (index_N < self._starts[place + 1])
            chosen.append((store, rows[index_N[inside] - self._starts[place]]))
        return Frames(chosen, self.keys)

    def read(self, name: str, index_N: Index, out: Array) -> None:
        """Decode frames of one array into ``out``, in this thread; any number of threads may read at once.

        Raises
        ------
        StoreError
            If a shard is missing or damaged.
        """
        key = self.keys[name]
        if len(self.parts) == 1:
            store, rows = self.parts[0]
            store.read(key, rows[index_N], out=out)
            return
        for place, index in enumerate(np.asarray(index_N).tolist()):
            store, row = self.locate(index)
            store.read(key, [row], out=out[place : place + 1])


def level_of(store: Store, size_WH: tuple[int, int]) -> str:
    """The store's level of a size, or, where only that exists, of the size turned (Make3D's pictures are upright).

    Raises
    ------
    TrainError
        If there is neither; lists the levels.
    """
    width, height = size_WH
    for name in (f"{width}x{height}", f"{height}x{width}"):
        if name in store.levels:
            return name
    raise TrainError(f"{store.path}: no level {width}x{height}, it has {', '.join(store.levels)}")


def preflight(stores: Sequence[Store]) -> None:
    """Refuse stores with missing or stale shards before the first batch, without reading their pictures.

    Every shard that the store's description asks for has to be in the manifest, every file has to be there with the
    manifest's size, and every metadata file with its hash. What only a full read can find, the checksums find later.

    Raises
    ------
    StoreError
        Naming the store and the first file that is wrong.
    """
    for store in stores:
        for array in store.arrays.values():
            for shard in range(store.spec.shards):
                path = array.shard_path(shard)
                if path not in store.manifest.files:
                    raise StoreError(f"{store.path}: {path} is not in the manifest; build the store again")
                if store.manifest.files[path].fingerprint != array.fingerprint:
                    raise StoreError(f"{store.path}: {path} is stale, of other parameters; build the store again")
        store.check_files()
        for path, entry in store.manifest.files.items():
            if not path.endswith("zarr.json") or entry.size > _METADATA_BYTES:
                continue
            if blake3((store.path / path).read_bytes()).hexdigest() != entry.blake3:
                raise StoreError(f"{store.path}: {path} is not the manifest's: stale; `gfield verify` says more")
