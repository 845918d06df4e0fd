"""Losses of depth in target space, over the pixels that have a depth.

All compute in float32, also under autocast: half-precision sums of squares overflow (ZoeDepth issue 56). A pixel
without depth influences neither value nor gradient, whatever stands there; without any depth the loss is zero.

Legend: N samples, h w rows and columns of the depth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

_SSIM_SIDE, _SSIM_SIGMA = 11, 1.5


def ssim_map(x_N1hw: torch.Tensor, y_N1hw: torch.Tensor, value_range: float) -> torch.Tensor:
    """Structural similarity round every pixel (Wang et al. 2004): Gaussian window of 11 x 11, sigma 1.5.

    Parameters
    ----------
    x_N1hw, y_N1hw
        What to compare.
    value_range
        L, the span of the values; C1 = (0.01 L)^2 and C2 = (0.03 L)^2.

    Returns
    -------
    Tensor
        N,1,h,w. Windows are cut at the rim: weights outside the picture count as zero, and the rest is scaled to 1.
    """
    window = torch.arange(_SSIM_SIDE, dtype=x_N1hw.dtype, device=x_N1hw.device) - _SSIM_SIDE // 2
    window = torch.exp(-(window**2) / (2 * _SSIM_SIGMA**2))
    window = window / window.sum()
    ones = torch.ones_like(x_N1hw[:1])
    share = _blur(ones, window)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return _blur(values, window) / share

    mean_x, mean_y = mean(x_N1hw), mean(y_N1hw)
    var_x = mean(x_N1hw * x_N1hw) - mean_x * mean_x
    var_y = mean(y_N1hw * y_N1hw) - mean_y * mean_y
    cov = mean(x_N1hw * y_N1hw) - mean_x * mean_y
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * cov + c2) / (var_x + var_y + c2)


def _blur(values_N1hw: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    rows = functional.conv2d(values_N1hw, window.reshape(1, 1, -1, 1), padding=(_SSIM_SIDE // 2, 0))
    return functional.conv2d(rows, window.reshape(1, 1, 1, -1), padding=(0, _SSIM_SIDE // 2))


def densedepth_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    *,
    value_range: float,
    gradient_weight: float = 0.0,
) -> torch.Tensor:
    """clamp((1 - SSIM) / 2, 0, 1) + 0.1 L1, and on request the L1 of the depth's slopes (Alhashim and Wonka 2018).

    Parameters
    ----------
    pred, target
        N,1,h,w in target space.
    valid
        N,1,h,w, bool.
    value_range
        Span of the target, for SSIM.
    gradient_weight
        Weight of the slopes' term; the paper has 1, its released code leaves it out.
    """
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = _comparable(pred, target, valid)
        dissimilar = ((1 - ssim_map(pred, target, value_range)) / 2).clamp(0, 1)
        loss = _mean(dissimilar, valid) + 0.1 * _mean((pred - target).abs(), valid)
        if gradient_weight:
            error = pred - target
            for dim in (-2, -1):
                length = error.shape[dim] - 1
                both = valid.narrow(dim, 1, length) & valid.narrow(dim, 0, length)
                slope = error.narrow(dim, 1, length) - error.narrow(dim, 0, length)
                loss = loss + gradient_weight * _mean(slope.abs(), both)
        return loss


def l1_loss(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean absolute error over the valid pixels."""
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = _comparable(pred, target, valid)
        return _mean((pred - target).abs(), valid)


def berhu_loss(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Reverse Huber (Laina et al. 2016): |e| up to c, (e^2 + c^2) / 2c beyond, c = 0.2 max |e| of the batch."""
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = _comparable(pred, target, valid)
        error = (pred - target).abs()
        c = (0.2 * error.detach().amax()).clamp(min=torch.finfo(error.dtype).tiny)
        return _mean(torch.where(error <= c, error, (error * error + c * c) / (2 * c)), valid)


DEPTH_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "densedepth": densedepth_loss,
    "l1": l1_loss,
    "berhu": berhu_loss,
}


def _comparable(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both at least in float32, and equal constants where there is no depth, so that no gradient comes from there."""
    dtype = torch.promote_types(pred.dtype, torch.float32)
    pred, target = pred.to(dtype), target.to(dtype)
    fill = torch.nan_to_num(pred.detach(), nan=0.0, posinf=0.0, neginf=0.0)
    return torch.where(valid, pred, fill), torch.where(valid, target, fill)


def _mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)
