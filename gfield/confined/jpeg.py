"""JPEG by libjpeg-turbo: sizes are checked before pixels are made, and what it only warns of is an error."""

from __future__ import annotations

import re

import simplejpeg

from gfield.confined.result import Result, Room
from gfield.formats.orientation import jpeg_orientation, upright, upright_size
from gfield.frame import InputError

_MAX_PIXELS = 64_000_000
_COLOURS = ("YCbCr", "RGB", "Gray")
_SCAN, _MOST_SCANS = re.compile(rb"\xff\xda"), 200  # a progressive picture has ten; each goes over all pixels


def size(what: str, room: Room, *, turn: bool) -> Result:
    """Width and height of the picture that `decode` would give, from the header."""
    width, height, orientation = _header(what, room, turn)
    return Result(upright_size((width, height), orientation))


def decode(what: str, room: Room, *, turn: bool) -> Result:
    """One array, (H, W, 3) uint8."""
    width, height, orientation = _header(what, room, turn)
    if (scans := sum(1 for _ in _SCAN.finditer(room.data))) > _MOST_SCANS:
        raise InputError(f"{what}: {scans} scans; at most {_MOST_SCANS} wanted")
    rgb_HWC = room.empty((height, width, 3), "u1")
    try:
        simplejpeg.decode_jpeg(room.data, "RGB", fastdct=False, fastupsample=False, strict=True, buffer=rgb_HWC)
    except ValueError as error:
        raise InputError(f"{what}: {error}; a whole JPEG wanted") from error
    return Result(arrays=[rgb_HWC if orientation == 1 else upright(rgb_HWC, orientation)])


def _header(what: str, room: Room, turn: bool) -> tuple[int, int, int]:
    """Width and height as stored, and EXIF's orientation."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(room.data)
    except ValueError as error:
        raise InputError(f"{what}: no readable JPEG header in {len(room.data)} bytes; a JPEG wanted") from error
    if colours not in _COLOURS:
        raise InputError(f"{what}: colours are {colours}; {', '.join(_COLOURS)} wanted")
    if width * height > _MAX_PIXELS:
        raise InputError(f"{what}: {width} x {height} pixels; at most {_MAX_PIXELS} in all wanted")
    orientation = jpeg_orientation(room.data)
    if orientation != 1 and not turn:
        raise InputError(f"{what}: EXIF orientation {orientation}; 1, pixels stored upright, wanted")
    return width, height, orientation
