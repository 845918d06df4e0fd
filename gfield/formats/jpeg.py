"""JPEG files as upright RGB, with damage told instead of filled in, and sizes checked before pixels are made.

libjpeg fills in what is missing or damaged, and only warns; here a warning is an error. A JPEG has no
checksum, so damage that leaves a valid stream, as most single flipped bits do, cannot be seen.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg

from gfield.frame import InputError

_MAX_PIXELS = 64_000_000
_MAX_BYTES = 256 * 1024 * 1024
_HEAD_BYTES = 64 * 1024  # a camera's header with its thumbnail; where it is longer, the whole file is read
_COLOURS = ("YCbCr", "RGB", "Gray")


def check_jpeg(path: Path) -> tuple[int, int]:
    """Width and height of a picture that `read_jpeg` would read, from the header alone.

    Raises
    ------
    InputError
        The file cannot be read, has no JPEG header, is too large, in CMYK, or stored turned or mirrored.
    """
    try:
        return _check_header(path, _read_bytes(path, _HEAD_BYTES))
    except InputError:
        return _check_header(path, _read_bytes(path, _MAX_BYTES))


def read_jpeg(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a picture to (H, W, 3) uint8, bit for bit as OpenCV does, but nothing of a damaged one.

    Raises
    ------
    InputError
        As `check_jpeg`, or the pixels are cut off or damaged.
    """
    data = _read_bytes(path, _MAX_BYTES)
    _check_header(path, data)
    try:
        rgb_HWC: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}; a whole JPEG wanted") from error
    return rgb_HWC


def _check_header(path: Path, data: bytes) -> tuple[int, int]:
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise InputError(f"{path}: no readable JPEG header in {len(data)} bytes; a JPEG wanted") from error
    if colours not in _COLOURS:
        raise InputError(f"{path}: colours are {colours}; {', '.join(_COLOURS)} wanted")
    if width * height > _MAX_PIXELS:
        raise InputError(f"{path}: {width} x {height} pixels; at most {_MAX_PIXELS} in all wanted")
    if (orientation := _exif_orientation(data)) != 1:
        raise InputError(f"{path}: EXIF orientation {orientation}; 1, pixels stored upright, wanted")
    return width, height


def _exif_orientation(jpeg: bytes) -> int:
    """EXIF's orientation, 2 to 8, or 1 (upright) where none is told (EXIF 2.3, section 4.6.4)."""
    at = 2
    try:
        while jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:  # segments, up to the start of scan
            after = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
            if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
                return _tiff_orientation(jpeg[at + 10 : after])
            at = after
    except (IndexError, struct.error):  # damaged EXIF tells nothing; viewers show such pictures as they are
        pass
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
        if tag == 0x0112:
            return value if 2 <= value <= 8 else 1
    return 1


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; at most {_MAX_BYTES} wanted")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
