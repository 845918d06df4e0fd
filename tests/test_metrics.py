"""Errors of depth: by their definitions in slow NumPy, and torchmetrics' where it has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.regression import mean_absolute_percentage_error, mean_squared_error

from train.metrics import METRICS, DepthErrors


def slow_metrics(p, t):
    """Every metric of two lists of metres, pixel by pixel."""
    pairs = list(zip(p.tolist(), t.tolist(), strict=True))
    n = len(pairs)
    logs = [math.log(a / b) for a, b in pairs]
    return {
        **{f"d{k}": sum(max(a / b, b / a) < 1.25**k for a, b in pairs) / n for k in (1, 2, 3)},
        "abs_rel": sum(abs(a - b) / b for a, b in pairs) / n,
        "sq_rel": sum((a - b) ** 2 / b for a, b in pairs) / n,
        "rms": math.sqrt(sum((a - b) ** 2 for a, b in pairs) / n),
        "rms_log": math.sqrt(sum(d**2 for d in logs) / n),
        "log10": sum(abs(math.log10(a) - math.log10(b)) for a, b in pairs) / n,
        "silog": 100 * math.sqrt(max(0, sum(d**2 for d in logs) / n - (sum(logs) / n) ** 2)),
    }


def batch(count=3, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.5, 10, (count, 6, 7))
    predicted = true * np.exp(rng.normal(0.1, 0.35, true.shape))
    valid = rng.random(true.shape) < 0.7
    valid[0] |= True  # images of different weight, so that the two averages differ
    return predicted.astype(np.float32), true.astype(np.float32), valid


def errors_of(predicted, true, valid, sizes=(1, 2)):
    errors = DepthErrors()
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        errors.add(*(torch.from_numpy(values[part]) for values in (predicted, true, valid)))
        start += size
    return errors


@given(seed=st.integers(0, 999))
def test_metrics_are_their_definitions(seed):
    predicted, true, valid = batch(seed=seed)
    predicted, true = predicted.copy(), true.copy()
    predicted[~valid], true[~valid] = np.nan, -1
    errors = errors_of(predicted, true, valid)
    each = [slow_metrics(predicted[n][valid[n]], true[n][valid[n]]) for n in range(3)]
    per_image = errors.per_image()
    assert tuple(per_image) == METRICS
    pooled = slow_metrics(predicted[valid], true[valid])
    for name in METRICS:
        values = [one[name] for one in each]
        np.testing.assert_allclose(per_image[name], values, rtol=1e-9)
        assert errors.mean("image")[name] == pytest.approx(np.mean(values), rel=1e-9)
        assert errors.mean("pixel")[name] == pytest.approx(pooled[name], rel=1e-9)
    assert errors.pixels().tolist() == valid.sum((1, 2)).tolist()
    assert errors.mean("image")["rms"] != errors.mean("pixel")["rms"]


def test_torchmetrics_says_the_same():
    predicted, true, valid = batch()
    p, t = torch.from_numpy(predicted[valid]), torch.from_numpy(true[valid])
    seen = errors_of(predicted, true, valid).mean("pixel")
    assert seen["rms"] == pytest.approx(float(mean_squared_error(p, t, squared=False)), rel=1e-5)
    assert seen["abs_rel"] == pytest.approx(float(mean_absolute_percentage_error(p, t)), rel=1e-5)
    assert seen["rms_log"] == pytest.approx(float(mean_squared_error(p.log(), t.log(), squared=False)), rel=1e-5)


def test_by_hand():
    """Predictions twice and half as deep, and exact."""
    seen = errors_of(np.float32([[[2.0, 2.0, 3.0]]]), np.float32([[[1.0, 4.0, 3.0]]]), np.ones((1, 1, 3), bool), (1,))
    ln2 = math.log(2)
    wanted = {
        **dict.fromkeys(("d1", "d2", "d3"), 1 / 3),
        "abs_rel": (1 + 0.5) / 3,
        "sq_rel": (1 + 1) / 3,
        "rms": math.sqrt(5 / 3),
        "rms_log": math.sqrt(2 / 3) * ln2,
        "log10": 2 / 3 * math.log10(2),
        "silog": 100 * math.sqrt(2 / 3) * ln2,
    }
    assert seen.mean("pixel") == pytest.approx(wanted)


def test_a_scale_that_is_wrong_everywhere_shows_in_all_but_silog():
    _, true, valid = batch()
    seen = errors_of(1.2 * true, true, valid).mean("pixel")
    assert seen["silog"] == pytest.approx(0, abs=1e-3)
    assert seen["abs_rel"] == pytest.approx(0.2, rel=1e-5)
    assert seen["d1"] == 1


def test_batches_do_not_show():
    one, other = errors_of(*batch(), sizes=(3,)), errors_of(*batch(), sizes=(1, 1, 1))
    assert one.mean("image") == other.mean("image")
    assert one.mean("pixel") == other.mean("pixel")


def test_an_image_without_a_valid_pixel_counts_nowhere():
    predicted, true, valid = batch()
    valid[1] = False
    errors = errors_of(predicted, true, valid)
    assert all(np.isnan(values[1]) for values in errors.per_image().values())
    keep = [0, 2]
    without = errors_of(predicted[keep], true[keep], valid[keep], (2,))
    assert errors.mean("image") == without.mean("image")
    assert errors.mean("pixel") == without.mean("pixel")


def test_a_prediction_that_is_no_number_is_not_hidden():
    predicted, true, valid = batch()
    predicted[0, 2, 2] = np.nan
    errors = errors_of(predicted, true, valid)
    for averaging in ("image", "pixel"):
        seen = errors.mean(averaging)
        assert math.isnan(seen["rms"])
        assert 0 < seen["d1"] < 1
    assert np.isfinite(errors.per_image()["rms"][1:]).all()


@pytest.mark.parametrize("averaging", ["image", "pixel"])
def test_nothing_at_all_is_nan(averaging):
    assert all(math.isnan(value) for value in DepthErrors().mean(averaging).values())
    predicted, true, valid = batch()
    assert all(math.isnan(v) for v in errors_of(predicted, true, valid & False).mean(averaging).values())
