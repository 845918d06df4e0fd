"""Frames of several stores as one list, and what is said when they do not fit together."""

from __future__ import annotations

import dataclasses
import pickle
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield import FieldParams, StoreError, build_store, make_spec, open_make3d, open_store
from gfield.formats.matv5 import write_numeric
from gfield.manifest import MANIFEST_PATH, Manifest
from train.errors import TrainError
from train.frames import Frames, level_of, preflight

KEYS = {"rgb": "320x240/rgb", "gradient": "320x240/gradient", "depth": "320x240/depth"}
RGB = {"rgb": "320x240/rgb"}
SMALL = {"levels_WH": [(320, 240)], "frames_per_shard": 4}
FIELD_1 = "320x240/gradient/c/1/0/0"


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """Stores of the ten frames: twice with the default parameters, once with others; not to be changed."""
    folder = tmp_path_factory.mktemp("frames")
    build_store(source, folder / "a.zarr", make_spec(source, codec="raw", **SMALL))
    build_store(source, folder / "b.zarr", make_spec(source, **SMALL))
    low = make_spec(source, codec="raw", field=FieldParams(low=20, high=100), **SMALL)
    build_store(source, folder / "low.zarr", low)
    return folder


@pytest.fixture(scope="module")
def stores(folder):
    """Two whose fields differ, so that it shows which one was read."""
    return open_store(folder / "a.zarr"), open_store(folder / "low.zarr")


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    """A store of two Make3D pairs, 480x640 and 240x320."""
    folder = tmp_path_factory.mktemp("make3d")
    rng = np.random.default_rng(1)
    for name in ("images", "Train400Img", "Train400Depth"):
        (folder / name).mkdir()
    for x in ("one-p-1t0", "two-p-2t0"):
        cv2.imwrite(str(folder / "Train400Img" / f"img-{x}.jpg"), rng.integers(0, 256, (120, 90, 3), np.uint8))
        grid = rng.integers(200, 7999, (55, 305, 4)) / 100.0
        write_numeric(folder / "Train400Depth" / f"depth_sph_corr-{x}.mat", {"Position3DGrid": grid}, compress=False)
    source = open_make3d(folder)
    build_store(source, folder / "make3d.zarr", make_spec(source))
    return open_store(folder / "make3d.zarr")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the first store that may be damaged."""
    shutil.copytree(folder / "a.zarr", tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


@given(places=st.lists(st.integers(0, 7), max_size=12), name=st.sampled_from(sorted(KEYS)))
def test_any_places_of_two_stores_in_any_order(stores, places, name):
    a, b = stores
    listed = [(a, 7), (a, 2), (a, 2), (b, 0), (b, 9), (b, 4), (a, 1), (a, 8)]
    frames = Frames([(a, [7, 2, 2]), (b, np.array([0, 9, 4])), (a, [1, 8])], KEYS)
    out = frames.empty(name, len(places))
    out[:] = 77
    frames.read(name, places, out)
    for place, read in zip(places, out, strict=True):
        store, row = frames.locate(place)
        assert (store, row) == listed[place]
        np.testing.assert_array_equal(read, store.read(KEYS[name], [row])[0])


def test_what_a_list_says_of_itself(stores):
    frames = Frames([(stores[0], [3, 1])], KEYS)
    assert len(frames) == 2
    assert frames.names == ("rgb", "gradient", "depth")
    assert frames.frame_shape("rgb") == (240, 320, 3)
    assert [frames.dtype(name) for name in frames.names] == [np.uint8, np.float16, np.float32]
    assert frames.frame_bytes == 320 * 240 * (3 + 2 + 4)


@given(chosen=st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_a_selection_keeps_its_order_across_stores(stores, chosen):
    a, b = stores
    listed = [(a, 7), (b, 0), (b, 9), (b, 4), (a, 1), (a, 8)]
    frames = Frames([(a, [7]), (b, [0, 9, 4]), (a, [1, 8])], RGB).select(chosen)
    assert [frames.locate(place) for place in range(len(frames))] == [listed[place] for place in chosen]


def test_a_list_pickles_after_it_was_read(stores):
    frames = Frames([(stores[0], [3, 1])], RGB)
    first, second = frames.empty("rgb", 2), frames.empty("rgb", 2)
    frames.read("rgb", [1, 0], first)
    pickle.loads(pickle.dumps(frames)).read("rgb", [1, 0], second)
    np.testing.assert_array_equal(first, second)


def test_a_damaged_frame_is_named_by_its_shard(copy):
    shard = copy / "320x240/rgb/c/1/0/0/0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 4
    shard.write_bytes(data)
    frames = Frames([(open_store(copy), range(10))], RGB)
    frames.read("rgb", [3], frames.empty("rgb", 1))
    with pytest.raises(StoreError, match=r"320x240/rgb/c/1/0/0/0: frame at place 0 .*checksum is"):
        frames.read("rgb", [3, 4], frames.empty("rgb", 2))


def test_a_level_by_its_size_or_turned(stores, upright):
    assert level_of(stores[0], (320, 240)) == "320x240"
    assert level_of(upright, (640, 480)) == "480x640"
    assert level_of(upright, (240, 320)) == "240x320"
    with pytest.raises(TrainError, match=r"a.zarr: no level 160x120, it has 320x240$"):
        level_of(stores[0], (160, 120))


def test_stores_of_other_sizes_are_named(stores, upright):
    said = r"make3d.zarr: no level 320x240, it has 480x640, 240x320, and \S+a.zarr, whose frames join these, is read at"
    with pytest.raises(TrainError, match=said):
        Frames([(stores[0], [1]), (upright, [0])], RGB)
    with pytest.raises(TrainError, match=r"a.zarr: no level 480x640, it has 320x240$"):
        Frames([(stores[0], [1])], {"rgb": "480x640/rgb"})


def test_the_sensors_own_grid_of_another_shape_is_refused(upright, tmp_path):
    other = dataclasses.replace(upright.spec, depth_shape_HW=(50, 300))
    stranger = dataclasses.replace(upright, spec=other, path=tmp_path)
    native = {"depth": "depth_native"}
    Frames([(upright, [0])], native)
    with pytest.raises(TrainError, match=r"depth_native is float32 \(50, 300\), wanted float32 \(55, 305\) as in"):
        Frames([(upright, [0]), (stranger, [0])], native)


def test_a_store_without_depth_says_so(source, tmp_path):
    pictures = dataclasses.replace(source, provides=frozenset({"rgb"}), depth_shape_HW=None)
    build_store(pictures, tmp_path / "rgb.zarr", make_spec(pictures, **SMALL))
    with pytest.raises(TrainError, match=r"rgb.zarr: no depth in the store, it has rgb, gradient$"):
        Frames([(open_store(tmp_path / "rgb.zarr"), [0])], KEYS)


@pytest.mark.parametrize(("rows", "said"), [([0, 10], "row 10 chosen, wanted 0 to 9"), ([-1], "row -1 chosen")])
def test_rows_that_are_not_there_are_refused(stores, rows, said):
    with pytest.raises(TrainError, match=f"a.zarr: {said}"):
        Frames([(stores[0], rows)], RGB)


def test_no_frame_at_all_is_refused(stores):
    with pytest.raises(TrainError, match=r"a.zarr, \S+low.zarr: no frame chosen"):
        Frames([(stores[0], []), (stores[1], [])], RGB)
    with pytest.raises(TrainError, match="no store: no frame chosen"):
        Frames([], RGB)
    with pytest.raises(TrainError, match="no frame of 1 chosen"):
        Frames([(stores[0], [1])], RGB).select([])


def test_sound_stores_pass_the_preflight(stores):
    preflight(stores)


def test_preflight_misses_no_shard(copy):
    (copy / FIELD_1).unlink()
    with pytest.raises(StoreError, match=rf"a.zarr: {FIELD_1} is missing"):
        preflight([open_store(copy)])


def test_preflight_refuses_a_shard_of_other_parameters(folder, tmp_path):
    shutil.copytree(folder / "b.zarr", tmp_path / "b.zarr")
    shutil.copyfile(folder / "low.zarr" / FIELD_1, tmp_path / "b.zarr" / FIELD_1)
    with pytest.raises(StoreError, match=rf"b.zarr: {FIELD_1} has \d+ bytes, wanted \d+"):
        preflight([open_store(tmp_path / "b.zarr")])


def test_preflight_refuses_the_manifest_of_another_build(folder, copy):
    shutil.copyfile(folder / "low.zarr" / MANIFEST_PATH, copy / MANIFEST_PATH)
    opened = open_store(copy)
    opened.check_files()  # every file has the size that it would have: the codec is raw
    with pytest.raises(StoreError, match=r"zarr.json is not the manifest's: stale"):
        preflight([opened])


def rewrite(store, change):
    """Give a store a manifest whose files were changed."""
    manifest = open_store(store).manifest
    files = dict(manifest.files)
    change(files)
    (store / MANIFEST_PATH).write_bytes(Manifest(manifest.attributes, files).to_bytes())


def test_preflight_refuses_shards_that_the_manifest_calls_older(copy):
    rewrite(copy, lambda files: files.update({FIELD_1: files[FIELD_1]._replace(fingerprint="0" * 32)}))
    with pytest.raises(StoreError, match=rf"{FIELD_1} is stale, of other parameters"):
        preflight([open_store(copy)])


def test_preflight_refuses_a_manifest_without_a_shard(copy):
    rewrite(copy, lambda files: files.pop(FIELD_1))
    with pytest.raises(StoreError, match=rf"{FIELD_1} is not in the manifest"):
        preflight([open_store(copy)])
