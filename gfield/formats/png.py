"""PNG files as arrays, with the header, the size and every chunk's checksum looked at before OpenCV decodes them.

OpenCV decides from the file what it gives back; here the caller says what is wanted, and another picture is an error.

Source of the layout: Portable Network Graphics (PNG) Specification, Third Edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gfield import confine
from gfield.formats.orientation import tiff_orientation
from gfield.frame import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 64_000_000
_GREY = 0
_OF_THE_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_COLOUR_TYPES = {
    0: ("grey", (1, 2, 4, 8, 16)),
    2: ("RGB", (8, 16)),
    3: ("palette", (1, 2, 4, 8)),
    4: ("grey with alpha", (8, 16)),
    6: ("RGB with alpha", (8, 16)),
}


class PngHeader(NamedTuple):
    """Width and height in pixels, bits a channel, and PNG's number of the colour type."""

    width: int
    height: int
    bits: int
    colour_type: int

    def __str__(self) -> str:
        return f"{self.bits}-bit {_COLOUR_TYPES[self.colour_type][0]}"


def png_header(data: bytes, name: str | Path) -> PngHeader:
    """The header of a PNG, from its first 33 bytes or more.

    Raises
    ------
    InputError
        No PNG, or one of a size, depth or colour type that cannot be. ``name`` names it.
    """
    if data[:8] != SIGNATURE or len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise InputError(f"{name}: no PNG header in {len(data)} bytes; a PNG wanted")
    width, height, bits, colour_type, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33]):
        raise InputError(f"{name}: the PNG header does not match its CRC-32; a whole PNG wanted")
    if colour_type not in _COLOUR_TYPES or bits not in _COLOUR_TYPES[colour_type][1] or compression or filtering:
        raise InputError(f"{name}: a PNG of colour type {colour_type} with {bits} bits; a standard PNG wanted")
    if not 0 < width * height <= _MAX_PIXELS or interlace > 1:
        raise InputError(f"{name}: {width} x {height} pixels; 1 to {_MAX_PIXELS} in all wanted")
    return PngHeader(width, height, bits, colour_type)


def decode_png_rgb(data: bytes, name: str | Path) -> npt.NDArray[np.uint8]:
    """Decode a picture of up to 8 bits a channel to (H, W, 3) uint8; grey gives three equal channels.

    Raises
    ------
    InputError
        As `png_header`, 16 bits a channel, transparent pixels, or damage.
    """
    header = png_header(data, name)
    if header.bits > 8:
        raise InputError(f"{name}: {header} PNG; 8 bits wanted (16 bits are how depth is kept)")
    plain, transparency = _checked(data, name)
    pixels = _decode(plain, name, header)
    if _has_transparent_grey(pixels, transparency, header):
        raise InputError(f"{name}: {header} PNG with transparent pixels; opaque ones wanted")
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    if pixels.shape[2] == 4:
        if (pixels[..., 3] < 255).any():
            raise InputError(f"{name}: {header} PNG with transparent pixels; opaque ones wanted")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def decode_png_grey(data: bytes, name: str | Path, bits: Literal[8, 16]) -> npt.NDArray[np.uint8 | np.uint16]:
    """Decode a grey picture, such as depth, to (H, W) uint8 or uint16, its values as they are.

    Raises
    ------
    InputError
        As `png_header`, another colour type or another number of bits, or damage.
    """
    header = png_header(data, name)
    if (header.colour_type, header.bits) != (_GREY, bits):
        raise InputError(f"{name}: {header} PNG; {bits}-bit grey wanted")
    plain, _ = _checked(data, name)
    pixels = _decode(plain, name, header)
    if pixels.ndim != 2 or pixels.dtype.itemsize * 8 != bits:
        raise InputError(f"{name}: {header} PNG with transparency; plain {bits}-bit grey wanted")
    return pixels


def png_orientation(data: bytes) -> int:
    """EXIF's orientation in the chunk ``eXIf``, 2 to 8, or 1 (upright) where none is told."""
    at = 8
    while at + 12 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        length = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"eXIf":
            return tiff_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    return 1


def _checked(data: bytes, name: str | Path) -> tuple[bytes, bytes]:
    """The PNG with no chunks but those that make the picture, all having been checked, and what is in its ``tRNS``.

    Of other chunks libpng may complain, on the terminal and one line a picture, though they change no pixel here.
    """
    transparency, parts = b"", [SIGNATURE]
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if len(data) < end or len(kind) < 4:
            raise InputError(f"{name}: breaks off after {len(data)} bytes; a whole PNG wanted")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise InputError(f"{name}: chunk {kind!r} does not match its CRC-32; a whole PNG wanted")
        if kind in _OF_THE_PICTURE:
            parts.append(data[at:end])
        if kind == b"tRNS":
            transparency = data[at + 8 : end - 4]
        at = end
    return b"".join(parts), transparency


def _has_transparent_grey(pixels: npt.NDArray[Any], key: bytes, header: PngHeader) -> bool:
    """Whether a pixel has the grey that ``tRNS`` makes transparent; of RGB pictures OpenCV makes an alpha channel."""
    if header.colour_type != _GREY or pixels.ndim != 2 or len(key) != 2:
        return False
    return bool((pixels == int.from_bytes(key) * (255 // (2**header.bits - 1))).any())


def _decode(data: bytes, name: str | Path, header: PngHeader) -> npt.NDArray[Any]:
    size = {"width": header.width, "height": header.height}
    (pixels,) = confine.call("png", str(name), size, data).arrays
    return pixels
