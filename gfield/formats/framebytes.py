"""Frames of an HDF5 data set as byte ranges, read outside HDF5's global lock.

HDF5 runs one call at a time in a process, so threads that read through h5py wait for each other.
A `FrameBytes` (made by `gfield.formats.hdf5.describe`) knows where each chunk lies: frames are read by
`os.pread` and inflated by libdeflate, which both release Python's lock, from any number of threads
or processes. It holds tables and a path, never an open file, and pickles. What is not decoded here
is read by h5py, in a process that may crash, and `FrameBytes.why` says why.

Measured on 2 shared cores with 640x480 frames (32 real NYUv2 frames, gzip), ms a frame on one
thread, RGB / depth: libdeflate 2.6 / 2.1, isal 4.2 / 2.4, zlib 5.0 / 4.6, h5py 5.6 / 4.2. Reused
buffers for the compressed or the inflated bytes gain nothing: malloc hands the same pages out again
(0 page faults a frame in decoding alone, 70 when two threads read both arrays). Pairs of RGB
and depth, upright, frames a second by 1 / 2 threads: 238 / 443, through h5py 91 / 103.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import deflate
import numpy as np
import numpy.typing as npt

from gfield import confine
from gfield.frame import InputError
from gfield.object_path import Location
from gfield.places import ReadRange, file_size, ranges_of

Array: TypeAlias = npt.NDArray[np.integer[Any] | np.floating[Any]]

SHUFFLE, DEFLATE, FLETCHER32 = 2, 1, 3  # HDF5's numbers for the filters that are undone here


@dataclass(frozen=True, slots=True)
class Damage:
    """Stands where a frame should be that could not be decoded; ``reason`` is one line."""

    reason: str


class Tally:
    """A count that several threads add to; a pickled copy starts again at zero."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, n: int) -> None:
        """Count ``n`` more."""
        with self._lock:
            self.count += n

    def __reduce__(self) -> tuple[type[Tally], tuple[()]]:
        return Tally, ()


class BrokenChunk(Exception):
    """A chunk that does not decode; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class FrameBytes:
    """Where the frames of one data set lie in a file. The first axis counts frames.

    Attributes
    ----------
    path, name
        The HDF5 file, or its URL, and the data set in its root group.
    shape, dtype
        As stored; the bytes of an item may be in the other order than this machine's.
    chunk_shape
        A contiguous data set counts as chunks of one frame.
    filters
        HDF5 filter numbers, in the order in which they were applied on writing.
    fill
        The value of chunks that were never allocated, shape ().
    file_size
        In bytes, when the tables were made.
    offsets, sizes, masks
        One entry a chunk, in the shape of the chunk grid: first byte in the file (-1: never allocated),
        bytes stored, and a bit for each filter that was skipped. Not for use where `why` is set.
    why
        Why frames are read through h5py; empty where they are read as byte ranges.
    tag
        Of an object, which is read only as long as it has this tag.
    """

    path: Location
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.integer[Any] | np.floating[Any]]
    chunk_shape: tuple[int, ...]
    filters: tuple[int, ...]
    fill: Array
    file_size: int
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    masks: npt.NDArray[np.uint32]
    why: str = ""
    tag: str = ""
    _tally: Tally = field(default_factory=Tally, repr=False)

    def to_plain(self) -> dict[str, Any]:
        """What is not in `tables` and is not the path, as values that JSON has."""
        return {
            "name": self.name,
            "shape": self.shape,
            "dtype": self.dtype.str,
            "chunk_shape": self.chunk_shape,
            "filters": self.filters,
            "file_size": self.file_size,
            "why": self.why,
            "tag": self.tag,
        }

    @property
    def tables(self) -> tuple[Array, ...]:
        """The fill value, and the tables of chunks: offsets, sizes, masks."""
        return self.fill, self.offsets, self.sizes, self.masks

    @classmethod
    def from_plain(cls, path: Location, plain: Mapping[str, Any], tables: Sequence[npt.NDArray[Any]]) -> Self:
        """What `to_plain` and `tables` told of a file."""
        fill, offsets, sizes, masks = tables
        tuples = {key: tuple(plain[key]) for key in ("shape", "chunk_shape", "filters")}
        known: dict[str, Any] = {**plain, **tuples, "dtype": np.dtype(plain["dtype"])}
        return cls(path=path, fill=fill, offsets=offsets, sizes=sizes, masks=masks, **known)

    @property
    def mode(self) -> str:
        """How frames are read: ``"byte ranges"`` or ``"h5py"``."""
        return "h5py" if self.why else "byte ranges"

    @property
    def frames_per_chunk(self) -> int:
        """How many frames share one chunk."""
        return self.chunk_shape[0]

    @property
    def decoded_chunks(self) -> int:
        """How many chunks `read_frames` has decoded, over all ranges and threads of this object."""
        return self._tally.count

    def read_frames(self, start: int, stop: int) -> Generator[Array | Damage, None, None]:
        """Yield frames ``start`` to ``stop - 1`` in order, in the stored axis order.

        Each chunk that overlaps the range is decoded once, however many frames it spans. What is held
        is a decoded chunk and, where chunks split a frame, the frames asked for that share a row of
        chunks. Several threads may read at once.

        Yields
        ------
        ndarray of ``shape[1:]``, C-contiguous, in this machine's byte order, perhaps read-only, valid
        until the next iteration; or `Damage` for a frame with a chunk that does not decode.

        Raises
        ------
        InputError
            The file is gone, or has another size than when it was described.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.path}: frames {start}:{stop} wanted of {self.shape[0]}")
        span = self.frames_per_chunk
        firsts = range(start // span * span, stop, span) if start < stop else ()
        rows = [range(max(start, first), min(stop, first + span)) for first in firsts]
        with closing(self._blocks_by_h5py(rows) if self.why else self._blocks_by_bytes(rows)) as blocks:
            for row, block in blocks:
                for position, frame in enumerate(row):
                    if isinstance(block, str):
                        yield Damage(f"{self.path}: data set '{self.name}', frame {frame}: {block}")
                    else:
                        yield block[position]
                del block  # let go of a large chunk before the next one is decoded

    def _blocks_by_h5py(self, rows: list[range]) -> Generator[tuple[range, Array | str], None, None]:
        """The frames of each row of chunks, or a text that says why they cannot be had."""
        chunks_a_row = grid_shape(self.shape[1:], self.chunk_shape[1:])
        self._check_file()
        for row in rows:
            wanted = {"name": self.name, "start": row.start, "stop": row.stop}
            try:
                (block,) = confine.call("hdf5 frames", str(self.path), wanted).arrays
            except InputError as error:
                yield row, str(error).removeprefix(f"{self.path}: ")
            else:
                self._tally.add(int(np.prod(chunks_a_row)))
                yield row, self._native(block)

    def _blocks_by_bytes(self, rows: list[range]) -> Generator[tuple[range, Array | str], None, None]:
        """The same, past HDF5."""
        self._check_file()
        whole = self.chunk_shape[1:] == self.shape[1:]  # a chunk has whole frames
        with ranges_of(self.path, self._places(rows), self.tag) as read:
            for row in rows:
                try:
                    block = self._one_chunk(read, row) if whole else self._tiles(read, row)
                except BrokenChunk as broken:
                    yield row, str(broken)
                else:
                    yield row, block
                    del block

    def _places(self, rows: list[range]) -> Iterator[tuple[int, int]]:
        """Offset and size of the chunks of these rows, in the order in which they are read."""
        for row in rows:
            for tile in np.ndindex(self.offsets.shape[1:]):
                index = (row.start // self.frames_per_chunk, *tile)
                if self.offsets[index] >= 0:
                    yield int(self.offsets[index]), int(self.sizes[index])

    def _check_file(self) -> None:
        """The tables are worth nothing for another file than the one they were made from."""
        try:
            size = file_size(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error
        if size != self.file_size:
            raise InputError(f"{self.path}: now {size} bytes long, but {self.file_size} when first opened")

    def _one_chunk(self, read: ReadRange, row: range) -> Array:
        grid_row, skip = divmod(row.start, self.frames_per_chunk)
        index = (grid_row, *[0] * (len(self.shape) - 1))
        return self._counted(read, index)[skip : skip + len(row)]

    def _tiles(self, read: ReadRange, row: range) -> Array:
        """Frames that lie in several chunks each, put together."""
        grid_row, skip = divmod(row.start, self.frames_per_chunk)
        frames = np.empty((len(row), *self.shape[1:]), self.dtype.newbyteorder("="))
        for tile in np.ndindex(self.offsets.shape[1:]):
            chunk = self._counted(read, (grid_row, *tile))
            starts = [t * c for t, c in zip(tile, self.chunk_shape[1:], strict=True)]
            place = tuple(slice(s, s + c) for s, c in zip(starts, self.chunk_shape[1:], strict=True))
            here = frames[(slice(None), *place)]  # clipped at the edge, where chunks are stored whole
            here[...] = chunk[(slice(skip, skip + len(row)), *(slice(0, n) for n in here.shape[1:]))]
        return frames

    def _counted(self, read: ReadRange, index: tuple[int, ...]) -> Array:
        chunk = self.decode(read, index)
        self._tally.add(int(self.offsets[index] >= 0))
        return chunk

    def decode(self, read: ReadRange, index: tuple[int, ...]) -> Array:
        """The chunk at ``index`` of the grid, by what reads the open file; raises `BrokenChunk`."""
        offset, size = int(self.offsets[index]), int(self.sizes[index])
        if offset < 0:
            return np.full(self.chunk_shape, self.fill, self.dtype.newbyteorder("="))
        stored = read(offset, size)
        if len(stored) != size:
            raise BrokenChunk(f"the file ends {size - len(stored)} bytes before its chunk does")
        items = self._undo_filters(stored, int(self.masks[index]))
        return self._native(items.reshape(self.chunk_shape))

    def _undo_filters(self, stored: bytes | memoryview, mask: int) -> Array:
        data: bytes | bytearray | memoryview = stored
        wanted = int(np.prod(self.chunk_shape)) * self.dtype.itemsize
        shuffled = False
        for position, number in reversed(list(enumerate(self.filters))):
            if mask >> position & 1:
                continue
            if number == FLETCHER32:
                from numcodecs import Fletcher32

                try:
                    data = Fletcher32().decode(data)
                except (RuntimeError, ValueError, IndexError) as error:  # the last of one that is too short for a sum
                    raise BrokenChunk("its chunk does not match its Fletcher-32 checksum") from error
            elif number == DEFLATE:
                try:
                    data = deflate.zlib_decompress(data, wanted)
                except (deflate.DeflateError, ValueError) as error:
                    raise BrokenChunk(f"its chunk does not inflate ({one_line(error)})") from error
            else:
                shuffled = True
        if len(data) != wanted:
            raise BrokenChunk(f"its chunk decodes to {len(data)} bytes, {wanted} wanted")
        if shuffled and self.dtype.itemsize > 1:
            import cv2

            planes = np.frombuffer(data, np.uint8).reshape(self.dtype.itemsize, 1, -1)
            # cv2.merge interleaves 7 times as fast as numcodecs' Shuffle, 25 times as fast as NumPy
            return cv2.merge(list(planes)).reshape(-1).view(self.dtype)
        return np.frombuffer(data, self.dtype)

    def _native(self, items: Array) -> Array:
        return items.astype(self.dtype.newbyteorder("="), copy=False)


def grid_shape(shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many chunks lie along each axis."""
    return tuple(-(-n // c) for n, c in zip(shape, chunk_shape, strict=True))


def one_line(error: Exception) -> str:
    """The message of a library's error, without its line breaks."""
    return " ".join(str(error).split())
