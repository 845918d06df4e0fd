"""The operator: the gradient field of one picture. Arrays in, arrays out, no files.

Shim and Kim, "Learning a Geometric Representation for Data-Efficient Depth Estimation via Gradient Field and
Contrastive Loss" (ICRA 2021, arXiv 2011.03207) define the field of an image I as ``G = B_canny * ||E||`` with
``||E|| = sqrt(I_u^2 + I_v^2)``: the strength of the Sobel gradient on Canny's edges, zero elsewhere. Here I
is the 8-bit luminance, one integer Sobel serves both factors, and every value is the exact one rounded to
float16, so that a field depends on no machine, thread count or build of OpenCV.

Letters in names: H rows, W columns, C the channels red, green, blue.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from gfield.edges import COMPILED, CompiledPlanes
from gfield.frame import InputError, Region
from gfield.grmc import pil_grey, wrapped_field_bits
from gfield.quads import EdgePlanes, magnitude_bits, part_of

Variant = Literal["sobel", "grmc"]
UInt8 = npt.NDArray[np.uint8]
Int16 = npt.NDArray[np.int16]
Half = npt.NDArray[np.float16]

LARGEST_THRESHOLD = 2040  # |I_u| + |I_v| <= 2 * 255 * 4, so that more would say the same as this

_AUTO_PERCENT = 94
_AUTO_RATIO = 4
_AUTO_LEAST = 32


@dataclass(frozen=True, slots=True)
class FieldParams:
    """What defines a field besides its picture.

    Parameters
    ----------
    low, high
        Canny's hysteresis thresholds, 0 to 2040, in grey levels times the Sobel gain (a step edge of one grey
        level gives 4). The released code of the paper has 50 and 200.
    auto
        Take the thresholds from each picture, see `auto_thresholds`; ``low``, ``high`` keep their defaults.
    l2_gradient
        Which norm Canny compares with the thresholds: ``|I_u| + |I_v|`` (False, OpenCV's default) or the
        Euclidean one. The values of the field are Euclidean either way, as in the paper.
    variant
        ``"sobel"`` is the paper's field. ``"grmc"`` repeats a defect of the released code, in which 8-bit
        arithmetic overflows, see `gfield.grmc`: for use with weights that were trained on such fields only.

    Raises
    ------
    InputError
        If a value is of another type or out of range, or contradicts another.

    Examples
    --------
    >>> from gfield import FieldParams
    >>> FieldParams(low=30, high=120)
    FieldParams(low=30, high=120, auto=False, l2_gradient=False, variant='sobel')
    >>> FieldParams(low=300)
    Traceback (most recent call last):
        ...
    gfield.errors.InputError: thresholds are low 300 and high 200, wanted low <= high
    """

    low: int = 50
    high: int = 200
    auto: bool = False
    l2_gradient: bool = False
    variant: Variant = "sobel"

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= LARGEST_THRESHOLD:
                raise InputError(f"threshold {name} is {value!r}, wanted an integer from 0 to {LARGEST_THRESHOLD}")
        for name in ("auto", "l2_gradient"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, wanted True or False")
        if self.variant not in get_args(Variant):
            raise InputError(f"variant is {self.variant!r}, wanted one of {', '.join(get_args(Variant))}")
        if self.low > self.high:
            raise InputError(f"thresholds are low {self.low} and high {self.high}, wanted low <= high")
        if self.auto and (self.low, self.high) != (50, 200):
            raise InputError(f"thresholds are {self.low} and {self.high} and auto, wanted one or the other")
        if self.auto and self.variant == "grmc":
            raise InputError("variant is grmc and thresholds are auto, wanted fixed thresholds with grmc")

    def to_dict(self) -> dict[str, Any]:
        """The parameters as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FieldParams:
        """The parameters of which `to_dict` gave ``values``.

        Raises
        ------
        InputError
            If a name is unknown or missing, or a value is not valid.
        """
        wanted = [one.name for one in dataclasses.fields(cls)]
        if set(values) != set(wanted):
            raise InputError(f"operator has {', '.join(sorted(values))}; wanted {', '.join(sorted(wanted))}")
        return cls(**values)


def gradient_field(
    rgb_HWC: UInt8,
    low: int = 50,
    high: int = 200,
    valid_region: Region | None = None,
    *,
    auto: bool = False,
    l2_gradient: bool = False,
    variant: Variant = "sobel",
    out: Half | None = None,
) -> Half:
    """The gradient field of a picture.

    For many pictures of one size, a `FieldKernel` saves the allocation of its buffers.

    Parameters
    ----------
    rgb_HWC
        (H, W, 3) uint8, red first; any strides.
    low, high, auto, l2_gradient, variant
        See `FieldParams`.
    valid_region
        The part of the picture that is scene; the operator sees nothing else. None is all of it.
    out
        (H, W) float16 to write into.

    Returns
    -------
    field_HW
        (H, W) float16, ``out`` if that was given. Zero off the edges and outside ``valid_region``.
        ``"sobel"``: grey levels times the Sobel gain, not normalised, at most 255 * sqrt(20) = 1140.4;
        the exact root rounded once. ``"grmc"``: 0 to 255, the released code's float32 rounded to float16
        (an error of 1/16 at most), with the picture's strongest edge at 255.

    Raises
    ------
    InputError
        If an array's dtype or shape, the region or a parameter is not as described.

    Examples
    --------
    A picture that is black on the left and grey on the right: one edge, four times as strong as the step.

    >>> import numpy as np
    >>> from gfield import gradient_field
    >>> rgb_HWC = np.zeros((3, 6, 3), np.uint8)
    >>> rgb_HWC[:, 3:] = 100
    >>> gradient_field(rgb_HWC)[1].tolist()
    [0.0, 0.0, 400.0, 0.0, 0.0, 0.0]
    """
    params = FieldParams(low, high, auto, l2_gradient, variant)
    return FieldKernel(params)(rgb_HWC, valid_region, out)


def auto_thresholds(
    rgb_HWC: UInt8, valid_region: Region | None = None, *, l2_gradient: bool = False
) -> tuple[int, int]:
    """Canny's thresholds from the picture: ``high`` is a quantile of its gradients, ``low`` a quarter of it.

    A quantile with a fixed ratio is the rule of MATLAB's ``edge`` (quantile 0.7, ratio 0.4). Those numbers
    keep 16.8 % of the pixels of 32 NYU Depth v2 frames (white frame cut off), where (50, 200) keeps 6.0 %. So
    the ratio here is that of 50 to 200, and the quantile the whole per cent that keeps the nearest share:
    0.94, with 6.1 % (6.0 % for the Euclidean norm). From frame to frame the share varies less than with fixed
    thresholds: 3.8 % to 12.5 %, against 1.2 % to 15.6 %. At 320x240 it is 8.6 %, against 10.4 %.

    ``high`` is at least 32, a step edge of 8 grey levels, so that a bare wall gives no field of its noise; on
    those frames the quantile was 64 or more. Above that limit twice the contrast gives twice ``high``.
    Mirrored and inverted pictures give the same thresholds.

    Parameters
    ----------
    rgb_HWC, valid_region, l2_gradient
        As in `gradient_field`; only the region's gradients count, in the norm that Canny compares.

    Returns
    -------
    low, high
        Integers, ``0 <= low <= high``.

    Raises
    ------
    InputError
        If the array or the region is not as described.
    """
    region = _checked_region(rgb_HWC, valid_region)
    grey_HW = cv2.cvtColor(part_of(rgb_HWC, region), cv2.COLOR_RGB2GRAY)
    return _thresholds_of(*_gradient(cast(UInt8, grey_HW)), l2_gradient)


class FieldKernel:
    """`gradient_field` for many pictures, with its buffers kept from call to call. One for each thread.

    Parameters
    ----------
    params
        The operator's parameters.
    compiled
        Whether by compiled code, see `gfield.edges`, which gives the same fields; by default where that is there and
        knows the parameters.

    Raises
    ------
    InputError
        If compiled code is asked for and is not there, or does not know the parameters.
    """

    def __init__(self, params: FieldParams | None = None, *, compiled: bool | None = None) -> None:
        self.params = params or FieldParams()
        able = COMPILED and self.params.variant == "sobel" and not self.params.l2_gradient
        if compiled and not able:
            raise InputError(f"no compiled operator for {self.params}; wanted compiled=None or False")
        self.compiled = able if compiled is None else compiled
        self._planes: EdgePlanes | None = None
        self._compiled_planes: CompiledPlanes | None = None

    def __call__(self, rgb_HWC: UInt8, valid_region: Region | None = None, out: Half | None = None) -> Half:
        """The gradient field of a picture; parameters, result and errors as in `gradient_field`."""
        region = _checked_region(rgb_HWC, valid_region)
        shape_HW = rgb_HWC.shape[:2]
        out_HW = np.empty(shape_HW, np.float16) if out is None else _checked_out(out, shape_HW)
        if self.compiled:
            self._walk_edges(rgb_HWC, region, out_HW)
            return out_HW
        if self._planes is None or not self._planes.fit(shape_HW, region):
            self._planes = EdgePlanes(shape_HW, region)
        planes, scene_HWC = self._planes, part_of(rgb_HWC, region)
        if self.params.variant == "sobel":
            self._find_edges(planes, scene_HWC)
            bits_of = magnitude_bits
        else:
            self._find_edges_grmc(planes, scene_HWC)
            bits_of = wrapped_field_bits
        quads = planes.find()
        planes.scatter(quads, bits_of(*planes.gather(quads)), out_HW)
        return out_HW

    def _walk_edges(self, rgb_HWC: UInt8, region: Region, out_HW: Half) -> None:
        shape_HW = rgb_HWC.shape[:2]
        if self._compiled_planes is None or not self._compiled_planes.fit(shape_HW, region):
            self._compiled_planes = CompiledPlanes(shape_HW, region)
        planes = self._compiled_planes
        cv2.cvtColor(part_of(rgb_HWC, region), cv2.COLOR_RGB2GRAY, dst=planes.grey_HW)
        low, high = self.params.low, self.params.high
        if self.params.auto:
            low, high = _thresholds_of(*_gradient(planes.grey_HW), l2_gradient=False)
        planes.write_field(low, high, out_HW)

    def _find_edges(self, planes: EdgePlanes, rgb_HWC: UInt8) -> None:
        cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY, dst=planes.grey_HW)
        # Canny replicates the rim, so this border and no other makes the mask that of cv2.Canny(grey).
        cv2.spatialGradient(planes.grey_HW, dx=planes.dx_HW, dy=planes.dy_HW, borderType=cv2.BORDER_REPLICATE)
        low, high, l2_gradient = self.params.low, self.params.high, self.params.l2_gradient
        if self.params.auto:
            low, high = _thresholds_of(planes.dx_HW, planes.dy_HW, l2_gradient)
        cv2.Canny(planes.dx_HW, planes.dy_HW, low, high, edges=planes.mask_HW, L2gradient=l2_gradient)

    def _find_edges_grmc(self, planes: EdgePlanes, rgb_HWC: UInt8) -> None:
        pil_grey(rgb_HWC, planes.grey_HW)
        # cv2.filter2D reflects at the rim by default; with this border the shared Sobel does the same.
        cv2.spatialGradient(planes.grey_HW, dx=planes.dx_HW, dy=planes.dy_HW, borderType=cv2.BORDER_DEFAULT)
        low, high, l2_gradient = self.params.low, self.params.high, self.params.l2_gradient
        cv2.Canny(rgb_HWC, low, high, edges=planes.mask_HW, L2gradient=l2_gradient)


def _gradient(grey_HW: UInt8) -> tuple[Int16, Int16]:
    """``I_u`` and ``I_v`` with the rim replicated, as Canny does."""
    dx_HW, dy_HW = cv2.spatialGradient(grey_HW, borderType=cv2.BORDER_REPLICATE)
    return cast(Int16, dx_HW), cast(Int16, dy_HW)


def _thresholds_of(dx_HW: Int16, dy_HW: Int16, l2_gradient: bool) -> tuple[int, int]:
    """`auto_thresholds` of given gradients; the quantile is the least integer that covers its share."""
    count = -(-_AUTO_PERCENT * dx_HW.size // 100)
    if l2_gradient:
        squared_HW = dx_HW.astype(np.int32) ** 2 + dy_HW.astype(np.int32) ** 2
        square = int(np.partition(squared_HW, count - 1, axis=None)[count - 1])
        floor = math.isqrt(square)
        quantile = floor + (floor * floor < square)
    else:
        norms_HW = np.abs(dx_HW) + np.abs(dy_HW)
        quantile = int(np.bincount(norms_HW.ravel()).cumsum().searchsorted(count))
    high = max(quantile, _AUTO_LEAST)
    return high // _AUTO_RATIO, high


def _checked_region(rgb_HWC: UInt8, region: Region | None) -> Region:
    """The region, or all of the picture; InputError unless picture and region are sound."""
    dtype: Any = getattr(rgb_HWC, "dtype", type(rgb_HWC).__name__)
    shape: tuple[int, ...] = getattr(rgb_HWC, "shape", ())
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(f"picture is {dtype} of shape {shape}, wanted uint8 of shape (H, W, 3)")
    height, width, _ = shape
    top, bottom, left, right = region or (0, height, 0, width)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        seen = f"rows {top}:{bottom}, columns {left}:{right}"
        raise InputError(f"valid region is {seen}, wanted a part of the picture's {height} rows, {width} columns")
    return Region(top, bottom, left, right)


def _checked_out(out: Half, shape_HW: tuple[int, ...]) -> Half:
    if out.dtype != np.float16 or out.shape != shape_HW:
        raise InputError(f"out is {out.dtype} of shape {out.shape}, wanted float16 of shape {shape_HW}")
    return out
