"""Run folders: one owner, nothing but runs is ever removed, and a run goes on only as it was begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from train.checkpoint import save_checkpoint
from train.errors import TrainError
from train.runs import create_run, read_run, write_result

ROOT = Path(__file__).parents[1]
META = {
    "command": "pretrain",
    "arguments": {"encoder": "resnet50", "batch": 64, "rate": 0.015, "size": (640, 480), "threads": 2, "seed": 0},
    "stores": [{"path": "/data/nyu.zarr", "fingerprint": "abc"}],
}


def with_arguments(**changes: object) -> dict:
    return {**META, "arguments": {**META["arguments"], **changes}}


def begin(folder: Path, meta: dict = META, **flags: object) -> dict:
    """Begin a run or go on with one, and let go of it at once."""
    with create_run(folder, meta, **flags) as begun:
        return begun


@pytest.fixture
def run(tmp_path) -> Path:
    """A run that has saved something of everything, and is not going on now."""
    folder = tmp_path / "run"
    begin(folder)
    save_checkpoint(folder, 3, {}, {})
    write_result(folder, "nyu-eigen", {"d1": 0.5})
    (folder / "log.jsonl").write_text('{"step": 0}\n')
    (folder / "tensorboard").mkdir()
    (folder / "export").mkdir()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder but its lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_begins_in_a_new_or_empty_folder(tmp_path):
    for folder in (tmp_path / "a" / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        begun = begin(folder)
        assert begun == read_run(folder) == json.loads((folder / "meta.json").read_text())
        assert begun["arguments"]["size"] == [640, 480]
        assert begun["command"] == "pretrain"
        assert set(begun["versions"]) == {"python", "gfield", "torch", "torchvision", "numpy"}
        assert begun["compute_threads"] == torch.get_num_threads()
        assert sorted(os.listdir(folder)) == ["lock", "meta.json"]


def test_a_folder_that_a_kill_left_before_the_run_began_is_as_good_as_empty(tmp_path):
    (tmp_path / "lock").write_text("process 1 on elsewhere\n")
    (tmp_path / "0123.tmp").write_text('{"kind"')
    begin(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["lock", "meta.json"]


def test_what_a_kill_left_of_a_save_goes_when_the_run_goes_on(run):
    """A run that was killed after its last step saves no more, so that no other save would remove it."""
    leftover = run / "checkpoints" / "0123.tmp"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    begin(run, resume=True)
    assert os.listdir(run / "checkpoints") == ["step-000000003"]


def test_what_a_kill_left_of_a_result_goes_with_the_next_one(run):
    left = run / "evaluations" / f"{'0123' * 8}.tmp"
    left.write_text("half")
    others = run / "evaluations" / "notes.tmp"
    others.write_text("of the user")
    write_result(run, "nyu-full", {"d1": 0.25})
    assert sorted(os.listdir(run / "evaluations")) == ["notes.tmp", "nyu-eigen.json", "nyu-full.json"]


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}], ids=str)
def test_what_holds_something_else_is_refused_and_left_alone(tmp_path, flags):
    for name in "abcde":
        (tmp_path / name).write_text(name)
    before = content(tmp_path)
    with pytest.raises(TrainError, match=r"holds a, b, c and 2 more and no run, wanted a new or empty folder"):
        begin(tmp_path, **flags)
    with pytest.raises(TrainError, match=r"a: a file, wanted the folder of a run or a new one"):
        begin(tmp_path / "a", **flags)
    with pytest.raises(TrainError, match=r"Not a directory"):
        begin(tmp_path / "a" / "run", **flags)
    assert content(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == list("abcde")


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("[]", "of kind None, wanted 'gfield run 1'"),
        ('{"kind": "gfield run 9"}', "of kind 'gfield run 9', wanted 'gfield run 1'"),
    ],
    ids=["cut", "deep", "list", "newer"],
)
def test_another_meta_json_is_no_run(tmp_path, text, message, flags):
    (tmp_path / "meta.json").write_text(text)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(TrainError, match=message):
        begin(tmp_path, **flags)
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "meta.json"]


def test_the_folders_of_a_new_run_are_on_the_disk_from_its_beginning(tmp_path, monkeypatch):
    """Or a power cut would take with them all checkpoints; the first result's folder must not be lost either."""
    synced: set[int] = set()
    fsync, run = os.fsync, tmp_path / "new" / "folder" / "run"

    def noting_fsync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    with create_run(run, META):
        assert {folder.stat().st_ino for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "folder")} <= synced
    synced.clear()
    write_result(run, "nyu-eigen", {"rmse": 0.5})
    assert run.stat().st_ino in synced


def test_a_run_that_is_there_wants_a_flag(run):
    before = content(run)
    with pytest.raises(TrainError, match="holds a run; --resume goes on with it, --overwrite replaces it"):
        begin(run)
    with pytest.raises(TrainError, match="both --resume and --overwrite are given"):
        begin(run, resume=True, overwrite=True)
    assert content(run) == before


def test_to_overwrite_removes_all_that_the_run_wrote(run):
    other = with_arguments(batch=32)
    begin(run, other, overwrite=True)
    assert sorted(os.listdir(run)) == ["lock", "meta.json"]
    assert read_run(run)["arguments"]["batch"] == 32


def test_to_overwrite_spares_what_no_run_writes_and_what_links_lead_to(run, tmp_path):
    (run / "notes.txt").write_text("mine")
    before = content(run)
    with pytest.raises(TrainError, match=r"--overwrite would remove notes.txt, which no run writes; move it first"):
        begin(run, overwrite=True)
    assert content(run) == before
    (run / "notes.txt").unlink()
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    begin(run, overwrite=True)
    assert sorted(os.listdir(run)) == ["lock", "meta.json"]
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["step-000000003"]


def test_a_run_goes_on_as_it_was_begun(run):
    before = content(run)
    moved = {**with_arguments(threads=8, cache="none"), "stores": [{"path": "/moved", "fingerprint": "abc"}]}
    begun = begin(run, moved, resume=True, may_differ=("threads", "cache"))
    assert begun == read_run(run)
    assert begun["arguments"]["threads"] == 2
    assert content(run) == before


def test_where_no_run_is_resuming_begins_one(tmp_path):
    assert begin(tmp_path / "new", resume=True)["command"] == "pretrain"
    assert begin(tmp_path / "new", resume=True)["command"] == "pretrain"


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (with_arguments(batch=32), "batch was 64, now 32$"),
        (with_arguments(init="random"), 'init was not there, now "random"$'),
        ({**META, "arguments": {"batch": 64}}, 'encoder was "resnet50", now not there; rate .*; size .*; and 1 more$'),
        ({**META, "command": "finetune"}, 'command was "pretrain", now "finetune"$'),
        ({**META, "stores": [{"path": "/data/nyu.zarr", "fingerprint": "x"}]}, 'store 0 was .*"abc"}, now .*"x"}$'),
        ({**META, "stores": META["stores"] * 2}, "store 1 was not there, now "),
        ({**META, "started_from": "imagenet"}, 'started_from was not there, now "imagenet"$'),
    ],
)
def test_a_run_does_not_go_on_as_another(run, meta, message):
    before = content(run)
    with pytest.raises(TrainError, match=rf"cannot go on with another run's arguments: {message}"):
        begin(run, meta, resume=True, may_differ=("threads",))
    assert content(run) == before


def test_numbers_that_json_does_not_have(tmp_path):
    with pytest.raises(TrainError, match=r"nan or infinite in .*'rate': nan"):
        begin(tmp_path / "run", with_arguments(rate=float("nan")))
    assert not (tmp_path / "run").exists()


OWNER = """
import sys
from pathlib import Path
from train.runs import create_run
with create_run(Path(sys.argv[1]), {"command": "pretrain", "arguments": {}}, resume=True):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_run_has_one_owner_and_a_kill_sets_it_free(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "mine\n"
        for flags in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(TrainError, match=rf"in use by process {owner.pid} on {os.uname().nodename}"):
                begin(folder, {"command": "pretrain", "arguments": {}}, **flags)
        assert read_run(folder)["command"] == "pretrain", "who only reads does not ask"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with create_run(folder, META, overwrite=True):
        with pytest.raises(TrainError, match=rf"in use by process {os.getpid()} on "):
            begin(folder, resume=True)
        assert (folder / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    begin(folder, resume=True)


def test_the_folder_is_free_again_after_an_error(run):
    with pytest.raises(ZeroDivisionError), create_run(run, META, resume=True):
        _ = 1 / 0
    with pytest.raises(TrainError, match="cannot go on"):
        begin(run, with_arguments(batch=1), resume=True)
    begin(run, resume=True)


def test_what_is_no_run(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, message in [
        (tmp_path / "nothing", "no such folder, wanted the folder of a run"),
        (tmp_path, "no meta.json in it, wanted the folder of a run"),
        (tmp_path / "file", "a file, wanted the folder of a run"),
    ]:
        with pytest.raises(TrainError, match=message):
            read_run(path)


def test_results(run):
    path = write_result(run, "nyu-full", {"d1": 0.25, "protocol": "nyu-full"})
    assert path == run / "evaluations" / "nyu-full.json"
    assert json.loads(path.read_text()) == {"d1": 0.25, "protocol": "nyu-full"}
    with pytest.raises(TrainError, match=r"nyu-full.json: not written, a value is not a finite number: .*'d1': nan"):
        write_result(run, "nyu-full", {"d1": float("nan")})
    assert json.loads(path.read_text())["d1"] == 0.25
    write_result(run, "nyu-full", {"d1": 0.75})
    assert json.loads(path.read_text()) == {"d1": 0.75}
    assert sorted(os.listdir(path.parent)) == ["nyu-eigen.json", "nyu-full.json"]
    with pytest.raises(TrainError, match="No such file"):
        write_result(run / "nothing", "nyu-full", {})
