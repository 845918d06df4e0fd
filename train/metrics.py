"""Errors of depth in metres, per image or pooled over all pixels.

Legend: N images, S sums over an image's pixels; prediction p and ground truth t in metres, d = ln p - ln t.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

METRICS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rms", "rms_log", "log10", "silog")
Averaging = Literal["image", "pixel"]
Floats = npt.NDArray[np.float64]
# Sums over pixels from which every metric follows.
_SUMS = ("count", "d1", "d2", "d3", "abs_rel", "sq_rel", "square", "log_square", "log", "log10")


class DepthErrors:
    """Adds up errors image by image, in float64, on the device; nothing waits for it before a result is asked for.

    Metrics are ``d1``, ``d2``, ``d3`` (share of pixels with max(p / t, t / p) below 1.25, 1.25^2, 1.25^3), ``abs_rel``
    (mean of |p - t| / t), ``sq_rel`` (mean of (p - t)^2 / t, metres), ``rms`` (root of the mean of (p - t)^2, metres),
    ``rms_log`` (root of the mean of d^2), ``log10`` (mean of |log10 p - log10 t|) and ``silog`` (100 times the root of
    mean d^2 - (mean d)^2, as KITTI's benchmark has it; not Eigen's loss, which halves the second term).
    """

    def __init__(self) -> None:
        self._sums_NS: list[torch.Tensor] = []

    def add(self, predicted_NHW: torch.Tensor, true_NHW: torch.Tensor, valid_NHW: torch.Tensor) -> None:
        """Add images.

        Parameters
        ----------
        predicted_NHW, true_NHW
            float, metres above 0 where valid; a NaN there is no error, and makes errors NaN.
        valid_NHW
            bool, which pixels count; the others may hold anything.
        """
        valid = valid_NHW.flatten(1)
        p = torch.where(valid, predicted_NHW.flatten(1).double(), 1.0)
        t = torch.where(valid, true_NHW.flatten(1).double(), 1.0)
        error, d = p - t, p.log() - t.log()
        ratio = torch.maximum(p / t, t / p)
        # Pixels that are not valid add nothing to sums of errors; to counts of good pixels they would.
        good = [((ratio < 1.25**power) & valid).double() for power in (1, 2, 3)]
        squares = error**2
        terms = [valid.double(), *good, error.abs() / t, squares / t, squares, d**2, d, d.abs() / math.log(10)]
        self._sums_NS.append(torch.stack([term.sum(1) for term in terms], 1))

    def pixels(self) -> npt.NDArray[np.int64]:
        """Number of valid pixels of every image."""
        return self._sums()[:, 0].astype(np.int64)

    def per_image(self) -> dict[str, Floats]:
        """Every metric of every image; NaN for an image without a valid pixel."""
        return _metrics(self._sums())

    def mean(self, averaging: Averaging) -> dict[str, float]:
        """Every metric: the mean over the images that have a valid pixel, or of all pixels together; NaN of none."""
        sums_NS = self._sums()
        sums_NS = sums_NS[sums_NS[:, 0] > 0]
        if not len(sums_NS):
            return dict.fromkeys(METRICS, math.nan)
        values = _metrics(sums_NS if averaging == "image" else sums_NS.sum(0, keepdims=True))
        return {name: float(value.mean()) for name, value in values.items()}

    def _sums(self) -> Floats:
        if not self._sums_NS:
            return np.empty((0, len(_SUMS)))
        sums_NS: Floats = torch.cat(self._sums_NS).cpu().numpy()
        return sums_NS


def _metrics(sums_NS: Floats) -> dict[str, Floats]:
    with np.errstate(invalid="ignore"):  # no valid pixel: 0 / 0
        mean = dict(zip(_SUMS, (sums_NS / sums_NS[:, :1]).T, strict=True))
        variance = np.maximum(0, mean["log_square"] - mean["log"] ** 2)
    return {
        **{name: mean[name] for name in ("d1", "d2", "d3", "abs_rel", "sq_rel")},
        "rms": np.sqrt(mean["square"]),
        "rms_log": np.sqrt(mean["log_square"]),
        "log10": mean["log10"],
        "silog": 100 * np.sqrt(variance),
    }
