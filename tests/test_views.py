"""Views: torchvision's crops, exact mirrors, and pictures, fields and depths that stay on one another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as tv

import gfield
from gfield import Region
from train.errors import TrainError
from train.random import generator
from train.views import LARGEST_FIELD, Views, depth_view, draw_views, field_view, flipped, rgb_view

SCENE = Region(8, 473, 8, 631)  # of NYU's pictures, inside their white frame


def view(top, left, height, width, flip=False):
    return Views(*(np.array([value]) for value in (top, left, height, width)), np.array([flip]))


@st.composite
def crops(draw, height, width, least=1):
    """A crop of a picture, mirrored or not."""
    top, left = draw(st.integers(0, height - least)), draw(st.integers(0, width - least))
    return view(
        top, left, draw(st.integers(least, height - top)), draw(st.integers(least, width - left)), draw(st.booleans())
    )


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


def random_rgb(count, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


# Parameters


@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    top=st.integers(0, 30),
    left=st.integers(0, 30),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted),
)
def test_every_crop_lies_inside_the_region(height, width, top, left, scale, ratio):
    region = Region(top, top + height, left, left + width)
    views = draw_views(generator(0, "views"), 50, region, scale=tuple(scale), ratio=tuple(ratio))
    assert len(views) == 50
    assert (views.height_N >= 1).all()
    assert (views.width_N >= 1).all()
    assert (views.top_N >= region.top).all()
    assert (views.left_N >= region.left).all()
    assert (views.top_N + views.height_N <= region.bottom).all()
    assert (views.left_N + views.width_N <= region.right).all()


def moments(top, left, height, width):
    """What a crop is told by: its size, shape and place as shares."""
    columns = [height * width, np.log(width / height), height, width, top, left]
    values = np.stack([np.asarray(column, float) for column in columns], 1)
    return values.mean(0), values.std(0)


def test_crops_are_distributed_as_torchvision_draws_them():
    height, width = SCENE.bottom - SCENE.top, SCENE.right - SCENE.left
    count = 4000
    picture = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array(
            [RandomResizedCrop.get_params(picture, [0.5, 1.0], [3 / 4, 4 / 3]) for _ in range(count)], float
        ).T
    ours = draw_views(np.random.default_rng(0), count, SCENE)
    mean, spread = moments(ours.top_N - SCENE.top, ours.left_N - SCENE.left, ours.height_N, ours.width_N)
    their_mean, their_spread = moments(*theirs)
    # Four standard errors of a difference of two means.
    np.testing.assert_array_less(np.abs(mean - their_mean), 4 * their_spread * np.sqrt(2 / count))
    np.testing.assert_allclose(spread, their_spread, rtol=0.06)
    assert abs(ours.flip_N.mean() - 0.5) < 0.04


@given(height=st.integers(20, 300), width=st.integers(20, 300), ratio=st.floats(0.3, 3))
def test_where_no_crop_fits_it_is_torchvisions_central_one(height, width, ratio):
    assume(abs(np.log(ratio * height / width)) > 0.2)  # all of the area in another shape does not fit
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], [ratio, ratio])
    ours = draw_views(np.random.default_rng(0), 3, Region(0, height, 0, width), scale=(1, 1), ratio=(ratio, ratio))
    for values_N, value in zip((ours.top_N, ours.left_N, ours.height_N, ours.width_N), theirs, strict=True):
        # A half may be rounded either way.
        assert (np.abs(values_N - value) <= 1).all()
    fill = (ours.height_N == height) | (ours.width_N == width)
    assert fill.all(), "as large as fits"


def test_a_part_of_the_views_is_the_views_of_the_part():
    views = draw_views(np.random.default_rng(0), 12, SCENE)
    rgb_NHWC = random_rgb(12, 480, 640)
    whole = rgb_view(rgb_NHWC, views, (48, 64))
    part = rgb_view(rgb_NHWC[1::3], views.take(slice(1, None, 3)), (48, 64))
    assert torch.equal(whole[1::3], part)


@pytest.mark.parametrize(
    ("region", "options", "said"),
    [
        (Region(5, 5, 0, 9), {}, "0 rows and 9 columns"),
        (SCENE, {"scale": (0.0, 1.0)}, "scale of crops is 0 to 1"),
        (SCENE, {"scale": (0.5, 1.5)}, "scale of crops is 0.5 to 1.5"),
        (SCENE, {"ratio": (2.0, 1.0)}, "ratio of crops is 2 to 1"),
        (SCENE, {"flip": 1.5}, "probability of flips is 1.5"),
    ],
)
def test_parameters_out_of_range_are_refused(region, options, said):
    with pytest.raises(TrainError, match=said):
        draw_views(np.random.default_rng(0), 1, region, **options)


# Pixels


@given(crop=crops(40, 50), size_HW=sizes)
def test_a_view_is_torchvisions_crop_and_resize(crop, size_HW):
    rgb_NHWC = random_rgb(1, 40, 50)
    place = [int(values[0]) for values in (crop.top_N, crop.left_N, crop.height_N, crop.width_N)]
    wanted = tv.resized_crop(rgb_NHWC.permute(0, 3, 1, 2) / 255, *place, list(size_HW), antialias=False)
    if crop.flip_N[0]:
        wanted = tv.hflip(wanted)
    seen = rgb_view(rgb_NHWC, crop, size_HW)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-4)
    assert seen.dtype == torch.float32
    assert 0 <= seen.min() <= seen.max() <= 1


@settings(max_examples=40)
@given(crop=crops(40, 50), size_HW=sizes)
def test_mirrored_views_are_exact_mirrors(crop, size_HW):
    rng = np.random.default_rng(0)
    field = torch.from_numpy(rng.uniform(0, 1000, (2, 40, 50)).astype(np.float16))
    depth = torch.from_numpy(rng.uniform(1, 9, (2, 40, 50)).astype(np.float32))
    both = Views(*(np.repeat(values, 2) for values in (crop.top_N, crop.left_N, crop.height_N, crop.width_N)),
                 np.array([False, True]))  # fmt: skip
    for make, images in (
        (rgb_view, random_rgb(1, 40, 50).repeat(2, 1, 1, 1)),
        (field_view, field),
        (depth_view, depth),
    ):
        images[1] = images[0]
        plain, mirrored = make(images, both, size_HW)
        assert torch.equal(mirrored, plain.flip(-1)), make.__name__


def test_flipped_mirrors_the_named_samples_alone():
    images = torch.rand(4, 3, 5, 6)
    seen = flipped(images, np.array([True, False, False, True]))
    assert torch.equal(seen[[1, 2]], images[[1, 2]])
    assert torch.equal(seen[[0, 3]], images[[0, 3]].flip(-1))


@settings(max_examples=40)
@given(size_HW=sizes, seed=st.integers(0, 99))
def test_what_lies_round_a_crop_does_not_shine_in(size_HW, seed):
    rgb_NHWC = torch.full((8, 48, 64, 3), 255, dtype=torch.uint8)
    rgb_NHWC[:, 1:47, 1:63] = 100
    field_NHW = torch.full((8, 48, 64), 1000, dtype=torch.float16)
    field_NHW[:, 1:47, 1:63] = 0
    views = draw_views(np.random.default_rng(seed), 8, Region(1, 47, 1, 63))
    torch.testing.assert_close(rgb_view(rgb_NHWC, views, size_HW), torch.full((8, 3, *size_HW), 100 / 255))
    torch.testing.assert_close(field_view(field_NHW, views, size_HW), torch.zeros(8, 3, *size_HW))


def test_a_field_is_a_share_of_the_stored_pictures_strongest_edge():
    field_NHW = torch.zeros(3, 48, 64, dtype=torch.float16)
    field_NHW[0, 40, 60], field_NHW[0, 10:20, 10:20] = 1000, 250
    field_NHW[1, 10:20, 10:20] = 250
    views = Views(*(np.full(3, value) for value in (12, 12, 6, 6)), np.zeros(3, bool))
    seen = field_view(field_NHW, views, (24, 32))
    assert seen.shape == (3, 3, 24, 32)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, :, 3, 5], torch.tensor([0.25, 1, 0])[:, None].expand(-1, 3))
    assert not seen[2].any()
    assert seen.stride(1) == 0, "three channels, one in memory"


@settings(max_examples=30)
@given(crop=crops(40, 50), size_HW=sizes, seed=st.integers(0, 99))
def test_norms_of_fields_are_plain_functions_of_the_stored_values(crop, size_HW, seed):
    rng = np.random.default_rng(seed)
    field = rng.uniform(0, LARGEST_FIELD, (1, 40, 50)) * (rng.random((1, 40, 50)) < 0.2)
    field_NHW = torch.from_numpy(field.astype(np.float16))
    wide = field_NHW.double().numpy()
    for norm, shares in (
        ("max", wide / max(wide.max(), 1e-9)),
        ("fixed", wide / 1140.4),
        ("log", np.log1p(wide) / np.log1p(1140.4)),
        ("binary", wide > 0),
    ):
        # A depth of five digits serves as the resampled share: exact where a view has the picture's own pixels.
        seen = field_view(field_NHW, crop, size_HW, norm=norm)
        same = rgb_view(torch.from_numpy(shares * 255.0)[..., None].expand(-1, -1, -1, 3), crop, size_HW)
        torch.testing.assert_close(seen, same, rtol=0, atol=2e-3)
        assert 0 <= seen.min() <= seen.max() <= 1
    grmc = field_view(field_NHW / 1140.4 * 255, crop, size_HW, norm="fixed", largest=255)
    torch.testing.assert_close(grmc, field_view(field_NHW, crop, size_HW, norm="fixed"), rtol=0, atol=2e-3)


# Depth


@given(crop=crops(60, 80), size_HW=sizes)
def test_a_depth_that_follows_the_picture_follows_its_view(crop, size_HW):
    """Colours that count columns and rows, and a depth that is their sum: no view may put one beside the other."""
    row, column = np.mgrid[:60, :80]
    rgb_NHWC = torch.from_numpy(np.stack([column, row, row * 0], -1).astype(np.uint8))[None]
    depth_NHW = torch.from_numpy((column + 100 * row).astype(np.float32))[None]
    rgb = rgb_view(rgb_NHWC, crop, size_HW)[0] * 255
    depth = depth_view(depth_NHW, crop, size_HW)[0, 0]
    seen_row, seen_column = torch.div(depth, 100, rounding_mode="floor"), depth % 100
    assert (seen_column - rgb[0]).abs().max() <= 0.5 + 1e-3
    assert (seen_row - rgb[1]).abs().max() <= 0.5 + 1e-3


@settings(max_examples=50)
@given(crop=crops(60, 80, least=2), size_HW=sizes)
def test_a_depth_of_another_size_follows_the_picture_too(crop, size_HW):
    row, column = np.mgrid[:60, :80]
    rgb_NHWC = torch.from_numpy(np.stack([column, row, row * 0], -1).astype(np.uint8))[None]
    depth_NHW = torch.from_numpy((column[::2, ::2] + 1000 * row[::2, ::2]).astype(np.float32))[None]
    rgb = rgb_view(rgb_NHWC, crop, size_HW)[0] * 255
    depth = depth_view(depth_NHW, crop, size_HW, picture_HW=(60, 80))[0, 0]
    # A cell of two pixels has its centre half a pixel behind the first; the nearest centre is a pixel away at most,
    # and half a pixel more where a crop ends at its outermost pixel centres.
    assert (depth % 1000 + 0.5 - rgb[0]).abs().max() <= 1.5 + 1e-3
    assert (torch.div(depth, 1000, rounding_mode="floor") + 0.5 - rgb[1]).abs().max() <= 1.5 + 1e-3


def test_half_of_a_whole_picture_is_the_stores_own_half(frames):
    depth_NHW = torch.from_numpy(np.stack([frame.depth_HW for frame in frames[:2]]))
    whole = Views(*(np.full(2, value) for value in (0, 0, 480, 640)), np.zeros(2, bool))
    assert torch.equal(depth_view(depth_NHW, whole, (240, 320))[:, 0], depth_NHW[:, ::2, ::2])
    assert torch.equal(depth_view(depth_NHW[:, ::2, ::2], whole, (240, 320), picture_HW=(480, 640))[:, 0],
                       depth_NHW[:, ::2, ::2])  # fmt: skip
    assert torch.equal(depth_view(depth_NHW, whole, (480, 640))[:, 0], depth_NHW)


@given(crop=crops(40, 50), size_HW=sizes)
def test_no_depth_is_invented_and_none_stays_none(crop, size_HW):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (1, 40, 50)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.3] = np.nan
    seen = depth_view(torch.from_numpy(depth), crop, size_HW)
    assert seen.shape == (1, 1, *size_HW)
    assert seen.dtype == torch.float32
    assert np.isin(np.nan_to_num(seen.numpy()), np.nan_to_num(depth)).all()


# The field of a view, and the view of a field


def near(edges_HW, others_HW):
    """Share of edge pixels within two pixels of one of the others."""
    distance_HW = cv2.distanceTransform((~others_HW).astype(np.uint8), cv2.DIST_L2, 5)
    return (distance_HW[edges_HW] <= 2).mean()


def agreements(pictures, moved):
    """A view's own edges found in its field's view, and that one's strong edges found among its own; means."""
    fields = np.stack([gfield.gradient_field(rgb_HWC, valid_region=SCENE) for rgb_HWC in pictures])
    views = draw_views(np.random.default_rng(0), len(pictures), SCENE)
    rgb_N3HW = rgb_view(torch.from_numpy(np.stack(pictures)), views, (480, 640))
    field_NHW = field_view(torch.from_numpy(fields), views, (480, 640))[:, 0].numpy()
    bytes_NHWC = (rgb_N3HW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    found = []
    for rgb_HWC, field_HW in zip(bytes_NHWC, field_NHW, strict=True):
        own_HW, seen_HW = gfield.gradient_field(rgb_HWC) > 0, moved(field_HW)
        found.append((near(own_HW, seen_HW > 0), near(seen_HW > 0.25, own_HW)))
    return np.array(found).mean(0)


MOVES = {
    "mirrored": lambda field_HW: field_HW[:, ::-1],
    "8 pixels to the right": lambda field_HW: np.roll(field_HW, 8, 1),
    "8 pixels down": lambda field_HW: np.roll(field_HW, 8, 0),
}


def check_agreement(pictures):
    own, strong = agreements(pictures, lambda field_HW: field_HW)
    assert own >= 0.97
    assert strong >= 0.85
    for name, move in MOVES.items():
        own, strong = agreements(pictures, move)
        assert own < 0.85, name
        assert strong < 0.75, name


def test_the_field_of_a_view_has_the_edges_of_the_view_of_a_field(frames):
    check_agreement([frame.rgb_HWC for frame in frames])


def test_so_it_has_on_real_pictures(real_nyu):
    source = gfield.open_nyuv2(real_nyu)
    check_agreement([frame.arrays["rgb"].copy() for frame in source.read(0, 8, frozenset({"rgb"}))])
