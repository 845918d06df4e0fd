"""EXIF's orientation: how a camera was held, and the picture turned upright.

Source: EXIF 2.3 (CIPA DC-008), sections 4.5.2 and 4.6.4.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

ORIENTATION = 0x0112
_LONG = 4


def jpeg_orientation(jpeg: bytes | memoryview) -> int:
    """Orientation of a JPEG, 2 to 8, or 1 (upright) where none is told."""
    at = 2
    try:
        while jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:  # segments, up to the start of scan
            if jpeg[at + 1] == 0xFF:  # a marker may be filled up with such bytes (ITU T.81, B.1.1.2)
                at += 1
                continue
            after = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
            if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
                return tiff_orientation(bytes(jpeg[at + 10 : after]))
            at = after
    except IndexError:
        pass
    return 1


def tiff_orientation(tiff: bytes) -> int:
    """Orientation in a block of EXIF, 2 to 8, or 1 where it tells none or is damaged; viewers do the same."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == ORIENTATION:
                # A 16-bit number by the standard, a 32-bit one by some cameras.
                (value,) = struct.unpack_from(order + ("I" if kind == _LONG else "H"), tiff, at + 8)
                return int(value) if 2 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(rgb_HWC: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn and mirror a picture as its orientation says; the result is a view."""
    if orientation >= 5:  # rows are told as columns
        rgb_HWC = rgb_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb_HWC = rgb_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        rgb_HWC = rgb_HWC[:, ::-1]
    return rgb_HWC


def upright_size(size_WH: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the picture that `upright` gives."""
    return (size_WH[1], size_WH[0]) if orientation >= 5 else size_WH
