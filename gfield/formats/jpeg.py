"""JPEG files as upright RGB, with damage told instead of filled in, and sizes checked before pixels are made.

libjpeg fills in what is missing or damaged, and only warns; here a warning is an error. A JPEG has no
checksum, so damage that leaves a valid stream, as most single flipped bits do, cannot be seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg

from gfield.formats.orientation import jpeg_orientation, upright, upright_size
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
        return jpeg_size(_read_bytes(path, _HEAD_BYTES), path)
    except InputError:
        return jpeg_size(_read_bytes(path, _MAX_BYTES), path)


def read_jpeg(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a picture to (H, W, 3) uint8, bit for bit as OpenCV does, but nothing of a damaged one.

    Raises
    ------
    InputError
        As `check_jpeg`, or the pixels are cut off or damaged.
    """
    return decode_jpeg(_read_bytes(path, _MAX_BYTES), path)


def decode_jpeg(data: bytes, name: str | Path, *, turn: bool = False) -> npt.NDArray[np.uint8]:
    """As `read_jpeg`, of bytes that ``name`` names.

    Parameters
    ----------
    data, name
        A JPEG, and what to call it in errors.
    turn
        Turn a picture upright whose EXIF says that it is stored turned or mirrored, instead of refusing it.
    """
    jpeg_size(data, name, turn=turn)
    try:
        rgb_HWC: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError as error:
        raise InputError(f"{name}: {error}; a whole JPEG wanted") from error
    return upright(rgb_HWC, jpeg_orientation(data)) if turn else rgb_HWC


def jpeg_size(data: bytes, name: str | Path, *, turn: bool = False) -> tuple[int, int]:
    """Width and height of the picture that `decode_jpeg` would give, from a JPEG's header.

    Raises
    ------
    InputError
        As `check_jpeg`.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise InputError(f"{name}: no readable JPEG header in {len(data)} bytes; a JPEG wanted") from error
    if colours not in _COLOURS:
        raise InputError(f"{name}: colours are {colours}; {', '.join(_COLOURS)} wanted")
    if width * height > _MAX_PIXELS:
        raise InputError(f"{name}: {width} x {height} pixels; at most {_MAX_PIXELS} in all wanted")
    orientation = jpeg_orientation(data)
    if orientation != 1 and not turn:
        raise InputError(f"{name}: EXIF orientation {orientation}; 1, pixels stored upright, wanted")
    return upright_size((width, height), orientation)


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; at most {_MAX_BYTES} wanted")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
