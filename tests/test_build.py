"""What a build writes, that it writes it only once, and that nothing but the parameters decides the bytes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from gfield import build, folder_build
from gfield.build import build_store
from gfield.field import FieldParams
from gfield.files import make_folder
from gfield.frame import InputError
from gfield.manifest import read_manifest
from gfield.plan import plan_build
from gfield.sample.nyu_mat import write_nyu_mat
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.staging import BuildError, Staging, remove
from gfield.store import open_store

from .trees import tree

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


def test_a_finished_store_is_planned_as_built_whatever_else_is_unfinished(source, tmp_path):
    finished, target = make_spec(source, frames_per_shard=2), tmp_path / "s"
    build_store(source, target, finished)
    build_store(source, target, replace(finished, codec="raw"), overwrite=True, part=(1, 6))
    assert build_store(source, target, finished).state == "unchanged"
    assert plan_build(source, target, finished).to_write == ()
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    with pytest.raises(BuildError, match=r"codec is raw .* an unfinished build, which --overwrite removes"):
        plan_build(source, target, other)


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
    module, step = {"at its start": (folder_build, "InputRecord"), "at its end": (build, "_task")}[when]
    overtaken = getattr(module, step)

    def overtaking(*arguments):
        monkeypatch.setattr(module, step, overtaken)
        assert build_store(source, target, spec).state == "built"
        return overtaken(*arguments)

    monkeypatch.setattr(module, step, overtaking)
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
