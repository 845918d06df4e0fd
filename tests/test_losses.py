"""Losses of depth: by their definitions, in slow NumPy, and deaf to what stands where there is no depth."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import structural_similarity_index_measure

from train.losses import DEPTH_LOSSES, berhu_loss, densedepth_loss, l1_loss, ssim_map

LOSSES = {
    **DEPTH_LOSSES,
    "densedepth": functools.partial(densedepth_loss, value_range=100.0),
    "densedepth with slopes": functools.partial(densedepth_loss, value_range=100.0, gradient_weight=1.0),
}
all_losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def batch(count=2, height=17, width=23, holes=0.3, seed=0, dtype=torch.float32):
    """Prediction, target and validity in target space, 1 to 100."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(1, 100, (count, 1, height, width))
    pred = target + rng.normal(0, 8, target.shape)
    valid = rng.random(target.shape) >= holes
    return torch.tensor(pred, dtype=dtype), torch.tensor(target, dtype=dtype), torch.tensor(valid)


def slow_ssim(x_HW, y_HW, value_range, valid_HW):
    """Wang's definition at every pixel, with the window's weights over valid pixels of the picture."""
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    out = np.full(x_HW.shape, np.nan)
    for r, c in zip(*np.nonzero(valid_HW), strict=True):
        rows = slice(max(0, r - 5), r + 6)
        columns = slice(max(0, c - 5), c + 6)
        part = window[rows.start - r + 5 : rows.stop - r + 5, columns.start - c + 5 : columns.stop - c + 5]
        x, y = x_HW[rows, columns], y_HW[rows, columns]
        w = part[: x.shape[0], : x.shape[1]] * valid_HW[rows, columns]
        w = w / w.sum()
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
        out[r, c] = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return out


@pytest.mark.parametrize(("height", "width", "holes"), [(17, 23, 0.3), (17, 23, 0), (4, 30, 0.2), (2, 2, 0)])
def test_ssim_is_wangs_over_valid_pixels(height, width, holes):
    x, y, valid = batch(2, height, width, holes)
    seen = ssim_map(x, y, 100.0, valid)
    assert torch.isfinite(seen).all()
    for n in range(2):
        wanted = slow_ssim(*(t[n, 0].double().numpy() for t in (x, y)), 100.0, valid[n, 0].numpy())
        there = valid[n, 0].numpy()
        np.testing.assert_allclose(seen[n, 0].numpy()[there], wanted[there], atol=1e-4)


def test_inside_ssim_is_that_of_scipys_correlation_and_of_torchmetrics():
    x, y, _ = batch(1, 40, 50)
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / 4.5)
    blur = functools.partial(scipy.signal.correlate2d, in2=window / window.sum(), mode="valid")
    a, b = x[0, 0].double().numpy(), y[0, 0].double().numpy()
    ma, mb = blur(a), blur(b)
    covariance, variances = blur(a * b) - ma * mb, blur(a * a) - ma**2 + blur(b * b) - mb**2
    wanted = (2 * ma * mb + 1) * (2 * covariance + 9) / ((ma**2 + mb**2 + 1) * (variances + 9))
    seen = ssim_map(x, y, 100.0)[:, :, 5:-5, 5:-5]
    np.testing.assert_allclose(seen[0, 0].numpy(), wanted, atol=2e-5)
    _, theirs = structural_similarity_index_measure(x, y, data_range=100.0, return_full_image=True)
    torch.testing.assert_close(seen, theirs[:, :, 5:-5, 5:-5], rtol=0, atol=2e-5)


def test_densedepth_is_its_parts():
    pred, target, valid = batch()
    p, t, v = (tensor.numpy()[:, 0] for tensor in (pred.double(), target.double(), valid))
    ssim = np.stack([slow_ssim(p[n], t[n], 100.0, v[n]) for n in range(2)])
    wanted = ((1 - ssim[v]) / 2).mean() + 0.1 * np.abs(p - t)[v].mean()
    assert float(densedepth_loss(pred, target, valid, value_range=100.0)) == pytest.approx(wanted, rel=1e-5)
    error = p - t
    down, right = v[:, 1:] & v[:, :-1], v[:, :, 1:] & v[:, :, :-1]
    slopes = np.abs(np.diff(error, axis=1))[down].mean() + np.abs(np.diff(error, axis=2))[right].mean()
    seen = float(densedepth_loss(pred, target, valid, value_range=100.0, gradient_weight=0.5))
    assert seen == pytest.approx(wanted + 0.5 * slopes, rel=1e-5)


def test_l1_and_berhu_are_their_definitions():
    pred, target, valid = batch()
    error = (pred - target).abs()[valid].double().numpy()
    assert float(l1_loss(pred, target, valid)) == pytest.approx(error.mean(), rel=1e-6)
    c = 0.2 * error.max()
    wanted = np.where(error <= c, error, (error**2 + c**2) / (2 * c)).mean()
    assert float(berhu_loss(pred, target, valid)) == pytest.approx(wanted, rel=1e-6)
    assert 0.2 < (error > c).mean() < 0.9, "both branches count"


@all_losses
def test_a_perfect_prediction_costs_nothing(loss):
    _, target, valid = batch()
    pred = target.clone().requires_grad_()
    value = loss(pred, target, valid)
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert pred.grad.isfinite().all()


@settings(max_examples=15)
@given(
    junk=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30, -3.0]), min_size=2, max_size=2),
    seed=st.integers(0, 99),
)
@all_losses
def test_what_stands_where_there_is_no_depth_changes_nothing(loss, junk, seed):
    results = []
    for fill_pred, fill_target in ((7.0, 50.0), junk):
        pred, target, valid = batch(seed=seed)
        pred, target = pred.masked_fill(~valid, fill_pred).requires_grad_(), target.masked_fill(~valid, fill_target)
        value = loss(pred, target, valid)
        value.backward()
        assert not pred.grad[~valid].any()
        assert pred.grad[valid].any()
        results.append((value.detach(), pred.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@all_losses
def test_no_depth_at_all_is_no_loss_and_no_gradient(loss):
    pred, target, valid = batch(holes=2)
    assert not valid.any()
    pred.requires_grad_()
    value = loss(pred, torch.full_like(target, np.nan), valid)
    value.backward()
    assert float(value.detach()) == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


@all_losses
def test_under_autocast_the_loss_is_the_same_float32(loss):
    pred, target, valid = batch()
    pred = pred.bfloat16()
    plain = loss(pred.float(), target, valid)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(pred, target, valid)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    assert torch.equal(loss(pred, target, valid), plain)


@all_losses
def test_gradients_are_those_of_finite_differences(loss):
    pred, target, valid = batch(1, 5, 7, dtype=torch.float64)
    assert loss(pred, target, valid).dtype == torch.float64
    if loss is berhu_loss:
        # Its c is a constant for the gradients, but not for the differences: fix it by an error that does not move.
        pred[0, 0, 0, 0] += 1000
        valid[0, 0, 0, 0] = True
    first = pred[:, :, 1:].clone().requires_grad_()
    rest = valid.clone()
    assert torch.autograd.gradcheck(
        lambda rows: loss(torch.cat([pred[:, :, :1], rows], 2), target, rest), first, eps=1e-6, atol=1e-6
    )


def test_berhus_threshold_is_a_constant_for_its_gradients():
    error = torch.tensor([1.0, -4.0, 10.0])
    pred = error.clone().requires_grad_()
    berhu_loss(pred, torch.zeros(3), torch.ones(3, dtype=torch.bool)).backward()
    # c = 2: sign(e) below it, e / c above it, over three pixels.
    torch.testing.assert_close(pred.grad, torch.tensor([1.0, -2.0, 5.0]) / 3)
