"""Any picture that is read here, JPEG or PNG, told by its first bytes and not by its name, as upright RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfield.formats.jpeg import decode_jpeg, jpeg_size
from gfield.formats.orientation import upright, upright_size
from gfield.formats.png import SIGNATURE, decode_png_rgb, png_header, png_orientation
from gfield.frame import InputError

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 256 * 1024 * 1024
_HEAD_BYTES = 64 * 1024


def decode_picture(data: bytes, name: str | Path) -> npt.NDArray[np.uint8]:
    """Decode to (H, W, 3) uint8, turned upright where EXIF says that it is stored otherwise.

    Raises
    ------
    InputError
        Neither JPEG nor PNG, or one that `gfield.formats.jpeg.decode_jpeg` or
        `gfield.formats.png.decode_png_rgb` refuses.
    """
    if data.startswith(SIGNATURE):
        return upright(decode_png_rgb(data, name), png_orientation(data))
    if not data.startswith(b"\xff\xd8"):
        raise InputError(f"{name}: begins with {data[:8]!r} ({len(data)} bytes); a JPEG or PNG wanted")
    return decode_jpeg(data, name, turn=True)


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """As `decode_picture`, of a file.

    Raises
    ------
    InputError
        Also where the file cannot be read, or has over 256 MiB.
    """
    return decode_picture(_read(path, MAX_BYTES), path)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture that `read_picture` would give, from the file's head.

    Raises
    ------
    InputError
        The file cannot be read, or its header is not that of a picture.
    """
    head = _read(path, _HEAD_BYTES)
    if head.startswith(SIGNATURE):
        header = png_header(head, path)
        return upright_size((header.width, header.height), png_orientation(head))
    try:
        return jpeg_size(head, path, turn=True)
    except InputError:  # a JPEG whose header is longer
        return jpeg_size(_read(path, MAX_BYTES), path, turn=True)


def _read(path: Path, most: int) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; at most {MAX_BYTES} wanted")
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
