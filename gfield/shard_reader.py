"""Frames of a finished store's shards: opened when first wanted, kept open, each seen to be the manifest's own."""

from __future__ import annotations

import errno
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfield.chunks import past_caches
from gfield.codec import ChecksumError, Codec
from gfield.manifest import MANIFEST_PATH, Manifest, StoreError, read_manifest
from gfield.object_path import SCHEMES, Location, ObjectPath
from gfield.objects import side_by_side
from gfield.places import Stamp, file_stamp
from gfield.remote_shard import RemoteShard, cached_shard, read_frames
from gfield.shard import OpenShards, Shard
from gfield.spec import ArraySpec, StoreSpec

Array = npt.NDArray[np.generic]
REPAIR = "`gfield verify --repair SOURCE` restores it"

# What the reader has too little of; the store may well be whole.
_OURS = (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM)


def because(error: Exception) -> str:
    """Why something of a store cannot be read, and what helps where the store is at fault."""
    if not isinstance(error, OSError):
        return f"{error}; {REPAIR}"
    reason = error.strerror or str(error)
    ours = error.errno in _OURS or (str(error.filename).partition(":")[0] in SCHEMES and error.errno != errno.ENOENT)
    return reason if ours else f"{reason}; {REPAIR}"


def open_shard(place: Location, frames_per_shard: int, codec: Codec) -> Shard | RemoteShard:
    """A shard, wherever it lies.

    Raises
    ------
    OSError, ChecksumError
        If it cannot be had, or its index is damaged.
    """
    if isinstance(place, ObjectPath):
        return RemoteShard(place, frames_per_shard, codec)
    return Shard(place, frames_per_shard, codec)


class ShardReader:
    """Reads frames of one store; it may be shared by threads.

    Parameters
    ----------
    path, manifest, spec, stamp, cache
        As of `gfield.store.Store`.
    """

    def __init__(
        self, path: Location, manifest: Manifest, spec: StoreSpec, stamp: Stamp | None, cache: Path | None
    ) -> None:
        self.path, self.manifest, self.spec, self.cache = path, manifest, spec, cache
        self._opened = OpenShards()
        self._manifests = {stamp: manifest}  # those that were seen under our path

    def read(self, array: ArraySpec, rows: npt.NDArray[np.intp], out: Array, threads: int) -> None:
        """Read rows, which are there, into ``out``, which fits; see `gfield.store.Store.read`."""
        if isinstance(self.path, ObjectPath):
            self._open_at_once(array, {row // self.spec.frames_per_shard for row in rows.tolist()})
            if self.cache is None:
                self._read_remote(array, rows, out)
                return
        if threads <= 1 or len(rows) <= 1:
            self._read_part(array, rows, out)
            return
        bounds = np.linspace(0, len(rows), min(threads, len(rows)) + 1).astype(int)
        with ThreadPoolExecutor(len(bounds) - 1) as pool:
            parts = [
                pool.submit(self._read_part, array, rows[start:stop], out[start:stop])
                for start, stop in pairwise(bounds.tolist())
            ]
        for part in parts:
            part.result()

    def _read_part(self, array: ArraySpec, rows: npt.NDArray[np.intp], out: Array) -> None:
        places = [divmod(row, self.spec.frames_per_shard) for row in rows.tolist()]
        for shard, slot in places:
            self._shard(array, shard).will_read(slot)
        large = past_caches(out)
        for place, (shard, slot) in enumerate(places):
            try:
                self._shard(array, shard).read(slot, out[place], past_caches=large)
            except ChecksumError as error:
                raise StoreError(f"{error}; {REPAIR}") from error

    def _read_remote(self, array: ArraySpec, rows: npt.NDArray[np.intp], out: Array) -> None:
        places = [divmod(row, self.spec.frames_per_shard) for row in rows.tolist()]
        opened = {shard: self._shard(array, shard) for shard in {shard for shard, _ in places}}
        try:
            read_frames([(opened[shard], slot, out[place]) for place, (shard, slot) in enumerate(places)])
        except ChecksumError as error:
            raise StoreError(f"{error}; {REPAIR}") from error
        except OSError as error:
            path = str(error.filename).removeprefix(f"{self.path}/")
            if path in self.manifest.files:
                self.refuse_others(path)
            raise StoreError(f"{self.path}: {path}: {error.strerror}") from error

    def _open_at_once(self, array: ArraySpec, shards: Collection[int]) -> None:
        """Open all of some shards of a URL together, since each has to be waited for."""
        if len(new := [shard for shard in shards if self._opened.get(array.shard_path(shard)) is None]) > 1:
            for _ in side_by_side(lambda shard: self._shard(array, shard), new):
                pass

    def _shard(self, array: ArraySpec, shard: int) -> Any:
        path = array.shard_path(shard)
        opened = self._opened.get(path)
        if opened is None:
            opened = self._open(array, path)
            self._opened.keep(path, opened)
        return opened

    def _open(self, array: ArraySpec, path: str) -> Shard | RemoteShard:
        wanted = self.manifest.files.get(path)
        if wanted is None:
            raise StoreError(f"{self.path}: {path} is not in the manifest; `gfield build` makes it again")
        frames_per_shard, place = self.spec.frames_per_shard, self.path / path
        try:
            if isinstance(place, ObjectPath) and self.cache is not None:
                place = cached_shard(place, wanted, self.cache)
            found = open_shard(place, frames_per_shard, array.codec)
        except (OSError, ChecksumError) as error:
            self.refuse_others(path)
            raise StoreError(f"{self.path}: {path}: {because(error)}") from error
        self.refuse_others(path)
        if found.size != wanted.size:
            raise StoreError(f"{self.path}: {path} has {found.size} bytes, wanted {wanted.size}; {REPAIR}")
        return found

    def refuse_others(self, path: str) -> None:
        """See that a file is still to be what our manifest says. Asked when it is open, and so not changed after."""
        stamp = file_stamp(self.path / MANIFEST_PATH)
        if stamp is None or stamp not in self._manifests:
            self._manifests[stamp] = read_manifest(self.path)
        if self._manifests[stamp].files.get(path) != self.manifest.files[path]:
            raise StoreError(
                f"{self.path}: it has been built anew, with another {path}, since it was opened; open it again"
            )
