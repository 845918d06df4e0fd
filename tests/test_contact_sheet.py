"""The contact sheet: what is where, one depth scale for all, holes that pass for no depth, and no cut text."""

from __future__ import annotations

from itertools import pairwise

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.contact_sheet import BACKGROUND, MARGIN, NAME, SheetRow, _fitted, _width, contact_sheet, write_png
from gfield.frame import UserError
from gfield.pictures import (
    DEPTH_COLOURS,
    HATCH_GROUND,
    HATCH_LINE,
    DepthRange,
    depth_picture,
    depth_range,
    field_picture,
    hatch,
    ticks,
)

TILE_Y = 84 + 26 + 24  # header, heads, caption
SCALES = st.builds(lambda near, ratio: DepthRange(near, near * ratio), st.floats(0.01, 100), st.floats(1.05, 1000))


def sheet_row(size_WH=(640, 480), *, seed=0, name="0021 kitchen_0004", split="train", depth=None) -> SheetRow:
    """A frame with a corner of its own colour at the upper left, an edge down the middle and a ramp of depth."""
    width, height = size_WH
    rgb_HWC = np.full((height, width, 3), (40, 90, 160), np.uint8)
    rgb_HWC[: height // 4, : width // 4] = (250, 20 + seed, 10)
    field_HW = np.zeros((height, width), np.float16)
    field_HW[:, width // 2] = 800
    if depth is None:
        depth = np.broadcast_to(np.linspace(1, 8, width, dtype=np.float32), (height, width)).copy()
    return SheetRow(name, split, rgb_HWC, field_HW, depth)


def sheet(rows, **options):
    return contact_sheet(rows, **{"title": "nyu.zarr", "subtitle": "3 frames"} | options)


def test_a_landscape_sheet_has_one_frame_a_line_upright_and_not_mirrored():
    rows = [sheet_row(seed=seed) for seed in range(3)]
    sheet_HWC = sheet(rows)
    assert sheet_HWC.dtype == np.uint8
    assert sheet_HWC.shape == (84 + 26 + 3 * (24 + 228 + 16) - 16 + 24, 976, 3)
    scale = depth_range([row.depth_HW for row in rows])
    for place, row in enumerate(rows):
        y = TILE_Y + place * 268
        rgb, field, depth = (sheet_HWC[y : y + 228, x : x + 304] for x in (24, 336, 648))
        np.testing.assert_array_equal(rgb[2, 2], (250, 20 + place, 10))
        for corner in (rgb[2, -3], rgb[-3, 2], rgb[-3, -3]):
            np.testing.assert_array_equal(corner, (40, 90, 160))
        np.testing.assert_array_equal(field, field_picture(row.field_HW, (304, 228)))
        np.testing.assert_array_equal(depth, depth_picture(row.depth_HW, (304, 228), scale))


def test_portrait_frames_stand_two_to_a_line_and_the_last_may_be_alone():
    rows = [sheet_row((480, 640), seed=seed) for seed in range(3)]
    sheet_HWC = sheet(rows)
    assert sheet_HWC.shape == (84 + 26 + 2 * (24 + 192 + 16) - 16 + 24, 976, 3)
    for place, (x, y) in enumerate(((24, TILE_Y), (504, TILE_Y), (24, TILE_Y + 232))):
        np.testing.assert_array_equal(sheet_HWC[y + 2, x + 2], (250, 20 + place, 10))
    assert np.all(sheet_HWC[TILE_Y + 232 - 24 :, 500:] == BACKGROUND)


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(80, 400), st.sampled_from([(64, 48), (48, 64), (60, 60), (305, 55)]))
def test_every_pixel_of_every_tile_is_on_the_sheet(frames, tile_W, size_WH):
    """Depths of 2 m everywhere, of which no pixel may be missing."""
    depth_HW = np.full((11, 7), 2, np.float32)
    sheet_HWC = sheet([sheet_row(size_WH, depth=depth_HW)] * frames, tile_W=tile_W)
    tile_H = round(tile_W * size_WH[1] / size_WH[0])
    below_header_HWC = sheet_HWC[84:]
    assert np.count_nonzero((below_header_HWC == DEPTH_COLOURS[0]).all(axis=2)) == frames * tile_W * tile_H
    margins = (sheet_HWC[:, :MARGIN], sheet_HWC[:, -MARGIN:], sheet_HWC[-MARGIN:])
    assert all(np.all(margin_HWC == BACKGROUND) for margin_HWC in margins)


@pytest.mark.parametrize("tile_W", [80, 304])
def test_long_texts_are_shortened_and_never_run_into_others(tile_W):
    long = "living_room_0042-r-1295836462.263844-2210567773_" * 6
    sheet_HWC = sheet([sheet_row(name=long, split="train")], title=long, subtitle=long, tile_W=tile_W)
    width = sheet_HWC.shape[1]
    ink_HW = (sheet_HWC != BACKGROUND).any(axis=2)
    assert not ink_HW[:, :MARGIN].any()
    assert not ink_HW[:, width - MARGIN :].any()
    legend_x = width - MARGIN - min(304, (width - 2 * MARGIN) // 2)
    assert ink_HW[:66, MARGIN : legend_x - 32].any(), "there is a title"
    assert not ink_HW[:66, legend_x - 31 : legend_x].any(), "the title keeps clear of the legend"
    caption_x = np.flatnonzero(ink_HW[TILE_Y - 24 : TILE_Y - 1].any(axis=0))
    assert np.diff(caption_x).max() > 8, "the name keeps clear of the split"


@given(st.text("abfijlmW0189_-/ ", max_size=60), st.integers(40, 400))
def test_a_shortened_text_fits_and_keeps_both_ends(text, room_W):
    shown = _fitted(text, NAME, room_W)
    assert _width(shown, NAME) <= room_W
    if shown != text:
        assert _width(text, NAME) > room_W
        head, _, tail = shown.partition("...")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_one_depth_has_one_colour_all_over_the_sheet():
    near, far = np.full((480, 640), 1, np.float32), np.full((480, 640), 9, np.float32)
    near[:240], far[:240] = 3, 3
    sheet_HWC = sheet([sheet_row(depth=near), sheet_row(depth=far)])
    first, second = sheet_HWC[TILE_Y : TILE_Y + 228, 648:952], sheet_HWC[TILE_Y + 268 : TILE_Y + 496, 648:952]
    np.testing.assert_array_equal(first[50, 100], second[50, 100])
    np.testing.assert_array_equal(first[200, 100], DEPTH_COLOURS[0])
    np.testing.assert_array_equal(second[200, 100], DEPTH_COLOURS[255])


@pytest.mark.parametrize("hole", [np.nan, 0, np.inf, -np.inf, -1])
def test_what_is_no_depth_is_hatched(hole):
    depth_HW = np.full((48, 64), 2, np.float32)
    depth_HW[10:30, 20:50] = hole
    picture_HWC = depth_picture(depth_HW, (64, 48), depth_range([depth_HW]))
    expected_HWC = np.broadcast_to(DEPTH_COLOURS[0], (48, 64, 3)).copy()
    expected_HWC[10:30, 20:50] = hatch((64, 48))[10:30, 20:50]
    np.testing.assert_array_equal(picture_HWC, expected_HWC)


@pytest.mark.parametrize("depth", [None, np.zeros((55, 305), np.float32)], ids=["no array", "only holes"])
def test_frames_without_any_depth_are_hatched_and_leave_the_scale_to_others(depth):
    alone_HWC = sheet([sheet_row()._replace(depth_HW=depth)])
    np.testing.assert_array_equal(alone_HWC[TILE_Y : TILE_Y + 228, 648:952], hatch((304, 228)))
    assert depth_range([depth, np.array([[2, 4]], np.float32)]) == depth_range([np.array([[2, 4]], np.float32)])


def test_the_hatch_is_far_from_every_depth_colour():
    for level in (HATCH_GROUND, HATCH_LINE):
        distance = np.linalg.norm(DEPTH_COLOURS.astype(float) - level, axis=1)
        assert distance.min() > 40
    assert set(np.unique(hatch((64, 48)))) == {HATCH_GROUND, HATCH_LINE}


def test_near_is_light_and_far_is_dark_step_by_step():
    luma = cv2.cvtColor(DEPTH_COLOURS[None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert np.all(np.diff(luma) <= 1)
    assert luma[0] > 200
    assert luma[-1] < 60


def test_a_smaller_depth_picture_shows_only_depths_that_were_there():
    depth_HW = np.where(np.indices((55, 305)).sum(axis=0) % 2, 2, 8).astype(np.float32)
    scale = DepthRange(2, 8)
    colours = np.unique(depth_picture(depth_HW, (144, 192), scale).reshape(-1, 3), axis=0)
    np.testing.assert_array_equal(colours, np.unique(DEPTH_COLOURS[[0, 255]], axis=0))


@given(SCALES, st.lists(st.floats(2**-10, 2**20, width=32), min_size=2))
def test_places_on_the_scale_rise_with_depth_and_stay_on_it(scale, metres):
    place = scale.place(np.sort(np.array(metres, np.float32)))
    assert place.min() >= 0
    assert place.max() <= 1
    assert np.all(np.diff(place) >= 0)


def test_the_scale_is_logarithmic():
    np.testing.assert_allclose(DepthRange(1, 16).place(np.float32([1, 2, 4, 8, 16])), [0, 0.25, 0.5, 0.75, 1])


@given(SCALES)
def test_ticks_are_two_or_more_rising_and_on_the_scale(scale):
    marks = ticks(scale)
    assert len(marks) >= 2
    assert scale.near <= marks[0]
    assert marks[-1] <= scale.far
    assert all(one < next_one for one, next_one in pairwise(marks))


def test_ticks_of_a_room_and_of_a_street():
    assert ticks(DepthRange(0.7, 9.8)) == [1, 2, 5]
    assert ticks(DepthRange(2.6, 78)) == [5, 10, 20, 50]
    assert ticks(DepthRange(2.1, 4.9)) == [3, 4]


def test_stray_depths_do_not_stretch_the_scale():
    depth_HW = np.linspace(1, 10, 10_000, dtype=np.float32).reshape(100, 100)
    depth_HW[0, :10], depth_HW[-1, -10:] = 1e-4, 1e4
    scale = depth_range([depth_HW])
    assert scale is not None
    assert 0.9 < scale.near < 1.1
    assert 9.9 < scale.far < 10.1


def test_the_strongest_edges_of_a_field_are_white_and_weaker_ones_still_seen():
    field_HW = np.zeros((480, 640), np.float16)
    field_HW[:, 100:110], field_HW[:, 300:310] = 1000, 100
    grey_HW = field_picture(field_HW, (640, 480))[..., 0]
    assert np.all(grey_HW[:, 100:110] == 255)
    assert np.all(grey_HW[:, 300:310] == round(255 * 0.1**0.5))
    assert np.all(grey_HW[:, 310:] == 0)
    assert field_picture(field_HW, (304, 228))[:, 143:146].min() > 40, "in the size of a sheet's tile"


@pytest.mark.parametrize("edges", [(), (300,), (300, 3)])
def test_a_field_with_next_to_no_edge_is_black_but_for_it(edges):
    field_HW = np.zeros((480, 640), np.float16)
    field_HW[0, : len(edges)] = edges
    levels = np.sort(field_picture(field_HW, (640, 480))[..., 0], axis=None)[::-1]
    assert levels[:3].tolist() == [*(round(255 * (edge / 300) ** 0.5) for edge in edges), 0, 0, 0][:3]


def test_what_cannot_be_a_sheet_is_refused():
    with pytest.raises(ValueError, match="no frame to show"):
        sheet([])
    with pytest.raises(ValueError, match="tiles 20 pixels wide, wanted 80"):
        sheet([sheet_row()], tile_W=20)
    with pytest.raises(ValueError, match=r"wanted \(480, 640, 3\)"):
        sheet([sheet_row(), sheet_row((320, 240))])
    with pytest.raises(ValueError, match=r"wanted \(480, 640, 3\) and \(480, 640\)"):
        sheet([sheet_row()._replace(field_HW=np.zeros((240, 320), np.float16))])


def test_a_png_holds_the_same_pixels_in_the_same_colours(tmp_path):
    picture_HWC = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    write_png(tmp_path / "new.png", picture_HWC)
    write_png(tmp_path / "new.png", picture_HWC[::-1])
    read_HWC = cv2.cvtColor(cv2.imread(str(tmp_path / "new.png"), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_HWC, picture_HWC[::-1])
    assert [path.name for path in tmp_path.iterdir()] == ["new.png"]


def test_a_png_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    picture_HWC = np.zeros((4, 4, 3), np.uint8)
    (tmp_path / "taken.png").mkdir()
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "sheet.jpg", r"'\.jpg', wanted \.png"),
        (tmp_path / "sheet", r"'', wanted \.png"),
        (tmp_path / "absent" / "sheet.png", "No such file or directory"),
        (tmp_path / "file" / "sheet.png", "Not a directory"),
        (tmp_path / "taken.png", "Is a directory"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            write_png(path, picture_HWC)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"taken.png", "file"}


def test_real_frames_have_edges_on_edges(real_nyu):
    """Canny times Sobel, written here again: its sheet is bright where the picture beside it has an edge."""
    rows = []
    with h5py.File(real_nyu) as mat:
        for index in (0, 12):
            rgb_HWC = np.ascontiguousarray(mat["images"][index].transpose(2, 1, 0))
            dx_HW, dy_HW = cv2.spatialGradient(cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY))
            strength_HW = np.hypot(dx_HW.astype(np.float32), dy_HW)
            field_HW = np.where(cv2.Canny(dx_HW, dy_HW, 50, 200) > 0, strength_HW, 0).astype(np.float16)
            depth_HW = np.ascontiguousarray(mat["rawDepths"][index].T)
            rows.append(SheetRow(f"frame {index}", "test", rgb_HWC, field_HW, depth_HW))
    sheet_HWC = sheet(rows)
    for place in range(2):
        y = TILE_Y + place * 268
        grey_HW = cv2.cvtColor(sheet_HWC[y : y + 228, 24:328], cv2.COLOR_RGB2GRAY)
        local_HW = np.hypot(*(step.astype(np.float32) for step in cv2.spatialGradient(grey_HW)))
        field_HW = sheet_HWC[y : y + 228, 336:640, 0]
        on_edges, elsewhere = local_HW[field_HW > 128].mean(), local_HW[field_HW == 0].mean()
        assert on_edges > 4 * elsewhere
        for turned_HW in (field_HW[:, ::-1], field_HW[::-1], field_HW[::-1, ::-1]):
            assert local_HW[turned_HW > 128].mean() < 0.7 * on_edges
