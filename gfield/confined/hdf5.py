"""What an HDF5 file says of its data sets, asked through h5py once, at open, and checked.

`look_into` is what `gfield.formats.hdf5` calls, `read_rows` what a `FrameBytes` calls that cannot be read without
HDF5. `open_hdf5` opens a file or says what it is instead; `describe` turns one data set into a `FrameBytes`, which
reads frames without HDF5. A file is untrusted: links and storage that lead out of it, plug-in filters, absurd chunks
and chunks beyond its end are refused.

HDF5 releases from before March 2024 leave the user block out of the chunk offsets that they report
(HDF5 issue 3003), though never out of a contiguous offset. On h5py 3.16 with HDF5 2.0 both count it,
as the tests show with and without a user block. Nothing here relies on that: `_settle` compares the
first and the last chunk in the file with what HDF5 itself reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import h5py
import numpy as np

from gfield.confined.matcells import read_cells
from gfield.confined.result import Result, Room
from gfield.formats.framebytes import DEFLATE, FLETCHER32, SHUFFLE, BrokenChunk, FrameBytes, grid_shape, one_line
from gfield.frame import InputError
from gfield.object_path import Location, ObjectPath, location
from gfield.places import ReadRange, file_size, object_tag, open_file, ranges_of

MAX_CHUNK_BYTES = 1 << 29  # a decoded chunk or frame above 512 MiB: a broken or hostile file
MAX_CHUNKS = 1 << 22  # no table is kept of more chunks; h5py looks them up instead

# The filters built into HDF5 and h5py. Any other is a plug-in: code that a file asks HDF5 to load.
FILTER_NAMES = {
    DEFLATE: "gzip",
    SHUFFLE: "shuffle",
    FLETCHER32: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scale-offset",
    32000: "lzf",
}
UNDONE_HERE = (SHUFFLE, DEFLATE, FLETCHER32)  # in the order in which they must have been applied

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
OTHER_FILES = {
    b"MATLAB 5.0": "a MATLAB 5 file",
    b"MATLAB 7.3": "a MATLAB 7.3 file whose HDF5 part is missing or damaged",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
}


def look_into(what: str, room: Room, *, sets: Sequence[str], cells: Sequence[str]) -> Result:
    """Names of all that is in the root group; of the data sets that are there, their descriptions; and cell arrays.

    The first description says how many strings a cell array is to hold; without one, it holds what it holds.
    """
    place = location(what)
    with _said_of(what), open_hdf5(place) as file:
        found = sorted(file)
        frames = [describe(file, place, name) for name in sets if name in found]
        n = (frames[0].shape[0] or None) if frames else None
        texts = {name: read_cells(plain_dataset(file, place, name), n) for name in cells if name in found}
    described = [frame.to_plain() for frame in frames]
    tables = [array for frame in frames for array in frame.tables]
    return Result({"found": found, "sets": described, "cells": texts}, tables)


def read_rows(what: str, room: Room, *, name: str, start: int, stop: int) -> Result:
    """One array: the frames of a data set from ``start`` to ``stop - 1``."""
    place = location(what)
    with _said_of(what), open_hdf5(place) as file:
        dataset = plain_dataset(file, place, name)
        rows = room.empty((stop - start, *dataset.shape[1:]), dataset.dtype)
        dataset.read_direct(rows, np.s_[start:stop])
        return Result(arrays=[rows])


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Whatever h5py raises of a damaged file as an `InputError`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{what}: HDF5 cannot read it ({one_line(error)})") from error


def open_hdf5(path: Location) -> h5py.File:
    """Open ``path`` for reading.

    Raises
    ------
    InputError
        No such file, not an HDF5 file (the line says what it is, where that is easily told), or
        shorter than its own header says.
    """
    try:
        with open_file(path) as stream:
            head = stream.read(1024)
        size = file_size(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; an HDF5 file wanted") from error
    if not _is_hdf5(path, head):
        kinds = [kind for start, kind in OTHER_FILES.items() if head.lstrip().lower().startswith(start.lower())]
        seen = "an empty file" if not head else (kinds or [f"a file that starts with {head[:8]!r}"])[0]
        raise InputError(f"{path}: {seen}; an HDF5 (MATLAB 7.3) file wanted")
    try:
        # An object is read through Python, by the ranges that HDF5 asks for.
        return h5py.File(open_file(path) if isinstance(path, ObjectPath) else path, "r")
    except (OSError, RuntimeError) as error:
        sizes = re.search(r"sblock->base_addr = (\d+), stored_eof = (\d+)", str(error))
        if sizes:
            wanted = int(sizes[2])
            raise InputError(f"{path}: truncated: {size} bytes long, {wanted} wanted by its header") from error
        raise InputError(f"{path}: HDF5 cannot open it ({one_line(error)})") from error


def _is_hdf5(path: Location, head: bytes) -> bool:
    if isinstance(path, ObjectPath):
        return HDF5_SIGNATURE in (head[start : start + len(HDF5_SIGNATURE)] for start in (0, 512))
    return bool(h5py.is_hdf5(path))


def plain_dataset(file: h5py.File, path: Location, name: str) -> h5py.Dataset:
    """The data set ``name`` of the root group, if its link and its storage stay inside the file."""
    where = f"{path}: '{name}'"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{where} is a soft or external link; a data set in the file itself wanted")
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{where} is a group; a data set wanted")
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{where} keeps its data in other files; data in the file itself wanted")
    return dataset


def describe(file: h5py.File, path: Location, name: str) -> FrameBytes:
    """Where the frames of data set ``name`` lie, its first axis counting frames.

    Raises
    ------
    InputError
        Links or storage out of the file, not numbers, an unknown filter, a chunk of more than
        `MAX_CHUNK_BYTES`, a chunk beyond the end of the file, or metadata that HDF5 cannot read.
    """
    try:
        return _describe(plain_dataset(file, path, name), path, name)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # the network's, and not the file's
            raise InputError(f"{path}: {error.strerror}") from error
        raise InputError(f"{path}: HDF5 cannot read about '{name}' ({one_line(error)})") from error


def _describe(dataset: h5py.Dataset, path: Location, name: str) -> FrameBytes:
    where = f"{path}: data set '{name}'"
    if dataset.dtype.kind not in "uif" or len(dataset.shape) < 2:
        raise InputError(f"{where} is {dataset.dtype} {dataset.shape}; frames of numbers wanted")
    if dataset.shape[0] > MAX_CHUNKS:
        raise InputError(f"{where} has {dataset.shape[0]} frames; at most {MAX_CHUNKS} wanted")
    chunk_shape = dataset.chunks or (1, *dataset.shape[1:])
    chunk_bytes = int(np.prod(chunk_shape, dtype=object)) * dataset.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise InputError(f"{where} has chunks of {chunk_bytes} bytes; at most {MAX_CHUNK_BYTES} wanted")
    pipeline = _pipeline(dataset)
    unknown = [n for n, _ in pipeline if n not in FILTER_NAMES or not h5py.h5z.filter_avail(n)]
    if unknown:
        raise InputError(f"{where} needs HDF5 filter {unknown[0]}; one of {sorted(FILTER_NAMES)} wanted")
    why = _why_h5py(dataset, pipeline)
    grid = (0,) * len(chunk_shape) if why else grid_shape(dataset.shape, chunk_shape)
    frames = FrameBytes(
        path=path,
        name=name,
        shape=dataset.shape,
        dtype=dataset.dtype,
        chunk_shape=chunk_shape,
        filters=tuple(number for number, _ in pipeline),
        fill=np.zeros((), dataset.dtype),
        file_size=file_size(path),
        offsets=np.full(grid, -1, np.int64),
        sizes=np.zeros(grid, np.int64),
        masks=np.zeros(grid, np.uint32),
        why=why,
        tag=object_tag(path),
    )
    if why:
        return frames
    _fill_in_tables(frames, dataset)
    _refuse_beyond_end(frames)
    if (frames.offsets < 0).any():  # not asked for in vain: HDF5 2.0 crashes on some damaged fill values
        frames = replace(frames, fill=np.asarray(dataset.fillvalue))
    return _settle(frames, dataset)


def _pipeline(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    """Number and parameters of each filter, in the order of writing."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(position) for position in range(plist.get_nfilters())]
    return [(number, values) for number, _, values, _ in filters]


def _why_h5py(dataset: h5py.Dataset, pipeline: list[tuple[int, tuple[int, ...]]]) -> str:
    """Why frames have to be read by h5py; empty where byte ranges will do."""
    if dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
        return "compact layout"
    if h5py.h5t.py_create(dataset.dtype) != dataset.id.get_type():
        return "items that HDF5 converts on reading"
    numbers = [number for number, _ in pipeline]
    if numbers != [number for number in UNDONE_HERE if number in numbers]:
        return "filters " + ", ".join(FILTER_NAMES[number] for number in numbers)
    if any(number == SHUFFLE and values[:1] != (dataset.dtype.itemsize,) for number, values in pipeline):
        return "shuffled by another size than its items'"
    if dataset.chunks and int(np.prod(grid_shape(dataset.shape, dataset.chunks), dtype=object)) > MAX_CHUNKS:
        return f"more than {MAX_CHUNKS} chunks"
    return ""


def _fill_in_tables(frames: FrameBytes, dataset: h5py.Dataset) -> None:
    if dataset.chunks is None:
        # Asked for the offset of a data set without space, HDF5 adds the user block to its "undefined".
        if dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED:
            frame_bytes = int(np.prod(frames.chunk_shape)) * frames.dtype.itemsize
            starts = dataset.id.get_offset() + np.arange(frames.shape[0]) * frame_bytes
            frames.offsets[...] = starts.reshape(frames.offsets.shape)
            frames.sizes[...] = frame_bytes
        return

    def enter(chunk: h5py.h5d.StoreInfo) -> None:
        index = tuple(o // c for o, c in zip(chunk.chunk_offset, frames.chunk_shape, strict=True))
        if any(i >= n for i, n in zip(index, frames.offsets.shape, strict=True)):
            raise ValueError(f"a chunk at {chunk.chunk_offset} outside its shape {frames.shape}")
        frames.offsets[index] = chunk.byte_offset
        frames.sizes[index] = chunk.size
        frames.masks[index] = chunk.filter_mask

    dataset.id.chunk_iter(enter)


def _refuse_beyond_end(frames: FrameBytes) -> None:
    allocated = frames.offsets >= 0
    if not allocated.any():
        return
    where = f"{frames.path}: a chunk of '{frames.name}'"
    end, largest = int((frames.offsets + frames.sizes)[allocated].max()), int(frames.sizes.max())
    if end > frames.file_size:
        raise InputError(f"{where} ends at byte {end}, but the file is truncated at {frames.file_size} bytes")
    if largest > 2 * MAX_CHUNK_BYTES:
        raise InputError(f"{where} takes {largest} bytes; at most {2 * MAX_CHUNK_BYTES} wanted")


def _settle(frames: FrameBytes, dataset: h5py.Dataset) -> FrameBytes:
    """Compare the first and the last chunk with what HDF5 reads, with and without the user block."""
    allocated = np.argwhere(frames.offsets >= 0)
    if not len(allocated):
        return frames
    probes = [tuple(int(i) for i in index) for index in (allocated[0], allocated[-1])]
    stored = [_stored(dataset, frames, probe) for probe in probes]
    with ranges_of(frames.path, ()) as read:
        for shift in dict.fromkeys((0, dataset.file.userblock_size)):
            moved = replace(frames, offsets=np.where(frames.offsets < 0, -1, frames.offsets + shift))
            here = [(int(moved.sizes[probe]), int(moved.offsets[probe])) for probe in probes]
            if [bytes(read(offset, size)) for size, offset in here] != stored:
                continue
            if _may_be_unfiltered(moved, probes[-1]) and not _decodes_alike(moved, dataset, read, probes[-1]):
                return replace(frames, why="chunks at the edge left unfiltered")
            return moved
    return replace(frames, why="chunks that are not where HDF5 says")


def _stored(dataset: h5py.Dataset, frames: FrameBytes, index: tuple[int, ...]) -> bytes:
    """The bytes of a chunk as they stand in the file, read by HDF5."""
    if dataset.chunks is None:
        return bytes(dataset[index[0]].tobytes())
    origin = tuple(i * c for i, c in zip(index, frames.chunk_shape, strict=True))
    return bytes(dataset.id.read_direct_chunk(origin)[1])


def _may_be_unfiltered(frames: FrameBytes, index: tuple[int, ...]) -> bool:
    """HDF5 has an option to skip the filters in chunks at the edge, which the masks do not show."""
    decoded = int(np.prod(frames.chunk_shape)) * frames.dtype.itemsize
    return bool(frames.filters) and int(frames.sizes[index]) == decoded


def _decodes_alike(frames: FrameBytes, dataset: h5py.Dataset, read: ReadRange, index: tuple[int, ...]) -> bool:
    """Whether HDF5 reads the same items from a chunk."""
    place = tuple(slice(i * c, i * c + c) for i, c in zip(index, frames.chunk_shape, strict=True))
    try:
        theirs = dataset[place]
    except OSError:
        return True  # a damaged chunk tells nothing; its frames are reported when they are read
    try:
        ours = frames.decode(read, index)[tuple(slice(0, n) for n in theirs.shape)]
    except BrokenChunk:
        return False
    return ours.tobytes() == bytes(theirs.astype(ours.dtype, copy=False).tobytes())
