"""Reading a store: with ours, and with other people's tools, which must see the same."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import zstd

from gfield.build import build_store
from gfield.field import FieldParams
from gfield.files import read_file
from gfield.manifest import MANIFEST_PATH, Entry, Manifest, StoreError
from gfield.publish import write_metadata
from gfield.sources.images import open_images
from gfield.sources.nyuv2 import open_nyuv2
from gfield.spec import StoreSpec, default_frames_per_shard
from gfield.specify import make_spec
from gfield.store import Store, open_store
from gfield.text_column import decode_texts

KEYS = [f"{level}/{name}" for level in ("640x480", "320x240") for name in ("rgb", "gradient", "depth")]


SPEC = StoreSpec(
    kind="images",
    frames=1,
    frames_per_shard=8,
    size_WH=(16, 16),
    levels_WH=((16, 16),),
    arrays=("rgb", "gradient"),
    depth_shape_HW=None,
    valid_region=None,
    operator={},
    codec="raw",
    source="",
    text="",
    notes={},
)


@pytest.fixture(scope="module")
def path(nyu_mat, tmp_path_factory):
    """A store of four frames a shard; not to be changed."""
    source = open_nyuv2(nyu_mat)
    target = tmp_path_factory.mktemp("store") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=4))
    return target


@pytest.fixture(scope="module")
def store(path):
    return open_store(path)


@pytest.fixture
def copy(path, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(path, tmp_path / "nyu.zarr")
    return tmp_path / "nyu.zarr"


@pytest.mark.parametrize("key", KEYS)
def test_zarr_xarray_and_tensorstore_read_the_same(path, store, key):
    ours = store.read(key, range(10))
    level, name = key.split("/")
    np.testing.assert_array_equal(zarr.open(path, mode="r")[key][:], ours)
    with xarray.open_zarr(path, group=level) as dataset:
        np.testing.assert_array_equal(dataset[name].values, ours)
        assert dataset[name].dims == ("frame", "y", "x", "channel")[: ours.ndim]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / key)}}
    opened = tensorstore.open(spec, read=True).result()
    np.testing.assert_array_equal(opened.read().result(), ours)


def test_xarray_shows_text_columns_units_and_attributes(path):
    with xarray.open_zarr(path) as root, xarray.open_zarr(path, group="640x480") as level:
        assert root["split"].values.tolist()[5:8] == ["train", "test", "test"]
        assert level["depth"].attrs["units"] == "m"
        assert level["gradient"].attrs["operator"]["low"] == 50
        assert level["gradient"].attrs["valid_region"] == {"top": 8, "bottom": 473, "left": 8, "right": 631}
        assert root.attrs["gfield_format"] == 1


def test_zarr_lists_no_stranger_in_the_store(path):
    assert sorted(zarr.open_group(path, mode="r", use_consolidated=False)) == [
        *("320x240", "640x480", "manifest", "name", "raw_depth_filename", "raw_rgb_filename"),
        *("scene", "scene_type", "split"),
    ]
    assert zarr.open_group(path / "manifest", mode="r").attrs["root"] == open_store(path).manifest.root


@given(rows=st.lists(st.integers(0, 9), max_size=12), threads=st.integers(1, 4))
def test_any_rows_in_any_order_by_any_number_of_threads(store, frames, rows, threads):
    rgb = store.read("640x480/rgb", rows, threads=threads)
    assert rgb.shape == (len(rows), 480, 640, 3)
    for place, row in enumerate(rows):
        assert np.array_equal(rgb[place], frames[row].rgb_HWC)


def test_reading_into_the_callers_array(store, frames):
    out = np.zeros((3, 240, 320), np.float32)
    assert store.read("320x240/depth", [5, 0, 9], out) is out
    np.testing.assert_array_equal(out[2], frames[9].depth_HW[::2, ::2])


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (np.zeros((1, 240, 320), np.float32), r"wanted C-contiguous float32 \(2, 240, 320\)"),
        (np.zeros((2, 240, 320), np.float64), "out is float64"),
        (np.zeros((2, 320, 240), np.float32).transpose(0, 2, 1), "C-contiguous"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(store, out, said):
    with pytest.raises(StoreError, match=said):
        store.read("320x240/depth", [1, 2], out)


@pytest.mark.parametrize(("rows", "said"), [([10], "row 10 is outside 0 to 9"), ([-1], "row -1"), ([[1]], "shape")])
def test_wrong_rows_are_refused(store, rows, said):
    with pytest.raises(StoreError, match=said):
        store.read("320x240/depth", rows)


def test_wrong_names_list_what_there_is(store):
    with pytest.raises(StoreError, match="no array '640x480/dpeth', it has 640x480/rgb"):
        store.read("640x480/dpeth", [0])
    with pytest.raises(StoreError, match="no frame of split 'val', it has test, train, unlabeled"):
        store.rows("val")
    with pytest.raises(StoreError, match="no text column 'scnee'"):
        store.text("scnee")


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda store: (store / "split/c/0").unlink(), "split/c/0: No such file or directory; `gfield verify --repair"),
        (lambda store: damage(store / "split/c/0"), "split/c/0: does not match its hash; `gfield verify --repair"),
        (lambda store: damage(store / "split/zarr.json"), "no text column 'split'"),
        (lambda store: (store / "split/zarr.json").unlink(), "no text column 'split'"),
    ],
)
def test_a_damaged_text_column_is_an_error_and_no_empty_texts(copy, do, said):
    do(copy)
    store = open_store(copy)
    assert store.names[3] == "0004"
    with pytest.raises(StoreError, match=said):
        store.rows("train")


@settings(max_examples=20)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9), min_size=1)
)
def test_text_columns_are_those_that_were_written(tmp_path_factory, texts):
    """The last column, of empty texts, is one of which Zarr writes no chunk."""
    folder = tmp_path_factory.mktemp("texts")
    spec = replace(SPEC, frames=len(texts))
    files = write_metadata(folder, folder, spec, {}, {"name": texts, "scene": [""] * len(texts)})
    store = Store(folder, Manifest({}, files), spec)
    assert store.text("name").tolist() == texts
    assert store.text("scene").tolist() == [""] * len(texts)
    assert "scene/c/0" not in files
    assert zarr.open_array(folder / "name", mode="r")[:].tolist() == store.names.tolist()


def test_more_texts_than_there_can_be_are_refused_before_room_is_made_for_them():
    encoded = (2**31 - 1).to_bytes(4, "little") + b"\1\0\0\0a"
    with pytest.raises(ValueError, match="it holds 2147483647 texts, 1 wanted"):
        decode_texts(zstd.compress(encoded, 1), 1)


@pytest.mark.parametrize("column", ["640x480", "640x480/rgb", "", "manifest", "../nyu.zarr/name/c"])
def test_what_is_no_text_column(store, column):
    with pytest.raises(StoreError, match="no text column"):
        store.text(column)


def test_a_store_pickles_and_is_shared_by_threads(store, frames):
    store.read("640x480/rgb", [0])
    twin = pickle.loads(pickle.dumps(store))
    with ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(lambda row: twin.read("640x480/rgb", [row])[0], list(range(10)) * 3))
    assert all(np.array_equal(rgb, frames[place % 10].rgb_HWC) for place, rgb in enumerate(reads))


def test_a_store_that_is_replaced_while_it_is_open(nyu_mat, tmp_path):
    source, target = open_nyuv2(nyu_mat), tmp_path / "nyu.zarr"
    # Raw, so that shards of other thresholds have the same sizes.
    spec = make_spec(source, frames_per_shard=4, codec="raw")
    build_store(source, target, spec)
    store = open_store(target)
    before = store.read("320x240/gradient", range(8))
    opened = open_store(target)
    opened.read("320x240/gradient", [0])
    twin = pickle.loads(pickle.dumps(opened))
    build_store(source, target, replace(spec, operator=FieldParams(low=20, high=90).to_dict()))
    assert not np.array_equal(open_store(target).read("320x240/gradient", range(8)), before)
    for held in (opened, twin):
        with pytest.raises(StoreError, match=r"nyu\.zarr: it has been built anew.*320x240/gradient/c/1/0/0"):
            held.read("320x240/gradient", [4])
        assert held.read("320x240/rgb", [4]).any()  # which is in both stores
    assert np.array_equal(opened.read("320x240/gradient", range(4)), before[:4])  # held open
    shutil.rmtree(target)
    with pytest.raises(StoreError, match=r"nyu\.zarr: no such store"):
        twin.read("320x240/depth", [0])


def test_a_store_that_is_overwritten_by_its_like_while_it_is_open(nyu_mat, tmp_path):
    source, target = open_nyuv2(nyu_mat), tmp_path / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=4))
    store = open_store(target)
    build_store(source, target, make_spec(source, frames_per_shard=4), overwrite=True)
    assert store.read("320x240/gradient", [7]).any()


def test_a_missing_shard_is_an_error_and_no_zeros(copy):
    shard = copy / "640x480/rgb/c/1/0/0/0"
    shard.unlink()
    store = open_store(copy)
    assert store.read("640x480/rgb", [3]).any()
    with pytest.raises(StoreError, match=r"640x480/rgb/c/1/0/0/0: No such file.*gfield verify --repair"):
        store.read("640x480/rgb", [4])
    with pytest.raises(StoreError, match="640x480/rgb/c/1/0/0/0 is missing"):
        store.check_files()


def test_a_store_of_more_shards_than_descriptors(tmp_path):
    """Each shard that is open has one; one more is opened in the place of another."""
    for number in range(24):
        picture = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), picture)
    source = open_images(tmp_path, size_WH=(16, 16))
    build_store(source, tmp_path / "s.zarr", make_spec(source, frames_per_shard=1))
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
from gfield.store import open_store
store = open_store(sys.argv[1])
for _ in range(2):
    for key in store.arrays:
        sys.stdout.buffer.write(store.read(key, range(24), threads=3).tobytes())
"""
    command = [sys.executable, "-c", script, tmp_path / "s.zarr"]
    read = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    store = open_store(tmp_path / "s.zarr")
    assert read == 2 * b"".join(store.read(key, range(24)).tobytes() for key in store.arrays)


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_shard_that_is_cut_while_it_is_open_is_an_error_and_no_bus_error(copy, keep):
    store, path = open_store(copy), copy / "640x480/rgb/c/1/0/0/0"
    before = store.read("640x480/rgb", [4, 5])
    whole = path.read_bytes()
    os.truncate(path, keep % len(whole))
    with pytest.raises(StoreError, match=r"rgb/c/1/0/0/0: \d+ bytes, \d+ when it was opened"):
        store.read("640x480/rgb", [4])
    path.write_bytes(whole)
    np.testing.assert_array_equal(store.read("640x480/rgb", [4, 5]), before)


def test_a_flipped_bit_is_an_error(copy):
    shard = copy / "640x480/depth/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 4
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="checksum is"):
        open_store(copy).read("640x480/depth", range(4))


def test_a_shard_of_another_size_is_an_error(copy):
    shard = copy / "640x480/depth/c/0/0/0"
    other = copy / "640x480/depth/c/1/0/0"
    shard.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match=r"bytes, wanted \d+"):
        open_store(copy).read("640x480/depth", [0])
    with pytest.raises(StoreError, match=r"640x480/depth/c/0/0/0 has \d+ bytes, wanted"):
        open_store(copy).check_files()


def test_every_flipped_bit_of_the_manifest_is_noticed(copy):
    good = (copy / MANIFEST_PATH).read_bytes()
    for bit in np.random.default_rng(0).integers(0, len(good) * 8, 300).tolist():
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(StoreError, match="manifest is damaged"):
            Manifest.from_bytes(bytes(bad), copy)


def test_another_format_version_is_refused(copy):
    manifest = open_store(copy).manifest
    newer = Manifest({**manifest.attributes, "gfield_format": 2}, manifest.files)
    (copy / MANIFEST_PATH).write_bytes(newer.to_bytes())
    with pytest.raises(StoreError, match="format 2, this version of gfield reads format 1"):
        open_store(copy)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such store"),
        (lambda folder: folder.mkdir(), "a folder, wanted a store"),
        (lambda folder: folder.write_text("x"), "a file, wanted the folder of a store"),
        (zarr.create_group, "a Zarr group without a manifest"),
    ],
)
def test_what_is_no_store_is_said(tmp_path, make, said):
    make(tmp_path / "x.zarr")
    with pytest.raises(StoreError, match=said):
        open_store(tmp_path / "x.zarr")


def test_a_store_of_120000_frames_is_opened_from_two_kinds_of_small_files(tmp_path, monkeypatch):
    """Not timed, `tests/benchmarks` does that: what is counted is what is read, by how many files and of what size."""
    spec = replace(SPEC, frames=120_000, frames_per_shard=default_frames_per_shard(120_000, 1))
    names = [f"data/nyu2_train/kitchen_{row // 180:04d}_out/{row % 180}.jpg" for row in range(120_000)]
    attributes = {"gfield_format": 1, "spec": spec.to_json(), "title": "no pictures", "software": {}}
    attributes |= {"source_files": [], "left_out": [], "excluded": []}
    columns = {"name": names, "split": ["unlabeled"] * 120_000}
    files = write_metadata(tmp_path, tmp_path, spec, attributes, columns)
    shards = [array.shard_path(n) for array in spec.array_specs().values() for n in range(spec.shards)]
    files |= {path: Entry(1, "0" * 64, "0" * 32) for path in shards}
    (tmp_path / "manifest").mkdir()
    (tmp_path / MANIFEST_PATH).write_bytes(Manifest(attributes, files).to_bytes())
    read: dict[str, int] = {}

    def counted(path, *most):
        data = read_file(path, *most)
        read[path.relative_to(tmp_path).as_posix()] = len(data)
        return data

    monkeypatch.setattr("gfield.manifest.read_file", counted)
    monkeypatch.setattr("gfield.store.read_file", counted)
    store = open_store(tmp_path)
    assert [*read] == [MANIFEST_PATH]
    assert len(shards) == 2 * 938
    assert len(store.rows("unlabeled")) == len(store) == 120_000
    assert store.names[-1] == names[-1]
    assert [*read][1:] == ["split/zarr.json", "split/c/0", "name/zarr.json", "name/c/0"]
    assert sum(read.values()) < 1_000_000


def test_reading_loads_neither_dask_nor_zarr_nor_opencv(path):
    code = (
        "import sys; from gfield import open_store; "
        f"store = open_store({str(path)!r}); store.read('320x240/rgb', store.rows('test')); "
        "print(*sorted({'dask', 'distributed', 'torch', 'zarr', 'cv2', 'h5py'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
