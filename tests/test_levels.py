"""Resampling between grids, against slow definitions."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gfield.frame import Region
from gfield.levels import NearestResize, area_resize, nearest_index

sizes = st.integers(1, 60)


def slow_nearest_index(n_from, n_to):
    """The lowest index among the source cells whose centre is nearest, in exact integers (scaled by 2 * n_to)."""
    chosen = []
    for i in range(n_to):
        centre = (2 * i + 1) * n_from
        distances = [abs(centre - (2 * j + 1) * n_to) for j in range(n_from)]
        chosen.append(distances.index(min(distances)))
    return chosen


@given(sizes, sizes)
def test_nearest_index_is_the_nearest_centre(n_from, n_to):
    assert nearest_index(n_from, n_to).tolist() == slow_nearest_index(n_from, n_to)


@given(sizes, sizes, sizes, sizes)
def test_nearest_resize_picks_values_and_invents_none(from_h, from_w, to_h, to_w):
    values = np.arange(from_h * from_w, dtype=np.float32).reshape(from_h, from_w)
    out = NearestResize((from_h, from_w), (to_h, to_w))(values, np.empty((to_h, to_w), np.float32))
    rows, columns = slow_nearest_index(from_h, to_h), slow_nearest_index(from_w, to_w)
    np.testing.assert_array_equal(out, values[rows][:, columns])


def test_halving_depth_takes_the_even_pixels():
    depth = np.random.default_rng(0).random((480, 640), np.float32)
    out = NearestResize((480, 640), (240, 320))(depth, np.empty((240, 320), np.float32))
    np.testing.assert_array_equal(out, depth[::2, ::2])
    np.testing.assert_array_equal(out, cv2.resize(depth, (320, 240), interpolation=cv2.INTER_NEAREST))


def test_the_same_grid_is_not_copied():
    depth = np.ones((4, 6), np.float32)
    assert NearestResize((4, 6), (4, 6))(depth, np.empty((4, 6), np.float32)) is depth


def test_halving_a_picture_averages_two_by_two_pixels():
    rgb = np.random.default_rng(1).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    half = area_resize(rgb, np.empty((4, 5, 3), np.uint8))
    mean = rgb.reshape(4, 2, 5, 2, 3).astype(float).mean(axis=(1, 3))
    np.testing.assert_array_equal(half, np.floor(mean + 0.5))


@given(st.tuples(sizes, sizes, sizes, sizes), st.integers(1, 5))
def test_a_scaled_region_shrinks_inwards(edges, factor):
    top, left = edges[0], edges[1]
    region = Region(top, top + edges[2], left, left + edges[3])
    large, small = (600, 600), (600 // factor, 600 // factor)
    scaled = region.scaled(large, small)
    assert scaled.top * large[1] >= region.top * small[1] > (scaled.top - 1) * large[1]
    assert scaled.bottom * large[1] <= region.bottom * small[1] < (scaled.bottom + 1) * large[1]
    assert scaled.left * large[0] >= region.left * small[0]
    assert scaled.right * large[0] <= region.right * small[0]


def test_nyus_valid_region_at_half_size():
    assert Region(8, 473, 8, 631).scaled((640, 480), (320, 240)) == Region(4, 236, 4, 315)
