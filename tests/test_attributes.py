"""What a store may say of itself, whatever its root hash: a manifest that anybody may have written."""

from __future__ import annotations

import json
import os
import struct

import pytest
from blake3 import blake3
from numcodecs import zstd

from gfield.attributes import MOST_FRAMES, parse_spec
from gfield.info import store_facts
from gfield.manifest import MANIFEST_PATH, Entry, Manifest, StoreError, read_manifest
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.staging import BuildError, finished_store
from gfield.store import open_store
from gfield.verify import verify_store

from .test_spec import SPEC


def as_json(value):
    return json.loads(json.dumps(value))


def forged(folder, store, attributes=None, files=None):
    """The manifest of a store with other attributes and more files, and the root hash that belongs to it."""
    manifest = read_manifest(store)
    new = Manifest({**as_json(manifest.attributes), **(attributes or {})}, {**manifest.files, **(files or {})})
    (folder / "forged.zarr" / "manifest").mkdir(parents=True)
    (folder / "forged.zarr" / MANIFEST_PATH).write_bytes(new.to_bytes())
    return folder / "forged.zarr"


def test_a_spec_is_read_back_as_it_was_written():
    assert parse_spec(as_json(SPEC.to_json())) == SPEC


@pytest.mark.parametrize(
    "values",
    [
        {"frames": 10**12},
        {"frames": 0},
        {"frames": True},
        {"frames": 1.0},
        {"frames": "100"},
        {"frames_per_shard": 0},
        {"frames_per_shard": MOST_FRAMES + 1},
        {"size_WH": [1 << 30, 1 << 30]},
        {"size_WH": [-640, 480]},
        {"size_WH": [640]},
        {"levels_WH": [[641, 480]]},
        {"levels_WH": []},
        {"levels_WH": [[]]},
        {"levels_WH": 3},
        {"arrays": ["rgb", "gradient", "../../x"]},
        {"arrays": ["gradient", "rgb"]},
        {"arrays": ["rgb"]},
        {"arrays": [["rgb"]]},
        {"depth_shape_HW": None},
        {"depth_shape_HW": [1e999, 2]},
        {"valid_region": {"top": 0, "bottom": 481, "left": 0, "right": 8}},
        {"valid_region": {"top": -8, "bottom": 8, "left": 0, "right": 8}},
        {"valid_region": [0, 8, 0, 8]},
        {"operator": {"low": [1]}},
        {"operator": None},
        {"codec": "pickle"},
        {"codec": ["lz4"]},
        {"kind": "x" * 5000},
        {"notes": {"depth": 1}},
    ],
)
def test_a_spec_of_no_store_is_refused_by_its_field(values):
    (name,) = values
    with pytest.raises(ValueError, match="region" if name == "valid_region" else name):
        parse_spec({**as_json(SPEC.to_json()), **values})


@pytest.mark.parametrize("values", [None, 3, [], {}, [[[]]], {**SPEC.to_json(), "more": 1}])
def test_no_spec_is_refused(values):
    with pytest.raises(ValueError, match="spec is"):
        parse_spec(values)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"spec": None}, "spec is None"),
        ({"title": None}, "title is None"),
        ({"excluded": [{"frame": 10, "name": "x", "reason": "y"}]}, "excluded is list"),
        ({"excluded": [3]}, "excluded is list"),
        ({"left_out": {"name": "x"}}, "left_out is dict"),
        ({"source_files": [{"name": "../../etc/passwd", "size": 1, "sha256": ""}]}, "source_files is list"),
        ({"software": [1]}, "software is list"),
    ],
)
def test_attributes_of_no_store_are_refused_by_who_reads_and_by_who_builds(small_store, tmp_path, attributes, said):
    store = forged(tmp_path, small_store, attributes)
    with pytest.raises(StoreError, match=said):
        open_store(store)
    with pytest.raises(BuildError, match=f"{said}.*--overwrite builds it anew"):
        finished_store(store, open_store(small_store).spec, overwrite=False)


def test_a_store_has_no_more_frames_than_its_files_can_hold(small_store, tmp_path):
    spec = {**as_json(open_store(small_store).spec.to_json()), "frames": 4_000_000}
    with pytest.raises(StoreError, match=r"4000000 frames make \d+ shards; \d+ files are listed"):
        open_store(forged(tmp_path, small_store, {"spec": spec}))


def test_a_shard_too_small_for_its_index_costs_no_look_at_every_frame(small_store, tmp_path):
    spec = {**as_json(open_store(small_store).spec.to_json()), "frames": 4_000_000, "frames_per_shard": 4_000_000}
    path = "80x60/rgb/c/0/0/0/0"
    store = forged(tmp_path, small_store, {"spec": spec}, {path: Entry(3, "0" * 64, "")})
    (store / path).parent.mkdir(parents=True)
    (store / path).write_bytes(b"abc")
    messages = [finding.message for finding in verify_store(open_store(store), sample=0).findings]
    assert (
        f"{path}: hash {blake3(b'abc').hexdigest()[:12]}, wanted 000000000000, no frame of it can be read" in messages
    )


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("../outside", Entry(1, "0" * 64, "")),
        ("/etc/passwd", Entry(1, "0" * 64, "")),
        ("80x60/../../outside", Entry(1, "0" * 64, "")),
        ("80x60/./rgb", Entry(1, "0" * 64, "")),
        ("80x60//rgb", Entry(1, "0" * 64, "")),
        ("", Entry(1, "0" * 64, "")),
        ("a" * 256, Entry(1, "0" * 64, "")),
        ("\x1b[2J", Entry(1, "0" * 64, "")),
        ("x", Entry(-1, "0" * 64, "")),
        ("x", Entry(1 << 63, "0" * 64, "")),
        ("x", Entry("1", "0" * 64, "")),
        ("x", Entry(1, None, "")),
        ("x", Entry(1, "\x1b[2J", "")),
        ("x", Entry(1, "0" * 64, "0" * 65)),
    ],
)
def test_no_file_of_a_manifest_lies_outside_or_has_no_size(small_store, tmp_path, path, entry):
    with pytest.raises(StoreError, match="a path leads out of the store, or a size or hash is none"):
        open_store(forged(tmp_path, small_store, files={path: entry}))


@pytest.mark.parametrize(
    "data",
    [
        b'{"attributes":' * 100_000,
        b'{"attributes":{"files":{},"attributes":' + b"9" * 10_000 + b"}}",
        b'{"attributes":{"files":{},"attributes":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"attributes":{"files":{},"attributes":{"a":"\\ud800"}}}',
        b'{"attributes":{"files":{"x":"abc"},"attributes":{}}}',
        b'{"attributes":{"files":[],"attributes":{}}}',
        b"[" + b"[]," * 1_000_000 + b"[]]",
    ],
    ids=["deep", "digits", "lists", "surrogate", "text for an entry", "list for files", "a million lists"],
)
def test_a_manifest_that_python_would_choke_on_is_damaged(tmp_path, data):
    (tmp_path / "x.zarr" / "manifest").mkdir(parents=True)
    (tmp_path / "x.zarr" / MANIFEST_PATH).write_bytes(data)
    with pytest.raises(StoreError, match="manifest is damaged") as error:
        read_manifest(tmp_path / "x.zarr")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1100


def test_a_manifest_without_end_is_not_read(tmp_path):
    (tmp_path / "x.zarr" / "manifest").mkdir(parents=True)
    with (tmp_path / "x.zarr" / MANIFEST_PATH).open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(StoreError, match="More than"):
        read_manifest(tmp_path / "x.zarr")


def names_of(chunk):
    """A store whose names are this chunk, by its manifest too."""

    def make(small_store, folder):
        files = {"name/c/0": Entry(len(chunk), blake3(chunk).hexdigest(), "")}
        store = forged(folder, small_store, files=files)
        (store / "name" / "c").mkdir(parents=True)
        (store / "name" / "zarr.json").write_bytes((small_store / "name" / "zarr.json").read_bytes())
        (store / "name" / "c" / "0").write_bytes(chunk)
        return open_store(store)

    return make


def test_texts_that_promise_a_terabyte_are_refused_before_there_is_room_for_it(small_store, tmp_path):
    bomb = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", 1 << 40) + b"\1\0\0"
    with pytest.raises(StoreError, match="1099511627776 bytes of text; at most"):
        _ = names_of(bomb)(small_store, tmp_path).names


def test_one_long_text_does_not_give_all_others_as_much_room(small_store, tmp_path):
    long = struct.pack("<II", 10, 1 << 24) + b"x" * (1 << 24) + bytes(36)
    with pytest.raises(StoreError, match="10 texts as long as the longest take 671088640 bytes"):
        _ = names_of(zstd.compress(long, 1, checksum=True))(small_store, tmp_path).names


def test_a_store_that_could_not_be_opened_is_not_begun(nyu_mat, monkeypatch):
    source = open_nyuv2(nyu_mat)
    monkeypatch.setattr("gfield.specify.MOST_FRAMES", 9)
    with pytest.raises(BuildError, match="10 frames; at most 9 in a store wanted"):
        make_spec(source)
    monkeypatch.undo()
    monkeypatch.setattr("gfield.specify.MOST_FILES", 150)
    with pytest.raises(BuildError, match="60 files of 1 frames; at most 50 in a store wanted"):
        make_spec(source, frames_per_shard=1)
    monkeypatch.undo()
    monkeypatch.setattr("gfield.text_column.MOST_BYTES", 100)
    with pytest.raises(BuildError, match="10 texts as long as the longest take"):
        make_spec(source)


def test_facts_of_a_store_that_says_odd_things_are_still_facts(small_store, tmp_path):
    store = forged(tmp_path, small_store, {"title": "\x1b[2J"})
    for name in ("split", "scene"):
        (store / name / "c").mkdir(parents=True)
        for file in ("zarr.json", "c/0"):
            (store / name / file).write_bytes((small_store / name / file).read_bytes())
    assert store_facts(open_store(store))["title"] == "\x1b[2J"
