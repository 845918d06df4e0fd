"""One view of aligned arrays: the same crop, resize and mirror for picture, field and depth, batched on the device.

Parameters are drawn on the CPU, a few numbers a sample, and applied by `torch.nn.functional.grid_sample` on a grid
whose rows and columns are independent. A mirrored view reads the same columns in reverse order, so that it is the
exact mirror of the view that is not.

Legend: N samples, H W rows and columns of the stored picture, h w those of the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gfield import Region

Floats = npt.NDArray[np.float64]
_TRIES = 10


@dataclass(frozen=True)
class Views:
    """Crops in pixels of the stored picture, and whether they are mirrored; one of each a sample."""

    top_N: Floats
    left_N: Floats
    height_N: Floats
    width_N: Floats
    flip_N: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.flip_N)

    def take(self, chosen: slice) -> Views:
        """The views of some samples."""
        return Views(**{name: values[chosen] for name, values in vars(self).items()})


def draw_views(
    rng: np.random.Generator,
    count: int,
    region: Region,
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Views:
    """Draw crops by the rule of torchvision's RandomResizedCrop, all of them inside a region.

    Parameters
    ----------
    rng
        Source of the numbers.
    count
        Number of views.
    region
        Where crops may lie, in pixels of the stored picture. NYU's white frame lies outside: a picture and a field
        that both show where it begins match by place.
    scale, ratio
        Bounds of a crop's share of the region's area (uniform) and of its width / height (log-uniform).
    flip
        Probability of a mirrored view.

    Returns
    -------
    Views
        The first of ten draws that fits; where none does, the largest central crop of a permitted ratio.
    """
    H, W = region.bottom - region.top, region.right - region.left
    area_NT = H * W * rng.uniform(*scale, (count, _TRIES))
    ratio_NT = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), (count, _TRIES)))
    place_N2, mirror_N = rng.random((count, 2)), rng.random(count) < flip
    width_NT, height_NT = np.round(np.sqrt(area_NT * ratio_NT)), np.round(np.sqrt(area_NT / ratio_NT))
    fits_NT = (width_NT > 0) & (width_NT <= W) & (height_NT > 0) & (height_NT <= H)
    first_N = fits_NT.argmax(1)
    samples = np.arange(count)
    fallback_h, fallback_w = _central(H, W, ratio)
    fits_N = fits_NT.any(1)
    height_N = np.where(fits_N, height_NT[samples, first_N], fallback_h)
    width_N = np.where(fits_N, width_NT[samples, first_N], fallback_w)
    top_N = np.where(fits_N, np.floor(place_N2[:, 0] * (H - height_N + 1)), (H - height_N) // 2)
    left_N = np.where(fits_N, np.floor(place_N2[:, 1] * (W - width_N + 1)), (W - width_N) // 2)
    return Views(region.top + top_N, region.left + left_N, height_N, width_N, mirror_N)


def _central(H: int, W: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if W / H < ratio[0]:
        return round(W / ratio[0]), W
    if W / H > ratio[1]:
        return H, round(H * ratio[1])
    return H, W


def rgb_view(rgb_NHWC: torch.Tensor, views_N: Views, size_HW: tuple[int, int]) -> torch.Tensor:
    """Views of pictures.

    Parameters
    ----------
    rgb_NHWC
        uint8, N,H,W,3.
    views_N
        One view a sample.
    size_HW
        h and w.

    Returns
    -------
    Tensor
        float32 N,3,h,w in [0, 1], bilinear between pixels of the crop.
    """
    return _sample(rgb_NHWC.permute(0, 3, 1, 2).float().div_(255), views_N, size_HW, "bilinear")


def field_view(field_NHW: torch.Tensor, views_N: Views, size_HW: tuple[int, int]) -> torch.Tensor:
    """Views of gradient fields, each divided by the maximum of the stored field; one without edges stays zero.

    Parameters
    ----------
    field_NHW
        float16 N,H,W, in the operator's units.
    views_N, size_HW
        As in `rgb_view`.

    Returns
    -------
    Tensor
        float32 N,3,h,w in [0, 1]: one channel three times, in the same memory.
    """
    field_NHW = field_NHW.float()
    strongest_N11 = field_NHW.amax((1, 2), keepdim=True)
    unit_N1HW = (field_NHW / strongest_N11.clamp(min=torch.finfo(torch.float16).tiny))[:, None]
    return _sample(unit_N1HW, views_N, size_HW, "bilinear").expand(-1, 3, -1, -1)


def depth_view(depth_NHW: torch.Tensor, views_N: Views, size_HW: tuple[int, int]) -> torch.Tensor:
    """Views of depths: float32 N,1,h,w in metres, NaN where there is none; nearest pixel, nothing is mixed."""
    return _sample(depth_NHW.float()[:, None], views_N, size_HW, "nearest")


def flipped(values_NxW: torch.Tensor, flip_N: npt.NDArray[np.bool_]) -> torch.Tensor:
    """The samples that are chosen mirrored exactly, along the last dimension."""
    shape = (len(flip_N), *[1] * (values_NxW.ndim - 1))
    chosen = torch.from_numpy(np.ascontiguousarray(flip_N)).to(values_NxW.device, non_blocking=True)
    return torch.where(chosen.reshape(shape), values_NxW.flip(-1), values_NxW)


def _sample(values_NCHW: torch.Tensor, views_N: Views, size_HW: tuple[int, int], mode: str) -> torch.Tensor:
    (H, W), (h, w) = values_NCHW.shape[-2:], size_HW
    y_Nh = _coordinates(views_N.top_N, views_N.height_N, h, H)
    x_Nw = _coordinates(views_N.left_N, views_N.width_N, w, W)
    x_Nw = np.where(views_N.flip_N[:, None], x_Nw[:, ::-1], x_Nw)
    lines = torch.from_numpy(np.concatenate([x_Nw, y_Nh], 1).astype(np.float32))
    lines = lines.to(values_NCHW.device, non_blocking=True)
    grid_Nhw2 = torch.stack(
        [lines[:, None, :w].expand(-1, h, -1), lines[:, w:, None].expand(-1, -1, w)],
        -1,
    )
    sampled: torch.Tensor = functional.grid_sample(
        values_NCHW, grid_Nhw2, mode=mode, padding_mode="border", align_corners=False
    )
    return sampled


def _coordinates(start_N: Floats, length_N: Floats, n_to: int, n_from: int) -> npt.NDArray[Any]:
    """Where the centres of a view's pixels lie along one side, from -1 to 1 over the stored picture's side.

    Held inside the crop: a pixel beside it, such as one of the white frame, must not shine in.
    """
    inside = (np.arange(n_to) + 0.5) / n_to * length_N[:, None] - 0.5
    pixel = start_N[:, None] + np.clip(inside, 0, length_N[:, None] - 1)
    return (2 * pixel + 1) / n_from - 1
