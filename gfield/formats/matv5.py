"""MATLAB level-5 files that hold plain numeric arrays: Make3D's depth grids and NYUv2's ``splits.mat``.

A parser of our own because these files come from the net, and `scipy.io.loadmat` can be made to crash the
process by a crafted file (scipy issue 25829). Here every length is checked before it is used, and nothing is
allocated or inflated beyond a limit; whatever is wrong becomes an `InputError`.

Format: "MAT-File Format", The MathWorks, chapter 1, level 5. A file is a header of 128 bytes and then
elements, each a tag (type, byte count) and data. A variable is a matrix element, alone or inside a zlib
stream; its own elements are flags, dimensions, name, numbers. Numbers may be stored in a smaller type than
the array's class has.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import deflate
import numpy as np
import numpy.typing as npt

from gfield.frame import InputError
from gfield.object_path import Location
from gfield.places import open_file

_HEADER_BYTES = 128
# Enough of a variable to know its name, class and shape: flags 16 bytes, 32 dimensions 136, 63 letters 72.
_PEEK_BYTES = 512
_MAX_DIMENSIONS = 32

_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 2, 5, 6, 14, 15, 16
_STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHER_CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "opaque"}
_OPAQUE = 17
_COMPLEX_FLAG, _LOGICAL_FLAG = 0x0800, 0x0200
_MATLAB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class _Fault(Exception):
    """What is wrong with a file, without its name, which the public function puts in front."""


class _Element(NamedTuple):
    """A tag: the type, where the data lie in the buffer, and where the next tag starts."""

    kind: int
    start: int
    stop: int
    after: int


class _Variable(NamedTuple):
    """What stands before a matrix's numbers; ``numbers_at`` counts from the start of the matrix's data."""

    name: str
    array_class: int
    flags: int
    shape: tuple[int, ...]
    numbers_at: int


def read_numeric(path: Location, name: str, *, max_bytes: int = 64 * 1024 * 1024) -> npt.NDArray[Any]:
    """Read one numeric array; other variables in the file are passed over without decoding them.

    Parameters
    ----------
    path
        A MATLAB file of level 5 (``save -v6`` or ``-v7``), of either byte order.
    name
        The variable; where a file holds it twice, the first one.
    max_bytes
        The most bytes that the array, or its form in the file, may have.

    Returns
    -------
    ndarray
        Of the shape and class in the file (logical as bool), native byte order, two or more dimensions, in
        MATLAB's memory order (Fortran), writable.

    Raises
    ------
    InputError
        The file is missing, damaged, too large or of another format, or the variable is missing or is not
        a real, full, numeric array.
    """
    try:
        with open_file(path) as file:
            return _read_variable(file, name, max_bytes)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except _Fault as fault:
        raise InputError(f"{path}: {fault}") from fault


def _read_variable(file: BinaryIO, name: str, max_bytes: int) -> npt.NDArray[Any]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    order = _byte_order(file.read(_HEADER_BYTES))
    others: list[str] = []
    offset = _HEADER_BYTES
    while offset < size:
        file.seek(offset)
        kind, stored_bytes = _unpack(order + "II", file.read(8), 0, f"file ends inside a tag at byte {offset}")
        start = offset + 8
        offset = start + stored_bytes
        if offset > size:
            raise _Fault(f"truncated: {stored_bytes} bytes wanted at byte {start}, {size - start} there")
        opening, matrix_bytes = _opening(file.read(min(stored_bytes, _PEEK_BYTES)), kind, stored_bytes, order)
        variable = _describe(opening, order)
        if variable.name != name:
            others.append(variable.name)
            continue
        dtype = _plain_dtype(variable)
        array_bytes = prod(max(1, length) for length in variable.shape) * dtype.itemsize
        if (most := max(array_bytes, matrix_bytes - _PEEK_BYTES, stored_bytes - _PEEK_BYTES)) > max_bytes:
            raise _Fault(f"'{name}' takes {most} bytes; at most {max_bytes} wanted")
        file.seek(start)
        body = _whole(file.read(stored_bytes), kind, matrix_bytes, name)
        return _numbers(body, variable, dtype, order)
    raise _Fault(f"no variable '{name}'; found {_listed(others)}")


def _byte_order(header: bytes) -> str:
    """The prefix for `struct` and `numpy.dtype`; also tells other formats from this one."""
    mark = header[126:128]
    order = {b"IM": "<", b"MI": ">"}.get(mark)
    version = struct.unpack_from(order + "H", header, 124)[0] if order else 0
    if header.startswith((b"MATLAB 7.3", b"\x89HDF\r\n\x1a\n")) or version == 0x0200:
        raise _Fault("MATLAB 7.3 (HDF5) file; level 5 wanted (save -v7)")
    if order is None or version != 0x0100:
        raise _Fault(f"not a MATLAB level-5 file: bytes 124-127 are {header[124:128]!r}; version and IM or MI wanted")
    return order


def _opening(stored: bytes, kind: int, stored_bytes: int, order: str) -> tuple[bytes, int]:
    """The first bytes of a top-level element's matrix data, and how many bytes these have in all."""
    if kind == _MATRIX:
        return stored, stored_bytes
    if kind != _COMPRESSED:
        raise _Fault(f"element of type {kind}; {_MATRIX} (matrix) or {_COMPRESSED} (compressed) wanted")
    try:
        inflated = zlib.decompressobj().decompress(stored, _PEEK_BYTES)
    except zlib.error as error:
        raise _Fault(f"compressed variable does not inflate: {error}") from error
    inner_kind, matrix_bytes = _unpack(order + "II", inflated, 0, "compressed variable ends inside its tag")
    if inner_kind != _MATRIX:
        raise _Fault(f"compressed element of type {inner_kind}; {_MATRIX} (matrix) wanted")
    return inflated[8:], matrix_bytes


def _whole(stored: bytes, kind: int, matrix_bytes: int, name: str) -> memoryview:
    """All of a matrix's data, inflated where compressed, and no more than its tag has announced."""
    if kind == _MATRIX:
        return memoryview(stored)
    try:  # the second argument is the most that is inflated; libdeflate takes 1.8 ms for Make3D, zlib 3.0
        inflated = deflate.zlib_decompress(stored, 8 + matrix_bytes)
    except (deflate.DeflateError, ValueError) as error:
        raise _Fault(f"'{name}' does not inflate to {matrix_bytes} sound bytes") from error
    if len(inflated) != 8 + matrix_bytes:
        raise _Fault(f"'{name}' inflates to {len(inflated) - 8} bytes; {matrix_bytes} wanted")
    return memoryview(inflated)[8:]


def _describe(body: bytes, order: str) -> _Variable:
    flags_at = _element(body, 0, order)
    if flags_at.kind != _UINT32 or flags_at.stop - flags_at.start != 8:
        raise _Fault(f"variable without array flags: type {flags_at.kind}; {_UINT32} of 8 bytes wanted")
    (flags,) = _unpack(order + "I", body, flags_at.start, "array flags cut off")
    array_class = flags & 0xFF
    shape: tuple[int, ...] = ()
    after = flags_at.after
    if array_class != _OPAQUE:  # MATLAB's objects have a name but no dimensions
        shape, after = _shape(body, after, order)
    name_at = _element(body, after, order)
    if name_at.kind not in (_INT8, _UINT8, _UTF8) or name_at.stop > len(body):
        raise _Fault(f"variable without a name: type {name_at.kind}; {_INT8} wanted")
    name = body[name_at.start : name_at.stop].decode("ascii", "backslashreplace")
    return _Variable(name, array_class, flags, shape, name_at.after)


def _shape(body: bytes, offset: int, order: str) -> tuple[tuple[int, ...], int]:
    element = _element(body, offset, order)
    count, rest = divmod(element.stop - element.start, 4)
    if element.kind not in (_INT32, _UINT32) or rest or not 2 <= count <= _MAX_DIMENSIONS:
        raise _Fault(
            f"dimensions of type {element.kind}, {element.stop - element.start} bytes; "
            f"2 to {_MAX_DIMENSIONS} of type {_INT32}, 4 bytes each wanted"
        )
    shape = _unpack(f"{order}{count}i", body, element.start, "dimensions cut off")
    if min(shape) < 0:
        raise _Fault(f"dimensions {shape}; none below 0 wanted")
    return shape, element.after


def _plain_dtype(variable: _Variable) -> np.dtype[Any]:
    if variable.array_class not in _CLASSES:
        seen = _OTHER_CLASSES.get(variable.array_class, f"of class {variable.array_class}")
        raise _Fault(f"'{variable.name}' is {seen}; a full numeric array wanted")
    if variable.flags & _COMPLEX_FLAG:
        raise _Fault(f"'{variable.name}' is complex; real numbers wanted")
    return np.dtype(_CLASSES[variable.array_class])


def _numbers(body: bytes | memoryview, variable: _Variable, dtype: np.dtype[Any], order: str) -> npt.NDArray[Any]:
    element = _element(body, variable.numbers_at, order)
    if element.kind not in _STORED_AS:
        raise _Fault(f"'{variable.name}' has data of type {element.kind}; numbers wanted")
    stored_dtype = np.dtype(order + _STORED_AS[element.kind])
    wanted = prod(variable.shape) * stored_dtype.itemsize
    if element.stop - element.start != wanted or element.stop > len(body):
        seen = min(element.stop, len(body)) - element.start
        raise _Fault(f"'{variable.name}' has {seen} bytes of {stored_dtype.name}; {wanted} for {variable.shape} wanted")
    stored = np.frombuffer(body, stored_dtype, prod(variable.shape), element.start)
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = stored.astype(dtype)
    if not np.can_cast(stored_dtype, dtype) and not np.array_equal(numbers, stored):
        raise _Fault(f"'{variable.name}' has {stored_dtype.name} values that its class, {dtype.name}, cannot hold")
    if variable.flags & _LOGICAL_FLAG:
        numbers = numbers.astype(np.bool_)
    return numbers.reshape(variable.shape, order="F")


def _element(buffer: bytes | memoryview, offset: int, order: str) -> _Element:
    """The element whose tag stands at ``offset``; the caller checks that its data end inside the buffer."""
    (word,) = _unpack(order + "I", buffer, offset, "variable ends inside a tag")
    if word >> 16:  # a small element: byte count, type and up to 4 bytes of data in 8 bytes
        if word >> 16 > 4:
            raise _Fault(f"small element of {word >> 16} bytes; at most 4 wanted")
        return _Element(word & 0xFFFF, offset + 4, offset + 4 + (word >> 16), offset + 8)
    (count,) = _unpack(order + "I", buffer, offset + 4, "variable ends inside a tag")
    start = offset + 8
    return _Element(word, start, start + count, start + count + -count % 8)


def _unpack(layout: str, buffer: bytes | memoryview, offset: int, fault: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, buffer, offset)
    except struct.error as error:
        raise _Fault(fault) from error


def _listed(names: list[str], most: int = 8) -> str:
    # A name may hold anything, but the message stays one line.
    shown = [name if _MATLAB_NAME.fullmatch(name) else ascii(name) for name in names[:most] if name]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(shown) or "none") + more


def write_numeric(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, compress: bool = True) -> None:
    """Write arrays as a MATLAB level-5 file, little-endian; the same arrays give the same bytes.

    Parameters
    ----------
    path
        The file, replaced if it is there.
    arrays
        By MATLAB name: bool, integer, float32 or float64, with two or more dimensions, as MATLAB has them.
    compress
        As ``save -v7`` does; without it, as ``save -v6``.

    Raises
    ------
    ValueError
        An array or a name that MATLAB does not have.
    """
    note = b"MATLAB 5.0 MAT-file, written by gfield".ljust(116)
    parts = [note + bytes(8) + struct.pack("<H2s", 0x0100, b"IM")]
    for name, array in arrays.items():
        matrix = _matrix(name, array)
        if compress:
            stream = zlib.compress(matrix)
            matrix = struct.pack("<II", _COMPRESSED, len(stream)) + stream
        parts.append(matrix)
    path.write_bytes(b"".join(parts))


def _matrix(name: str, array: npt.NDArray[Any]) -> bytes:
    if not _MATLAB_NAME.fullmatch(name):
        raise ValueError(f"name {name!r}; a letter, then up to 62 letters, digits or _ wanted")
    is_logical = array.dtype == np.bool_
    code = "u1" if is_logical else f"{array.dtype.kind}{array.dtype.itemsize}"
    if code not in _CLASSES.values() or not 2 <= array.ndim <= _MAX_DIMENSIONS or array.nbytes >= 2**31:
        raise ValueError(
            f"'{name}' is {array.dtype} with shape {array.shape}; "
            f"bool, integer, float32 or float64, 2 to {_MAX_DIMENSIONS} dimensions, below 2 GiB wanted"
        )
    array_class = next(number for number, dtype in _CLASSES.items() if dtype == code)
    stored_as = next(number for number, dtype in _STORED_AS.items() if dtype == code)
    body = b"".join(
        [
            _packed(_UINT32, struct.pack("<II", array_class | is_logical * _LOGICAL_FLAG, 0)),
            _packed(_INT32, struct.pack(f"<{array.ndim}i", *array.shape)),
            _packed(_INT8, name.encode("ascii")),
            _packed(stored_as, array.astype("<" + code).tobytes(order="F")),
        ]
    )
    return struct.pack("<II", _MATRIX, len(body)) + body


def _packed(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
