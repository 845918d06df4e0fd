"""Whether depth and picture show one scene: what is an edge of depth, what meets, and what turned depth looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield.field import gradient_field
from gfield.frame import Region
from gfield.report.agreement import LEAST_EDGES, Agreement, agreement, edge_pair

H, W = 240, 320
FLIPS = {"mirrored": np.s_[:, ::-1], "upside_down": np.s_[::-1], "turned": np.s_[::-1, ::-1]}


def scene(seed, *, holes=0.0):
    """A field and depth of boxes, each of one colour and one depth, in front of a slanted wall."""
    rng = np.random.default_rng(seed)
    rgb_HWC = np.full((H, W, 3), 128, np.uint8)
    depth_HW = wall(slant=(0.001, 0.0005))
    for distance in sorted(rng.uniform(1, 3.5, 12), reverse=True):
        y, x = int(rng.integers(5, H - 60)), int(rng.integers(5, W - 80))
        box = np.s_[y : y + int(rng.integers(20, 55)), x : x + int(rng.integers(20, 75))]
        rgb_HWC[box], depth_HW[box] = rng.choice([0, 60, 200, 255], 3), distance
    depth_HW[rng.random((H, W)) < holes] = np.nan
    return gradient_field(rgb_HWC), depth_HW


def wall(slant):
    """A plane in perspective: its inverse depth is linear in pixels."""
    y_H, x_W = np.arange(H, dtype=np.float32), np.arange(W, dtype=np.float32)
    return (1 / (0.2 + slant[1] * y_H[:, None] + slant[0] * x_W[None])).astype(np.float32)


@given(st.floats(0, 0.002), st.floats(0, 0.002))
def test_a_plane_has_no_edge_however_slanted(slant_x, slant_y):
    pair = edge_pair(np.zeros((H, W), np.float16), wall((slant_x, slant_y)))
    assert not pair.depth_HW.any()
    assert pair.known_HW.all()


def test_where_one_thing_ends_before_another_there_is_an_edge_on_both_its_sides():
    depth_HW = np.full((H, W), 3, np.float32)
    depth_HW[:, 100:] = 2
    pair = edge_pair(np.zeros((H, W), np.float16), depth_HW)
    assert np.flatnonzero(pair.depth_HW.any(axis=0)).tolist() == [99, 100]
    assert pair.depth_HW[:, 99:101].all()


@pytest.mark.parametrize("hole", [np.nan, 0, np.inf, -1])
def test_a_hole_has_no_edge_and_nothing_is_known_beside_it(hole):
    depth_HW = np.full((H, W), 3, np.float32)
    depth_HW[50:90, 60:200] = hole
    pair = edge_pair(np.zeros((H, W), np.float16), depth_HW)
    assert not pair.depth_HW.any()
    assert not pair.known_HW[50:90, 60:200].any()
    assert not pair.known_HW[60, 59]
    assert pair.known_HW[60, 57]


def test_steps_between_cells_of_a_coarse_sensor_are_no_edges():
    """A slanted wall that a laser of 24 rows has measured, as a store enlarges it."""
    cells_HW = wall((0.0, 0.002))[5::10]
    depth_HW = np.repeat(cells_HW, 10, axis=0)
    nothing_HW = np.zeros((H, W), np.float16)
    assert edge_pair(nothing_HW, depth_HW).depth_HW.any()
    pair = edge_pair(nothing_HW, depth_HW, native_HW=(24, 400))
    assert pair.depth_HW.shape == (24, W)
    assert not pair.depth_HW.any()


def test_edges_of_the_picture_stay_on_a_coarser_grid():
    field_HW = np.zeros((H, W), np.float16)
    field_HW[[0, 17, 239], [0, 300, 319]] = 5
    pair = edge_pair(field_HW, wall((0, 0)), native_HW=(24, 32))
    assert sorted(zip(*np.nonzero(pair.picture_HW), strict=True)) == [(0, 0), (1, 30), (23, 31)]


def test_what_lies_outside_the_region_does_not_count():
    field_HW, depth_HW = scene(0)
    region = Region(4, 236, 4, 315)
    inside = np.s_[4:236, 4:315]
    whole, cut = edge_pair(field_HW, depth_HW, region), edge_pair(field_HW[inside], depth_HW[inside])
    assert all(np.array_equal(one, other) for one, other in zip(whole, cut, strict=True))


@pytest.mark.parametrize("holes", [0.0, 0.01])
@pytest.mark.parametrize("seed", range(5))
def test_right_pairs_fit_and_turned_ones_are_told_by_how_they_were_turned(seed, holes):
    field_HW, depth_HW = scene(seed, holes=holes)
    right = agreement(edge_pair(field_HW, depth_HW))
    assert right.upright > 0.55
    assert right.verdict == "good"
    for name, flip in FLIPS.items():
        turned = agreement(edge_pair(field_HW, np.ascontiguousarray(depth_HW[flip])))
        assert turned.verdict == name
        assert turned.flips[name] == pytest.approx(right.upright, abs=0.02)
        assert turned.upright == pytest.approx(right.flips[name], abs=0.02)
        assert turned.rank < right.rank - 0.5


def test_mispaired_frames_rank_below_right_ones():
    scenes = [scene(seed) for seed in range(8)]
    ranks = {(a, b): agreement(edge_pair(scenes[a][0], scenes[b][1])).rank for a in range(8) for b in range(8)}
    assert max(rank for (a, b), rank in ranks.items() if a != b) < min(ranks[a, a] for a in range(8))


def test_nothing_is_told_of_few_edges_or_a_field_that_is_everywhere():
    field_HW, depth_HW = scene(1)
    assert agreement(edge_pair(np.ones((H, W), np.float16), depth_HW)) is None
    assert agreement(edge_pair(field_HW, wall((0, 0)))) is None
    assert agreement(edge_pair(field_HW, np.full((H, W), np.nan, np.float32))) is None
    assert agreement(edge_pair(np.zeros((H, W), np.float16), depth_HW)).upright == 0
    step_HW = np.full((LEAST_EDGES, 70), 2, np.float32)
    step_HW[: LEAST_EDGES // 2 - 1, 30:] = 1
    assert agreement(edge_pair(np.zeros(step_HW.shape, np.float16), step_HW)) is not None


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (2, 2), (3, 1)])
def test_the_smallest_pictures_have_no_edge_and_no_error(shape):
    assert agreement(edge_pair(np.zeros(shape, np.float16), np.ones(shape, np.float32))) is None


def test_verdicts_want_a_clear_difference():
    assert Agreement(0.4, 0.45, 0.0, 0.0, 999).verdict == "good"
    assert Agreement(0.4, 0.55, 0.0, 0.0, 999).verdict == "mirrored"
    assert Agreement(0.1, 0.22, 0.0, 0.0, 999).verdict == "poor"
    assert Agreement(0.1, 0.0, 0.0, 0.4, 999).verdict == "turned"
    assert Agreement(0.5, 0.3, -0.2, 0.1, 999).rank == pytest.approx(0.35)
    assert Agreement(0.5, -0.3, -0.2, -0.1, 999).rank == pytest.approx(0.5)
