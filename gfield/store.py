"""Read a finished store: the only reader. It decodes into the caller's arrays, and needs no zarr.

store = open_store("nyu.zarr")
rows = store.rows(split="train")
rgb_NHWC = store.read("640x480/rgb", rows[:64])
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
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
from gfield.files import FileStamp, file_stamp, read_file
from gfield.manifest import MANIFEST_PATH, Manifest, StoreError, read_manifest
from gfield.shard import OpenShards, Shard
from gfield.spec import FORMAT_VERSION, ArraySpec, StoreSpec, level_name
from gfield.text_column import MOST_BYTES, decode_texts, is_text_column

Array = npt.NDArray[np.generic]


def open_store(path: str | Path) -> Store:
    """Open a store that `gfield build` has finished.

    Parameters
    ----------
    path
        Folder of the store.

    Raises
    ------
    StoreError
        If there is no store, it is unfinished, of another format version, or its manifest is damaged.
    """
    folder = Path(path)
    stamp = file_stamp(folder / MANIFEST_PATH)
    manifest = read_manifest(folder)
    version = manifest.attributes.get("gfield_format")
    if version != FORMAT_VERSION:
        raise StoreError(f"{folder}: format {version}, this version of gfield reads format {FORMAT_VERSION}")
    return Store(folder, manifest, spec_of(manifest, folder), stamp)


@dataclass(frozen=True)
class Store:
    """A finished store; made by `open_store`.

    It may be shared by threads, and pickles as its path and manifest, without open files.

    Attributes
    ----------
    path
        Folder of the store.
    manifest
        Every file with its size and hash.
    spec
        What the store holds.
    stamp
        Of the manifest's file, by which it shows that another store has taken this one's place.
    """

    path: Path
    manifest: Manifest
    spec: StoreSpec
    stamp: FileStamp | None = None

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
            known = is_text_column(read_file(self.path / column / "zarr.json"), len(self))
        except OSError:
            known = False
        if not known:
            raise StoreError(f"{self.path}: no text column {column!r}")
        path = f"{column}/c/0"
        if path not in self.manifest.files:
            return np.full(len(self), "")  # Zarr writes no chunk of nothing but empty texts
        try:
            chunk, wanted = read_file(self.path / path, MOST_BYTES), self.manifest.files[path]
            if (len(chunk), blake3(chunk).hexdigest()) != (wanted.size, wanted.blake3):
                raise ValueError("does not match its hash")
            return decode_texts(chunk, len(self))
        except (OSError, ValueError) as error:
            self._refuse_others(path)
            raise StoreError(f"{self.path}: {path}: {_because(error)}") from error

    def rows(self, split: str | None = None) -> npt.NDArray[np.intp]:
        """Row numbers of a split, in order; without one, of all frames that could be read."""
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
            Threads that decode side by side; decompression releases Python's lock.

        Returns
        -------
        ndarray
            ``out``.

        Raises
        ------
        StoreError
            If there is no such array or row, a shard is missing, damaged, or another store's by now, or ``out`` does
            not fit.
        """
        array = self._array(key)
        rows = self._check_rows(np.asarray(rows, dtype=np.intp))
        shape = (len(rows), *array.frame_shape)
        if out is None:
            out = np.empty(shape, array.dtype)
        if out.shape != shape or out.dtype != array.dtype or not out.flags.c_contiguous:
            raise StoreError(f"{key}: out is {out.dtype} {out.shape}, wanted C-contiguous {array.dtype} {shape}")
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
        for path, entry in self.manifest.files.items():
            try:
                size = (self.path / path).stat().st_size
            except OSError as error:
                raise StoreError(f"{self.path}: {path} is missing; {_REPAIR}") from error
            if size != entry.size:
                raise StoreError(f"{self.path}: {path} has {size} bytes, wanted {entry.size}; {_REPAIR}")

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

    def _shard(self, array: ArraySpec, shard: int) -> Shard:
        path = array.shard_path(shard)
        opened = self._opened.get(path)
        if opened is None:
            opened = self._open(array, path)
            self._opened.keep(path, opened)
        return opened

    def _open(self, array: ArraySpec, path: str) -> Shard:
        wanted = self.manifest.files.get(path)
        if wanted is None:
            raise StoreError(f"{self.path}: {path} is not in the manifest; `gfield build` makes it again")
        try:
            found = Shard(self.path / path, self.spec.frames_per_shard, array.codec)
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
    def _manifests(self) -> dict[FileStamp | None, Manifest]:
        """Those that were seen under our path."""
        return {self.stamp: self.manifest}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "spec": self.spec, "stamp": self.stamp}

    def __repr__(self) -> str:
        return f"<Store {self.path} of {len(self)} frames: {', '.join(self.arrays)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: facts and thumbnails; of a store that cannot be read, what `repr` says, and why."""
        from gfield.thumbnails import store_html

        return store_html(self)


_REPAIR = "`gfield verify --repair SOURCE` restores it"


# What the reader has too little of; the store may well be whole.
_OURS = (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM)


def _because(error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{error}; {_REPAIR}"
    reason = error.strerror or str(error)
    return reason if error.errno in _OURS else f"{reason}; {_REPAIR}"
