"""Views: one random crop and mirroring of a picture, the same for its colours, its gradient field and its depth.

The parameters are drawn on the CPU for a whole batch; the pixels are made on the device that holds them. A crop is
resampled as if nothing lay around it, so that a picture's white frame, one pixel further, cannot shine in.

Legend: N samples, H W rows and columns of a stored picture, h w those of a view, T tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from gfield import Region
from train.device import to_device
from train.errors import TrainError

Int = npt.NDArray[np.int64]
Index = slice | Sequence[int] | npt.NDArray[np.integer[Any]]

FieldNorm = Literal["max", "fixed", "log", "binary"]
# Of the exact operator: a grey level of 255 times the largest gain of the two Sobel kernels together, 255 * sqrt(20).
LARGEST_FIELD = 1140.4

_TRIES = 10  # as many as torchvision's


@dataclass(frozen=True, eq=False)
class Views:
    """The views of N samples.

    Attributes
    ----------
    top_N, left_N, height_N, width_N
        int64: the crop, in whole pixels of the stored picture.
    flip_N
        bool: whether left and right change places.
    """

    top_N: Int
    left_N: Int
    height_N: Int
    width_N: Int
    flip_N: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.flip_N)

    def take(self, index: Index) -> Views:
        """The views of some samples, such as a rank's part ``take(slice(rank, None, world))``."""
        return Views(
            self.top_N[index], self.left_N[index], self.height_N[index], self.width_N[index], self.flip_N[index]
        )


def draw_views(
    rng: np.random.Generator,
    count: int,
    region: Region,
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Views:
    """Random views by the rule of torchvision's ``RandomResizedCrop``, inside a region.

    Area and logarithm of the aspect ratio are uniform, ten times; the first crop that fits has a uniform place.
    Where none fits, it is the largest central crop with a ratio within bounds. Each sample uses up the same number of
    random numbers.

    Parameters
    ----------
    rng
        Where the random numbers come from.
    count
        Number of samples.
    region
        The part of the stored picture that crops lie in: the level's valid region, or all of it.
    scale
        Least and largest area, as shares of the region's.
    ratio
        Least and largest width / height.
    flip
        Probability of mirroring.

    Raises
    ------
    TrainError
        If a parameter is out of range, or the region is empty.
    """
    height, width = region.bottom - region.top, region.right - region.left
    _check(height, width, scale, ratio, flip)
    area_NT = height * width * rng.uniform(*scale, (count, _TRIES))
    ratio_NT = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), (count, _TRIES)))
    width_NT = np.rint(np.sqrt(area_NT * ratio_NT)).astype(np.int64)
    height_NT = np.rint(np.sqrt(area_NT / ratio_NT)).astype(np.int64)
    fits_NT = (width_NT > 0) & (width_NT <= width) & (height_NT > 0) & (height_NT <= height)

    sample_N, first_N = np.arange(count), fits_NT.argmax(axis=1)
    fits_N = fits_NT.any(axis=1)
    central_height, central_width = _central_crop(height, width, ratio)
    height_N = np.where(fits_N, height_NT[sample_N, first_N], central_height)
    width_N = np.where(fits_N, width_NT[sample_N, first_N], central_width)
    top_N = np.where(fits_N, rng.integers(0, height - height_N + 1), (height - central_height) // 2)
    left_N = np.where(fits_N, rng.integers(0, width - width_N + 1), (width - central_width) // 2)
    return Views(region.top + top_N, region.left + left_N, height_N, width_N, rng.random(count) < flip)


def rgb_view(rgb_NHWC: torch.Tensor, views: Views, size_HW: tuple[int, int]) -> torch.Tensor:
    """The views of pictures: bilinear at pixel centres, without a filter against aliasing (crops are enlarged).

    Parameters
    ----------
    rgb_NHWC
        uint8, stored pictures.
    views
        One view a picture.
    size_HW
        Rows and columns of the result.

    Returns
    -------
    Tensor
        (N, 3, h, w) float32 in [0, 1], on the pictures' device.
    """
    return _bilinear(rgb_NHWC.permute(0, 3, 1, 2).float(), views, size_HW).mul_(1 / 255).clamp_(0, 1)


def field_view(
    field_NHW: torch.Tensor,
    views: Views,
    size_HW: tuple[int, int],
    *,
    norm: FieldNorm = "max",
    largest: float = LARGEST_FIELD,
) -> torch.Tensor:
    """The views of gradient fields, resampled as `rgb_view` does.

    Parameters
    ----------
    field_NHW
        float16, stored gradient fields.
    views, size_HW
        As in `rgb_view`.
    norm
        How the field comes to [0, 1]. ``"max"``: as a share of the stored picture's strongest edge, whether the crop
        holds that edge or not, as in the released code. ``"fixed"``: as a share of ``largest``, so that pictures keep
        their differences. ``"log"``: log(1 + field) as a share of log(1 + largest), which lifts weak edges.
        ``"binary"``: 1 on edges, which drops their strengths. All but resampling, and a share, comes before it.
    largest
        The largest value that the stored field can have.

    Returns
    -------
    Tensor
        (N, 3, h, w) float32 in [0, 1]. A field without an edge is zero. The three channels are one in memory.
    """
    field_N1HW = field_NHW[:, None].float()
    if norm == "log":
        field_N1HW = field_N1HW.log1p()
    elif norm == "binary":
        field_N1HW = (field_N1HW > 0).float()
    view_N1hw = _bilinear(field_N1HW, views, size_HW)
    if norm == "max":
        strongest_N = field_NHW.amax(dim=(1, 2)).float()
        view_N1hw.div_(torch.where(strongest_N > 0, strongest_N, 1)[:, None, None, None])
    elif norm != "binary":
        view_N1hw.div_(math.log1p(largest) if norm == "log" else largest)
    return view_N1hw.clamp_(0, 1).expand(-1, 3, -1, -1)


def depth_view(
    depth_NHW: torch.Tensor, views: Views, size_HW: tuple[int, int], *, picture_HW: tuple[int, int] | None = None
) -> torch.Tensor:
    """The views of depth maps: the nearest stored value, none of them invented; the lower index on a tie, as in stores.

    Parameters
    ----------
    depth_NHW
        float32 metres, NaN where there is none.
    views, size_HW
        As in `rgb_view`; pixel centres are those of an `rgb_view` of any size.
    picture_HW
        Size of the pictures that the views were drawn for, where depth is stored at another one.

    Returns
    -------
    Tensor
        (N, 1, h, w) float32 metres.
    """
    stored_HW = (depth_NHW.shape[1], depth_NHW.shape[2])
    picture_H, picture_W = picture_HW or stored_HW
    top_N1, left_N1, height_N1, width_N1, flip_N1 = _on_device(views, depth_NHW.device)
    row_Nh = _nearest(top_N1, height_N1, size_HW[0], picture_H, stored_HW[0])
    column_Nw = _nearest(left_N1, width_N1, size_HW[1], picture_W, stored_HW[1])
    column_Nw = torch.where(flip_N1 > 0, column_Nw.flip(1), column_Nw)
    sample_N11 = torch.arange(len(views), device=depth_NHW.device)[:, None, None]
    return depth_NHW[sample_N11, row_Nh[:, :, None], column_Nw[:, None, :]][:, None].float()


def flipped(images_NCHW: torch.Tensor, flip_N: npt.NDArray[np.bool_]) -> torch.Tensor:
    """Mirror the samples that ``flip_N`` names, exactly, along the last dimension."""
    flip = to_device(flip_N, images_NCHW.device)
    return torch.where(flip.view(-1, *[1] * (images_NCHW.dim() - 1)), images_NCHW.flip(-1), images_NCHW)


def _check(height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], flip: float) -> None:
    if height <= 0 or width <= 0:
        raise TrainError(f"region for crops has {height} rows and {width} columns, wanted some of both")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise TrainError(f"scale of crops is {scale[0]:g} to {scale[1]:g}, wanted a range within 0 (excluded) to 1")
    if not 0 < ratio[0] <= ratio[1]:
        raise TrainError(f"ratio of crops is {ratio[0]:g} to {ratio[1]:g}, wanted a range above 0")
    if not 0 <= flip <= 1:
        raise TrainError(f"probability of flips is {flip:g}, wanted 0 to 1")


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest crop with a ratio within bounds."""
    if width < ratio[0] * height:
        return max(1, round(width / ratio[0])), width
    if width > ratio[1] * height:
        return height, max(1, round(height * ratio[1]))
    return height, width


def _on_device(views: Views, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Top, left, height, width and flip as int64 of (N, 1), by one copy that the CPU does not wait for."""
    packed_5N = np.stack([views.top_N, views.left_N, views.height_N, views.width_N, views.flip_N.astype(np.int64)])
    return to_device(packed_5N, device)[:, :, None].unbind(0)


def _bilinear(images_NCHW: torch.Tensor, views: Views, size_HW: tuple[int, int]) -> torch.Tensor:
    """(N, C, h, w): the views of float32 images."""
    height, width = images_NCHW.shape[2:]
    top_N1, left_N1, height_N1, width_N1, flip_N1 = _on_device(views, images_NCHW.device)
    y_Nh = _centres(top_N1, height_N1, size_HW[0]) * (2 / height) - 1
    x_Nw = _centres(left_N1, width_N1, size_HW[1]) * (2 / width) - 1
    # Mirrored coordinates, not a mirrored result: the same numbers in another order, and one pass less.
    x_Nw = torch.where(flip_N1 > 0, x_Nw.flip(1), x_Nw)
    grid_Nhw2 = torch.empty(len(views), *size_HW, 2, device=images_NCHW.device)
    grid_Nhw2[..., 0] = x_Nw[:, None, :]
    grid_Nhw2[..., 1] = y_Nh[:, :, None]
    # Border padding is for rounding alone: no coordinate lies beyond a crop's outermost pixel centres.
    return F.grid_sample(images_NCHW, grid_Nhw2, mode="bilinear", padding_mode="border", align_corners=False)


def _centres(start_N1: torch.Tensor, length_N1: torch.Tensor, count: int) -> torch.Tensor:
    """(N, count) float32: centres of a view's cells in pixels of the picture, pixel i covering i to i + 1."""
    place = torch.arange(count, device=start_N1.device) + 0.5
    # A bound as a number, not as a tensor, which would be copied to the device while the CPU waits.
    inside = (place * (length_N1 / count)).clamp(min=0.5)
    return start_N1 + inside.minimum(length_N1 - 0.5)


def _nearest(start_N1: torch.Tensor, length_N1: torch.Tensor, count: int, picture: int, stored: int) -> torch.Tensor:
    """(N, count) int64: stored cells nearest to the centres, in whole numbers, so that ties are ties."""
    odd = 2 * torch.arange(count, device=start_N1.device) + 1
    # centre = (2 count start + (2 i + 1) length) / (2 count) pixels = that * stored / picture cells; the cell is its
    # ceiling less one, since cell j reaches from just above j to j + 1.
    numerator = (2 * count * start_N1 + odd * length_N1) * stored
    return torch.div(numerator - 1, 2 * count * picture, rounding_mode="floor").clamp(0, stored - 1)
