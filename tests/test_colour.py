"""Changes of colour: each is torchvision's, one sample at a time, and all of them stay in range."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from train.colour import Colours, coloured, draw_colours
from train.errors import TrainError
from train.random import generator

PLAIN = draw_colours(np.random.default_rng(0), 4)


def pictures(count=4, seed=0):
    """Random colours, with grey, black and white among them, and two channels that are equal."""
    rgb_N3HW = np.random.default_rng(seed).random((count, 3, 9, 11), np.float32)
    rgb_N3HW[:, :, 0] = 0.4
    rgb_N3HW[:, :, 1, :5], rgb_N3HW[:, :, 1, 5:] = 0, 1
    rgb_N3HW[:, 1, 2] = rgb_N3HW[:, 0, 2]
    return torch.from_numpy(rgb_N3HW)


def changed(**values):
    return dataclasses.replace(PLAIN, **values)


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(coloured(pictures(), PLAIN), pictures())


@pytest.mark.parametrize(
    ("name", "theirs", "values"),
    [
        ("brightness_N", tv.adjust_brightness, [0.0, 0.6, 1.0, 1.7]),
        ("contrast_N", tv.adjust_contrast, [0.0, 0.6, 1.0, 1.7]),
        ("saturation_N", tv.adjust_saturation, [0.0, 0.6, 1.0, 1.7]),
        ("hue_N", tv.adjust_hue, [-0.25, -0.07, 0.0, 0.19]),
    ],
)
def test_each_change_is_torchvisions_picture_by_picture(name, theirs, values):
    seen = coloured(pictures(), changed(**{name: np.array(values, np.float32)}))
    wanted = torch.stack([theirs(rgb_3HW, value) for rgb_3HW, value in zip(pictures(), values, strict=True)])
    torch.testing.assert_close(seen, wanted, rtol=0, atol=2e-6)


def test_grey_and_swap_touch_the_named_samples():
    grey = coloured(pictures(), changed(grey_N=np.array([True, False, False, True])))
    torch.testing.assert_close(grey[0], tv.rgb_to_grayscale(pictures()[0], 3), rtol=0, atol=2e-6)
    assert torch.equal(grey[1:3], pictures()[1:3])
    order = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 1, 2]])
    swapped = coloured(pictures(), changed(swap_N3=order))
    for seen, picture, source in zip(swapped, pictures(), order, strict=True):
        assert torch.equal(seen, picture[source])


def test_the_order_is_brightness_contrast_saturation_hue_grey_swap():
    colours = draw_colours(generator(3, "colours"), 4, jitter=0.4, grey=0.5, swap=1)
    wanted = []
    for n, picture in enumerate(pictures()):
        rgb = tv.adjust_brightness(picture, float(colours.brightness_N[n]))
        rgb = tv.adjust_contrast(rgb, float(colours.contrast_N[n]))
        rgb = tv.adjust_saturation(rgb, float(colours.saturation_N[n]))
        rgb = tv.adjust_hue(rgb, float(colours.hue_N[n]))
        rgb = tv.rgb_to_grayscale(rgb, 3) if colours.grey_N[n] else rgb
        wanted.append(rgb[colours.swap_N3[n]])
    assert colours.grey_N.any()
    assert not colours.grey_N.all()
    torch.testing.assert_close(coloured(pictures(), colours), torch.stack(wanted), rtol=0, atol=1e-5)


def test_blur_is_a_gaussian_of_a_share_of_the_shorter_side():
    rgb_N3HW = torch.from_numpy(np.random.default_rng(0).random((3, 3, 448, 460), np.float32))
    seen = coloured(rgb_N3HW, dataclasses.replace(draw_colours(np.random.default_rng(0), 3),
                                                  blur_N=np.array([0, 2, 0.5], np.float32) / 224))  # fmt: skip
    assert torch.equal(seen[0], rgb_N3HW[0])
    for place, sigma in ((1, 4.0), (2, 1.0)):
        rgb_3HW = rgb_N3HW[place].numpy()
        wanted = scipy.ndimage.gaussian_filter(rgb_3HW, (0, sigma, sigma), mode="nearest", truncate=5)
        # Cut off at three deviations of the widest Gaussian that there is.
        np.testing.assert_allclose(seen[place], wanted, atol=2e-3)
    with torch.autocast("cpu", torch.bfloat16):
        blurred = coloured(rgb_N3HW[1:2], changed(blur_N=np.array([2 / 224], np.float32)))
    torch.testing.assert_close(blurred[0], seen[1])


def test_shares_of_jitter_and_blur_are_drawn_behind_all_others():
    plain = draw_colours(np.random.default_rng(0), 6000, jitter=0.4, grey=0.2)
    some = draw_colours(np.random.default_rng(0), 6000, jitter=0.4, grey=0.2, jitter_share=0.8, blur=0.5)
    jittered_N = some.brightness_N != 1
    assert abs(jittered_N.mean() - 0.8) < 0.02
    for name in ("brightness_N", "contrast_N", "saturation_N", "hue_N"):
        before, after = getattr(plain, name), getattr(some, name)
        assert np.array_equal(after[jittered_N], before[jittered_N])
        assert (after[~jittered_N] == (0 if name == "hue_N" else 1)).all()
    assert np.array_equal(plain.grey_N, some.grey_N)
    assert not plain.blur_N.any()
    assert abs((some.blur_N > 0).mean() - 0.5) < 0.02
    drawn = some.blur_N[some.blur_N > 0] * 224
    assert 0.1 <= drawn.min() < 0.11
    assert 1.99 < drawn.max() <= 2


@given(
    seed=st.integers(0, 999), jitter=st.floats(0, 1), grey=st.floats(0, 1), swap=st.floats(0, 1), blur=st.floats(0, 1)
)
def test_results_stay_in_range_and_parts_are_parts(seed, jitter, grey, swap, blur):
    colours = draw_colours(np.random.default_rng(seed), 6, jitter=jitter, grey=grey, swap=swap, blur=blur)
    assert len(colours) == 6
    whole = coloured(pictures(6, seed), colours)
    assert whole.dtype == torch.float32
    assert 0 <= whole.min() <= whole.max() <= 1
    part = coloured(pictures(6, seed)[1::2], colours.take(slice(1, None, 2)))
    torch.testing.assert_close(whole[1::2], part, rtol=0, atol=1e-6)


def test_half_precision_and_autocast_are_left_at_the_door():
    colours = draw_colours(np.random.default_rng(0), 4, jitter=0.4, grey=0.3, swap=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        seen = coloured(pictures(), colours)
    assert torch.equal(seen, coloured(pictures(), colours))
    assert coloured(pictures().half(), colours).dtype == torch.float32


def test_draws_fill_their_ranges():
    colours = draw_colours(np.random.default_rng(0), 6000, jitter=0.4, grey=0.2, swap=0.5)
    for factors_N in (colours.brightness_N, colours.contrast_N, colours.saturation_N):
        assert 0.6 <= factors_N.min() < 0.61
        assert 1.39 < factors_N.max() <= 1.4
        assert abs(factors_N.mean() - 1) < 0.015
    assert -0.1 <= colours.hue_N.min() < -0.098
    assert 0.098 < colours.hue_N.max() <= 0.1
    assert abs(colours.grey_N.mean() - 0.2) < 0.02
    orders, counts = np.unique(colours.swap_N3, axis=0, return_counts=True)
    assert len(orders) == 6
    # The plain order is that of half of the samples, and of a sixth of the others.
    np.testing.assert_allclose(counts / 6000, [0.5 + 0.5 / 6, *[0.5 / 6] * 5], atol=0.02)


def test_other_parameters_leave_the_random_numbers_where_they_were():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    draw_colours(one, 7)
    draw_colours(other, 7, jitter=0.4, jitter_share=0.5, grey=0.2, swap=0.5, blur=0.5)
    assert one.random() == other.random()


@pytest.mark.parametrize(("name", "value"), [("jitter", 1.5), ("grey", -0.1), ("swap", 2.0), ("blur", -1.0)])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(TrainError, match=f"{name} of colours is {value:g}, wanted 0 to 1"):
        draw_colours(np.random.default_rng(0), 1, **{name: value})


def test_colours_have_one_entry_a_sample():
    assert isinstance(PLAIN, Colours)
    assert PLAIN.swap_N3.shape == (4, 3)
