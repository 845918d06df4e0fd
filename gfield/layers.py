"""Every array of one frame: levels of its picture, their gradient fields, depth and labels. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gfield.field import FieldKernel, FieldParams
from gfield.frame import Frame
from gfield.levels import Array, NearestResize, area_resize
from gfield.spec import ArraySpec, StoreSpec

__all__ = ["Array", "FrameLayers"]


class FrameLayers:
    """Every array of one frame, computed into buffers that are allocated once.

    Fresh arrays of a megabyte cost as many page faults as the work on them.

    Parameters
    ----------
    spec
        The store's spec, for sizes, operator and valid region.
    wanted
        The arrays to compute.
    """

    def __init__(self, spec: StoreSpec, wanted: Iterable[ArraySpec]) -> None:
        self._spec = spec
        self._wanted = list(wanted)
        self._out: dict[str, Any] = {one.key: np.zeros(one.frame_shape, one.dtype) for one in self._wanted}
        width, height = spec.size_WH
        self._largest_rgb = np.empty((height, width, 3), np.uint8)
        self._level_rgb = {
            level: np.empty((level[1], level[0], 3), np.uint8) for level in spec.levels_WH if level != spec.size_WH
        }
        self._level_rgb[spec.size_WH] = self._largest_rgb
        params = FieldParams.from_dict(spec.operator)
        self._kernels = {one.key: FieldKernel(params) for one in self._wanted if one.name == "gradient"}
        self._regions = {level: spec.level_region(level) for level in spec.levels_WH}
        self._nearest: dict[tuple[int, int], NearestResize] = {}
        if spec.depth_shape_HW is not None:
            self._nearest = {
                level: NearestResize(spec.depth_shape_HW, (level[1], level[0])) for level in spec.levels_WH
            }

    def of(self, frame: Frame) -> Mapping[str, Array]:
        """The wanted arrays of a frame by key; they may be views of this object's or the frame's buffers."""
        rgb = self._rgb_levels(frame.arrays["rgb"]) if "rgb" in frame.arrays else {}
        layers: dict[str, Array] = {}
        for spec in self._wanted:
            if spec.level_WH is None:
                layers[spec.key] = frame.arrays["depth"]
            elif spec.name == "rgb":
                layers[spec.key] = rgb[spec.level_WH]
            elif spec.name == "gradient":
                layers[spec.key] = self.gradient(spec, rgb[spec.level_WH])
            else:
                nearest = self._nearest[spec.level_WH]
                layers[spec.key] = nearest(frame.arrays[spec.name], self._out[spec.key])
        return layers

    def gradient(self, spec: ArraySpec, rgb_HWC: Any) -> Array:
        """The gradient field of one level's picture."""
        assert spec.level_WH is not None
        field_HW: Array = self._kernels[spec.key](rgb_HWC, self._regions[spec.level_WH], out=self._out[spec.key])
        return field_HW

    def _rgb_levels(self, rgb_HWC: Any) -> dict[tuple[int, int], Any]:
        largest = area_resize(rgb_HWC, self._largest_rgb)
        return {level: area_resize(largest, self._level_rgb[level]) for level in self._spec.levels_WH}
