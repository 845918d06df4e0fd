"""Errors of depth in metres, per image or pooled over all pixels.

Legend: N images, P pixels of one image, prediction p and ground truth t in metres, d = ln p - ln t.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

METRICS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rms", "rms_log", "log10", "silog")
Averaging = Literal["image", "pixel"]
# Sums over pixels from which every metric follows.
_SUMS = ("count", "d1", "d2", "d3", "abs_rel", "sq_rel", "square", "log_square", "log", "log10")


class DepthErrors:
    """Adds up errors image by image, on the device and in float64.

    Metrics are ``d1``, ``d2``, ``d3`` (share of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3), ``abs_rel``
    (mean |p - t| / t), ``sq_rel`` (mean (p - t)^2 / t), ``rms`` (root of mean (p - t)^2), ``rms_log`` (root of mean
    d^2), ``log10`` (mean |log10 p - log10 t|) and ``silog`` (100 times the root of mean d^2 - (mean d)^2, as KITTI
    has it).
    """

    def __init__(self) -> None:
        self._sums: list[torch.Tensor] = []

    def add(self, predicted_NHW: torch.Tensor, true_NHW: torch.Tensor, valid_NHW: torch.Tensor) -> None:
        """Add images; what is not valid may hold anything."""
        p = torch.where(valid_NHW, predicted_NHW.double(), 1.0).flatten(1)
        t = torch.where(valid_NHW, true_NHW.double(), 1.0).flatten(1)
        error, d = p - t, p.log() - t.log()
        ratio = torch.maximum(p / t, t / p)
        # Pixels that are not valid add nothing to sums of errors; to counts of good pixels they would.
        valid = valid_NHW.flatten(1)
        good = [((ratio < 1.25**power) & valid).double() for power in (1, 2, 3)]
        terms = [valid.double(), *good, error.abs() / t, error**2 / t, error**2, d**2, d, d.abs() / np.log(10)]
        self._sums.append(torch.stack([term.sum(1) for term in terms], 1))

    @property
    def sums_NS(self) -> npt.NDArray[np.float64]:
        """Sums of every image."""
        if not self._sums:
            return np.empty((0, len(_SUMS)))
        sums: npt.NDArray[np.float64] = torch.cat(self._sums).cpu().numpy()
        return sums

    def per_image(self) -> dict[str, npt.NDArray[np.float64]]:
        """Every metric of every image; NaN for an image without a valid pixel."""
        return _metrics(self.sums_NS)

    def mean(self, averaging: Averaging) -> dict[str, float]:
        """Every metric: the mean over the images that have a valid pixel, or of all pixels together."""
        sums_NS = self.sums_NS
        sums_NS = sums_NS[sums_NS[:, 0] > 0]
        if not len(sums_NS):
            return dict.fromkeys(METRICS, float("nan"))
        values = _metrics(sums_NS if averaging == "image" else sums_NS.sum(0, keepdims=True))
        return {name: float(value.mean()) for name, value in values.items()}


def _metrics(sums_NS: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: dict[str, Any] = dict(zip(_SUMS, (sums_NS / sums_NS[:, :1]).T, strict=True))
    spread = np.maximum(0, mean["log_square"] - mean["log"] ** 2)
    return {
        **{name: mean[name] for name in ("d1", "d2", "d3", "abs_rel", "sq_rel")},
        "rms": np.sqrt(mean["square"]),
        "rms_log": np.sqrt(mean["log_square"]),
        "log10": mean["log10"],
        "silog": 100 * np.sqrt(spread),
    }
