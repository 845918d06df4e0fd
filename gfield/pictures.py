"""Arrays as pictures for people: a gradient field in greys, depth in colours of one scale, holes hatched.

Dimension letters as in `gfield.frame`; colours are red, green, blue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

U1: TypeAlias = npt.NDArray[np.uint8]
F2: TypeAlias = npt.NDArray[np.float16]
F4: TypeAlias = npt.NDArray[np.float32]

# Greys, which no colour of the map comes near: a hole must never pass for a depth.
HATCH_GROUND, HATCH_LINE = 58, 98
HATCH_PERIOD, HATCH_LINE_W = 8, 2

# Viridis, backwards: lightness falls evenly from near (yellow) to far (violet).
DEPTH_COLOURS: U1 = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1],
    np.uint8,
)


class DepthRange(NamedTuple):
    """The depths in metres of the first and the last colour; the scale between them is logarithmic."""

    near: float
    far: float

    def place(self, metres: F4) -> F4:
        """Where depths lie on the scale, from 0 (near) to 1 (far); beyond its ends at its ends."""
        place: F4 = np.log(metres / np.float32(self.near)) / np.float32(math.log(self.far / self.near))
        return place.clip(0, 1)


def depth_range(depths: Sequence[F4 | None]) -> DepthRange | None:
    """The scale from the 0.5th to the 99.5th percentile of these depths; None where there is no depth."""
    valid = [depth_HW[is_depth(depth_HW)] for depth_HW in depths if depth_HW is not None]
    if not any(metres.size for metres in valid):
        return None
    near, far = (float(metres) for metres in np.percentile(np.concatenate(valid), (0.5, 99.5)))
    # A wall at one depth still needs a scale with two ends.
    return DepthRange(near, max(far, near * 1.05))


def ticks(scale: DepthRange) -> list[float]:
    """Round numbers of metres on the scale, rising: of the coarsest series that has two there."""
    decades = range(math.floor(math.log10(scale.near)), math.ceil(math.log10(scale.far)) + 1)
    marks: list[float] = []
    for series in ((1, 2, 5), range(1, 10), range(100, 1000)):
        unit = 0 if len(series) < 100 else 2
        marks = [float(f"{step}e{decade - unit}") for decade in decades for step in series]
        marks = [metres for metres in marks if scale.near <= metres <= scale.far]
        if len(marks) >= 2:
            break
    return marks


def is_depth(depth_HW: F4) -> npt.NDArray[np.bool_]:
    """True where there is a depth: not NaN, not infinite, not 0."""
    return np.isfinite(depth_HW) & (depth_HW > 0)


def depth_picture(depth_HW: F4 | None, size_WH: tuple[int, int], scale: DepthRange | None) -> U1:
    """Depth in the colours of ``scale``, hatched where there is none; (H, W, 3) in the size asked for.

    Sizes change to the nearest pixel, so that no depth is shown that the sensor did not give.
    """
    picture_HWC = hatch(size_WH)
    if depth_HW is not None and scale is not None:
        small_HW: F4 = cv2.resize(depth_HW, size_WH, interpolation=cv2.INTER_NEAREST).astype(np.float32)
        valid_HW = is_depth(small_HW)
        steps = np.rint(scale.place(small_HW[valid_HW]) * 255).astype(np.intp)
        picture_HWC[valid_HW] = DEPTH_COLOURS[steps]
    return picture_HWC


def hatch(size_WH: tuple[int, int]) -> U1:
    """The pattern of pixels without depth, (H, W, 3)."""
    x_W, y_H = np.arange(size_WH[0]), np.arange(size_WH[1])
    on_line_HW = (x_W[None, :] + y_H[:, None]) % HATCH_PERIOD < HATCH_LINE_W
    grey_HW = np.where(on_line_HW, np.uint8(HATCH_LINE), np.uint8(HATCH_GROUND))
    return np.repeat(grey_HW[..., None], 3, axis=2)


def field_picture(field_HW: F2, size_WH: tuple[int, int]) -> U1:
    """The field in greys, white from its 99.5th percentile up; (H, W, 3) in the size asked for."""
    strength_HW = field_HW.astype(np.float32)
    strength_HW = np.minimum(strength_HW / np.float32(field_white(strength_HW)), np.float32(1))
    # Averaging dims lines one pixel wide, crowded ones less than lone ones; the root lifts what is faint.
    small_HW = cv2.resize(strength_HW, size_WH, interpolation=cv2.INTER_AREA)
    grey_HW = np.rint(np.sqrt(small_HW) * 255).astype(np.uint8)
    return np.repeat(grey_HW[..., None], 3, axis=2)


def field_white(strength_HW: F4) -> float:
    """The strength from which a field is shown white: its 99.5th percentile or, of few edges, its greatest."""
    return float(np.percentile(strength_HW, 99.5)) or float(strength_HW.max()) or 1.0
