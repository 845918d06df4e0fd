"""Chosen frames of one or more stores, as one list: what a stream, a cache and a data set read from.

Legend: L frames of the list, N frames asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import prod
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

    It may be shared by threads, and pickles without open files.

    Parameters
    ----------
    parts
        Stores, each with the rows that belong to the list.
    keys
        Key of every array in the stores, by the name that it has here, such as ``{"rgb": "640x480/rgb"}``.

    Raises
    ------
    TrainError
        If no row is chosen or one is not there, a store lacks an array, or its frames have another size than those
        of the first store.
    """

    def __init__(self, parts: Sequence[tuple[Store, Sequence[int] | Index]], keys: Mapping[str, str]) -> None:
        self._stores = tuple(store for store, _ in parts)
        self._keys = dict(keys)
        rows = [np.asarray(chosen, dtype=np.intp) for _, chosen in parts]
        if not sum(map(len, rows)):
            raise TrainError(f"{', '.join(str(store.path) for store in self._stores) or 'no store'}: no frame chosen")
        for store, row_N in zip(self._stores, rows, strict=True):
            _check_rows(store, row_N)
            for key in self._keys.values():
                _check_array(store, key, self._stores[0])
        self._row_L = np.concatenate(rows)
        self._part_L = np.repeat(np.arange(len(rows)), [len(row_N) for row_N in rows])

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._row_L)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._keys)

    def frame_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one frame of an array."""
        return self._stores[0].arrays[self._keys[name]].frame_shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of an array."""
        return np.dtype(self._stores[0].arrays[self._keys[name]].dtype)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of all arrays, decoded."""
        return sum(prod(self.frame_shape(name)) * self.dtype(name).itemsize for name in self.names)

    def empty(self, name: str, count: int) -> Array:
        """A new array for some frames."""
        return np.empty((count, *self.frame_shape(name)), self.dtype(name))

    def locate(self, index: int) -> tuple[Store, int]:
        """The store and the row of a frame."""
        return self._stores[int(self._part_L[index])], int(self._row_L[index])

    def select(self, index_N: Sequence[int] | Index) -> Frames:
        """The frames at these places, in this order, as a list of their own.

        Raises
        ------
        TrainError
            If there are none.
        """
        index_N = np.asarray(index_N, dtype=np.intp)
        if not len(index_N):
            raise TrainError(f"no frame of {len(self)} chosen")
        chosen = copy.copy(self)
        chosen._row_L, chosen._part_L = self._row_L[index_N], self._part_L[index_N]
        return chosen

    def read(self, name: str, index_N: Sequence[int] | Index, out: Array) -> None:
        """Decode frames of one array into ``out``, in this thread; any number of threads may read at once.

        Parameters
        ----------
        name
            Name of the array.
        index_N
            Places in this list, in any order, repeats allowed.
        out
            C-contiguous array of shape ``(N, *frame_shape(name))`` and of type `dtype`.

        Raises
        ------
        StoreError
            If a shard is missing or damaged; names it.
        """
        index_N = np.asarray(index_N, dtype=np.intp)
        part_N, row_N = self._part_L[index_N], self._row_L[index_N]
        # One call a run of frames of the same store: one call in all where there is only one store.
        changes = (np.flatnonzero(np.diff(part_N)) + 1).tolist()
        for start, stop in pairwise([0, *changes, len(index_N)]):
            if start < stop:
                store = self._stores[int(part_N[start])]
                store.read(self._keys[name], row_N[start:stop], out=out[start:stop])


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


def size_of_level(level: str) -> tuple[int, int]:
    """Width and height of a level by its name, such as ``"640x480"``."""
    width, height = map(int, level.split("x"))
    return width, height


def preflight(stores: Iterable[Store]) -> None:
    """Refuse stores with missing or stale shards before the first batch, without reading their pictures.

    Every shard that the store's description asks for has to be in the manifest, every file has to be there with the
    manifest's size, and every metadata file with its hash. A shard of another build that happens to have the right
    size is beyond this: `gfield verify` reads everything, and finds it.

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
            if blake3(store.file(path)).hexdigest() != entry.blake3:
                raise StoreError(f"{store.path}: {path} is not the manifest's: stale; `gfield verify` says more")


def _check_rows(store: Store, row_N: Index) -> None:
    outside = row_N[(row_N < 0) | (row_N >= len(store))]
    if outside.size:
        raise TrainError(f"{store.path}: row {outside[0]} chosen, wanted 0 to {len(store) - 1}")


def _check_array(store: Store, key: str, first: Store) -> None:
    level, _, kind = key.rpartition("/")
    if key not in store.arrays:
        if level not in ("", *store.levels):
            as_first = "" if store is first else f", and {first.path}, whose frames join these, is read at {level}"
            raise TrainError(f"{store.path}: no level {level}, it has {', '.join(store.levels)}{as_first}")
        raise TrainError(f"{store.path}: no {kind} in the store, it has {', '.join(store.spec.arrays)}")
    seen, wanted = store.arrays[key], first.arrays[key]
    if (seen.frame_shape, seen.dtype) != (wanted.frame_shape, wanted.dtype):
        raise TrainError(
            f"{store.path}: {key} is {seen.dtype} {seen.frame_shape}, "
            f"wanted {wanted.dtype} {wanted.frame_shape} as in {first.path}"
        )
