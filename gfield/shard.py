"""One shard: the file that holds the chunks of many frames, laid out as Zarr v3's ``sharding_indexed``.

A shard is the stored chunks one after another, then an index of two little-endian 64-bit numbers a frame
(byte offset and length; all ones where there is no chunk), then the CRC-32C of the index.
Chunks are appended while frames are computed, so that a shard's size does not show in the memory used.
Source of the layout: Zarr v3 specification, "Sharding codec" (index at the end).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.blockfile import BlockFile
from gfield.chunks import crc32c
from gfield.codec import Bytes, ChecksumError, Codec, check_crc
from gfield.files import open_file
from gfield.object_path import Location, ObjectPath
from gfield.objects import pieces

ABSENT = 2**64 - 1
_MOST_MAPPED = 1 << 14  # Linux maps 65,530 pieces a process
_WILL_NEED: int | None = getattr(mmap, "MADV_WILLNEED", None)


class Written(NamedTuple):
    """Size in bytes and BLAKE3 hash of a finished file."""

    size: int
    blake3: str


class ShardWriter:
    """Appends encoded frames to one file; the file is complete, and on disk, once `finish` returns.

    Parameters
    ----------
    path
        A temporary name on the file system where the shard will live; the caller renames it.
    frames_per_shard
        Length of the index; a store's last shard leaves the rest of it empty.
    codec
        Encoding of every chunk.
    durable
        Whether the file is to outlive this process; see `gfield.blockfile.BlockFile`.
    """

    def __init__(self, path: Path, frames_per_shard: int, codec: Codec, *, durable: bool = True) -> None:
        self._codec = codec
        self._index_F2 = np.full((frames_per_shard, 2), ABSENT, dtype="<u8")
        self._frames = 0
        self._hash = blake3()
        self._file = BlockFile(path, durable=durable)

    def append(self, frame: npt.NDArray[np.generic]) -> None:
        """Encode one frame and add it behind the last one."""
        payload, crc = self._codec.encode(frame)
        self._append(payload if isinstance(payload, bytes) else payload.data, crc)

    def append_stored(self, chunk: bytes) -> None:
        """Add one frame as another writer of the same codec has stored it, checksum and all."""
        self._append(chunk)

    def _append(self, *pieces: bytes | memoryview) -> None:
        start = self._file.size
        for piece in pieces:
            self._write(piece)
        self._index_F2[self._frames] = start, self._file.size - start
        self._frames += 1

    def settle(self) -> list[list[int]]:
        """Let the file have all frames that were added, though this process die; offset and length of each."""
        self._file.settle()
        places: list[list[int]] = self._index_F2[: self._frames].tolist()
        return places

    def finish(self) -> Written:
        """Write the index, force everything to the disk, close, and return size and hash."""
        index = self._index_F2.tobytes()
        self._write(index)
        self._write(struct.pack("<I", crc32c(index)))
        self._file.finish()
        return Written(self._file.size, self._hash.hexdigest())

    def close(self) -> None:
        """Close the file as it is; without `finish` it is no shard, and the caller removes it."""
        self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        self._file.append(data)
        self._hash.update(data)


def bytes_of_index(frames_per_shard: int) -> int:
    """How long the end of a shard is that has its index."""
    return 16 * frames_per_shard + 4


def checked_index(
    path: Location, stored: bytes | memoryview, size: int, frames_per_shard: int
) -> npt.NDArray[np.uint64]:
    """Start and length of each frame of a shard, (F, 2); ``ABSENT`` where there is none.

    Parameters
    ----------
    path
        The shard, for messages.
    stored
        The last `bytes_of_index` bytes of it.
    size
        Its length in bytes.
    frames_per_shard
        F.

    Raises
    ------
    ChecksumError
        If it is too short, damaged, or points outside the shard.
    """
    index_bytes = bytes_of_index(frames_per_shard)
    if size < index_bytes:
        raise ChecksumError(f"{path}: {size} bytes, wanted at least the {index_bytes} of the index")
    try:
        index = check_crc(np.frombuffer(stored, dtype=np.uint8))
    except ChecksumError as error:
        raise ChecksumError(f"{path}: index: {error}") from error
    index_F2 = index.view("<u8").reshape(frames_per_shard, 2)
    present = index_F2[index_F2[:, 0] != ABSENT]
    limit = size - index_bytes
    if (present > limit).any() or (present.sum(axis=1) > limit).any():
        raise ChecksumError(f"{path}: the index points outside the file")
    return index_F2


class Shard:
    """A finished shard, mapped into memory; its index has been checked.

    Attributes
    ----------
    path, size
        The file, and its length in bytes.

    Raises
    ------
    ChecksumError
        If the file is too short, or its index is damaged or points outside the file.
    OSError
        If it cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path, frames_per_shard: int, codec: Codec) -> None:
        self.path = path
        self._codec = codec
        index_bytes = bytes_of_index(frames_per_shard)
        with open_file(path) as file:
            self.size = size = os.fstat(file.fileno()).st_size
            # Read and not mapped: it is small, and a view of it would be unaligned.
            stored = os.pread(file.fileno(), index_bytes, max(0, size - index_bytes))
            self._index_F2 = checked_index(path, stored, size, frames_per_shard)
            try:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            except ValueError as error:  # the file has become shorter just now
                raise ChecksumError(f"{path}: {error}") from error
        self._map: mmap.mmap | None = mapped
        self._told = bytearray(frames_per_shard)
        self._bytes: Bytes = np.frombuffer(mapped, dtype=np.uint8)

    def will_read(self, slot: int) -> None:
        """Let the system fetch the frame at ``slot`` while others are decoded.

        Said once for each frame: on a disk that has to be waited for it halves the time of a first batch, and later
        the frames are in memory, or there are too many for that.
        """
        if _WILL_NEED is None or self._map is None or self._told[slot]:
            return
        self._told[slot] = 1
        start, length = (int(value) for value in self._index_F2[slot])
        if start != ABSENT:
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            # A hint: where the system does not take it, the frame is read all the same.
            with contextlib.suppress(OSError):
                self._map.madvise(_WILL_NEED, page, start + length - page)

    def read(self, slot: int, out: npt.NDArray[np.generic], *, past_caches: bool = False) -> None:
        """Decode the frame at ``slot`` (0 is the shard's first) into ``out``; see `Codec.decode`."""
        start, length = (int(value) for value in self._index_F2[slot])
        if start == ABSENT:
            raise ChecksumError(f"{self.path}: no frame at place {slot} of the shard")
        if self._map is not None and (now := self._map.size()) != self.size:
            raise ChecksumError(f"{self.path}: {now} bytes, {self.size} when it was opened")
        try:
            self._codec.decode(self._bytes[start : start + length], out, past_caches=past_caches)
        except (ChecksumError, OSError) as error:
            raise ChecksumError(f"{self.path}: frame at place {slot} of the shard: {error}") from error

    def close(self) -> None:
        """Let go of the memory map."""
        # The map itself goes when its last view does; closing it under a view is an error.
        self._map, self._bytes = None, np.empty(0, dtype=np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AnyShard(Protocol):
    """A shard that can be kept open."""

    @property
    def size(self) -> int:
        """Its length in bytes, for so many of which it may take addresses."""
        ...


class OpenShards:
    """The shards of one store that are open, no more of them than leave most of what the process may have to others.

    Each takes a descriptor, and addresses for all of its bytes, for as long as it is mapped; a store of 400,000 frames
    has thousands of shards. Those that have been open for longest make way, and are closed once whoever reads them is
    done.
    """

    def __init__(self) -> None:
        self._shards: dict[str, AnyShard] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: str) -> AnyShard | None:
        """The shard that is kept by this name, if there is one."""
        return self._shards.get(path)

    def keep(self, path: str, shard: AnyShard) -> None:
        """Keep a shard, and let another one go where there are too many."""
        most = min(_share(resource.RLIMIT_NOFILE), _MOST_MAPPED)
        most_bytes = _share(resource.RLIMIT_AS)
        with self._lock:
            while self._shards and (len(self._shards) >= most or self._bytes + shard.size > most_bytes):
                self._bytes -= self._shards.pop(next(iter(self._shards))).size
            if (other := self._shards.get(path)) is not None:  # another thread's
                self._bytes -= other.size
            self._shards[path] = shard
            self._bytes += shard.size


def _share(limit: int) -> int:
    """An eighth of what the process may have of a resource: several stores may be open."""
    most, _ = resource.getrlimit(limit)
    return sys.maxsize if most == resource.RLIM_INFINITY else most // 8


def hash_file(path: Location) -> Written:
    """Size and BLAKE3 hash of a file or an object, read in pieces."""
    hasher, size = blake3(), 0
    for piece in pieces(path) if isinstance(path, ObjectPath) else _pieces(path):
        hasher.update(piece)
        size += len(piece)
    return Written(size, hasher.hexdigest())


def _pieces(path: Path) -> Iterator[bytes]:
    with open_file(path) as file:
        while piece := file.read(1 << 20):
            yield piece
