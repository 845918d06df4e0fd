"""Shards that are objects: frames are asked for by byte ranges, or a shard is fetched whole into a cache.

A shard fetched whole is kept under its BLAKE3 hash, so that stores, versions of a store and processes may share one
cache, which nothing ever makes stale; its folder may be removed at any time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.codec import ChecksumError, Codec
from gfield.files import temporary_name
from gfield.manifest import Entry
from gfield.object_path import ObjectPath
from gfield.objects import pieces, read_end, read_range, side_by_side
from gfield.shard import ABSENT, bytes_of_index, checked_index

_GAP_BYTES = 1 << 18  # a request costs as much as so many bytes that are not wanted
_SPAN_BYTES = 8 << 20

Array = npt.NDArray[np.generic]
Wanted = tuple["RemoteShard", int, Array]  # a frame's slot in a shard, and where it goes


class RemoteShard:
    """A finished shard behind a URL; its index has been read and checked.

    Attributes
    ----------
    path, size
        The object, and its length in bytes.

    Raises
    ------
    ChecksumError
        If it is too short, or its index is damaged or points outside it.
    OSError
        If it cannot be had.
    """

    def __init__(self, path: ObjectPath, frames_per_shard: int, codec: Codec) -> None:
        self.path = path
        self._codec = codec
        try:
            self._read_index(frames_per_shard)
        except ChecksumError:
            self._read_index(frames_per_shard)  # it may have been the way here

    def _read_index(self, frames_per_shard: int) -> None:
        stored, (self.size, self._tag) = read_end(self.path, bytes_of_index(frames_per_shard))
        self._index_F2 = checked_index(self.path, stored, self.size, frames_per_shard)

    def place(self, slot: int) -> tuple[int, int]:
        """First byte and length of the frame at ``slot``; a `ChecksumError` where there is none."""
        start, length = (int(value) for value in self._index_F2[slot])
        if start == ABSENT:
            raise ChecksumError(f"{self.path}: no frame at place {slot} of the shard")
        return start, length

    def read_span(self, start: int, stop: int, frames: Sequence[tuple[int, Array]]) -> None:
        """Ask for some of the bytes, and decode the frames that lie in them, each into its array.

        Raises
        ------
        ChecksumError
            Naming a frame that is damaged, also after it was asked for again.
        OSError
            If they cannot be had; ESTALE where the object has been replaced.
        """
        try:
            self._decode(start, stop, frames)
        except ChecksumError:
            self._decode(start, stop, frames)  # it may have been the way here

    def _decode(self, start: int, stop: int, frames: Sequence[tuple[int, Array]]) -> None:
        data = np.frombuffer(read_range(self.path, start, stop - start, self._tag), np.uint8)
        for slot, out in frames:
            at, length = self.place(slot)
            try:
                self._codec.decode(data[at - start : at - start + length], out)
            except ChecksumError as error:
                raise ChecksumError(f"{self.path}: frame at place {slot} of the shard: {error}") from error


def read_frames(wanted: Sequence[Wanted]) -> None:
    """Read frames, of any shards and in any order, by many requests side by side; near ones by one request."""
    spans: list[tuple[RemoteShard, int, int, list[tuple[int, Array]]]] = []
    placed = sorted(
        ((id(shard), *shard.place(slot), slot, order) for order, (shard, slot, _) in enumerate(wanted)),
    )
    for _, start, length, slot, order in placed:
        shard, _, out = wanted[order]
        if spans:
            last, first, stop, frames = spans[-1]
            if last is shard and start - stop <= _GAP_BYTES and start + length - first <= _SPAN_BYTES:
                spans[-1] = (last, first, max(stop, start + length), [*frames, (slot, out)])
                continue
        spans.append((shard, start, start + length, [(slot, out)]))
    for _ in side_by_side(lambda span: span[0].read_span(*span[1:]), spans):
        pass


def cached_shard(path: ObjectPath, entry: Entry, cache: Path) -> Path:
    """Fetch a shard whole into the cache, unless it is there.

    Parameters
    ----------
    path, entry
        The object, and what the manifest says of it.
    cache
        The cache's folder, made where it is not there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ChecksumError
        If it is not what the manifest says.
    OSError
        If it cannot be had, or the cache cannot be written.
    """
    kept = cache / entry.blake3[:2] / entry.blake3
    with suppress(OSError):
        if kept.stat().st_size == entry.size:
            return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(path, entry, kept)
    except ChecksumError:
        _fetch(path, entry, kept)  # it may have been the way here
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}; the cache of shards", str(cache)) from error
        raise
    return kept


def _fetch(path: ObjectPath, entry: Entry, kept: Path) -> None:
    temporary = temporary_name(kept.parent)
    try:
        hasher = blake3()
        with temporary.open("xb") as file:
            for piece in pieces(path):
                hasher.update(piece)
                file.write(piece)
        if hasher.hexdigest() != entry.blake3:
            raise ChecksumError(f"{path}: does not match its hash")
        temporary.replace(kept)
    finally:
        temporary.unlink(missing_ok=True)
