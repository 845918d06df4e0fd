"""From a source's grid to a level's grid: area averages of colours, nearest neighbours of depth and labels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
UInt8 = npt.NDArray[np.uint8]


def area_resize(rgb_HWC: UInt8, out_HWC: UInt8) -> UInt8:
    """Average areas (OpenCV ``INTER_AREA``) into ``out_HWC``; a picture of that size is returned as it is."""
    if rgb_HWC.shape == out_HWC.shape:
        return rgb_HWC
    height, width = out_HWC.shape[:2]
    cv2.resize(rgb_HWC, (width, height), dst=out_HWC, interpolation=cv2.INTER_AREA)
    return out_HWC


def nearest_index(n_from: int, n_to: int) -> npt.NDArray[np.intp]:
    """For each of ``n_to`` cells, the one of ``n_from`` whose centre is nearest; on a tie the lower index.

    Target cell ``i`` has its centre at ``(i + 1/2) * n_from / n_to``, source cell ``j`` covers ``j`` to
    ``j + 1``. Halving takes the even cells: ``nearest_index(6, 3)`` is 0, 2, 4.
    """
    target = np.arange(n_to)
    return ((2 * target + 1) * n_from - 1) // (2 * n_to)


class NearestResize:
    """Nearest-neighbour resampling between two fixed grids, without interpolation.

    Parameters
    ----------
    from_HW, to_HW
        Shapes of the source's and the target's grid.
    """

    def __init__(self, from_HW: tuple[int, int], to_HW: tuple[int, int]) -> None:
        self._same = from_HW == to_HW
        rows, columns = nearest_index(from_HW[0], to_HW[0]), nearest_index(from_HW[1], to_HW[1])
        # A whole-number reduction is a strided view, several times faster than gathering by index.
        self._at: Any = np.ix_(rows, columns)
        if from_HW[0] % to_HW[0] == 0 and from_HW[1] % to_HW[1] == 0:
            step_y, step_x = from_HW[0] // to_HW[0], from_HW[1] // to_HW[1]
            self._at = (slice(int(rows[0]), None, step_y), slice(int(columns[0]), None, step_x))

    def __call__(self, values_HW: Array, out_HW: Array) -> Array:
        """Resample into ``out_HW``; an array that already has the target's grid is returned as it is."""
        if self._same:
            return values_HW
        out_HW[...] = values_HW[self._at]
        return out_HW
