"""The synthetic sample: true geometry, pictures whose edges are those of depth, files as the real ones."""

from __future__ import annotations

import hashlib
from math import cos, inf, sin

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.formats.matv5 import read_numeric
from gfield.frame import InputError, UserError
from gfield.sample import CLASS_NAMES, render_room, write_sample
from gfield.sample.outdoor import render_street
from gfield.sample.render import face_labels, face_normals
from gfield.sample.rooms import make_camera, make_room
from gfield.sample.scene import LABELS, NYU_LENS, Ball, Camera, Lens
from gfield.sample.sensor import depth_camera, white_frame
from gfield.sample.trace import lit_share, make_view, points, trace
from gfield.sample.write import _in_order, plan_pairs, plan_rooms

SMALL_WH = (64, 48)
seeds = st.integers(0, 9999)


def small_view(seed: int, view: int = 0):
    room = make_room(seed)
    lens = NYU_LENS.scaled((640, 480), SMALL_WH)
    return room.scene, make_view(make_camera(room, seed, view), lens, SMALL_WH)


def meets(solid, origin, direction) -> tuple[float, float]:
    """Where a line enters and leaves a solid, in multiples of its direction: slowly, in double precision."""
    offset = [o - c for o, c in zip(origin, solid.centre, strict=True)]
    if isinstance(solid, Ball):
        a = sum(d * d for d in direction)
        b = sum(o * d for o, d in zip(offset, direction, strict=True))
        root = b * b - a * (sum(o * o for o in offset) - solid.radius**2)
        return ((-b - root**0.5) / a, (-b + root**0.5) / a) if root > 0 else (inf, -inf)
    c, s = cos(solid.yaw), sin(solid.yaw)
    first, last = -inf, inf
    for axis, half in zip(((c, s, 0), (-s, c, 0), (0, 0, 1)), solid.half, strict=True):
        o = sum(a * v for a, v in zip(axis, offset, strict=True))
        d = sum(a * v for a, v in zip(axis, direction, strict=True)) or 1e-30
        ends = sorted(((-half - o) / d, (half - o) / d))
        first, last = max(first, ends[0]), min(last, ends[1])
    return first, last


@settings(max_examples=12)
@given(seed=seeds, view=st.integers(0, 2), pixels=st.randoms(use_true_random=False))
def test_depth_is_that_of_the_nearest_solid(seed, view, pixels):
    scene, seen = small_view(seed, view)
    depth_HW = trace(scene, seen).depth_HW
    for _ in range(25):
        v, u = pixels.randrange(SMALL_WH[1]), pixels.randrange(SMALL_WH[0])
        ray = [float(plane[v, u]) for plane in seen.rays]
        nearest = inf
        for solid in scene.solids():
            enter, leave = meets(solid, seen.camera.eye, ray)
            if getattr(solid, "inside", False):
                nearest = min(nearest, leave)
            elif 0 < enter < leave:
                nearest = min(nearest, enter)
        assert depth_HW[v, u] == pytest.approx(nearest, rel=1e-4, abs=2e-4)


@given(
    yaw=st.floats(-3, 3), pitch=st.floats(-0.7, 0.7), roll=st.floats(-0.3, 0.3),
    pixel=st.tuples(st.integers(0, 639), st.integers(0, 479)),
)  # fmt: skip
def test_depth_is_measured_along_the_optical_axis(yaw, pitch, roll, pixel):
    view = make_view(Camera((0.0, 0.0, 0.0), yaw, pitch, roll), NYU_LENS, (640, 480))
    ray = np.array([plane[pixel[1], pixel[0]] for plane in view.rays], np.float64)
    right, down, forward = view.axes
    assert forward @ ray == pytest.approx(1, abs=1e-5)
    assert right @ ray * NYU_LENS.fx + NYU_LENS.cx == pytest.approx(pixel[0], abs=0.01)
    assert down @ ray * NYU_LENS.fy + NYU_LENS.cy == pytest.approx(pixel[1], abs=0.01)
    assert forward == pytest.approx([-sin(yaw) * cos(pitch), cos(yaw) * cos(pitch), sin(pitch)])
    assert np.linalg.det(np.stack([right, forward, -down])) == pytest.approx(1)  # not mirrored
    assert down[2] < -0.5  # upright


@settings(max_examples=15)
@given(seed=seeds, view=st.integers(0, 2))
def test_rooms_are_within_the_sensors_range_and_seen_from_eye_height(seed, view):
    scene, seen = small_view(seed, view)
    hits = trace(scene, seen)
    assert hits.depth_HW.min() >= 0.5
    assert hits.depth_HW.max() <= 10
    assert 1.0 <= seen.camera.eye[2] <= 1.8
    floor = face_labels(scene)[hits.face_HW] == LABELS["floor"]
    assert np.abs(points(seen, hits.depth_HW)[2][floor]).max(initial=0) < 1e-3


@settings(max_examples=4)
@given(seed=seeds, pixels=st.randoms(use_true_random=False))
def test_shadows_are_where_solids_hide_the_lamp(seed, pixels):
    scene, seen = small_view(seed)
    hits = trace(scene, seen)
    at, normals = points(seen, hits.depth_HW), face_normals(scene, seen, hits)
    lamp = scene.lamps[0]
    share_HW = lit_share(scene, lamp, seen, at, normals)
    wrong = 0
    for _ in range(40):
        v, u = pixels.randrange(SMALL_WH[1]), pixels.randrange(SMALL_WH[0])
        start = [float(p[v, u] + 0.004 * n[v, u]) for p, n in zip(at, normals, strict=True)]
        lit = 0
        for a, b in ((-0.6, -0.6), (-0.6, 0.6), (0.6, -0.6), (0.6, 0.6)):
            spot = (lamp.position[0] + a * lamp.radius, lamp.position[1] + b * lamp.radius, lamp.position[2])
            toward = [to - p for to, p in zip(spot, start, strict=True)]
            spans = [meets(s, start, toward) for s in scene.solids() if not getattr(s, "inside", False)]
            lit += not any(max(enter, 0) < min(leave, 1) for enter, leave in spans)
        wrong += abs(share_HW[v, u] - lit / 4) > 0.01
    assert wrong <= 1  # a ray along an edge may go either way


def test_a_seed_gives_the_same_frame_and_another_seed_another_room():
    first, again = render_room(3, size_WH=SMALL_WH), render_room(3, size_WH=SMALL_WH)
    for name in ("rgb_HWC", "depth_HW", "raw_depth_HW", "label_HW"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    other_view = render_room(3, 1, size_WH=SMALL_WH)
    assert other_view.scene == first.scene
    assert not np.array_equal(other_view.depth_HW, first.depth_HW)
    thumbnails = [render_room(seed, size_WH=(32, 24)) for seed in range(10)]
    assert len({frame.scene for frame in thumbnails}) == 10
    depths = np.stack([frame.depth_HW.ravel() for frame in thumbnails])
    gaps = [np.abs(a - b).mean() for i, a in enumerate(depths) for b in depths[:i]]
    assert min(gaps) > 0.05


@pytest.fixture(scope="module")
def full_frames():
    return [render_room(seed) for seed in range(100, 103)]


def test_frames_have_the_types_and_the_white_rim_of_nyu(full_frames):
    for frame in full_frames:
        assert (frame.rgb_HWC.shape, frame.rgb_HWC.dtype) == ((480, 640, 3), np.uint8)
        assert (frame.depth_HW.shape, frame.depth_HW.dtype) == ((480, 640), np.float32)
        assert (frame.raw_depth_HW.dtype, frame.label_HW.dtype) == (np.float32, np.uint16)
        rim = np.ones((480, 640), bool)
        rim[8:473, 8:631] = False
        assert (frame.rgb_HWC[rim] == 255).all()
        assert not frame.raw_depth_HW[rim].any()
        assert not frame.label_HW[rim].any()
        assert 60 < frame.rgb_HWC[~rim].mean() < 200
        assert frame.rgb_HWC[~rim].std(axis=1).mean() > 8  # grey alone, lit by coloured lamps, gives about 5
        assert (frame.rgb_HWC[~rim].min(axis=1) == 255).mean() < 0.05
        assert frame.label_HW[~rim].min() >= 1
        assert frame.label_HW.max() <= len(CLASS_NAMES)
    assert (white_frame(np.zeros((240, 320)), 1)[4:236, 4:315] == 0).all()


def test_colours_change_where_depth_does(full_frames):
    for frame in full_frames:
        rgb = cv2.GaussianBlur(frame.rgb_HWC, (0, 0), 1.0).astype(np.int16)
        steps = np.abs(np.diff(rgb, axis=1)).sum(axis=2)[8:473, 8:630]
        steps = cv2.dilate(steps.astype(np.float32), np.ones((1, 3)))
        depth = frame.depth_HW[8:473, 8:631]
        edge = np.abs(np.diff(depth, axis=1)) / depth[:, 1:] > 0.08
        assert edge.sum() > 300
        assert steps[edge].mean() > 3 * steps[~edge].mean()
        assert np.median(steps[edge]) > 2 * np.median(steps[~edge])


def test_raw_depth_is_depth_in_the_sensors_steps_with_holes(full_frames):
    for frame in full_frames:
        inside = frame.raw_depth_HW[8:473, 8:631]
        assert 0.01 < (inside == 0).mean() < 0.5
        valid = inside > 0
        raw = 1092.5 - 351.3 / inside[valid].astype(np.float64)
        assert np.abs(raw - np.round(raw)).max() < 0.01
        true = 1092.5 - 351.3 / frame.depth_HW[8:473, 8:631][valid].astype(np.float64)
        assert np.abs(raw - true).max() < 0.51


def test_near_things_cast_the_sensors_shadow_to_their_left():
    depth_HW = np.full((480, 640), 3.0, np.float32)
    depth_HW[100:300, 200:400] = 1.0
    facing, dark = np.ones_like(depth_HW), np.zeros(depth_HW.shape, bool)
    raws = [depth_camera(depth_HW, facing, dark, np.random.default_rng(seed)) for seed in range(8)]
    hole_share = np.mean([raw[110:290] == 0 for raw in raws], axis=(0, 1))
    width = 0.075 * 582.624482 * (1 / 1.0 - 1 / 3.0)
    assert (hole_share[int(200 - width) + 3 : 200] == 1).all()
    assert (hole_share[200:420] < 0.3).all()
    assert (hole_share[100 : int(200 - width) - 2] < 0.3).all()


def test_streets_have_make3ds_sizes_range_and_directions(real_make3d):
    frame = render_street(1)
    assert (frame.rgb_HWC.shape, frame.rgb_HWC.dtype) == ((2272, 1704, 3), np.uint8)
    assert (frame.grid_HW4.shape, frame.grid_HW4.dtype) == ((55, 305, 4), np.float64)
    real = read_numeric(next(real_make3d.glob("Train400Depth/*.mat")), "Position3DGrid")
    ours, theirs = (g[..., :3] / np.linalg.norm(g[..., :3], axis=2, keepdims=True) for g in (frame.grid_HW4, real))
    angle = np.degrees(np.arccos(np.clip((ours * theirs).sum(axis=2), -1, 1)))
    assert angle.max() < 3  # the laser's rows are a whole degree apart, and some are missing


def test_streets_end_at_80_metres_where_the_sky_is():
    for seed in range(2):
        frame = render_street(seed)
        up, right, ahead, d = np.moveaxis(frame.grid_HW4, -1, 0)
        assert np.allclose(np.sqrt(up**2 + right**2 + ahead**2), d, atol=1e-9)
        assert -1.9 < up[54, 152] < -1.1  # the street lies as far below the laser as eyes are above it
        assert np.ptp(up[54]) < 0.03  # and is flat
        assert right[54, 0] < 0 < right[54, 304]
        assert d.max() == 80.0
        assert 2 < d.min() < 8
        assert 0.1 < (d == 80).mean() < 0.6
        small = cv2.resize(frame.rgb_HWC, (305, 55), interpolation=cv2.INTER_AREA).astype(np.int16)
        sky = small[..., 2] - small[..., 0]  # bluer
        upper = np.arange(55)[:, None] < 25
        assert sky[upper & (d == 80)].mean() > sky[upper & (d < 80)].mean() + 10


@given(rooms=st.integers(2, 300), seed=st.integers(0, 50))
def test_splits_are_disjoint_in_scenes_and_about_55_percent(rooms, seed):
    shots, train, test = plan_rooms(rooms, seed)
    assert sorted(train + test) == list(range(1, rooms + 1))
    scenes = [{shots[number - 1].seed for number in split} for split in (train, test)]
    assert scenes[0]
    assert scenes[1]
    assert not scenes[0] & scenes[1]
    assert len(set(shots)) == rooms
    assert max(shot.view for shot in shots) <= 2
    if rooms >= 12:
        assert len(train) / rooms == pytest.approx(795 / 1449, abs=2 / rooms)


@given(rooms=st.integers(2, 300), views=st.integers(1, 40), seed=st.integers(0, 50))
def test_a_walk_has_as_many_views_of_each_room_as_asked_for(rooms, views, seed):
    shots, train, test = plan_rooms(rooms, seed, views)
    scenes = [shot.seed for shot in shots]
    assert len(set(shots)) == rooms
    sizes = [scenes.count(scene) for scene in dict.fromkeys(scenes)]
    assert len(sizes) >= 2
    assert set(sizes[:-1]) == {min(views, rooms - 1)}
    assert 1 <= sizes[-1] <= views
    assert scenes == sorted(scenes)
    assert not {scenes[number - 1] for number in train} & {scenes[number - 1] for number in test}


@given(outdoor=st.integers(2, 200), seed=st.integers(0, 50))
def test_outdoor_names_are_those_of_make3d(outdoor, seed):
    pairs = plan_pairs(outdoor, seed)
    assert len({pair.image for pair in pairs}) == outdoor + 1
    assert [pair.depth is None for pair in pairs] == [False] * outdoor + [True]
    prefixed = [pair for pair in pairs if pair.image.name.startswith("img-10.21")]
    assert len(prefixed) == 1
    assert any("." in pair.image.stem and pair not in prefixed for pair in pairs)
    for pair in pairs[:-1]:
        x = pair.image.name.removeprefix("img-").removeprefix("10.21").removesuffix(".jpg")
        assert pair.depth.name == f"depth_sph_corr-{x}.mat"
    assert {str(pair.image.parent) for pair in pairs} == {"Train400Img", "Test134"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    finished = []
    paths = write_sample(folder, rooms=3, outdoor=2, seed=1, threads=1, on_frame=finished.append)
    assert finished == list(range(5))
    return paths


def contents(folder) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_sample_holds_the_rendered_frames_in_nyus_layout(sample):
    shots, train, test = plan_rooms(3, 1)
    with h5py.File(sample.nyu_mat) as file:
        for row, shot in enumerate(shots):
            frame = render_room(*shot)
            assert np.array_equal(file["images"][row].transpose(2, 1, 0), frame.rgb_HWC)
            assert np.array_equal(file["depths"][row].T, frame.depth_HW)
            assert np.array_equal(file["rawDepths"][row].T, frame.raw_depth_HW)
            assert np.array_equal(file["labels"][row].T, frame.label_HW)
            texts = ["".join(map(chr, file[file[n][0, row]][:].ravel())) for n in ("scenes", "sceneTypes")]
            assert texts == [frame.scene, frame.scene_type]
        names = ["".join(map(chr, file[reference][:].ravel())) for reference in file["names"][0]]
    assert tuple(names) == CLASS_NAMES
    assert read_numeric(sample.splits, "trainNdxs").ravel().tolist() == train
    assert read_numeric(sample.splits, "testNdxs").ravel().tolist() == test


def test_sample_holds_make3ds_folders_and_a_picture_without_depth(sample):
    images = sorted(sample.make3d.glob("*/*.jpg"))
    grids = sorted(sample.make3d.glob("*/*.mat"))
    assert {path.parent.name for path in images} == {"Train400Img", "Test134"}
    assert {path.parent.name for path in grids} == {"Train400Depth", "Gridlaserdata"}
    assert (len(images), len(grids)) == (3, 2)
    assert all(cv2.imread(str(path)).shape == (2272, 1704, 3) for path in images)
    assert all(read_numeric(path, "Position3DGrid").shape == (55, 305, 4) for path in grids)


def test_the_number_of_threads_changes_no_byte(sample, tmp_path):
    write_sample(tmp_path, rooms=3, outdoor=2, seed=1, threads=3)
    assert contents(tmp_path) == contents(sample.nyu_mat.parents[1])


def test_an_old_sample_is_replaced_only_when_asked_to(tmp_path):
    stale = tmp_path / "make3d" / "Train400Img" / "img-old-p-001t000.jpg"
    mine = tmp_path / "make3d" / "notes.txt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"x")
    mine.write_text("kept")
    with pytest.raises(InputError, match=r"img-old-p-001t000\.jpg: exists") as refusal:
        write_sample(tmp_path, rooms=2, outdoor=2)
    assert "\n" not in str(refusal.value)

    def interrupt(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, rooms=2, outdoor=2, overwrite=True, on_frame=interrupt)
    assert sorted(contents(tmp_path)) == ["make3d/Train400Img/img-old-p-001t000.jpg", "make3d/notes.txt"]
    write_sample(tmp_path, rooms=2, outdoor=2, overwrite=True)
    assert not stale.exists()
    assert mine.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["make3d", "nyu"]


@pytest.mark.parametrize("wrong", [{"rooms": 1}, {"outdoor": 1}, {"seed": -1}, {"threads": 0}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=rf"{name} is -?\d+; .* wanted"):
        write_sample(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_rendering_stays_a_bounded_number_of_frames_ahead():
    started = []
    for taken, result in enumerate(_in_order(lambda n: started.append(n) or n, range(50), threads=2)):
        assert result == taken
        assert len(started) <= taken + 4


def test_a_lens_on_another_grid_looks_the_same_way():
    half = Lens(100.0, 120.0, 31.5, 23.5).scaled((64, 48), (32, 24))
    assert half == Lens(50.0, 60.0, 15.5, 11.5)
