"""Frames read as byte ranges are what h5py reads, and what cannot be trusted or decoded is said so."""

from __future__ import annotations

import ctypes
import os
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.confined import hdf5
from gfield.confined.hdf5 import describe, open_hdf5
from gfield.formats.framebytes import Damage, FrameBytes
from gfield.frame import InputError

PIPELINES: list[dict[str, Any]] = [
    {},
    {"compression": "gzip", "compression_opts": 1},
    {"compression": "gzip", "shuffle": True},
    {"compression": "gzip", "fletcher32": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"shuffle": True},
    {"fletcher32": True},
    {"compression": "lzf"},
]
GZIP = PIPELINES[1]


def some_frames(shape: tuple[int, ...], dtype: str = "f4", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def write(path: Path, data: np.ndarray, userblock: int = 512, **options: Any) -> Path:
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("x", data=data, **options)
    return path


def described(path: Path, name: str = "x") -> FrameBytes:
    with open_hdf5(path) as file:
        return describe(file, path, name)


def read(frames: FrameBytes, start: int = 0, stop: int | None = None) -> list[Any]:
    """Frames of a range, copied, with the reason in place of a damaged one."""
    stream = frames.read_frames(start, frames.shape[0] if stop is None else stop)
    return [item.reason if isinstance(item, Damage) else item.copy() for item in stream]


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, Any]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    chunked = draw(st.booleans())
    options: dict[str, Any] = {}
    if chunked:
        # A resizable axis allows chunks larger than the data are.
        options = {
            "chunks": tuple(draw(st.integers(1, n + 2)) for n in shape),
            "maxshape": (None,) * len(shape),
            **draw(st.sampled_from(PIPELINES)),
        }
    written = sorted(draw(st.tuples(st.integers(0, shape[0]), st.integers(0, shape[0]))))
    asked = sorted(draw(st.tuples(st.integers(0, shape[0]), st.integers(0, shape[0]))))
    return {
        "shape": shape,
        "dtype": draw(st.sampled_from(["u1", "<u2", ">u2", "<f4", ">f4", "<f8", ">i8", "<f2"])),
        "options": options,
        "fill": draw(st.integers(0, 9)),
        "written": written,
        "asked": asked,
        "userblock": draw(st.sampled_from([0, 512, 1024])),
    }


@settings(max_examples=250, deadline=None)
@given(case=datasets())
def test_any_layout_reads_as_h5py_reads_it(tmp_path_factory: pytest.TempPathFactory, case: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.h5"
    start, stop = case["written"]
    with h5py.File(path, "w", userblock_size=case["userblock"]) as file:
        dataset = file.create_dataset("x", case["shape"], case["dtype"], fillvalue=case["fill"], **case["options"])
        if stop > start:
            dataset[start:stop] = some_frames((stop - start, *case["shape"][1:]), case["dtype"])
    frames = described(path)
    assert frames.mode == ("h5py" if case["options"].get("compression") == "lzf" else "byte ranges")
    start, stop = case["asked"]
    with h5py.File(path) as file:
        wanted = file["x"][start:stop]
    seen = list(map(np.copy, frames.read_frames(start, stop)))
    assert len(seen) == len(wanted)
    for frame, expected in zip(seen, wanted, strict=True):
        assert frame.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("options", PIPELINES)
def test_frames_are_contiguous_and_native(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.h5", some_frames((5, 6, 7), ">u2"), chunks=(2, 4, 7), **options)
    for frame in described(path).read_frames(0, 5):
        assert isinstance(frame, np.ndarray)
        assert frame.flags.c_contiguous
        assert frame.dtype == np.dtype("=u2")


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("chunks", [None, (1, 6, 7)])
def test_offsets_count_the_user_block(tmp_path: Path, userblock: int, chunks: tuple[int, ...] | None) -> None:
    """Settles HDF5 issue 3003: whichever way the HDF5 at hand reports them, ours are offsets in the file."""
    data = some_frames((3, 6, 7))
    path = write(tmp_path / "a.h5", data, userblock, chunks=chunks)
    with h5py.File(path) as file:
        reported = file["x"].id.get_chunk_info(0).byte_offset if chunks else file["x"].id.get_offset()
    true = path.read_bytes().find(data[0].tobytes())
    old_hdf5 = h5py.version.hdf5_version_tuple < (1, 14, 4)
    assert reported == (true - userblock if chunks and old_hdf5 else true)
    assert described(path).offsets.flat[0] == true


def test_offsets_without_the_user_block_are_put_right(tmp_path: Path) -> None:
    """HDF5 before 1.14.3 reports them so."""
    data = some_frames((3, 6, 7))
    path = write(tmp_path / "a.h5", data, chunks=(1, 6, 7), **GZIP)
    frames = described(path)
    with h5py.File(path) as file:
        settled = hdf5._settle(replace(frames, offsets=frames.offsets - 512), file["x"])
        lost = hdf5._settle(replace(frames, offsets=frames.offsets - 100), file["x"])
    np.testing.assert_array_equal(settled.offsets, frames.offsets)
    assert lost.why == "chunks that are not where HDF5 says"
    for either in (settled, lost):
        np.testing.assert_array_equal(read(either), data)


def test_filter_masks_are_obeyed_chunk_by_chunk(tmp_path: Path) -> None:
    data = some_frames((3, 6, 7))
    path = write(tmp_path / "a.h5", data, chunks=(1, 6, 7), shuffle=True, **GZIP)
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((1, 0, 0), data[1].tobytes(), filter_mask=0b11)
    frames = described(path)
    assert frames.masks.ravel().tolist() == [0, 3, 0]
    np.testing.assert_array_equal(read(frames), data)


def test_chunks_at_the_edge_that_hdf5_left_unfiltered(tmp_path: Path) -> None:
    library = loaded_libhdf5()
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 4, 4))
    plist.set_deflate(1)
    dont_filter_partial_chunks = 2
    assert library.H5Pset_chunk_opts(ctypes.c_int64(plist.id), ctypes.c_uint(dont_filter_partial_chunks)) == 0
    data = some_frames((5, 6, 7))
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        space = h5py.h5s.create_simple(data.shape)
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plist)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data)
    frames = described(tmp_path / "a.h5")
    assert frames.why == "chunks at the edge left unfiltered"
    np.testing.assert_array_equal(read(frames), data)


def loaded_libhdf5() -> ctypes.CDLL:
    """The HDF5 library that h5py runs on; the option needed is not in h5py's own interface."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = [line.split(maxsplit=5)[-1] for line in lines if "/libhdf5-" in line or "/libhdf5.so" in line]
    if not paths:
        pytest.skip("cannot tell where h5py's HDF5 library lies")
    return ctypes.CDLL(paths[0])


def compact(file: h5py.File, data: np.ndarray) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(data.shape)
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plist).write(h5py.h5s.ALL, h5py.h5s.ALL, data)


def gzip_before_shuffle(file: h5py.File, data: np.ndarray) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *data.shape[1:]))
    plist.set_deflate(1)
    plist.set_shuffle()
    space = h5py.h5s.create_simple(data.shape)
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plist).write(h5py.h5s.ALL, h5py.h5s.ALL, data)


def packed_bits(file: h5py.File, data: np.ndarray) -> None:
    dtype = h5py.h5t.STD_U16LE.copy()
    dtype.set_precision(10)
    h5py.h5d.create(file.id, b"x", dtype, h5py.h5s.create_simple(data.shape)).write(
        h5py.h5s.ALL, h5py.h5s.ALL, data.astype("u2")
    )


@pytest.mark.parametrize(
    ("create", "why"),
    [
        (compact, "compact layout"),
        (gzip_before_shuffle, "filters gzip, shuffle"),
        (packed_bits, "items that HDF5 converts on reading"),
        (lambda file, data: file.create_dataset("x", data=data, compression="lzf"), "filters lzf"),
        (
            lambda file, data: file.create_dataset("x", data=data.astype("i4"), scaleoffset=0),
            "filters scale-offset",
        ),
    ],
)
def test_h5py_reads_the_rest_and_the_reason_is_kept(
    tmp_path: Path, create: Callable[[h5py.File, np.ndarray], object], why: str
) -> None:
    data = some_frames((5, 6, 7))
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        create(file, data)
    frames = described(tmp_path / "a.h5")
    assert (frames.mode, frames.why) == ("h5py", why)
    np.testing.assert_array_equal(read(frames, 1, 4), data[1:4])


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_each_chunk_is_decoded_once_a_range(tmp_path: Path, compression: str) -> None:
    """Three frames a chunk, four tiles a frame."""
    path = write(tmp_path / "a.h5", some_frames((10, 6, 8)), chunks=(3, 3, 4), compression=compression)
    frames = described(path)
    for start, stop, rows in [(0, 10, 4), (3, 6, 1), (2, 4, 2), (5, 5, 0), (9, 10, 1)]:
        before = frames.decoded_chunks
        read(frames, start, stop)
        assert frames.decoded_chunks - before == rows * 4
    assert pickle.loads(pickle.dumps(frames)).decoded_chunks == 0


@pytest.mark.parametrize("chunks", [(4, 200, 200), (4, 100, 80)])
def test_no_more_is_held_than_one_row_of_chunks(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    data = some_frames((32, 200, 200), "u1")
    frames = described(write(tmp_path / "a.h5", data, chunks=chunks, **GZIP))
    tracemalloc.start()
    try:
        for frame in frames.read_frames(0, 32):
            del frame  # a view that would keep its chunk alive while the next one is decoded
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    row = 4 * data[0].nbytes
    assert peak < 2.2 * row  # the stored bytes of a chunk and what they decode to


def damage(path: Path, frame: int, name: str = "x", tile: int = 0) -> None:
    """Overwrite the middle of the chunk that holds a frame."""
    with h5py.File(path) as file:
        chunks: list[Any] = []
        file[name].id.chunk_iter(chunks.append)
        span = file[name].chunks[0]
    chunk = [c for c in chunks if c.chunk_offset[0] == frame // span * span][tile]
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset + chunk.size // 2)
        stream.write(b"\xff" * min(16, chunk.size // 4))


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
@pytest.mark.parametrize(("chunks", "lost"), [((1, 30, 40), {4}), ((3, 30, 40), {3, 4, 5}), ((2, 10, 40), {4, 5})])
def test_a_damaged_chunk_costs_its_own_frames_only(
    tmp_path: Path, compression: str, chunks: tuple[int, ...], lost: set[int]
) -> None:
    data = some_frames((8, 30, 40))
    path = write(tmp_path / "a.h5", data, chunks=chunks, compression=compression, fletcher32=compression == "lzf")
    damage(path, 4)
    seen = read(described(path))
    for frame, item in enumerate(seen):
        if frame in lost:
            assert item.startswith(f"{path}: data set 'x', frame {frame}: ")
            assert "\n" not in item
        else:
            np.testing.assert_array_equal(item, data[frame])


def test_fletcher32_is_verified(tmp_path: Path) -> None:
    """One flipped bit, which nothing else would notice in uncompressed data."""
    data = some_frames((3, 5, 7), "u1")  # 35 bytes a chunk: the last 16-bit word is half a word
    path = write(tmp_path / "a.h5", data, chunks=(1, 5, 7), fletcher32=True)
    frames = described(path)
    np.testing.assert_array_equal(read(frames), data)
    with path.open("r+b") as stream:
        stream.seek(int(frames.offsets[1, 0, 0]) + 34)
        stream.write(bytes([data[1, -1, -1] ^ 1]))
    seen = read(frames)
    assert seen[1].endswith("its chunk does not match its Fletcher-32 checksum")
    np.testing.assert_array_equal(seen[2], data[2])


def test_bytes_missing_at_the_end_are_damage(tmp_path: Path) -> None:
    data = some_frames((3, 50, 70), "u1")
    path = write(tmp_path / "a.h5", data)
    frames = described(path)
    os.truncate(path, path.stat().st_size - 1000)
    seen = read(replace(frames, file_size=path.stat().st_size))
    assert seen[2].endswith("the file ends 1000 bytes before its chunk does")


def test_threads_read_ranges_of_one_object(tmp_path: Path) -> None:
    data = some_frames((60, 40, 50))
    frames = described(write(tmp_path / "a.h5", data, chunks=(3, 20, 50), shuffle=True, **GZIP))
    ranges = [(start, start + 12) for start in range(0, 49, 3)] * 4
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda r: read(frames, *r), ranges))
    for (start, stop), seen in zip(ranges, results, strict=True):
        np.testing.assert_array_equal(seen, data[start:stop])
    assert frames.decoded_chunks == len(ranges) * 4 * 2


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted by Linux's /proc")
@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_no_file_stays_open(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.h5", some_frames((5, 6, 7)), chunks=(2, 6, 7), compression=compression)
    before = open_files()
    frames = pickle.loads(pickle.dumps(described(path)))
    assert open_files() == before
    with closing(frames.read_frames(0, 5)) as stream:
        next(stream)
        assert open_files() == before + (compression == "gzip"), "lzf is read by another process"
    assert open_files() == before


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", some_frames((5, 6, 7)))
    frames = described(path)
    size = path.stat().st_size
    write(path, some_frames((6, 6, 7)))
    with pytest.raises(InputError, match=rf"a\.h5: now {path.stat().st_size} bytes long, but {size} when"):
        read(frames)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.h5: No such file"):
        read(frames)


def test_ranges_outside_the_data_set(tmp_path: Path) -> None:
    frames = described(write(tmp_path / "a.h5", some_frames((5, 6, 7))))
    for start, stop in [(-1, 2), (3, 6), (4, 3)]:
        with pytest.raises(IndexError, match=f"frames {start}:{stop} wanted of 5"):
            read(frames, start, stop)


# What is refused at open.


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5])
def test_a_chunk_too_short_for_its_checksum_is_damage(tmp_path: Path, size: int) -> None:
    frames = described(write(tmp_path / "a.h5", some_frames((2, 3, 4)), chunks=(1, 3, 4), fletcher32=True))
    short = replace(frames, sizes=np.full_like(frames.sizes, size))
    assert all("frame" in seen and "its chunk" in seen for seen in read(short))


def soft_link(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/y")


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("other.h5", "/y")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4, 5), "f4")
    layout[0] = h5py.VirtualSource("other.h5", "y", (4, 5))
    file.create_virtual_dataset("x", layout)


def external_storage(file: h5py.File) -> None:
    file.create_dataset("x", (3, 4, 5), "f4", external=[("/etc/passwd", 0, 240)])


def unknown_filter(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 4, 5))
    plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3, 4, 5)), plist)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (soft_link, "'x' is a soft or external link"),
        (external_link, "'x' is a soft or external link"),
        (virtual, "'x' keeps its data in other files"),
        (external_storage, "'x' keeps its data in other files"),
        (unknown_filter, "needs HDF5 filter 32099"),
        (lambda file: file.create_group("x"), "'x' is a group"),
        (lambda file: file.create_dataset("x", data=["a"]), "is object"),
        (lambda file: file.create_dataset("x", data=np.arange(3)), r"is int64 \(3,\); frames of numbers"),
        (lambda file: file.create_dataset("x", data=3.0), r"is float64 \(\)"),
        (
            lambda file: file.create_dataset("x", (1, 30000, 30000), "f4", chunks=(1, 30000, 30000)),
            "chunks of 3600000000 bytes",
        ),
        (lambda file: file.create_dataset("x", (10**9, 4, 4), "u1"), "has 1000000000 frames"),
    ],
)
def test_untrusted_data_sets_are_refused(tmp_path: Path, create: Callable[[h5py.File], object], message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        create(file)
    with pytest.raises(InputError, match=rf"a\.h5: .*{message}.*wanted") as caught:
        described(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)


def test_a_chunk_beyond_the_end_is_refused(tmp_path: Path) -> None:
    """The header is made to agree with the truncated file, so that HDF5 itself opens it."""
    path = write(tmp_path / "a.h5", some_frames((5, 60, 70)), userblock=0, chunks=(1, 60, 70))
    size = path.stat().st_size - 9000
    os.truncate(path, size)
    with path.open("r+b") as stream:
        stream.seek(40)  # the end-of-file address in a version 0 superblock
        stream.write(size.to_bytes(8, "little"))
    with pytest.raises(InputError, match=f"'x' ends at byte {size + 9000}, but the file is truncated at {size} bytes"):
        described(path)


def test_a_truncated_file_is_told_by_its_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", some_frames((5, 60, 70)))
    whole = path.stat().st_size
    os.truncate(path, 40_000)
    with pytest.raises(InputError, match=rf"a\.h5: truncated: 40000 bytes long, {whole} wanted"):
        open_hdf5(path)


FILE_STARTS = [
    (b"", "an empty file"),
    (b"MATLAB 5.0 MAT-file, Platform: PCWIN" + bytes(200), "a MATLAB 5 file"),
    (b"MATLAB 7.3 MAT-file".ljust(512) + bytes(600), "a MATLAB 7.3 file whose HDF5 part"),
    (b"\n<!DOCTYPE html><html>404</html>", "an HTML page"),
    (b"PK\x03\x04" + bytes(100), "a zip archive"),
    (b"\x1f\x8b\x08" + bytes(100), "a gzip file"),
    (b"hello world", "a file that starts with b'hello wo'"),
]


@pytest.mark.parametrize(("content", "kind"), FILE_STARTS)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.mat: {kind}.*; an HDF5 \(MATLAB 7\.3\) file wanted"):
        open_hdf5(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mat: No such file or directory; an HDF5 file wanted"):
        open_hdf5(tmp_path / "gone.mat")
    with pytest.raises(InputError, match="Is a directory"):
        open_hdf5(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(0, b"EERT", ""), (24 + 48 + 8, (10**6).to_bytes(8, "little"), "a chunk at .*outside its shape")],
    ids=["signature", "second chunk's frame number"],
)
def test_damaged_metadata_is_an_input_error(tmp_path: Path, place: int, value: bytes, message: str) -> None:
    path = write(tmp_path / "a.h5", some_frames((5, 6, 7)), chunks=(1, 6, 7), **GZIP)
    content = bytearray(path.read_bytes())
    tree = content.find(b"TREE\x01")  # the B-tree that finds the chunks
    content[tree + place : tree + place + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.h5: HDF5 cannot read about 'x' \(.*{message}"):
        described(path)
