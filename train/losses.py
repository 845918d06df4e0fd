"""Losses of depth in target space, over the pixels that have a depth.

All compute in float32 at least, also under autocast: half-precision sums of squares overflow (ZoeDepth issue 56). A
pixel without depth influences neither value nor gradients, whatever stands there; without any depth the loss is zero.

Legend: N samples, h w rows and columns of the depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

_SSIM_REACH, _SSIM_SIGMA = 5, 1.5


def densedepth_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    *,
    value_range: float,
    gradient_weight: float = 0.0,
) -> torch.Tensor:
    """(1 - SSIM) / 2 + 0.1 L1, and on request the L1 of the depth's slopes (Alhashim and Wonka 2018).

    The released code takes SSIM's mean over the windows that lie inside the picture; here every valid pixel has a
    window, see `ssim_map`. Its clamp to 0 to 1 is kept, though SSIM between -1 and 1 never needs it.

    Parameters
    ----------
    pred, target
        (N, 1, h, w) in target space.
    valid
        (N, 1, h, w) bool.
    value_range
        Span of the target, for SSIM; 100 for 1000 / depth in centimetres from 10 cm on.
    gradient_weight
        Weight of the slopes' term, over neighbours that are both valid; DenseDepth's paper has 1, the released code 0.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 if an input is).
    """
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = _comparable(pred, target, valid)
        dissimilar = ((1 - ssim_map(pred, target, value_range, valid)) / 2).clamp(0, 1)
        error = pred - target
        loss = _mean(dissimilar, valid) + 0.1 * _mean(error.abs(), valid)
        if gradient_weight:
            for dim in (-2, -1):
                slope = error.diff(dim=dim)
                length = slope.shape[dim]
                both = valid.narrow(dim, 0, length) & valid.narrow(dim, 1, length)
                loss = loss + gradient_weight * _mean(slope.abs(), both)
        return loss


def l1_loss(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean absolute error over the valid pixels; parameters and result as in `densedepth_loss`."""
    with torch.autocast(pred.device.type, enabled=False):
        pred, target = _comparable(pred, target, valid)
        return _mean((pred - target).abs(), valid)


def berhu_loss(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Reverse Huber (Laina et al. 2016): |e| up to c, (e^2 + c^2) / 2c beyond; parameters as in `densedepth_loss`.

    c is 0.2 max |e| over the valid pixels of what is given, and a constant for the gradients.
    """
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


def ssim_map(
    x_N1hw: torch.Tensor, y_N1hw: torch.Tensor, value_range: float, valid_N1hw: torch.Tensor | None = None
) -> torch.Tensor:
    """Structural similarity round every pixel (Wang et al. 2004): Gaussian windows of 11 x 11, sigma 1.5.

    Parameters
    ----------
    x_N1hw, y_N1hw
        What to compare, float32 or float64; finite everywhere.
    value_range
        L, the span of the values; C1 = (0.01 L)^2 and C2 = (0.03 L)^2.
    valid_N1hw
        bool, the pixels that count; all of them by default.

    Returns
    -------
    Tensor
        (N, 1, h, w). A window's weights are those of its valid pixels inside the picture, scaled to a sum of 1: where
        all of a window is such, it is the usual one. Without meaning at pixels that are not valid, but finite.
    """
    mask = torch.ones_like(x_N1hw) if valid_N1hw is None else valid_N1hw.to(x_N1hw.dtype)
    x, y = x_N1hw * mask, y_N1hw * mask
    # Two calls, so that no gradient is computed for what does not depend on x.
    sum_x, sum_xx, sum_xy = _GaussianSums.apply(torch.stack([x, x * x, x * y])).unbind(0)
    sum_y, sum_yy, weight = _GaussianSums.apply(torch.stack([y, y * y, mask])).unbind(0)
    weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
    mean_x, mean_y = sum_x / weight, sum_y / weight
    var_x, var_y = sum_xx / weight - mean_x**2, sum_yy / weight - mean_y**2
    covariance = sum_xy / weight - mean_x * mean_y
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    ssim: torch.Tensor = luminance * (2 * covariance + c2) / (var_x + var_y + c2)
    return ssim


class _GaussianSums(torch.autograd.Function):
    """Gaussian-weighted sums round every pixel, zero beyond the rim.

    Shifted additions, for a convolution or matrix product may run in TF32 on a GPU, with 10 bits: differences such as
    E[x^2] - E[x]^2 would be noise. The sums are their own adjoint, so that both directions cost the same; automatic
    differentiation of convolutions with one channel takes several times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _gaussian_sums(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _gaussian_sums(gradient)


def _gaussian_sums(values: torch.Tensor) -> torch.Tensor:
    weights = [math.exp(-(shift**2) / (2 * _SSIM_SIGMA**2)) for shift in range(_SSIM_REACH + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for dim in (-2, -1):
        size = values.shape[dim]
        sums = values * (weights[0] / total)
        for shift in range(1, min(_SSIM_REACH, size - 1) + 1):
            weight, length = weights[shift] / total, size - shift
            sums.narrow(dim, shift, length).add_(values.narrow(dim, 0, length), alpha=weight)
            sums.narrow(dim, 0, length).add_(values.narrow(dim, shift, length), alpha=weight)
        values = sums
    return values


def _comparable(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in float32 at least, and zero where there is no depth: chosen, not multiplied, since NaN * 0 is NaN."""
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    return torch.where(valid, pred.to(dtype), 0), torch.where(valid, target.to(dtype), 0)


def _mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)
