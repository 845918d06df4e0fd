"""A study that runs, stops, fails, goes on and is shared: what is done once is never done again, or otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from train.signals import StopSignals
from train.study import rehearsal
from train.study.claim import claimed
from train.study.folder import StudyFolder
from train.study.plan import make_plan
from train.study.results import read_results
from train.study.run import work_on
from train.study.study_file import read_study
from train.study.work import training_seconds

from .small_runs import train
from .small_studies import STUDY, scores, write_study

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(small_store, tmp_path_factory) -> Path:
    """A study of two cells that ran without a stop; not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    said = train("study", write_study(folder, small_store), "--out", folder / "out").output
    assert "2 of 2 cells done" in said
    return folder / "out"


def content(folder: Path) -> dict[str, tuple[int, int | bytes]]:
    """Time and bytes of all files of finished work; of large ones, which are slow to read, time and size."""
    paths = [path for name in ("pretrained", "runs", "cells", "examples") for path in (folder / name).rglob("*")]
    states = {path: path.stat() for path in paths if path.is_file()}
    return {
        str(path): (state.st_mtime_ns, path.read_bytes() if state.st_size < 1 << 20 else state.st_size)
        for path, state in states.items()
    }


def copy(study: Path, out: Path) -> None:
    """A copy of a study whose files are the same: what a study writes anew, it never writes in place."""
    shutil.copytree(study, out, copy_function=os.link)


def test_the_results_are_all_that_there_is_to_know(finished):
    header, results = read_results(finished / "results.jsonl")
    assert (header.name, header.cells) == ("Two rows", 2)
    assert header.command == f"train study {finished.parent / 'study.toml'} --out {finished}"
    assert f"torch {__import__('torch').__version__}" in header.machine
    random, ours = results
    assert (random.row, random.pretraining, random.pretrained_on) == ("random", None, [])
    assert (ours.row, ours.pretrained_on, ours.labelled_frames, ours.share) == ("gradient-moco", ["rooms"], 3, 0.5)
    assert (ours.images, ours.official, ours.protocol_version, ours.steps) == (3, False, 1, 2)
    assert ours.pretraining is not None
    assert ours.pretraining["steps"] == 1
    assert 0 <= ours.pretraining["accuracy"] <= 1
    assert set(ours.metrics) == {"d1", "d2", "d3", "abs_rel", "sq_rel", "rms", "rms_log", "log10", "silog"}
    for path in (ours.run, ours.pretraining["run"], *ours.examples):
        assert (finished / path).exists(), path
    assert (finished / "report" / "index.html").is_file()
    (scored,) = (finished / ours.run / "evaluations").glob("*.json")
    assert json.loads(scored.read_text())["metrics"] == ours.metrics, "an ordinary run with an ordinary score"


def test_the_numbers_are_those_of_the_plain_commands(finished, small_store, tmp_path):
    plain = ["--size", "80x60", "--batch", 2, "--device", "cpu", "--encoder", "resnet18"]
    train("pretrain", small_store, "--out", tmp_path / "a", *plain, "--steps", 1, "--temperature", 0.2)
    train(
        "finetune",
        small_store,
        "--out",
        tmp_path / "b",
        *plain,
        "--steps",
        2,
        "--init",
        tmp_path / "a",
        "--labels",
        "50%",
    )
    said = train("evaluate", small_store, tmp_path / "b", "--protocol", "nyu-eigen", "--device", "cpu", "--json").output
    metrics = json.loads(said[said.index("{") :])["metrics"]
    assert scores(finished)["gradient-moco 50% 0 nyu-eigen"] == metrics


def test_finished_cells_are_never_done_again(finished):
    before = content(finished)
    results = (finished / "results.jsonl").read_bytes()
    said = train("study", finished.parent / "study.toml", "--out", finished).output
    assert "cell" in said
    assert "cell 1 of 2" not in said
    assert content(finished) == before
    assert (finished / "results.jsonl").read_bytes() == results
    listed = train("study", finished.parent / "study.toml", "--out", finished, "--list").output
    assert [line.split(": ")[-1].split(",")[0] for line in listed.splitlines()] == 3 * ["done"]


def test_a_run_of_the_study_predicts_like_any_other(finished, tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    run = finished / read_results(finished / "results.jsonl")[1][0].run
    train("predict", tmp_path / "a.png", "--run", run, "--device", "cpu")


def test_changed_options_are_new_cells_and_the_old_ones_stay(finished, small_store, tmp_path):
    out = tmp_path / "out"
    copy(finished, out)
    before = content(out)
    study = write_study(tmp_path, small_store, ("steps = 2", "steps = 3"))
    said = train("study", study, "--out", out).output
    assert "note: 2 finished cells that this study does not ask for, of other options" in said
    assert "pre-training 1 of 1" not in said, "it has not changed"
    after = content(out)
    assert {path: after[path] for path in before} == before
    assert {result.steps for result in read_results(out / "results.jsonl")[1]} == {3}


def test_another_protocol_only_scores(finished, small_store, tmp_path):
    out = tmp_path / "out"
    copy(finished, out)
    study = write_study(tmp_path, small_store, ('["nyu-eigen"]', '["nyu-eigen", "nyu-full"]'))
    runs = {path: data for path, (_, data) in content(out).items() if path.endswith(("state.pt", "log.jsonl"))}
    scored = {path: facts for path, facts in content(out).items() if "/evaluations/" in path}
    train("study", study, "--out", out)
    assert {path: content(out)[path][1] for path in runs} == runs
    assert {path: content(out)[path] for path in scored} == scored
    new = scores(out)
    assert {name: new[name] for name in scores(finished)} == scores(finished)
    assert len(new) == 4


def test_a_chain_starts_each_link_from_the_one_before(small_store, tmp_path):
    row = '[method."N->M"]\nmethod = "gradient-moco"\non = ["nyu", "rooms"]\n[[grid]]'
    changes = (
        ("[pretrain]", f'nyu = "{small_store}"\n[pretrain]'),
        ("[[grid]]", row),
        ('"random", "grad', '"N->M", "grad'),
    )
    plan = make_plan(read_study(write_study(tmp_path, small_store, *changes), {}))
    folder = StudyFolder(tmp_path / "out")
    folder.begin(plan, "")
    chain = plan.cells[0].pretraining
    assert chain is not None
    assert chain.after is not None
    assert work_on(plan, folder, plan.cells[:1], command="", say=str, say_run=str).done == 1
    begun = [
        json.loads((run / "meta.json").read_text())["arguments"]["init"]
        for run in (folder.pretraining_run(chain.after), folder.pretraining_run(chain), folder.cell_run(plan.cells[0]))
    ]
    assert begun == ["random", str(folder.pretraining_run(chain.after)), str(folder.pretraining_run(chain))]
    (result,) = read_results(folder.path / "results.jsonl")[1]
    assert (result.row, result.pretrained_on) == ("N->M", ["nyu", "rooms"])


@pytest.mark.parametrize(
    "keep", [pytest.param("all", marks=pytest.mark.slow), "newest", pytest.param("encoders", marks=pytest.mark.slow)]
)
def test_what_stays_of_checkpoints(small_store, tmp_path, keep):
    study = write_study(tmp_path, small_store, ("steps = 2", "steps = 2\nsave_every = 1"))
    said = train("study", study, "--out", tmp_path / "out", "--keep", keep, "--part", "2/2").output
    assert "cell 1 of 2" not in said
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert len(list(run.glob("checkpoints/step-*"))) == {"all": 2, "newest": 1, "encoders": 0}[keep]
    (encoder,) = (path for path in (tmp_path / "out" / "pretrained").iterdir() if path.is_dir())
    assert len(list(encoder.glob("checkpoints/step-*"))) == 1


def stop_when(text: str, how: int):
    """A `say` that sends this process a signal when a line with ``text`` comes."""
    sent = []

    def say(line: str) -> None:
        if text in line and not sent:
            sent.append(line)
            os.kill(os.getpid(), how)

    return say


@pytest.mark.parametrize(
    ("text", "how"),
    [("step an epoch", signal.SIGTERM), pytest.param("queue of", signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_stopped_study_goes_on_to_the_same_results(finished, small_store, tmp_path, text, how):
    plan = make_plan(read_study(write_study(tmp_path, small_store), {}))
    folder = StudyFolder(tmp_path / "out")
    folder.begin(plan, "train study")
    work = {"command": "train study", "say": lambda line: None}
    stopped = work_on(plan, folder, plan.cells, say_run=stop_when(text, how), **work)
    assert (stopped.signal, stopped.failures) == (how, [])
    assert stopped.done < 2
    before = {path: facts for path, facts in content(folder.path).items() if "/cells/" in path}
    done = work_on(plan, folder, plan.cells, say_run=lambda line: None, **work)
    assert (done.signal, done.done, done.failures) == (None, 2, [])
    assert {path: content(folder.path)[path] for path in before} == before
    assert scores(folder.path) == scores(finished)


def test_a_signal_between_two_pieces_is_obeyed(small_store, tmp_path):
    plan = make_plan(read_study(write_study(tmp_path, small_store), {}))
    folder = StudyFolder(tmp_path / "out")
    folder.begin(plan, "train study")
    lines: list[str] = []
    stop = stop_when("done in", signal.SIGTERM)
    outcome = work_on(plan, folder, plan.cells, command="", say=lambda x: (lines.append(x), stop(x)), say_run=str)
    assert (outcome.signal, outcome.done) == (signal.SIGTERM, 1)
    assert lines[-1].startswith("done in")


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_while_all_is_checked_first_ends_the_command(small_store, tmp_path, monkeypatch, how, code):
    begin = rehearsal._begin_finetuning

    def signalled(*of):
        os.kill(os.getpid(), how)
        begin(*of)

    monkeypatch.setattr(rehearsal, "_begin_finetuning", signalled)
    said = train("study", write_study(tmp_path, small_store), "--out", tmp_path / "out", code=code).output
    assert f"Stopped by {how.name} before anything was begun." in said
    assert not (tmp_path / "out").exists()


def test_a_call_for_one_table_keeps_what_calls_for_others_found(small_store, tmp_path):
    """As the README has it: a command a table, each with the stores that it needs, all on one OUT."""
    grid = STUDY[STUDY.index("[[grid]]") :].replace('"random", "gradient-moco"', '"random"')
    other = grid.replace('"labels"', '"make3d"').replace('["rooms"]', '["streets"]')
    kept = ('"random", "gradient-moco"', '"random"')
    study = write_study(tmp_path, Path(), ("[pretrain]", 'streets = ""\n[pretrain]'), ("[[grid]]", f"{other}[[grid]]"),
                        kept, ('rooms = "."', 'rooms = ""'))  # fmt: skip
    out, streets = tmp_path / "out", tmp_path / "streets.zarr"
    shutil.copytree(small_store, streets)
    said = train("study", study, "--grid", "make3d", "--out", out, code=1).output
    assert "no grid of make3d has its stores, wanted --store streets=PATH" in said
    train("study", study, "--grid", "make3d", "--store", f"streets={streets}", "--out", out)
    said = train("study", study, "--grid", "labels", "--store", f"rooms={small_store}", "--out", out).output
    assert f"note: store streets is {streets}, as before" in said
    header, results = read_results(out / "results.jsonl")
    assert [result.store for result in results] == ["streets", "rooms"]
    assert {path.name for path in (out / "report").glob("*.md")} == {"findings.md", "labels.md", "make3d.md"}
    assert header.command.startswith("train study")
    streets.rename(tmp_path / "moved.zarr")
    said = train("study", study, "--store", f"rooms={small_store}", "--out", out).output
    assert f"note: store streets was {streets}, which is gone; --store streets=PATH says where it is now" in said
    assert {path.name for path in (out / "report").glob("*.md")} == {"findings.md", "labels.md"}
    said = train("study", study, "--store", "rooms=a", "--store", "rooms=b", "--out", out, code=2).output
    assert "--store rooms is both a and b, wanted one" in said


def test_the_list_needs_no_encoder_whose_cells_are_done(finished, small_store, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for path in (out / "pretrained").glob("*/checkpoints"):
        shutil.rmtree(path)
    listed = train("study", write_study(tmp_path, small_store), "--out", out, "--list").output
    assert "not needed, its cells are done" in listed
    assert "left: " not in listed


def test_a_note_of_a_pretraining_that_says_nothing_is_not_believed(finished, small_store, tmp_path):
    plan = make_plan(read_study(write_study(tmp_path, small_store), {}))
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (link,) = plan.pretrainings
    folder = StudyFolder(out)
    assert folder.pretrained(link) is not None
    (out / "pretrained" / f"{link.id}.json").write_text('{"format": "gfield study 1"}')
    assert folder.pretrained(link) is None


def test_what_an_inner_wish_to_stop_was_told_the_outer_one_knows():
    with StopSignals() as outer:
        with StopSignals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.received == outer.received == signal.SIGTERM


def test_a_failing_cell_does_not_stop_the_others(small_store, tmp_path):
    # 1e30 makes the second loss infinite; ten steps in a row end the run.
    rates = "[method.gradient-moco]\nlr = 1e30\nsteps = 30"
    study = write_study(tmp_path, small_store, ("[method.gradient-moco]", rates))
    result = train("study", study, "--out", tmp_path / "out", code=1)
    assert f"{tmp_path / 'out'}: 1 of 2 cells done" in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert errors[0].startswith("Error: pre-training 1 of 1: gradient-moco, resnet18, on rooms: step ")
    assert "not finite" in errors[0]
    assert [line.endswith("not begun, its pre-training failed") for line in errors] == [False, True]
    assert list(scores(tmp_path / "out")) == ["random 50% 0 nyu-eigen"]


@pytest.mark.parametrize(
    ("defect", "text"),
    [
        (False, "depth that is not finite predicted for 3 of 3 images"),
        (True, "RuntimeError: a shape that does not fit"),
    ],
)
def test_a_score_that_is_no_number_and_a_defect_are_failures_and_no_results(
    small_store, tmp_path, monkeypatch, defect, text
):
    def broken(*arguments: object) -> None:
        raise RuntimeError("a shape that does not fit")

    if defect:
        monkeypatch.setattr("train.loop.queue_step", broken)
    blown_up = ("steps = 2\nbatch = 2", "steps = 1\nlr = 1e30\nbatch = 2")
    study = write_study(tmp_path, small_store, blown_up, ('"random", "gradient-moco"', '"random"'))
    said = train("study", study, "--out", tmp_path / "out", code=1).output
    (failure,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert failure.startswith("Error: cell 1 of 1: random, densedepth, 50%, rooms, seed 0: ")
    assert text in failure
    assert scores(tmp_path / "out") == {}


def test_what_a_command_would_refuse_is_found_before_the_first_cell(small_store, tmp_path):
    refused = {
        (
            "temperature = 0.2",
            "temperature = 0.2\nbatch = 9",
        ): "pre-training gradient-moco, resnet18, on rooms: batch 9",
        ('"random", ', '"imagenet", '): "imagenet, densedepth, 50%, rooms, seed 0: ",
        ('["nyu-eigen"]', '["nyu-eigen", "make3d-c1"]'): "store rooms: ",
        ('device = "cpu"\ncache = "none"\nthreads = 1\n[finetune]', 'device = "tpu"\n[finetune]'): "'tpu'",
    }
    (tmp_path / "no.pth").write_text("no weights")
    no_weights = f'[finetune]\nweights = "{tmp_path / "no.pth"}"'
    for change, text in refused.items():
        changes = (change, ("[finetune]", no_weights)) if "imagenet" in change[1] else (change,)
        study = write_study(tmp_path, small_store, *changes)
        said = train("study", study, "--out", tmp_path / "out", code=1).output
        assert text in said, said
        assert "cell 1" not in said
        assert not (tmp_path / "out").exists()


def test_a_part_does_other_cells_first_and_takes_over_from_the_dead(finished, small_store, tmp_path):
    plan = make_plan(read_study(write_study(tmp_path, small_store), {}))
    folder = StudyFolder(tmp_path / "out")
    folder.begin(plan, "train study")
    cells = list(reversed(plan.cells))  # the one that needs the pre-training first
    held, free = threading.Event(), threading.Event()

    def other() -> None:
        with claimed(folder.claim_path(plan.pretrainings[0])) as ours:
            assert ours
            held.set()
            free.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            free.set()

    outcome = work_on(plan, folder, cells, command="", say=say, say_run=str, poll_s=0.05)
    thread.join()
    assert outcome.done == 2
    assert [line.split(":")[0].split(" in ")[0] for line in lines] == [
        "cell 1 of 2", "done", "waiting for gradient-moco-resnet18-rooms-" + plan.pretrainings[0].id[-8:],
        "pre-training 1 of 1", "done", "cell 2 of 2", "done",
    ]  # fmt: skip
    assert scores(folder.path) == scores(finished)


def test_work_that_another_finished_meanwhile_is_not_repeated(finished, small_store, tmp_path):
    out = tmp_path / "out"
    copy(finished, out)
    plan = make_plan(read_study(write_study(tmp_path, small_store), {}))
    cell = out / "cells" / f"{plan.cells[0].id}.json"
    aside = cell.rename(tmp_path / cell.name)

    class Late(StudyFolder):
        """Where another process finishes the cell after it was looked at, and before it is claimed."""

        def claim_path(self, item):
            if aside.exists():
                aside.rename(cell)
            return super().claim_path(item)

    before, lines = content(out), []
    assert work_on(plan, Late(out), plan.cells, command="", say=lines.append, say_run=str).done == 2
    assert lines == []
    assert {path: content(out)[path] for path in before} == before


def test_a_damaged_file_of_a_finished_cell_is_done_again(finished, small_store, tmp_path):
    out = tmp_path / "out"
    copy(finished, out)
    cell = next((out / "cells").glob("random*"))
    whole = cell.read_bytes()
    cell.unlink()
    cell.write_bytes(whole[:50])
    said = train("study", write_study(tmp_path, small_store), "--out", out).output
    assert "cell 1 of 2" in said
    assert "cell 2 of 2" not in said
    assert scores(out) == scores(finished)


def test_a_finished_cell_of_another_kind_is_none(finished, small_store, tmp_path):
    out = StudyFolder(tmp_path / "out")
    copy(finished, out.path)
    cell = make_plan(read_study(write_study(tmp_path, small_store), {})).cells[0]
    path, whole = out.path / "cells" / f"{cell.id}.json", out.cell(cell)
    assert whole is not None
    for wrong in ({"scores": {"nyu-eigen": 3}}, {"scores": []}, {"machine": None}):
        path.unlink()
        path.write_text(json.dumps({**whole, **wrong}))
        assert out.cell(cell) is None
        assert not out.is_done(cell)


def test_seconds_of_a_run_leave_out_the_pauses(tmp_path):
    times = [0.0, 1.0, 2.0, 3.5, 1000.0, 1001.0]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps({'step': n, 'time': t, 'kind': 'train'})}\n" for n, t in enumerate(times)))
    assert training_seconds(log) == 1.0 + (1 + 1 + 1.5 + 1 + 1)


def command(study: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-c", "import cli; cli.train()", "study", str(study), "--out", str(out), *options]


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_killed_study_goes_on_without_repeating_a_finished_cell(finished, small_store, tmp_path):
    study, out = write_study(tmp_path, small_store), tmp_path / "out"
    for there in ("runs/*/log.jsonl", "cells/*.json"):  # inside the first cell, and after it
        process = subprocess.Popen(command(study, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob(there)):
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    before = {path: facts for path, facts in content(out).items() if "/cells/" in path}
    assert len(before) == 1
    subprocess.run(command(study, out), check=True, capture_output=True)
    assert {path: content(out)[path] for path in before} == before
    assert scores(out) == scores(finished)


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_two_parts_at_once_are_one(small_store, tmp_path):
    study = write_study(tmp_path, small_store, ("[0]", "[0, 1]"))
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    parts = [
        subprocess.Popen(command(study, shared, *options), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for options in (["--part", "1/2"], ["--part", "2/2"], [])
    ]
    said = [part.communicate()[1] for part in parts]
    assert [part.returncode for part in parts] == [0, 0, 0], said
    train("study", study, "--out", alone)
    assert scores(shared) == scores(alone)
    everything = "\n".join(said)
    for piece in ("pre-training 1 of 1: ", *(f"cell {n} of 4: " for n in (1, 2, 3, 4))):
        assert everything.count(piece) == 1, everything
    _, ours = read_results(shared / "results.jsonl")
    assert [result.cell for result in ours] == [result.cell for result in read_results(alone / "results.jsonl")[1]]


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_jobs_share_a_study_and_stop_together(finished, small_store, tmp_path):
    study, out = write_study(tmp_path, small_store), tmp_path / "out"
    process = subprocess.Popen(command(study, out, "--jobs", "2"), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((out / "runs").glob("*/log.jsonl")):
        time.sleep(0.02)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "Stopped by SIGTERM and saved; the same command goes on." in said
    done = subprocess.run(command(study, out, "--jobs", "2"), check=True, capture_output=True, text=True)
    assert "2 of 2 cells done" in done.stdout
    assert scores(out) == scores(finished)
    assert (out / "logs" / "job-1.log").stat().st_size


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_job_that_dies_is_told_and_its_work_is_done_by_the_other(finished, small_store, tmp_path):
    study, out = write_study(tmp_path, small_store), tmp_path / "out"
    process = subprocess.Popen(command(study, out, "--jobs", "2"), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((out / "runs").glob("*/log.jsonl")):
        time.sleep(0.02)
    owner = int(next((out / "runs").glob("*/lock")).read_text().split()[1])
    assert owner != process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner, signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "ended by itself, exit code -9" in said
    assert scores(out) == scores(finished)
