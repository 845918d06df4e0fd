"""`gfield.projection`: lenses and projections against slow definitions, and NYU's cameras against what is published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.nyu_cameras import (
    DEPTH_CAMERA,
    INSIDE_WHITE_FRAME,
    METRES_OF_RAW,
    NO_RETURN,
    RGB_CAMERA,
    ROTATION,
    TRANSLATION,
    depth_projection,
    undistortion,
)
from gfield.projection import Camera, DepthProjection, Undistortion, distorted, pinhole_rays, pixel_rays

SIZE_WH = (12, 9)
SMALL = Camera(11.0, 10.5, 5.7, 4.1, k1=-0.1, k2=0.05, p1=0.002, p2=-0.003, k3=0.01)
# Codes 0 to 6: none, then depths that rise, then none.
DEPTHS = np.array([np.nan, 0.5, 1.0, 1.5, 4.0, 9.0, np.nan])
NONE = 6


def turned(degrees_y: float, degrees_z: float) -> np.ndarray:
    y, z = math.radians(degrees_y), math.radians(degrees_z)
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    return about_y @ about_z


def slow_lens(camera: Camera, x: float, y: float) -> tuple[float, float]:
    """Brown's model, written out."""
    r = math.hypot(x, y)
    radial = 1 + camera.k1 * r**2 + camera.k2 * r**4 + camera.k3 * r**6
    return (
        x * radial + 2 * camera.p1 * x * y + camera.p2 * (r**2 + 2 * x**2),
        y * radial + camera.p1 * (r**2 + 2 * y**2) + 2 * camera.p2 * x * y,
    )


def slow_projection(depth: Camera, other: Camera, rotation, translation, depths, none, codes_HW):
    """Point by point, with the nearest kept by comparing depths."""
    height, width = codes_HW.shape
    rays_x, rays_y = pixel_rays(depth, (width, height))
    projected = np.full((height, width), none, np.uint16)
    nearest = np.full((height, width), np.inf)
    for row in range(height):
        for column in range(width):
            z = float(depths[codes_HW[row, column]])
            if math.isnan(z):
                continue
            x, y, ahead = rotation @ (z * np.array([rays_x[row, column], rays_y[row, column], 1])) + translation
            if ahead <= 0:
                continue
            u = math.floor(other.fx * x / ahead + other.cx + 0.5)
            v = math.floor(other.fy * y / ahead + other.cy + 0.5)
            if 0 <= u < width and 0 <= v < height and z < nearest[v, u]:
                nearest[v, u], projected[v, u] = z, codes_HW[row, column]
    return projected


def codes(seed: int, values: int = len(DEPTHS)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, values, SIZE_WH[::-1], dtype=np.uint16)


@given(
    seed=st.integers(0, 1000),
    degrees=st.tuples(st.floats(-40, 40), st.floats(-180, 180)),
    shift=st.tuples(*[st.floats(-2, 2)] * 3),
    focal=st.floats(2, 30),
)
@settings(max_examples=60)
def test_projection_is_its_slow_definition(seed, degrees, shift, focal) -> None:
    other = Camera(focal, 1.1 * focal, 6.2, 3.9)
    rotation, translation = turned(*degrees), np.array(shift)
    project = DepthProjection(SMALL, other, rotation, translation, SIZE_WH, DEPTHS)
    seen = project(codes(seed))
    wanted = slow_projection(SMALL, other, rotation, translation, DEPTHS, NONE, codes(seed))
    np.testing.assert_array_equal(seen, wanted)
    assert seen.dtype == np.uint16


def test_a_camera_sees_its_own_depth_where_it_measured_it() -> None:
    plain = SMALL._replace(k1=0, k2=0, p1=0, p2=0, k3=0)
    project = DepthProjection(plain, plain, np.eye(3), np.zeros(3), SIZE_WH, DEPTHS)
    for seed in range(5):
        measured = codes(seed)
        wanted = np.where(np.isnan(DEPTHS[measured]), NONE, measured)
        np.testing.assert_array_equal(project(measured), wanted)


def test_whole_pixels_to_the_side() -> None:
    """A camera one metre to the right, with a focal length of 8 pixels, sees what is 4 m away 2 pixels to the left."""
    plain = Camera(8.0, 8.0, 5.0, 4.0)
    project = DepthProjection(plain, plain, np.eye(3), np.array([-1.0, 0, 0]), SIZE_WH, DEPTHS)
    far = np.full(SIZE_WH[::-1], 4, np.uint16)
    seen = project(far)
    assert (seen[:, :10] == 4).all()
    assert (seen[:, 10:] == NONE).all()
    far[3, 10] = 2  # 1 m away: 8 pixels to the left, before what is far
    seen = project(far)
    assert seen[3, 2] == 2
    assert seen[3, 8] == NONE  # nobody measured what it hid
    assert (seen != 4).sum() == 9 * 2 + 2


def test_the_nearest_surface_stays_whatever_the_order() -> None:
    wide, tele = Camera(8.0, 8.0, 5.0, 4.0), Camera(1.0, 1.0, 5.0, 4.0)
    project = DepthProjection(wide, tele, np.eye(3), np.zeros(3), SIZE_WH, DEPTHS)
    for seed in range(5):
        measured = codes(seed)
        depths_HW = DEPTHS[project(measured)]
        assert depths_HW[4, 5] == np.nanmin(DEPTHS[measured[1:8, 2:9]])


def test_what_lies_behind_the_other_camera_is_not_seen() -> None:
    plain = Camera(8.0, 8.0, 5.0, 4.0)
    project = DepthProjection(plain, plain, np.eye(3), np.array([0, 0, -2.0]), SIZE_WH, DEPTHS)
    assert (project(np.full(SIZE_WH[::-1], 3, np.uint16)) == NONE).all()
    assert (project(np.full(SIZE_WH[::-1], 4, np.uint16)) == 4).any()


def test_depths_must_not_fall_with_the_code() -> None:
    for depths in ([2.0, 1.0, np.nan], [0.0, np.nan], [-1.0, np.nan], [1.0, 2.0]):
        with pytest.raises(ValueError, match="depths that never fall with the code, above 0 m"):
            DepthProjection(SMALL, SMALL, np.eye(3), np.zeros(3), SIZE_WH, np.array(depths))


@pytest.mark.parametrize(
    ("camera", "size_WH"), [(SMALL, SIZE_WH), (RGB_CAMERA, (640, 480)), (DEPTH_CAMERA, (640, 480))]
)
def test_rays_through_the_lens_fall_on_their_pixels(camera: Camera, size_WH: tuple[int, int]) -> None:
    x, y = pixel_rays(camera, size_WH)
    seen_x, seen_y = distorted(camera, x, y)
    wanted_x, wanted_y = pinhole_rays(camera, size_WH)
    np.testing.assert_allclose(seen_x, wanted_x, atol=1e-12)
    np.testing.assert_allclose(seen_y, wanted_y, atol=1e-12)
    for row, column in ((0, 0), (3, 7), (-1, -1)):
        slow = slow_lens(camera, float(x[row, column]), float(y[row, column]))
        assert slow == pytest.approx((seen_x[row, column], seen_y[row, column]), abs=1e-12)


def test_a_lens_that_folds_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="a lens that can be inverted wanted"):
        pixel_rays(SMALL._replace(k1=-2.0), SIZE_WH)


def test_undistortion_takes_each_pixel_from_where_the_lens_put_it() -> None:
    rng = np.random.default_rng(0)
    rgb_HWC = rng.integers(0, 256, (9, 12, 3), np.uint8)
    undistort = Undistortion(SMALL, SIZE_WH)
    out = np.zeros_like(rgb_HWC)
    assert undistort(rgb_HWC, out) is out
    for row in range(9):
        for column in range(12):
            x, y = slow_lens(SMALL, (column - SMALL.cx) / SMALL.fx, (row - SMALL.cy) / SMALL.fy)
            u, v = x * SMALL.fx + SMALL.cx, y * SMALL.fy + SMALL.cy
            inside = 0 <= u < 11 and 0 <= v < 8
            assert undistort.inside_HW[row, column] == inside
            if not inside:
                assert (out[row, column] == 255).all()
                continue
            u, v = round(u * 32) / 32, round(v * 32) / 32
            left, top = min(int(u), 10), min(int(v), 7)
            of_right, of_bottom = u - left, v - top
            wanted = sum(
                weight * rgb_HWC[top + down, left + right].astype(float)
                for down, right, weight in (
                    (0, 0, (1 - of_bottom) * (1 - of_right)),
                    (0, 1, (1 - of_bottom) * of_right),
                    (1, 0, of_bottom * (1 - of_right)),
                    (1, 1, of_bottom * of_right),
                )
            )
            np.testing.assert_allclose(out[row, column], wanted, atol=1)


def test_a_picture_without_distortion_stays_but_for_its_last_row_and_column() -> None:
    plain = Camera(11.0, 10.5, 5.7, 4.1)
    rgb_HWC = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    out = Undistortion(plain, SIZE_WH)(rgb_HWC, np.empty_like(rgb_HWC))
    np.testing.assert_array_equal(out[:8, :11][1:, 1:], rgb_HWC[:8, :11][1:, 1:])
    assert (out[8] == 255).all()


def test_the_rotation_is_one_and_the_colour_camera_stands_beside() -> None:
    np.testing.assert_allclose(ROTATION @ ROTATION.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(ROTATION) == pytest.approx(1)
    assert np.linalg.norm(TRANSLATION) == pytest.approx(0.025, abs=0.001)  # a Kinect's cameras are 2.5 cm apart


def test_raw_values_in_metres() -> None:
    for raw in range(2048):
        metres = 351.3 / (1092.5 - raw)
        if metres < 0:
            assert np.isnan(METRES_OF_RAW[raw]), raw
        else:
            assert METRES_OF_RAW[raw] == np.float32(min(metres, 10))
    assert METRES_OF_RAW[1057] < 10 == METRES_OF_RAW[1058]
    assert np.isnan(METRES_OF_RAW[NO_RETURN])


def plane(metres: float) -> np.ndarray:
    return np.full((480, 640), round(1092.5 - 351.3 / metres), np.uint16)


@pytest.mark.parametrize("metres", [1.0, 2.0, 3.0, 5.0])
def test_nyus_depth_covers_the_published_projection_mask(metres: float) -> None:
    """Rows 45-471 and columns 41-601 from 1 (`get_projection_mask.m`), most conservative: and little around it.

    With the translation or the rotation the other way round, or without distortion, it does not.
    """
    seen_HW = depth_projection()(plane(metres)) != NO_RETURN
    assert seen_HW[44:471, 40:601].all()
    assert not seen_HW[:37].any()
    assert not seen_HW[477:].any()
    assert not seen_HW[:, :26].any()
    assert not seen_HW[:, 620:].any()
    rows, columns = (np.flatnonzero(seen_HW.any(axis=axis)) for axis in (1, 0))
    assert seen_HW[rows[0] + 4 : rows[-1] - 4, columns[0] + 6 : columns[-1] - 6].all()  # a plane has no holes


def test_nyus_projection_agrees_with_the_toolboxes_steps_on_a_smooth_scene() -> None:
    """Resample the raw depth without distortion, then project points one after another, pixels counted from 1."""
    rows, columns = np.mgrid[:480, :640]
    raw_HW = np.rint(900 + 60 * np.sin(columns / 120) + 40 * np.cos(rows / 90)).astype(np.uint16)
    x, y = distorted(DEPTH_CAMERA, *pinhole_rays(DEPTH_CAMERA, (640, 480)))
    u = np.clip(np.rint(x * DEPTH_CAMERA.fx + DEPTH_CAMERA.cx), 0, 639).astype(int)
    v = np.clip(np.rint(y * DEPTH_CAMERA.fy + DEPTH_CAMERA.cy), 0, 479).astype(int)
    metres_HW = 351.3 / (1092.5 - raw_HW[v, u].astype(float))
    points_3P = np.stack(
        [
            (columns + 1 - DEPTH_CAMERA.cx) * metres_HW / DEPTH_CAMERA.fx,
            (rows + 1 - DEPTH_CAMERA.cy) * metres_HW / DEPTH_CAMERA.fy,
            metres_HW,
        ]
    ).reshape(3, -1)
    # The toolbox's own signs: a rotation that turns all axes round, and the translation as it is published.
    published = np.array([[2.5031875059141302e-02], [-2.9342312935846411e-04], [6.6238747008330102e-04]])
    right, down, ahead = -ROTATION @ points_3P + published
    column = np.rint(right * RGB_CAMERA.fx / ahead + RGB_CAMERA.cx).astype(int) - 1
    row = np.rint(down * RGB_CAMERA.fy / ahead + RGB_CAMERA.cy).astype(int) - 1
    toolbox_HW = np.full((480, 640), np.nan)
    for point in np.argsort(-metres_HW.ravel(), kind="stable"):
        if 0 <= column[point] < 640 and 0 <= row[point] < 480:
            toolbox_HW[row[point], column[point]] = metres_HW.ravel()[point]
    seen_HW = METRES_OF_RAW[depth_projection()(raw_HW)]
    mask = slice(44, 471), slice(40, 601)
    assert np.isfinite(seen_HW[mask]).all()
    assert np.isnan(toolbox_HW[mask]).sum() < 200  # its resampling cuts the corners off

    def apart(down: int, right: int) -> float:
        return float(np.nanmean(np.abs(np.roll(seen_HW, (down, right), (0, 1)) - toolbox_HW)[mask]))

    assert np.nanmax(np.abs(seen_HW - toolbox_HW)[mask]) < 0.06  # a raw step or two, at 1.2 to 3.8 m
    for shift in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        assert apart(*shift) > 2 * apart(0, 0)  # not a pixel off


def test_nyus_colour_picture_has_the_labelled_ones_white_frame() -> None:
    """The scene of the labelled pictures lies inside, and one pixel further out at each side; not two."""
    inside_HW = undistortion().inside_HW
    top, bottom, left, right = INSIDE_WHITE_FRAME
    assert inside_HW[top - 1 : bottom + 1, left - 1 : right + 1].all()
    assert not inside_HW[top - 2 : bottom + 2, left - 2 : right + 2].all()
    for edge in (inside_HW[:5], inside_HW[475:], inside_HW[:, :6], inside_HW[:, 633:]):
        assert not edge.any()
