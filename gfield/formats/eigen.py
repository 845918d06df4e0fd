"""Eigen's 654 test frames as DenseDepth publishes them: ``nyu_test.zip``, three NumPy arrays.

They are frames of NYU's labelled set, white frame and all. Depth is in metres. The crop is that of the published
scores; protocols here have their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gfield.formats.npy import NpyFrames, open_npy
from gfield.formats.zipped import Member, open_zip
from gfield.frame import InputError

_SHAPE_HW = (480, 640)
_FARTHEST_M = 100.0  # no room is as deep, and millimetres taken for metres are farther


class Eigen(NamedTuple):
    """Pictures (N, 480, 640, 3) uint8 and depths (N, 480, 640) in metres of one archive.

    Attributes
    ----------
    crop
        First and last row, first and last column of the published scores; both ends included.
    """

    rgb: NpyFrames
    depth: NpyFrames
    crop: tuple[int, int, int, int]


def open_eigen(archive: Path) -> Eigen:
    """Read the headers of the three arrays, and the crop.

    Raises
    ------
    InputError
        The archive is none, or lacks one of the arrays, or has one of another shape or type.
    """
    members = open_zip(archive)
    rgb, depth, crop = (_npy(archive, members, f"eigen_test_{what}.npy") for what in ("rgb", "depth", "crop"))
    count = rgb.shape[0] if rgb.shape else 0
    for frames, shape, kinds, wanted in (
        (rgb, (count, *_SHAPE_HW, 3), ("u1",), "uint8 (N, 480, 640, 3), N of 1 or more,"),
        (depth, (count, *_SHAPE_HW), ("f4", "f8"), f"float32 or float64 ({count}, 480, 640)"),
        (crop, (4,), ("i4", "i8", "u4", "u8"), "four 32-bit or 64-bit whole numbers"),
    ):
        if frames.shape != shape or frames.dtype.str[1:] not in kinds or not count:
            raise InputError(f"{archive}: {frames.name} is {frames.dtype} {frames.shape}; {wanted} wanted")
    top, bottom, left, right = (int(value) for value in crop.read_frames(0, 4))
    if not (0 <= top <= bottom < _SHAPE_HW[0] and 0 <= left <= right < _SHAPE_HW[1]):
        seen = f"rows {top} to {bottom} and columns {left} to {right}"
        raise InputError(f"{archive}: {crop.name} is {seen}; a part of 480 rows and 640 columns wanted")
    return Eigen(rgb, depth, (top, bottom, left, right))


def valid_metres(depth_HW: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    """Depth as float32, NaN for 0, which means none.

    Raises
    ------
    InputError
        NaN, negative values, or values over 100 m.
    """
    # Too large becomes infinite, which is refused, and so is NaN, some of which NumPy warns of.
    with np.errstate(over="ignore", invalid="ignore"):
        metres_HW = depth_HW.astype(np.float32)
    wrong = metres_HW[~((metres_HW >= 0) & (metres_HW <= _FARTHEST_M))]
    if wrong.size:
        seen = f"{wrong.size} of {metres_HW.size} values such as {wrong[0]}"
        raise InputError(f"{where}: {seen}; metres of 0 to {_FARTHEST_M:g} wanted")
    metres_HW[metres_HW == 0] = np.nan
    return metres_HW


def _npy(archive: Path, members: Mapping[str, Member], name: str) -> NpyFrames:
    """The array of a name, in whatever folder of the archive it lies."""
    found = [member for member in members if member.rpartition("/")[2] == name]
    if len(found) != 1:
        raise InputError(f"{archive}: {len(found)} members named {name}; DenseDepth's nyu_test.zip with one wanted")
    return open_npy(archive, found[0], members[found[0]])
