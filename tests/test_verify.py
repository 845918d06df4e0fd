"""Every kind of damage is named by `verify_store`, and repaired bit for bit."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from gfield.build import build_store
from gfield.field import FieldParams
from gfield.manifest import MANIFEST_PATH, Entry, Manifest, StoreError
from gfield.repair import repair_store
from gfield.shard import ShardWriter, hash_file
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.store import open_store
from gfield.verify import verify_store

RGB_1 = "640x480/rgb/c/1/0/0/0"
RGB_0 = "640x480/rgb/c/0/0/0/0"
FIELD_0 = "320x240/gradient/c/0/0/0"


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("verify") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=3))
    return target


@pytest.fixture
def copy(built, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(built, tmp_path / "nyu.zarr")
    return tmp_path / "nyu.zarr"


def flip_bit(path, place=0.4):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def test_a_sound_store_has_no_findings(built):
    report = verify_store(open_store(built), sample=None)
    assert report.findings == ()
    assert report.recomputed == 20
    assert report.root == open_store(built).manifest.root


def swap(store):
    (store / RGB_0).rename(store / "x")
    (store / RGB_1).rename(store / RGB_0)
    (store / "x").rename(store / RGB_1)


DAMAGES = {
    "bit in a shard": (lambda s: flip_bit(s / RGB_1), [("content", RGB_1)]),
    "bit in the index": (lambda s: flip_bit(s / RGB_1, 0.99999), [("content", RGB_1)]),
    "bit in array metadata": (
        lambda s: flip_bit(s / "640x480/rgb/zarr.json"),
        [("content", "640x480/rgb/zarr.json")],
    ),
    "bit in the root": (lambda s: flip_bit(s / "zarr.json"), [("content", "zarr.json")]),
    "bit in a column": (lambda s: flip_bit(s / "split/c/0"), [("content", "split/c/0")]),
    "missing": (lambda s: (s / FIELD_0).unlink(), [("missing", FIELD_0)]),
    "truncated": (lambda s: (s / RGB_1).write_bytes((s / RGB_1).read_bytes()[:1000]), [("size", RGB_1)]),
    "longer": (lambda s: (s / RGB_1).write_bytes((s / RGB_1).read_bytes() + b"x"), [("size", RGB_1)]),
    "zeroed page": (
        lambda s: (s / RGB_1).write_bytes(bytes(4096) + (s / RGB_1).read_bytes()[4096:]),
        [("content", RGB_1)],
    ),
    "swapped": (swap, [("swapped", RGB_0), ("swapped", RGB_1)]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_repaired_bit_for_bit(copy, built, source, damage):
    do, expected = DAMAGES[damage]
    do(copy)
    report = verify_store(open_store(copy))
    assert sorted((finding.kind, finding.path) for finding in report.findings) == sorted(expected)
    assert all(finding.path in finding.message for finding in report.findings)
    inodes = {path: path.stat().st_ino for path in copy.rglob("c/*") if path.is_file()}
    repaired = repair_store(open_store(copy), report.findings, source)
    assert repaired.different == ()
    assert set(repaired.restored) == {path for _, path in expected}
    assert verify_store(open_store(copy), sample=None).findings == ()
    for path in built.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(built)).read_bytes() == path.read_bytes()
    untouched = [path for path in inodes if str(path.relative_to(copy)) not in repaired.restored]
    assert all(path.stat().st_ino == inodes[path] for path in untouched)
    assert [path.name for path in copy.parent.iterdir()] == ["nyu.zarr"]


def test_the_damaged_frames_are_named(copy):
    flip_bit(copy / RGB_1, 0.5)
    (finding,) = verify_store(open_store(copy)).findings
    assert "frames 4 fail their checksums" in finding.message


def test_an_unknown_file_is_named_and_left_alone(copy, source):
    (copy / "notes.txt").write_text("mine")
    report = verify_store(open_store(copy))
    assert [(finding.kind, finding.path) for finding in report.findings] == [("unknown file", "notes.txt")]
    assert repair_store(open_store(copy), report.findings, source).restored == ()
    assert (copy / "notes.txt").read_text() == "mine"


NO_FILES = {
    "an empty folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to another shard": lambda path: path.symlink_to(path.parents[4] / "c/0/0/0/0"),
}


@pytest.mark.parametrize("name", [RGB_1, "split/zarr.json"])
@pytest.mark.parametrize("what", NO_FILES)
def test_what_stands_in_place_of_a_file_is_named_and_makes_way(copy, built, source, name, what):
    (copy / name).unlink()
    NO_FILES[what](copy / name)
    report = verify_store(open_store(copy), sample=0)
    assert [finding.path for finding in report.findings] == [name]
    if name == RGB_1 and what != "a link to another shard":
        with pytest.raises(StoreError, match=name):
            open_store(copy).read("640x480/rgb", [3])
    assert repair_store(open_store(copy), report.findings, source).restored == (name,)
    assert not (copy / name).is_symlink()
    assert (copy / name).read_bytes() == (built / name).read_bytes()
    assert verify_store(open_store(copy)).findings == ()


def a_full_folder(path):
    path.unlink()
    path.mkdir()
    (path / "mine").touch()


def a_file_for_a_folder(path):
    shutil.rmtree(path.parent)
    path.parent.touch()


def a_link_to_another_shards_folder(path):
    shutil.rmtree(path.parents[2])
    path.parents[2].symlink_to(path.parents[3] / "0")


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (a_full_folder, "a folder with something in it, wanted a file; removed, it can be repaired"),
        (a_file_for_a_folder, "a file, wanted a folder"),
        (a_link_to_another_shards_folder, "a link, wanted a folder"),
    ],
)
def test_repair_changes_nothing_where_something_that_is_not_the_stores_is_in_the_way(copy, built, source, do, said):
    (copy / FIELD_0).unlink()
    do(copy / RGB_1)
    report = verify_store(open_store(copy))
    assert {FIELD_0, RGB_1} < {finding.path for finding in report.findings} | {"one more"}
    with pytest.raises(StoreError, match=said):
        repair_store(open_store(copy), report.findings, source)
    assert not (copy / FIELD_0).exists()
    assert (copy / RGB_0).read_bytes() == (built / RGB_0).read_bytes()


def test_a_link_to_another_file_of_the_store_is_named_even_where_its_content_is_right(copy, built, source, tmp_path):
    """Shards are swapped, and a link has what it should by the other's place, until that is repaired."""
    swap(copy)
    (copy / RGB_0).unlink()
    (copy / RGB_0).symlink_to(copy / RGB_1)
    (copy / FIELD_0).rename(tmp_path / "elsewhere")
    (copy / FIELD_0).symlink_to(tmp_path / "elsewhere")
    report = verify_store(open_store(copy))
    assert {finding.path: finding.kind for finding in report.findings} == {RGB_0: "swapped", RGB_1: "swapped"}
    assert repair_store(open_store(copy), report.findings, source).different == ()
    assert verify_store(open_store(copy)).findings == ()


def test_a_link_to_a_folder_is_named_unless_files_of_the_store_are_there(copy, tmp_path):
    (copy / "320x240").rename(tmp_path / "elsewhere")
    (copy / "320x240").symlink_to(tmp_path / "elsewhere")
    (copy / "mine").symlink_to(tmp_path)
    findings = verify_store(open_store(copy)).findings
    assert [(finding.kind, finding.path) for finding in findings] == [("unknown file", "mine")]


def test_a_pipe_for_the_manifest_is_an_error_and_is_not_waited_for(copy):
    (copy / MANIFEST_PATH).unlink()
    os.mkfifo(copy / MANIFEST_PATH)
    with pytest.raises(StoreError, match="not a regular file"):
        open_store(copy)


def test_a_shard_of_old_parameters_is_named(copy, built, source, tmp_path):
    """Shard and manifest agree, but the shard was made with other thresholds: its fingerprint tells."""
    other = tmp_path / "other.zarr"
    build_store(source, other, make_spec(source, frames_per_shard=3, field=FieldParams(low=20, high=90)))
    shutil.copy(other / FIELD_0, copy / FIELD_0)
    manifest = open_store(copy).manifest
    forged = Manifest(manifest.attributes, {**manifest.files, FIELD_0: open_store(other).manifest.files[FIELD_0]})
    (copy / MANIFEST_PATH).write_bytes(forged.to_bytes())
    report = verify_store(open_store(copy))
    assert [(finding.kind, finding.path) for finding in report.findings] == [("stale", FIELD_0)]
    with pytest.raises(StoreError, match=f"{FIELD_0}: made with .*, by the manifest itself; `gfield build` makes it"):
        repair_store(open_store(copy), report.findings, source)
    assert build_store(source, copy, make_spec(source, frames_per_shard=3)).state == "built"
    assert open_store(copy).manifest == open_store(built).manifest
    assert verify_store(open_store(copy)).findings == ()


@pytest.mark.parametrize(
    ("key", "place", "kind"),
    # The picture's pixel lies outside the valid region, so that its field is still right.
    [("640x480/gradient", 80_000, "field"), ("320x240/rgb", 0, "rgb")],
)
def test_arrays_that_contradict_each_other_are_named(copy, key, place, kind):
    """All hashes fit, but one value is not what it is computed from."""
    store = open_store(copy)
    array = store.arrays[key]
    frames = store.read(key, range(3))
    frames[1].reshape(-1)[place] -= 9
    path = array.shard_path(0)
    (copy / path).unlink()
    writer = ShardWriter(copy / path, 3, array.codec)
    for frame in frames:
        writer.append(frame)
    writer.finish()
    entry = Entry(*hash_file(copy / path), array.fingerprint)
    forged = Manifest(store.manifest.attributes, {**store.manifest.files, path: entry})
    (copy / MANIFEST_PATH).write_bytes(forged.to_bytes())
    (finding,) = verify_store(open_store(copy), sample=None).findings
    assert (finding.kind, finding.path) == (kind, path)
    assert "frame 1 (0002)" in finding.message


def test_repair_wants_the_input_that_the_store_was_made_of(copy, frames, tmp_path):
    from gfield.sample.nyu_mat import write_nyu_mat

    write_nyu_mat(tmp_path / "other.mat", reversed(frames), ["a"] * 10, ["b"] * 10)
    flip_bit(copy / RGB_1)
    report = verify_store(open_store(copy))
    before = (copy / RGB_1).read_bytes()
    with pytest.raises(StoreError, match="was built from another input"):
        repair_store(open_store(copy), report.findings, open_nyuv2(tmp_path / "other.mat"))
    assert (copy / RGB_1).read_bytes() == before


def test_repair_keeps_excluded_frames_excluded(nyu_mat, tmp_path):
    import h5py

    mat = tmp_path / "nyu_depth_v2_labeled.mat"
    shutil.copy(nyu_mat, mat)
    with h5py.File(mat, "r+") as file:
        file["depths"][4, 5, 5] = np.nan
    source = open_nyuv2(mat)
    target = tmp_path / "nyu.zarr"
    report = build_store(source, target, make_spec(source, frames_per_shard=3), on_error="skip")
    (target / RGB_1).unlink()
    (target / "split/c/0").unlink()
    damaged = verify_store(open_store(target))
    assert repair_store(open_store(target), damaged.findings, source).different == ()
    assert verify_store(open_store(target)).findings == ()
    assert open_store(target).splits[4] == "excluded"
    assert open_store(target).manifest.root == report.root
