"""`gfield.formats.matv5` against scipy in both directions, and against files that are not what they should be."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from gfield.formats.matv5 import read_numeric, write_numeric
from gfield.frame import InputError

REAL = Path(__file__).parents[2] / "shared" / "data"
DTYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
MIB = 1024 * 1024

numeric_arrays = st.sampled_from([*DTYPES, "?"]).flatmap(
    lambda dtype: stn.arrays(dtype, stn.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=5))
)
matlab_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,30}", fullmatch=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matv5")


def assert_same(seen: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    assert seen.dtype == wanted.dtype
    assert seen.dtype.isnative
    assert seen.shape == wanted.shape
    np.testing.assert_array_equal(seen, wanted)


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def small_element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "I", len(data) << 16 | kind) + data.ljust(4, b"\0")


def matrix(
    array_class: int, numbers: bytes, shape: tuple[int, ...] = (2, 3), name: bytes = b"x", order: str = "<"
) -> bytes:
    """A matrix element put together by hand; ``numbers`` is an element."""
    body = element(6, struct.pack(order + "II", array_class, 0), order)
    body += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    body += small_element(1, name, order) + numbers
    return element(14, body, order)


def write_file(path: Path, *elements: bytes, order: str = "<") -> Path:
    mark = struct.pack(order + "HH", 0x0100, 0x4D49)
    path.write_bytes(b"MATLAB 5.0 MAT-file, by hand".ljust(124) + mark + b"".join(elements))
    return path


@given(array=numeric_arrays, name=matlab_names, compress=st.booleans())
def test_reads_what_scipy_writes(folder: Path, array: npt.NDArray[Any], name: str, compress: bool) -> None:
    path = folder / "scipy.mat"
    scipy.io.savemat(path, {"before": np.arange(7), name: array, "behind": "text"}, do_compression=compress)
    assert_same(read_numeric(path, name), array)


@given(array=numeric_arrays, other=numeric_arrays, name=matlab_names, compress=st.booleans())
def test_scipy_reads_what_we_write(
    folder: Path, array: npt.NDArray[Any], other: npt.NDArray[Any], name: str, compress: bool
) -> None:
    path = folder / "ours.mat"
    write_numeric(path, {name: array, name[:40] + "_2": other}, compress=compress)
    found = scipy.io.loadmat(path, mat_dtype=True)
    assert_same(found[name], array)
    assert_same(found[name[:40] + "_2"], other)
    assert_same(read_numeric(path, name), array)
    assert_same(read_numeric(path, name[:40] + "_2"), other)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", [(2, "u1"), (1, "i1"), (4, "u2"), (3, "i2"), (5, "i4"), (9, "f8")])
def test_numbers_stored_smaller_than_their_class(tmp_path: Path, order: str, stored: tuple[int, str]) -> None:
    kind, dtype = stored
    wanted = np.array([[1, 0, 99], [7, 100, 5]], np.float64)
    numbers = element(kind, wanted.astype(order + dtype).tobytes(order="F"), order)
    path = write_file(tmp_path / "x.mat", matrix(6, numbers, order=order), order=order)
    assert_same(read_numeric(path, "x"), wanted)


@pytest.mark.parametrize("order", ["<", ">"])
def test_small_element_and_unpadded_end(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.mat"
    small = matrix(9, small_element(2, b"\x01\x02\x03\x04", order), (2, 2), order=order)
    assert_same(read_numeric(write_file(path, small, order=order), "x"), np.array([[1, 3], [2, 4]], np.uint8))
    unpadded = bytearray(matrix(9, element(2, b"\x01\x02\x03\x04\x05\x06", order), order=order)[:-2])
    struct.pack_into(order + "I", unpadded, 4, len(unpadded) - 8)
    path = write_file(path, bytes(unpadded), order=order)
    assert_same(read_numeric(path, "x"), np.array([[1, 3, 5], [2, 4, 6]], np.uint8))


def test_values_that_the_class_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.mat", matrix(9, element(3, np.arange(250, 256, dtype="<i2").tobytes())))
    assert read_numeric(path, "x").max() == 255
    for numbers in (np.arange(251, 257, dtype="<i2"), np.full(6, np.nan, "<f8"), np.full(6, 0.5, "<f4")):
        kind = {"i2": 3, "f8": 9, "f4": 7}[numbers.dtype.str[1:]]
        write_file(path, matrix(9, element(kind, numbers.tobytes())))
        with pytest.raises(InputError, match="that its class, uint8, cannot hold"):
            read_numeric(path, "x")


def test_the_array_is_our_own(tmp_path: Path) -> None:
    write_numeric(tmp_path / "x.mat", {"x": np.eye(3)}, compress=False)
    array = read_numeric(tmp_path / "x.mat", "x")
    array[:] = 5  # writable, and not the file's
    assert_same(read_numeric(tmp_path / "x.mat", "x"), np.eye(3))


@pytest.mark.parametrize("compress", [False, True])
def test_other_variables_are_not_decoded(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "two.mat"
    noise = np.random.default_rng(0).random((100, 100))
    write_numeric(path, {"noise": noise, "x": np.eye(3)}, compress=compress)
    data = bytearray(path.read_bytes())
    data[40_000] ^= 0xFF
    path.write_bytes(data)
    assert_same(read_numeric(path, "x"), np.eye(3))
    if compress:
        with pytest.raises(InputError, match="'noise' does not inflate to 80056 sound bytes"):
            read_numeric(path, "noise")


def test_objects_of_matlab_are_passed_over(tmp_path: Path) -> None:
    opaque = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"when") + element(1, b"MCOS"))
    path = write_file(tmp_path / "x.mat", opaque, matrix(9, element(2, bytes(6))))
    assert_same(read_numeric(path, "x"), np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="'when' is opaque; a full numeric array wanted"):
        read_numeric(path, "when")


@pytest.mark.parametrize("compress", [False, True])
def test_variables_that_are_no_plain_arrays_are_refused(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "zoo.mat"
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.eye(2), "text"
    zoo = {
        "a_cell": cells,
        "a_struct": {"field": np.eye(2)},
        "a_char": "text",
        "a_sparse": scipy.sparse.csc_matrix(np.eye(3)),
        "a_complex": np.full((2, 2), 1j),
    }
    scipy.io.savemat(path, {**zoo, "plain": np.eye(2)}, do_compression=compress)
    for name in zoo:
        with pytest.raises(InputError, match=rf"zoo\.mat: '{name}' is {name[2:]}; .* wanted$"):
            read_numeric(path, name)
    assert_same(read_numeric(path, "plain"), np.eye(2))
    with pytest.raises(InputError, match=r"no variable 'depth'; found a_cell, a_struct, .*, plain$"):
        read_numeric(path, "depth")


def test_names_are_shown_on_one_line(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.mat", matrix(9, element(2, bytes(6)), name=b"a\nb"))
    with pytest.raises(InputError) as caught:
        read_numeric(path, "x")
    assert "\n" not in str(caught.value)
    assert r"found 'a\nb'" in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    with pytest.raises(InputError, match=r"x\.mat: No such file"):
        read_numeric(path, "x")
    with pytest.raises(InputError, match="Is a directory"):
        read_numeric(tmp_path, "x")
    for content in (b"", b"MATLAB", bytes(200), b"just text, and more of it " * 20):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.mat: not a MATLAB level-5 file"):
            read_numeric(path, "x")
    for user_block in (0, 512):
        with h5py.File(path, "w", userblock_size=user_block) as file:
            file["x"] = np.eye(2)
        if user_block:
            with path.open("r+b") as stream:
                stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        with pytest.raises(InputError, match=r"MATLAB 7\.3 \(HDF5\) file; level 5 wanted"):
            read_numeric(path, "x")


GOOD = element(2, bytes(6))
FLAGS = element(6, struct.pack("<II", 9, 0))
DIMS = element(5, struct.pack("<ii", 2, 3))
STREAM = zlib.compress(matrix(9, element(2, bytes(1000)), (10, 100)))


def compressed(stream: bytes) -> bytes:
    return struct.pack("<II", 15, len(stream)) + stream


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (element(9, bytes(8)), r"element of type 9; 14 \(matrix\) or 15 \(compressed\) wanted"),
        (b"\x0e\0\0\0", "file ends inside a tag at byte 128"),
        (matrix(9, GOOD)[:-8], r"truncated: 56 bytes wanted at byte 136, 48 there"),
        (element(14, element(5, bytes(8))), "variable without array flags: type 5; 6 of 8 bytes wanted"),
        (struct.pack("<IIII", 14, 8, 6, 8), "array flags cut off"),
        (element(14, FLAGS + element(5, bytes(4))), "dimensions of type 5, 4 bytes; 2 to 32 of type 5"),
        (element(14, FLAGS + struct.pack("<II", 5, 8)), "dimensions cut off"),
        (element(14, FLAGS + DIMS), "variable ends inside a tag"),
        (element(14, FLAGS + DIMS + element(9, bytes(8))), "variable without a name: type 9; 1 wanted"),
        (matrix(9, GOOD, (2, -3)), r"dimensions \(2, -3\); none below 0 wanted"),
        (matrix(9, struct.pack("<II", 5 << 16 | 2, 0)), "small element of 5 bytes; at most 4 wanted"),
        (matrix(9, b""), "variable ends inside a tag"),
        (matrix(9, element(14, bytes(8))), "'x' has data of type 14; numbers wanted"),
        (matrix(9, element(2, bytes(5))), r"'x' has 5 bytes of uint8; 6 for \(2, 3\) wanted"),
        (matrix(9, element(2, bytes(9))), r"'x' has 9 bytes of uint8; 6 for \(2, 3\) wanted"),
        (matrix(9, struct.pack("<II", 2, 80) + bytes(8), (8, 10)), "'x' has 8 bytes of uint8; 80 for"),
        (matrix(99, GOOD), "'x' is of class 99; a full numeric array wanted"),
        (compressed(bytes(20)), "compressed variable does not inflate"),
        (compressed(zlib.compress(b"four")), "compressed variable ends inside its tag"),
        (
            compressed(zlib.compress(compressed(STREAM))),
            r"compressed element of type 15; 14 \(matrix\) wanted",
        ),
        (compressed(STREAM[:-1] + b"?"), "'x' does not inflate to 1048 sound bytes"),
        (compressed(STREAM[:-5]), "'x' does not inflate to 1048 sound bytes"),
        (compressed(zlib.compress(zlib.decompress(STREAM)[:-8])), "'x' inflates to 1040 bytes; 1048 wanted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"x\.mat: {message}"):
        read_numeric(write_file(tmp_path / "x.mat", data), "x")


def test_nothing_large_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    body = matrix(6, element(2, bytes(64 * MIB)), (8192, 8192))
    bomb = compressed(zlib.compress(body, 1))
    # A stream of 64 MiB with a matrix of 2 x 3 in a tag of 56 bytes.
    liar = compressed(zlib.compress(matrix(6, GOOD) + bytes(64 * MIB), 1))
    huge = matrix(6, element(2, b""), (2**31 - 1, 2**31 - 1, 0))
    tracemalloc.start()
    try:
        for data, message in (
            (bomb, "'x' takes 536870912 bytes; at most 67108864 wanted"),
            (liar, "'x' does not inflate to 56 sound bytes"),
            (huge, "'x' takes .* bytes; at most 67108864 wanted"),
        ):
            write_file(path, data)
            tracemalloc.reset_peak()
            with pytest.raises(InputError, match=message):
                read_numeric(path, "x")
            assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """A few bits, bytes or words of ``seed`` changed, or a piece cut out, or the end cut off."""
    data = bytearray(seed)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data))) if data else 0
        kind = int(rng.integers(5))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 2 and data:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 3 and data:
            data[at] = int(rng.integers(256))
        else:
            words = (0, 1, 7, 14, 15, 2**16, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
            at -= at % 4
            data[at : at + 4] = struct.pack("<I", words[int(rng.integers(len(words)))])
    return bytes(data)


def test_a_damaged_file_gives_an_array_or_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    rng = np.random.default_rng(20210530)
    arrays = {"a": np.arange(12.0).reshape(3, 2, 2), "x": rng.random((5, 30, 4)), "n": np.eye(2, dtype=bool)}
    write_numeric(path, arrays, compress=False)
    plain = path.read_bytes()
    write_numeric(path, arrays)
    packed = path.read_bytes()
    inner = matrix(6, element(4, np.arange(6, dtype="<u2").tobytes()))
    messages: list[str] = []
    sizes: list[int] = []
    tracemalloc.start()
    try:
        with path.open("r+b", buffering=0) as file:  # opened once: making a file anew takes milliseconds
            for case in range(3000):
                data = mutated((plain, packed, inner)[case % 3], rng)
                if case % 3 == 2:  # damage inside a stream whose checksum holds
                    data = plain[:128] + compressed(zlib.compress(data, 1))
                file.seek(0)
                file.write(data)
                file.truncate()
                try:
                    sizes.append(read_numeric(path, "x", max_bytes=MIB).nbytes)
                except InputError as error:
                    messages.append(str(error))
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert len(messages) > 300
    assert len(sizes) > 300
    assert max(sizes) <= MIB
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize(
    ("name", "array"),
    [("x", np.eye(2, dtype=np.complex128)), ("x", np.zeros((2, 2), np.float16)), ("x", np.arange(3))]
    + [(name, np.eye(2)) for name in ("", "1x", "a b", "x" * 64, "é")],
)
def test_what_matlab_does_not_have_is_not_written(tmp_path: Path, name: str, array: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        write_numeric(tmp_path / "x.mat", {name: array})
    assert not (tmp_path / "x.mat").exists()


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for file in ("a", "b"):
        write_numeric(tmp_path / file, {"x": np.arange(6.0).reshape(2, 3)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sample data are not here")
def test_real_files_as_scipy_reads_them() -> None:
    files = [(path, "Position3DGrid") for path in sorted(REAL.glob("make3d/*/*.mat"))]
    files += [(REAL / "nyu" / "splits_official_1449.mat", name) for name in ("trainNdxs", "testNdxs")]
    assert len(files) > 2
    for path, name in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's remarks on old files
            wanted = scipy.io.loadmat(path, mat_dtype=True)[name]
        assert_same(read_numeric(path, name), wanted)
