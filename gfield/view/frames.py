"""What a page shows of one frame: its arrays as bytes, exact, and a thumbnail. Letters as in `gfield.frame`.

Arrays are sent as they are, row by row, low bytes first: on a loopback that takes a millisecond, where PNG takes
thirty to be made, and every value under the pointer is the store's. Fields are deflated, to a twentieth.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from deflate import gzip_compress

from gfield.field import FieldKernel, FieldParams, auto_thresholds
from gfield.frame import UserError
from gfield.pictures import depth_range, field_white
from gfield.spec import ArraySpec
from gfield.store import Store
from gfield.view.answers import Answer

DEPTHS = ("depth", "raw_depth", "depth_native")
THUMB_WH = (96, 72)
_GZIP_LEVEL = 1
_JPEG_QUALITY = 85


def rgb_answer(store: Store, level: str, row: int) -> Answer:
    """The picture: (H, W, 3) uint8."""
    return Answer(_frame(store, f"{level}/rgb", row).tobytes())


def field_answer(store: Store, level: str, row: int, params: FieldParams | None) -> Answer:
    """The field, (H, W) float16: the stored one or, with parameters, the operator's on the stored picture.

    Beside it stand the strength that is shown white and, where each picture has its own, the thresholds.
    """
    region = store.spec.level_region(_level_WH(store, level))
    wanted = params or FieldParams.from_dict(store.spec.operator)
    headers: dict[str, str] = {}
    if params is None:
        field_HW = _frame(store, f"{level}/gradient", row)
    if params is not None or wanted.auto:
        rgb_HWC = _frame(store, f"{level}/rgb", row)
        if wanted.auto:
            low, high = auto_thresholds(rgb_HWC, region, l2_gradient=wanted.l2_gradient)
            headers |= {"Gfield-Low": str(low), "Gfield-High": str(high)}
        if params is not None:
            field_HW = FieldKernel(params)(rgb_HWC, region)
    headers |= {"Gfield-White": repr(field_white(field_HW.astype(np.float32))), "Content-Encoding": "gzip"}
    return Answer(bytes(gzip_compress(field_HW.astype("<f2", copy=False).tobytes(), _GZIP_LEVEL)), headers=headers)


def depth_answer(store: Store, key: str, row: int) -> Answer:
    """Depth, float32 metres, NaN or 0 where there is none; beside it the ends of its colours."""
    depth_HW = _frame(store, key, row)
    scale = depth_range([depth_HW])
    headers = {} if scale is None else {"Gfield-Near": repr(scale.near), "Gfield-Far": repr(scale.far)}
    return Answer(depth_HW.astype("<f4", copy=False).tobytes(), headers=headers)


def thumb_answer(store: Store, row: int) -> Answer:
    """The picture, small, as JPEG."""
    rgb_HWC = _frame(store, f"{store.levels[-1]}/rgb", row)
    height, width = rgb_HWC.shape[:2]
    scale = min(1.0, max(THUMB_WH[0] / width, THUMB_WH[1] / height))
    small_WH = (max(1, round(width * scale)), max(1, round(height * scale)))
    small_HWC = cv2.resize(rgb_HWC, small_WH, interpolation=cv2.INTER_AREA)
    bgr_HWC = cv2.cvtColor(small_HWC, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert encoded, "OpenCV encodes any 8-bit picture as JPEG"
    return Answer(data.tobytes(), "image/jpeg")


def depth_arrays(store: Store, level: str) -> dict[str, ArraySpec]:
    """The arrays of metres that can be shown at a level, by name, the sensor's own grid last."""
    keys = {name: name if name == "depth_native" else f"{level}/{name}" for name in DEPTHS}
    return {name: store.arrays[key] for name, key in keys.items() if key in store.arrays}


def _level_WH(store: Store, level: str) -> tuple[int, int]:
    if level not in store.levels:
        raise UserError(f"no level {level!r}, the store has {', '.join(store.levels)}")
    return store.spec.levels_WH[store.levels.index(level)]


def _frame(store: Store, key: str, row: int) -> npt.NDArray[Any]:
    frame: npt.NDArray[Any] = store.read(key, [row])[0]
    return frame
