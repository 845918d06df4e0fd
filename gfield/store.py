"""Read a finished store: the only reader. It decodes into the caller's arrays, and needs no zarr.

store = open_store("nyu.zarr")  # or "s3://bucket/nyu.zarr", or "https://host/nyu.zarr"
rows = store.rows(split="train")
rgb_NHWC = store.read("640x480/rgb", rows[:64])
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.attributes import spec_of
from gfield.chunks import past_caches
from gfield.codec import ChecksumError
from gfield.files import MOST_NOTE_BYTES, file_size
from gfield.manifest import MANIFEST_PATH, Manifest, StoreError, read_manifest
from gfield.object_path import Location, ObjectPath, location
from gfield.objects import listing, side_by_side
from gfield.places import Stamp, file_stamp, read_file
from gfield.remote_shard import RemoteShard, cached_shard, read_frames
from gfield.shard import OpenShards, Shard
from gfield.spec import FORMAT_VERSION, ArraySpec, StoreSpec, level_name
from gfield.text_column import MOST_BYTES, decode_texts, is_text_column

Array = npt.NDArray[np.generic]


def open_store(path: str | Location, *, cache: str | Path | None = None) -> Store:
    """Open a store that `gfield build` has finished.

    Parameters
    ----------
    path
        Folder of the store, or its URL: ``s3://``, ``https://``.
    cache
        Folder of this machine in which shards of a URL are kept, each fetched whole when a frame of it is first
        wanted; by default the environment's ``GFIELD_CACHE``, and without it frames are asked for one by one.

    Raises
    ------
    StoreError
        If there is no store, it is unfinished, of another format version, or its manifest is damaged.
    InputError
        If it is no URL that can be read.

    Examples
    --------
    >>> from gfield import open_store
    >>> store = open_store("nyu.zarr")
    >>> len(store), store.levels
    (10, ('640x480', '320x240'))
    >>> open_store("nothing.zarr")
    Traceback (most recent call last):
        ...
    gfield.manifest.StoreError: nothing.zarr: no such store
    """
    folder = location(path)
    cache = cache or os.environ.get("GFIELD_CACHE") or None
    stamp = file_stamp(folder / MANIFEST_PATH)
    manifest = read_manifest(folder)
    version = manifest.attributes.get("gfield_format")
    if version != FORMAT_VERSION:
        raise StoreError(f"{folder}: format {version}, this version of gfield reads format {FORMAT_VERSION}")
    return Store(folder, manifest, spec_of(manifest, folder), stamp, None if cache is None else Path(cache))


@dataclass(frozen=True)
class Store:
    """A finished store; made by `open_store`.

    It may be shared by threads, and pickles as its path and manifest, without open files.

    Attributes
    ----------
    path
        Folder of the store, or its URL.
    manifest
        Every file with its size and hash.
    spec
        What the store holds.
    stamp
        Of the manifest's file, by which it shows that another store has taken this one's place.
    cache
        Folder for shards of a URL; see `open_store`.
    """

    path: Location
    manifest: Manifest
    spec: StoreSpec
    stamp: Stamp | None = None
    cache: Path | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return self.spec.frames

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, largest first, such as ``("640x480", "320x240")``."""
        return tuple(level_name(level) for level in self.spec.levels_WH)

    @cached_property
    def arrays(self) -> Mapping[str, ArraySpec]:
        """The arrays by key, such as ``"640x480/rgb"``."""
        return self.spec.array_specs()

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of every array by key."""
        return {key: array.fingerprint for key, array in self.arrays.items()}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the root group."""
        return self.manifest.attributes

    @cached_property
    def names(self) -> npt.NDArray[np.str_]:
        """Name of every frame."""
        return self.text("name")

    @cached_property
    def splits(self) -> npt.NDArray[np.str_]:
        """Split of every frame: train, test, unlabeled, or excluded (a frame that could not be read)."""
        return self.text("split")

    @cached_property
    def scenes(self) -> npt.NDArray[np.str_]:
        """Scene of every frame, "" where it is not known."""
        return self.text("scene")

    def text(self, column: str) -> npt.NDArray[np.str_]:
        """A text column, such as ``"scene_type"``.

        Raises
        ------
        StoreError
            If there is none of that name, or it is missing or damaged.
        """
        try:
            known = is_text_column(self.file(f"{column}/zarr.json"), len(self))
        except OSError as error:
            if isinstance(self.path, ObjectPath) and not isinstance(error, FileNotFoundError):
                raise StoreError(f"{error.filename}: {error.strerror}") from error
            known = False
        if not known:
            raise StoreError(f"{self.path}: no text column {column!r}")
        path = f"{column}/c/0"
        if path not in self.manifest.files:
            return np.full(len(self), "")  # Zarr writes no chunk of nothing but empty texts
        try:
            chunk, wanted = self.file(path, MOST_BYTES), self.manifest.files[path]
            if (len(chunk), blake3(chunk).hexdigest()) != (wanted.size, wanted.blake3):
                raise ValueError("does not match its hash")
            return decode_texts(chunk, len(self))
        except (OSError, ValueError) as error:
            self._refuse_others(path)
            raise StoreError(f"{self.path}: {path}: {_because(error)}") from error

    def file(self, path: str, most: int = MOST_NOTE_BYTES) -> bytes:
        """A small file of the store, such as ``"640x480/rgb/zarr.json"``, as it is, of at most so many bytes.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        data, wanted = read_file(self.path / path, most), self.manifest.files.get(path)
        if isinstance(self.path, ObjectPath) and wanted and len(data) != wanted.size:
            data = read_file(self.path / path, most)  # it may have been the way here
        return data

    def rows(self, split: str | None = None) -> npt.NDArray[np.intp]:
        """Row numbers of a split, in order; without one, of all frames that could be read.

        Examples
        --------
        >>> from gfield import open_store
        >>> open_store("nyu.zarr").rows(split="test")
        array([6, 7, 8])
        """
        if split is None:
            return np.flatnonzero(self.splits != "excluded")
        known = sorted(set(self.splits.tolist()))
        if split not in known:
            raise StoreError(f"{self.path}: no frame of split {split!r}, it has {', '.join(known)}")
        return np.flatnonzero(self.splits == split)

    def read(
        self,
        key: str,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]],
        out: npt.NDArray[np.generic] | None = None,
        *,
        threads: int = 1,
    ) -> Array:
        """Read frames of one array, each checked against its checksum.

        Parameters
        ----------
        key
            Key of the array, such as ``"320x240/gradient"``.
        rows
            Row numbers, in any order, repeats allowed.
        out
            C-contiguous array of shape ``(len(rows), *frame_shape)`` and the array's dtype to read into;
            a new one by default.
        threads
            Threads that decode side by side; decompression releases Python's lock. Frames of a URL are always asked
            for side by side.

        Returns
        -------
        ndarray
            ``out``.

        Raises
        ------
        StoreError
            If there is no such array or row, a shard is missing, damaged, or another store's by now, or ``out`` does
            not fit.

        Examples
        --------
        >>> from gfield import open_store
        >>> store = open_store("nyu.zarr")
        >>> depth_NHW = store.read("320x240/depth", store.rows(split="test"), threads=2)
        >>> depth_NHW.shape, depth_NHW.dtype
        ((3, 240, 320), dtype('float32'))
        """
        array = self._array(key)
        rows = self._check_rows(np.asarray(rows, dtype=np.intp))
        shape = (len(rows), *array.frame_shape)
        if out is None:
            out = np.empty(shape, array.dtype)
        if out.shape != shape or out.dtype != array.dtype or not out.flags.c_contiguous:
            raise StoreError(f"{key}: out is {out.dtype} {out.shape}, wanted C-contiguous {array.dtype} {shape}")
        if isinstance(self.path, ObjectPath):
            self._open_at_once(array, {row // self.spec.frames_per_shard for row in rows.tolist()})
            if self.cache is None:
                self._read_remote(array, rows, out)
                return out
        if threads <= 1 or len(rows) <= 1:
            self._read_part(array, rows, out)
            return out
        bounds = np.linspace(0, len(rows), min(threads, len(rows)) + 1).astype(int)
        with ThreadPoolExecutor(len(bounds) - 1) as pool:
            parts = [
                pool.submit(self._read_part, array, rows[start:stop], out[start:stop])
                for start, stop in pairwise(bounds.tolist())
            ]
        for part in parts:
            part.result()
        return out

    def check_files(self) -> None:
        """Check that every file of the manifest is there and has its size, without reading any.

        Raises
        ------
        StoreError
            Naming the first file that is missing or of another size.
        """
        for path, size in self._sizes():
            entry = self.manifest.files[path]
            if size is None:
                raise StoreError(f"{self.path}: {path} is missing; {_REPAIR}")
            if size != entry.size:
                raise StoreError(f"{self.path}: {path} has {size} bytes, wanted {entry.size}; {_REPAIR}")

    def _sizes(self) -> Iterator[tuple[str, int | None]]:
        """Size in bytes of every file of the manifest; None where there is none."""
        if not isinstance(self.path, ObjectPath):
            yield from ((path, file_size(self.path / path)) for path in self.manifest.files)
        elif self.path.is_read_only:  # which cannot be listed
            stamps = side_by_side(lambda path: file_stamp(self.path / path), self.manifest.files)
            for path, stamp in zip(self.manifest.files, stamps, strict=True):
                yield path, None if stamp is None else stamp.size
        else:
            found = listing(self.path)
            yield from ((path, found[path].size if path in found else None) for path in self.manifest.files)

    def _array(self, key: str) -> ArraySpec:
        try:
            return self.arrays[key]
        except KeyError:
            raise StoreError(f"{self.path}: no array {key!r}, it has {', '.join(self.arrays)}") from None

    def _check_rows(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        if rows.ndim != 1:
            raise StoreError(f"rows have shape {rows.shape}, wanted a list of row numbers")
        outside = rows[(rows < 0) | (rows >= len(self))]
        if outside.size:
            raise StoreError(f"{self.path}: row {outside[0]} is outside 0 to {len(self) - 1}")
        return rows

    def _read_part(self, array: ArraySpec, rows: npt.NDArray[np.intp], out: Array) -> None:
        places = [divmod(row, self.spec.frames_per_shard) for row in rows.tolist()]
        for shard, slot in places:
            self._shard(array, shard).will_read(slot)
        large = past_caches(out)
        for place, (shard, slot) in enumerate(places):
            try:
                self._shard(array, shard).read(slot, out[place], past_caches=large)
            except ChecksumError as error:
                raise StoreError(f"{error}; {_REPAIR}") from error

    def _read_remote(self, array: ArraySpec, rows: npt.NDArray[np.intp], out: Array) -> None:
        places = [divmod(row, self.spec.frames_per_shard) for row in rows.tolist()]
        opened = {shard: self._shard(array, shard) for shard in {shard for shard, _ in places}}
        try:
            read_frames([(opened[shard], slot, out[place]) for place, (shard, slot) in enumerate(places)])
        except ChecksumError as error:
            raise StoreError(f"{error}; {_REPAIR}") from error
        except OSError as error:
            path = str(error.filename).removeprefix(f"{self.path}/")
            if path in self.manifest.files:
                self._refuse_others(path)
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
        found: Shard | RemoteShard
        try:
            if not isinstance(place, ObjectPath):
                found = Shard(place, frames_per_shard, array.codec)
            elif self.cache is None:
                found = RemoteShard(place, frames_per_shard, array.codec)
            else:
                found = Shard(cached_shard(place, wanted, self.cache), frames_per_shard, array.codec)
        except (OSError, ChecksumError) as error:
            self._refuse_others(path)
            raise StoreError(f"{self.path}: {path}: {_because(error)}") from error
        self._refuse_others(path)
        if found.size != wanted.size:
            raise StoreError(f"{self.path}: {path} has {found.size} bytes, wanted {wanted.size}; {_REPAIR}")
        return found

    def _refuse_others(self, path: str) -> None:
        """See that a file is still to be what our manifest says. Asked when it is open, and so not changed after."""
        stamp = file_stamp(self.path / MANIFEST_PATH)
        if stamp is None or stamp not in self._manifests:
            self._manifests[stamp] = read_manifest(self.path)
        if self._manifests[stamp].files.get(path) != self.manifest.files[path]:
            raise StoreError(
                f"{self.path}: it has been built anew, with another {path}, since it was opened; open it again"
            )

    @cached_property
    def _opened(self) -> OpenShards:
        return OpenShards()

    @cached_property
    def _manifests(self) -> dict[Stamp | None, Manifest]:
        """Those that were seen under our path."""
        return {self.stamp: self.manifest}

    def __getstate__(self) -> dict[str, Any]:
        names = ("path", "manifest", "spec", "stamp", "cache")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        return f"<Store {self.path} of {len(self)} frames: {', '.join(self.arrays)}>"


_REPAIR = "`gfield verify --repair SOURCE` restores it"


# What the reader has too little of; the store may well be whole.
_OURS = (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM)


def _because(error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{error}; {_REPAIR}"
    reason = error.strerror or str(error)
    return reason if error.errno in _OURS else f"{reason}; {_REPAIR}"
