"""What a build takes over of a finished store and of unfinished builds, and what it makes again."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from gfield.build import build_store
from gfield.field import FieldParams
from gfield.manifest import read_manifest
from gfield.repair import repair_store
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.staging import BuildError, Staging
from gfield.store import open_store
from gfield.verify import verify_store

from .trees import tree


def test_new_thresholds_rebuild_the_fields_alone(source, built, tmp_path):
    target = tmp_path / "s"
    shutil.copytree(built, target)
    inodes = {path.relative_to(target): path.stat().st_ino for path in target.rglob("c/*/0/0/0")}
    spec = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    unreadable = replace(source, mat=tmp_path / "gone.mat", sets={})
    report = build_store(unreadable, target, spec)
    assert report.state == "built"
    build_store(source, tmp_path / "fresh", spec)
    assert tree(target) == tree(tmp_path / "fresh")
    for path, inode in inodes.items():
        assert (target / path).stat().st_ino == inode
    old, new = open_store(built), open_store(target)
    assert np.count_nonzero(new.read("640x480/gradient", [0])) > np.count_nonzero(old.read("640x480/gradient", [0]))


def swap_shards(rgb: Path) -> None:
    for name, other in (("0", "x"), ("1", "0"), ("x", "1")):
        (rgb / name).rename(rgb / other)


def flip_bit(array: Path) -> None:
    (shard,) = (path for path in (array / "1").rglob("0") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize("damage", [swap_shards, flip_bit])
def test_new_fields_are_not_made_of_pictures_that_are_damaged(source, tmp_path, damage):
    """Raw shards, which are all of one size, by which they are told."""
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2, codec="raw"))
    damage(tmp_path / "s/640x480/rgb/c")
    spec = make_spec(source, frames_per_shard=2, codec="raw", field=FieldParams(low=20, high=90))
    build_store(source, tmp_path / "s", spec)
    build_store(source, tmp_path / "fresh", spec)
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")


def test_a_shard_that_was_taken_over_damaged_and_repaired_since_is_not_published(source, tmp_path):
    old = make_spec(source, frames_per_shard=2, codec="raw")
    new = make_spec(source, frames_per_shard=2, codec="raw", field=FieldParams(low=20, high=90))
    build_store(source, tmp_path / "s", old)
    flip_bit(tmp_path / "s/640x480/depth/c")
    build_store(source, tmp_path / "s", new, part=(1, 6))
    store = open_store(tmp_path / "s")
    assert len(repair_store(store, verify_store(store).findings, source).restored) == 1
    build_store(source, tmp_path / "s", new)
    assert verify_store(open_store(tmp_path / "s")).findings == ()


def test_a_part_does_not_publish_a_shard_of_another_size_that_is_another_parts(source, tmp_path):
    """With other thresholds alone there is much to do; with other texts alone, all is taken over and recorded."""
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2))
    later = replace(source, splits=["unlabeled"] * len(source.names))
    spec = make_spec(later, frames_per_shard=2)
    shard = tmp_path / "s/640x480/rgb/c/0/0/0/0"
    shard.write_bytes(shard.read_bytes() + b"x")
    assert build_store(later, tmp_path / "s", spec, part=(1, 2)).state == "part"
    assert build_store(later, tmp_path / "s", spec, part=(2, 2)).state == "built"
    build_store(later, tmp_path / "fresh", spec)
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")


def test_what_is_no_file_is_not_taken_over(source, built, tmp_path):
    """Neither a folder or a pipe in place of a shard, nor what is below a file in place of its folder."""
    target = tmp_path / "s"
    shutil.copytree(built, target)
    for shard in range(3):
        shutil.rmtree(target / f"640x480/depth/c/{shard}")
    (target / "640x480/depth/c/0/0/0").mkdir(parents=True)
    (target / "640x480/depth/c/1/0").mkdir(parents=True)
    os.mkfifo(target / "640x480/depth/c/1/0/0")
    (target / "640x480/depth/c/2").touch()
    spec = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    build_store(source, target, spec)
    build_store(source, tmp_path / "fresh", spec)
    assert tree(target) == tree(tmp_path / "fresh")


def test_splits_that_come_later_change_no_shard(nyu_mat, frames, tmp_path):
    shutil.copy(nyu_mat, tmp_path / "nyu.mat")
    without = open_nyuv2(tmp_path / "nyu.mat")
    assert set(without.splits) == {"unlabeled"}
    build_store(without, tmp_path / "s")
    later = open_nyuv2(tmp_path / "nyu.mat", nyu_mat.parent / "splits.mat")
    report = build_store(later, tmp_path / "s")
    assert report.shards_written == 0
    assert open_store(tmp_path / "s").rows("test").tolist() == [6, 7, 8]


def test_an_array_can_be_added(source, built, tmp_path):
    target = tmp_path / "s"
    shutil.copytree(built, target)
    spec = make_spec(source, frames_per_shard=2, optional=["label"])
    report = build_store(source, target, spec)
    labels = sum(entry.size for path, entry in read_manifest(target).files.items() if "/label/c/" in path)
    assert report.bytes_written == labels
    build_store(source, tmp_path / "fresh", spec)
    assert tree(target) == tree(tmp_path / "fresh")


def test_an_unfinished_build_with_other_parameters_gives_what_it_can(source, tmp_path):
    old = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    build_store(source, tmp_path / "s", old, part=(1, 2))
    rgb_done = len(list(Staging(tmp_path / "s", old).store.glob("640x480/rgb/c/*/0/0/0")))
    new = make_spec(source, frames_per_shard=2)
    report = build_store(source, tmp_path / "s", new)
    assert 0 < rgb_done < 5
    assert report.state == "built"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    build_store(source, tmp_path / "fresh", new)
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")
    with pytest.raises(BuildError, match="codec"):
        build_store(source, tmp_path / "s", replace(new, codec="raw"))


def test_a_damaged_shard_of_an_unfinished_build_is_made_again(source, built, tmp_path):
    spec = make_spec(source, frames_per_shard=2)
    build_store(source, tmp_path / "s", spec, part=(1, 2))
    victim = next(iter(Staging(tmp_path / "s", spec).store.glob("640x480/depth/c/*/0/0")))
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(data)
    build_store(source, tmp_path / "s", spec)
    assert tree(tmp_path / "s") == tree(built)


def test_to_overwrite_is_to_make_again_what_an_earlier_part_has_taken_over(source, built, tmp_path):
    """That was told by its size, and may have been damaged since: it is one file with the store's."""
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    shutil.copytree(built, target)
    build_store(source, target, spec, part=(1, 2))
    damage(target / "640x480/depth/c/1/0/0")
    for part in ((2, 2), (1, 2)):
        report = build_store(source, target, spec, overwrite=True, part=part)
    assert report.state == "built"
    build_store(source, tmp_path / "fresh", spec)
    assert tree(target) == tree(tmp_path / "fresh")


@pytest.mark.parametrize("how", ["replaced", "without links", "by way of others"])
def test_to_overwrite_makes_again_what_is_no_file_of_the_store_any_more(source, built, tmp_path, monkeypatch, how):
    """What has been taken over is noted, also where the store has another file by now, or had to be copied from."""
    target = tmp_path / "s"
    first, spec = (make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=high)) for high in (80, 90))
    shutil.copytree(built, target)
    if how == "without links":
        monkeypatch.setattr(os, "link", refuse_links)
    damage(target / "640x480/depth/c/1/0/0")
    if how == "by way of others":
        build_store(source, target, first, part=(1, 2))
        shutil.move(target, tmp_path / "aside")
    build_store(source, target, spec, part=(1, 2))
    if how == "by way of others":
        shutil.move(tmp_path / "aside", target)
    if how != "without links":
        shutil.rmtree(target)
        shutil.copytree(built, target)
    for part in ((2, 2), (1, 2)):
        report = build_store(source, target, spec, overwrite=True, part=part)
    assert report.state == "built"
    build_store(source, tmp_path / "fresh", spec)
    assert tree(target) == tree(tmp_path / "fresh")


def refuse_links(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def damage(path):
    with path.open("r+b") as file:
        file.seek(999)
        file.write(b"\xff\x00\xff")


def test_an_added_array_with_a_bad_frame_empties_the_frame_everywhere(nyu_mat, tmp_path):
    mat = tmp_path / "nyu_depth_v2_labeled.mat"
    shutil.copy(nyu_mat, mat)
    with h5py.File(mat, "r+") as file:
        file["rawDepths"][4, 5, 5] = np.nan
    source = open_nyuv2(mat)
    spec = make_spec(source, frames_per_shard=2, optional=["raw_depth"])
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2))
    assert open_store(tmp_path / "s").read("640x480/rgb", [4]).any()
    build_store(source, tmp_path / "s", spec, on_error="skip")
    build_store(source, tmp_path / "fresh", spec, on_error="skip")
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")
    assert not open_store(tmp_path / "s").read("640x480/rgb", [4]).any()
