"""PNG by OpenCV, of files whose chunks were found whole."""

from __future__ import annotations

import cv2
import numpy as np

from gfield.confined.result import Result, Room
from gfield.frame import InputError


def decode(what: str, room: Room, *, width: int, height: int) -> Result:
    """One array as the file has it, blue first: (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16."""
    try:
        pixels = cv2.imdecode(np.frombuffer(room.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"{what}: OpenCV cannot decode it; a whole PNG wanted") from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise InputError(f"{what}: OpenCV cannot decode it; a whole PNG wanted")
    return Result(arrays=[pixels])
