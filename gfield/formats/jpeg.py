"""JPEG files as upright RGB, with damage told instead of filled in, and sizes checked before pixels are made.

libjpeg fills in what is missing or damaged, and only warns; here a warning is an error. It runs in a process of its own
(`gfield.confined.jpeg`), since pictures come from anywhere and may crash it. A JPEG has no checksum, so damage that
leaves a valid stream, as most single flipped bits do, cannot be seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfield import confine
from gfield.frame import InputError

_MAX_BYTES = 256 * 1024 * 1024
_HEAD_BYTES = 64 * 1024  # a camera's header with its thumbnail; where it is longer, the whole file is read


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
    (rgb_HWC,) = confine.call("jpeg", str(name), {"turn": turn}, data).arrays
    return rgb_HWC


def jpeg_size(data: bytes, name: str | Path, *, turn: bool = False) -> tuple[int, int]:
    """Width and height of the picture that `decode_jpeg` would give, from a JPEG's header.

    Raises
    ------
    InputError
        As `check_jpeg`.
    """
    width, height = confine.call("jpeg size", str(name), {"turn": turn}, data).value
    return width, height


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; at most {_MAX_BYTES} wanted")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
