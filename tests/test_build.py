"""What a build writes, that it writes it only once, and that nothing but the parameters decides the bytes."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from gfield import build
from gfield.build import build_store
from gfield.field import FieldParams
from gfield.files import make_folder
from gfield.frame import InputError
from gfield.manifest import StoreError, read_manifest
from gfield.plan import plan_build
from gfield.repair import repair_store
from gfield.sample.nyu_mat import write_nyu_mat
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.staging import BuildError, Staging, remove
from gfield.store import open_store
from gfield.verify import verify_store


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by path, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(nyu_mat):
    return open_nyuv2(nyu_mat)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """A store of two frames a shard, built in one go; not to be changed."""
    target = tmp_path_factory.mktemp("built") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=2))
    return target


# Python ends by the signal itself where that came while a text was executed, as when a dataclass is made; a shell says
# 130 of both.
INTERRUPTED = (130, -signal.SIGINT)


def build_command(mat: Path, target: Path) -> list[str]:
    """The build of `built`, as a command."""
    return [sys.executable, "-m", "cli", "build", "nyu", str(mat), str(target), "--frames-per-shard", "2"]


def slow_field(rgb_HWC, top, bottom, left, right):
    """The paper's formula on a part of a picture, with NumPy but for Canny."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb_HWC[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    p = np.pad(grey.astype(np.int64), 1, mode="edge")
    rows, columns = grey.shape

    def shifted(dy, dx):
        return p[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]

    du = sum(w * (shifted(d, 1) - shifted(d, -1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
    dv = sum(w * (shifted(1, d) - shifted(-1, d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
    field = np.zeros(rgb_HWC.shape[:2], np.float16)
    edges = cv2.Canny(grey, 50, 200) > 0
    field[top:bottom, left:right] = np.where(edges, np.sqrt(du**2 + dv**2), 0)
    return field


def test_a_store_holds_the_sources_pictures_fields_and_depths(built, frames):
    store = open_store(built)
    assert store.levels == ("640x480", "320x240")
    assert len(store) == len(frames)
    for row, frame in enumerate(frames):
        (rgb,) = store.read("640x480/rgb", [row])
        (small,) = store.read("320x240/rgb", [row])
        np.testing.assert_array_equal(rgb, frame.rgb_HWC)
        np.testing.assert_array_equal(small, cv2.resize(frame.rgb_HWC, (320, 240), interpolation=cv2.INTER_AREA))
        np.testing.assert_array_equal(store.read("640x480/gradient", [row])[0], slow_field(rgb, 8, 473, 8, 631))
        np.testing.assert_array_equal(store.read("320x240/gradient", [row])[0], slow_field(small, 4, 236, 4, 315))
        np.testing.assert_array_equal(store.read("640x480/depth", [row])[0], frame.depth_HW)
        np.testing.assert_array_equal(store.read("320x240/depth", [row])[0], frame.depth_HW[::2, ::2])
    assert store.read("640x480/gradient", range(10)).any(axis=(1, 2)).all()


def test_text_columns_and_attributes(built):
    store = open_store(built)
    assert store.names.tolist() == [f"{number:04d}" for number in range(1, 11)]
    assert store.splits.tolist() == ["train"] * 6 + ["test"] * 3 + ["unlabeled"]
    assert store.scenes[4] == "kitchen_0001"
    assert store.text("scene_type").tolist() == ["kitchen"] * 10
    assert store.attributes["spec"]["valid_region"] == {"top": 8, "bottom": 473, "left": 8, "right": 631}
    assert [entry["name"] for entry in store.attributes["source_files"]] == ["nyu_depth_v2_labeled.mat"]


def test_optional_arrays_and_one_level(source, frames, tmp_path):
    spec = make_spec(source, levels_WH=[(320, 240)], optional=["raw_depth", "label"], codec="zstd")
    build_store(source, tmp_path / "s", spec)
    store = open_store(tmp_path / "s")
    assert set(store.arrays) == {f"320x240/{name}" for name in ("rgb", "gradient", "depth", "raw_depth", "label")}
    np.testing.assert_array_equal(store.read("320x240/raw_depth", [3])[0], frames[3].raw_depth_HW[::2, ::2])
    np.testing.assert_array_equal(store.read("320x240/label", [3])[0], frames[3].label_HW[::2, ::2])


def test_keep_frame_lets_the_operator_see_the_white_frame(nyu_mat, built, tmp_path):
    source = open_nyuv2(nyu_mat, keep_frame=True)
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2))
    kept = open_store(tmp_path / "s").read("640x480/gradient", [0])[0]
    cut = open_store(built).read("640x480/gradient", [0])[0]
    assert kept[6:9].any()
    assert not cut[:8].any()


@pytest.mark.parametrize("how", [{"workers": 2}, {"part": 3}], ids=["two processes", "three parts"])
def test_neither_workers_nor_parts_change_a_byte(source, built, tmp_path, how):
    spec = make_spec(source, frames_per_shard=2)
    runs = [{"part": (part, how["part"])} for part in range(1, 4)] if "part" in how else [how]
    reports = [build_store(source, tmp_path / "s", spec, **run) for run in runs]
    assert [report.state for report in reports[:-1]] == ["part"] * (len(runs) - 1)
    assert reports[-1].state == "built"
    assert tree(tmp_path / "s") == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_second_run_writes_nothing(source, built):
    before = {path: path.stat() for path in built.parent.rglob("*")}
    report = build_store(source, built, make_spec(source, frames_per_shard=2))
    assert (report.state, report.bytes_written) == ("unchanged", 0)
    after = {path: path.stat() for path in built.parent.rglob("*")}
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in after.items()} == {
        path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()
    }


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codec": "zstd"}, "codec is lz4 in the store, zstd asked for"),
        ({"frames_per_shard": 5}, "frames_per_shard is 2 in the store, 5 asked for"),
        ({"levels_WH": [(320, 240)]}, "levels_WH is 640x480, 320x240 in the store, 320x240 asked for"),
    ],
)
def test_what_does_not_match_is_refused_by_name(source, built, tmp_path, change, said):
    target = tmp_path / "s"
    shutil.copytree(built, target)
    before = tree(target)
    spec = make_spec(source, **{"frames_per_shard": 2, **change})
    with pytest.raises(BuildError, match=said):
        build_store(source, target, spec)
    assert tree(target) == before
    assert build_store(source, target, spec, overwrite=True).state == "built"
    assert open_store(target).spec == spec


def test_another_input_is_refused(built, frames, tmp_path):
    target = tmp_path / "s"
    shutil.copytree(built, target)
    write_nyu_mat(tmp_path / "other.mat", reversed(frames), ["a"] * 10, ["b"] * 10)
    other = open_nyuv2(tmp_path / "other.mat")
    with pytest.raises(BuildError, match="made of other input files, or they have changed since"):
        build_store(other, target, make_spec(other, frames_per_shard=2))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_target_that_is_not_ours_is_left_alone(source, tmp_path, overwrite):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("years of work")
    with pytest.raises(BuildError, match="wanted a store"):
        build_store(source, tmp_path / "s", overwrite=overwrite)
    assert tree(tmp_path / "s") == {"thesis.tex": b"years of work"}


def test_an_unfinished_store_cannot_be_opened(source, tmp_path):
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2), part=(1, 2))
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "s")
    (staging,) = tmp_path.glob("s.building-*")
    with pytest.raises(StoreError, match="wanted a store"):
        open_store(staging / "store")


@pytest.mark.parametrize("before", ["nothing", "a store", "an unfinished build"])
@pytest.mark.parametrize("links", [True, False])
def test_all_is_on_the_disk_before_the_store_has_its_name(source, built, tmp_path, monkeypatch, before, links):
    """Every file, and every folder's entries as they are when the folder is renamed."""

    def no_links(*arguments):
        raise PermissionError(errno.EPERM, "this file system knows no hard links")

    target = tmp_path / "s"
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    files: set[int] = set()
    entries: dict[int, list[str]] = {}
    fsync, swap_in = os.fsync, build.swap_in

    def noting_fsync(descriptor):
        status = os.fstat(descriptor)
        seen = sorted(os.listdir(descriptor)) if stat.S_ISDIR(status.st_mode) else None
        fsync(descriptor)
        if seen is None:
            files.add(status.st_ino)
        else:
            entries[status.st_ino] = seen

    def checking_swap_in(staging):
        for folder, names, inside in os.walk(staging.store):
            assert entries.get(os.stat(folder).st_ino) == sorted(names + inside), folder
            for name in inside:
                assert os.stat(os.path.join(folder, name)).st_ino in files, (folder, name)
        checked.append(staging)
        swap_in(staging)

    checked: list[Staging] = []
    monkeypatch.setattr(os, "fsync", noting_fsync)
    if before == "a store":
        build_store(source, target, other)
    elif before == "an unfinished build":
        build_store(source, target, other, part=(1, 2))
    entries.clear()
    if not links:
        files.clear()
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(build, "swap_in", checking_swap_in)
    build_store(source, target, make_spec(source, frames_per_shard=2))
    assert len(checked) == 1
    assert tree(target) == tree(built)


def test_the_folders_above_a_new_store_are_on_the_disk_too(source, tmp_path, monkeypatch):
    """Or a power cut would take with them a store that was reported as built."""
    synced: set[int] = set()
    fsync = os.fsync

    def noting_fsync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    build_store(source, tmp_path / "new" / "folder" / "s", make_spec(source, frames_per_shard=2))
    assert {folder.stat().st_ino for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "folder")} <= synced


@pytest.fixture
def killed_while_it_removes(monkeypatch):
    """Runs a build that ends, once the store has its name, where it would remove what that has replaced."""

    def killing(_staging):
        raise KeyboardInterrupt

    def run(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(build, "remove", killing)
            with pytest.raises(KeyboardInterrupt):
                build_store(*arguments, **options)

    return run


def test_what_a_killed_build_has_moved_aside_does_not_stop_the_next(source, built, tmp_path, killed_while_it_removes):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2)
    build_store(source, target, make_spec(source, frames_per_shard=5))
    killed_while_it_removes(source, target, spec, overwrite=True)
    assert list(tmp_path.glob("s.building-*/*.tmp"))
    assert build_store(source, target, spec, overwrite=True).state == "built"
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_unfinished_builds_that_a_store_replaces_go_with_its_own(source, built, tmp_path, killed_while_it_removes):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2)
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    build_store(source, target, other, part=(1, 2))
    killed_while_it_removes(source, target, spec)
    build_store(source, target, spec)
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_older_store_comes_back_where_the_new_one_cannot_take_its_place(source, built, tmp_path, monkeypatch):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=5)
    shutil.copytree(built, target)
    rename = Path.rename

    def failing(path, place):
        if path == Staging(target, spec).store:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return rename(path, place)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            build_store(source, target, spec, overwrite=True)
    assert tree(target) == tree(built)
    build_store(source, target, spec, overwrite=True)
    assert open_store(target).spec == spec
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


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


def test_a_finished_store_is_planned_as_built_whatever_else_is_unfinished(source, tmp_path):
    finished, target = make_spec(source, frames_per_shard=2), tmp_path / "s"
    build_store(source, target, finished)
    build_store(source, target, replace(finished, codec="raw"), overwrite=True, part=(1, 6))
    assert build_store(source, target, finished).state == "unchanged"
    assert plan_build(source, target, finished).to_write == ()
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    with pytest.raises(BuildError, match=r"codec is raw .* an unfinished build, which --overwrite removes"):
        plan_build(source, target, other)


def test_a_damaged_shard_of_an_unfinished_build_is_made_again(source, built, tmp_path):
    spec = make_spec(source, frames_per_shard=2)
    build_store(source, tmp_path / "s", spec, part=(1, 2))
    victim = next(iter(Staging(tmp_path / "s", spec).store.glob("640x480/depth/c/*/0/0")))
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(data)
    build_store(source, tmp_path / "s", spec)
    assert tree(tmp_path / "s") == tree(built)


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(nyu_mat, source, built, tmp_path, after):
    target = tmp_path / "nyu.zarr"
    spec = make_spec(source, frames_per_shard=2)
    staging = Staging(target, spec)
    with subprocess.Popen(
        build_command(nyu_mat, target), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while len(list(staging.records.glob("0*.json"))) < after or not staging.scratch.exists():
            assert process.poll() is None or target.exists()
            if target.exists():
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    done = staging.finished_shards() if staging.records.exists() else {}
    report = build_store(source, target, spec)
    if report.state == "built":
        assert report.shards_written == 5 - len(done)
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["nyu.zarr"]


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal, even where a shell that started the tests in the background lets them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_is_done_and_says_so(nyu_mat, source, built, tmp_path):
    target = tmp_path / "nyu.zarr"
    staging = Staging(target, make_spec(source, frames_per_shard=2))
    for _ in range(10):  # a build that is done before the signal comes is tried again
        shutil.rmtree(target, ignore_errors=True)
        with subprocess.Popen(
            build_command(nyu_mat, target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and not list(staging.records.glob("0*.json")):
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        if not target.exists():
            break
    assert process.returncode in INTERRUPTED
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    assert not list(staging.scratch.glob("*"))
    build_store(source, target, make_spec(source, frames_per_shard=2))
    assert tree(target) == tree(built)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("after_s", [0.2, 0.5, 0.8])
def test_ctrl_c_is_heard_while_the_processes_start(nyu_mat, tmp_path, after_s):
    target = tmp_path / "nyu.zarr"
    command = [*build_command(nyu_mat, target), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("*.building-*/scratch")):
            time.sleep(0.001)
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
        _, said = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED
    assert "run the same command to go on" in said
    assert "Traceback" not in said


@pytest.fixture
def broken_mat(nyu_mat, source, tmp_path):
    """The miniature with frame 3's colours damaged and frame 7's depth negative."""
    mat = tmp_path / "nyu_depth_v2_labeled.mat"
    shutil.copy(nyu_mat, mat)
    shutil.copy(nyu_mat.parent / "splits.mat", tmp_path / "splits.mat")
    with h5py.File(mat, "r+") as file:
        place = file["images"].id.get_chunk_info(3)
        file["depths"][7, 5, 5] = -1
        offset = place.byte_offset
    with mat.open("r+b") as raw:
        for start in (offset, offset + 512):
            raw.seek(start + place.size // 2)
            raw.write(b"\x00" * 8)
    return mat


def test_unreadable_frames_stop_the_build_and_are_all_named(broken_mat, tmp_path):
    source = open_nyuv2(broken_mat)
    with pytest.raises(BuildError) as caught:
        build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "frame 3" in lines[0]
    assert "frame 7" in lines[1]
    assert "-1" in lines[1]
    assert "2 frames cannot be read; the 3 of 5 shards without them are kept" in lines[2]
    assert not (tmp_path / "s").exists()


def test_unreadable_frames_can_be_skipped_and_are_listed(broken_mat, tmp_path, frames):
    source = open_nyuv2(broken_mat)
    report = build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2), on_error="skip")
    assert [bad.index for bad in report.excluded] == [3, 7]
    store = open_store(tmp_path / "s")
    assert [entry["frame"] for entry in store.attributes["excluded"]] == [3, 7]
    assert str(tmp_path) not in json.dumps(store.attributes), store.attributes["excluded"]
    assert store.splits[[3, 7]].tolist() == ["excluded", "excluded"]
    assert store.rows().tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert not store.read("640x480/rgb", [3, 7]).any()
    assert np.isnan(store.read("320x240/depth", [7])).all()
    np.testing.assert_array_equal(store.read("640x480/rgb", [2])[0], frames[2].rgb_HWC)


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(nyu_mat, source, built, tmp_path):
    """A limit on file size stands in for a full disk: the write fails in the middle of a shard."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    target = tmp_path / "nyu.zarr"
    run = subprocess.run(build_command(nyu_mat, target), capture_output=True, text=True, preexec_fn=limit, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "nyu.zarr" in run.stderr
    assert "File too large; what is done is kept, run the same command to go on" in run.stderr
    assert not target.exists()
    staging = Staging(target, make_spec(source, frames_per_shard=2))
    assert not list(staging.scratch.iterdir())
    build_store(source, target, make_spec(source, frames_per_shard=2))
    assert tree(target) == tree(built)


def test_scratch_of_a_finished_build_is_gone(built):
    assert [path.name for path in built.parent.iterdir()] == ["nyu.zarr"]
    assert not list(built.rglob("*.tmp"))


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


def test_builders_that_run_at_once_help_each_other(nyu_mat, built, tmp_path):
    target = tmp_path / "nyu.zarr"
    processes = [
        subprocess.Popen(build_command(nyu_mat, target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    results = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0, 0], results
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["nyu.zarr"]


@pytest.mark.parametrize("when", ["at its start", "at its end"])
def test_a_builder_that_another_one_overtakes_ends_with_that_ones_store(source, built, tmp_path, monkeypatch, when):
    """The other has published the store and removed the folder that both worked in."""
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2)
    step = {"at its start": "InputRecord", "at its end": "_task"}[when]
    overtaken = getattr(build, step)

    def overtaking(*arguments):
        monkeypatch.setattr(build, step, overtaken)
        assert build_store(source, target, spec).state == "built"
        return overtaken(*arguments)

    monkeypatch.setattr(build, step, overtaking)
    report = build_store(source, target, spec)
    assert (report.state, report.root) == ("built", read_manifest(built).root)
    assert tree(target) == tree(built)


def test_a_folder_that_another_builder_removes_is_not_made_again_by_halves(source, tmp_path, monkeypatch):
    """One that is overtaken in the middle of its shards leaves nothing behind, one that begins has all of it."""
    staging = Staging(tmp_path / "s", make_spec(source, frames_per_shard=2))
    staging.create()
    shard = staging.store / "640x480/rgb/c/0/0/0"
    make_folder(shard, staging.store)
    assert shard.is_dir()
    remove(staging.folder)
    with pytest.raises(FileNotFoundError):
        make_folder(shard, staging.store)
    assert not any(tmp_path.iterdir())

    rmtree, mkdir, late = shutil.rmtree, Path.mkdir, [staging.scratch, staging.records]

    def meanwhile_another_writes(folder, **options):
        if late:
            late.pop().mkdir(parents=True, exist_ok=True)
            (staging.folder / "spec.json").unlink(missing_ok=True)
            return
        rmtree(folder, **options)

    def meanwhile_another_removes(folder, *args, **options):
        mkdir(folder, *args, **options)
        if folder == staging.scratch and removals:
            rmtree(removals.pop())

    removals = [staging.store, staging.folder]
    monkeypatch.setattr(Path, "mkdir", meanwhile_another_removes)
    staging.create()
    assert not removals
    assert {path.name for path in staging.folder.iterdir()} == {"store", "records", "scratch", "spec.json"}
    monkeypatch.setattr(shutil, "rmtree", meanwhile_another_writes)
    remove(staging.folder)
    assert not any(tmp_path.iterdir())


def test_an_input_that_vanishes_is_not_taken_for_another_builders_work(nyu_mat, tmp_path, monkeypatch):
    """Though a store of the same parameters stands there."""
    mat, target = tmp_path / "nyu_depth_v2_labeled.mat", tmp_path / "s"
    shutil.copy(nyu_mat, mat)
    source = open_nyuv2(mat)
    spec = make_spec(source, frames_per_shard=2)
    build_store(source, target, spec)
    task = build._task

    def losing(*arguments):
        mat.unlink(missing_ok=True)
        return task(*arguments)

    monkeypatch.setattr(build, "_task", losing)
    with pytest.raises((FileNotFoundError, BuildError, InputError), match=mat.name):
        build_store(source, target, spec, overwrite=True)


@pytest.mark.parametrize(
    ("layout", "chunks"),
    [
        ({"chunks": 1}, 10),
        ({"chunks": 4}, 3),
        ({"chunks": 4, "shuffle": True, "fletcher32": True}, 3),
        ({"chunks": (4, 320, 240)}, 3 * 4),
        ({"chunks": None, "compression": None}, 10),
        ({"chunks": 2, "compression": "lzf"}, 5),
    ],
    ids=["a chunk a frame", "a chunk for 4 frames", "shuffled", "tiles", "contiguous", "lzf, by h5py"],
)
def test_whatever_the_layout_every_chunk_is_decoded_once_a_build(built, frames, tmp_path, layout, chunks):
    write_nyu_mat(tmp_path / "nyu.mat", frames, ["s"] * 10, ["t"] * 10, **layout)
    source = open_nyuv2(tmp_path / "nyu.mat")
    build_store(source, tmp_path / "s", make_spec(source))
    assert source.decoded_chunks["depth"] == chunks
    assert source.decoded_chunks["rgb"] == chunks * (3 if isinstance(layout["chunks"], tuple) else 1)
    ours, reference = open_store(tmp_path / "s"), open_store(built)
    for key in reference.arrays:
        np.testing.assert_array_equal(ours.read(key, range(10)), reference.read(key, range(10)))
