"""Raw Netpbm pictures as the Kinect's driver records them: P6 with 8 bits, and P5 with 16 bits in the wrong order.

A header is the magic number, width, height and greatest value, parted by white space or by comments from ``#`` to the
end of a line; after one last white-space byte the values follow, and nothing after them (netpbm.sourceforge.net/doc,
ppm and pgm). Netpbm has 16-bit values big-endian. libfreenect's recorder writes them as they lie in the memory of a PC,
little-endian, under the same header: so MATLAB's ``imread`` shows NYU's raw depth byte-swapped, and its toolbox swaps
the bytes back. Here they are read little-endian.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gfield.files import open_file
from gfield.frame import InputError

HEADER_MOST = 512  # bytes; a longer header, by comments, is refused

_GAP = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"(P[1-7])" + (_GAP + rb"(\d{1,9})") * 3 + rb"[ \t\r\n\v\f]")


def read_ppm(path: Path, size_WH: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Red, green and blue of a P6 file of 8 bits, (H, W, 3) uint8, read-only.

    Raises
    ------
    InputError
        The file cannot be read, is no such picture of ``size_WH``, or is not as long as its header says.
    """
    width, height = size_WH
    return _read(path, size_WH, "P6", 255, np.dtype("u1")).reshape(height, width, 3)


def read_pgm_little_endian(path: Path, size_WH: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Values of a P5 file of 16 bits whose bytes are little-endian, (H, W) uint16.

    Raises
    ------
    InputError
        As `read_ppm`.
    """
    width, height = size_WH
    values = _read(path, size_WH, "P5", 65535, np.dtype("<u2"))
    # Behind a header of an odd length values lie across the processor's words, on which NumPy is 8 times slower.
    return np.array(values, np.uint16).reshape(height, width)


def ppm_bytes(size_WH: tuple[int, int]) -> int:
    """Length of a P6 file of 8 bits with the shortest header."""
    return len(_shortest_header(size_WH, "P6", 255)) + 3 * size_WH[0] * size_WH[1]


def pgm_bytes(size_WH: tuple[int, int]) -> int:
    """Length of a P5 file of 16 bits with the shortest header."""
    return len(_shortest_header(size_WH, "P5", 65535)) + 2 * size_WH[0] * size_WH[1]


def _shortest_header(size_WH: tuple[int, int], magic: str, greatest: int) -> bytes:
    return f"{magic} {size_WH[0]} {size_WH[1]} {greatest}\n".encode()


def _read(path: Path, size_WH: tuple[int, int], magic: str, greatest: int, item: np.dtype[Any]) -> npt.NDArray[Any]:
    """All values in a row, once header and length are as they should be."""
    width, height = size_WH
    payload = width * height * (3 if magic == "P6" else 1) * item.itemsize
    most = HEADER_MOST + payload
    try:
        with open_file(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    wanted = f"{magic} {width} {height} {greatest}"
    header = _HEADER.match(data[:HEADER_MOST])
    if header is None:
        seen = f"no Netpbm header in {len(data)} bytes" if data else "an empty file"
        raise InputError(f"{path}: {seen}; {wanted} and its values wanted")
    told = b" ".join(header.groups()).decode()
    if told != wanted:
        raise InputError(f"{path}: header {told}; {wanted} wanted")
    if len(data) != (whole := header.end() + payload):
        seen = f"truncated: {len(data)}" if len(data) < whole else f"{len(data) if len(data) <= most else 'more'}"
        raise InputError(f"{path}: {seen} bytes; {whole} wanted by its header")
    return np.frombuffer(data, item, offset=header.end())
