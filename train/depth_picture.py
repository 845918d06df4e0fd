"""Depth as a picture in colours, near bright and far dark, with a legend in metres."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

_Picture = npt.NDArray[np.uint8]
# Viridis from its bright end: lightness falls evenly with distance, also in print and to the colour-blind.
_COLOURS_256x3: _Picture = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1],
    np.uint8,
)
_NO_DEPTH = 96  # a grey, which no colour of the map comes near
_GROUND, _INK = 255, 32
# Of a legend beside a picture 480 pixels high; others have it in proportion, but never too small to read.
_BAR_W, _GAP_W, _LABEL_W, _MARGIN_H = 18, 10, 58, 14
_LETTERS = 0.42


def depth_picture(depth_HW: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Colour depth on a logarithmic scale from its 0.5th to its 99.5th percentile; the ends take what is beyond.

    Parameters
    ----------
    depth_HW
        float32 metres; grey where it is not finite or not above 0.

    Returns
    -------
    ndarray
        (H, W + a legend's, 3) uint8 RGB.
    """
    ends_m = depth_ends(depth_HW)
    picture_HWC = coloured_depth(depth_HW, ends_m or (1.0, 10.0))
    return picture_HWC if ends_m is None else np.hstack((picture_HWC, _legend(len(depth_HW), *ends_m)))


def depth_ends(depths: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """The ends of a scale in metres, the 0.5th and the 99.5th percentile of these depths; None where there is none."""
    metres = depths[_is_depth(depths)]
    if not metres.size:
        return None
    near, far = (float(end) for end in np.percentile(metres, (0.5, 99.5)))
    # A wall at one depth still needs a scale with two ends.
    return near, max(far, near * 1.05)


def coloured_depth(depth_HW: npt.NDArray[np.float32], ends_m: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Depth in the colours of a given scale: (H, W, 3) uint8 RGB, grey where there is none."""
    picture_HWC = np.full((*depth_HW.shape, 3), _NO_DEPTH, np.uint8)
    valid_HW = _is_depth(depth_HW)
    picture_HWC[valid_HW] = _colours(depth_HW[valid_HW], *ends_m)
    return picture_HWC


def _is_depth(depths: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.isfinite(depths) & (depths > 0)


def _colours(metres: npt.NDArray[np.float32], near: float, far: float) -> _Picture:
    place = np.log(metres / near) / math.log(far / near)
    colours: _Picture = _COLOURS_256x3[np.rint(place.clip(0, 1) * 255).astype(np.intp)]
    return colours


def _legend(height: int, near: float, far: float) -> _Picture:
    """A bar of the scale, near below, with marks at round numbers of metres."""
    scale = max(0.8, height / 480)
    bar, gap, label, margin = (round(length * scale) for length in (_BAR_W, _GAP_W, _LABEL_W, _MARGIN_H))
    length = height - 2 * margin
    legend_HWC = np.full((height, gap + bar + label, 3), _GROUND, np.uint8)
    if length < 2 * margin:
        return legend_HWC  # too low for any text
    from_near = np.linspace(1, 0, length)
    metres = (near * (far / near) ** from_near).astype(np.float32)
    legend_HWC[margin : margin + length, gap : gap + bar] = _colours(metres, near, far)[:, None]
    for mark in _marks(near, far, at_most=max(2, length // (2 * margin))):
        y = margin + round((1 - math.log(mark / near) / math.log(far / near)) * (length - 1))
        x = gap + bar
        cv2.line(legend_HWC, (x, y), (x + gap // 2, y), (_INK,) * 3, max(1, round(scale)))
        place = (x + gap, y + round(5 * scale))
        size, thick = _LETTERS * scale, max(1, round(scale))
        cv2.putText(legend_HWC, f"{mark:g} m", place, cv2.FONT_HERSHEY_SIMPLEX, size, (_INK,) * 3, thick, cv2.LINE_AA)
    return legend_HWC


def _marks(near: float, far: float, at_most: int) -> list[float]:
    """Round numbers from near to far, of the finest series that is not too crowded; perhaps none."""
    for steps in (range(10, 100), range(10, 100, 5), range(10, 100, 10), (10, 20, 50), (10,)):
        decades = range(math.floor(math.log10(near)), math.ceil(math.log10(far)) + 1)
        marks = [float(f"{step}e{decade - 1}") for decade in decades for step in steps]
        inside = [mark for mark in marks if near <= mark <= far]
        if len(inside) <= at_most and _apart(inside, near, far, at_most):
            return inside
    return []


def _apart(marks: list[float], near: float, far: float, at_most: int) -> bool:
    closest = min((math.log(b / a) for a, b in pairwise(marks)), default=math.inf)
    return closest * at_most >= math.log(far / near)
