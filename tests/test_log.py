"""The log of a run: what is written is there after a kill, and a resumed run's reads as if it had never stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.errors import TrainError
from train.log import RunLog

ROOT = Path(__file__).parents[1]


def lines(run: Path) -> list[dict]:
    """The log without its times."""
    text = (run / "log.jsonl").read_text()
    return [{name: value for name, value in json.loads(line).items() if name != "time"} for line in text.splitlines()]


def log_steps(run: Path, start: int, stop: int, last: float = 0.0) -> None:
    """Log steps as a run does that is killed before it closes its log; ``last`` tells attempts apart."""
    with RunLog(run, start_step=start, say=pytest.fail) as log:
        for step in range(start, stop):
            log.scalars(step, {"loss": 1 / (step + 1), "last": last})
            if step % 7 == 0:
                log.event(step, f"step {step}")


def board(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_lines_are_json_objects_with_step_time_and_kind(tmp_path):
    with RunLog(tmp_path, start_step=0, say=pytest.fail) as log:
        log.scalars(0, {"loss": 1 / 3, "rate": 1.2345678e-9, "images": 64})
        log.scalars(1, {"loss": float("nan"), "up": float("inf"), "down": -np.inf, "half": np.float32(0.1)})
        log.scalars(1, {"d1": 0.5}, kind="eval")
        log.event(2, "süß\nand more")
    assert lines(tmp_path) == [
        {"step": 0, "kind": "train", "loss": 0.3333333, "rate": 1.234568e-09, "images": 64},
        {"step": 1, "kind": "train", "loss": "nan", "up": "inf", "down": "-inf", "half": 0.1},
        {"step": 1, "kind": "eval", "d1": 0.5},
        {"step": 2, "kind": "event", "text": "süß\nand more"},
    ]
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert abs(first["time"] - (tmp_path / "log.jsonl").stat().st_mtime) < 60


@pytest.mark.parametrize("checkpoint", [0, 1, 14, 25, 30])
def test_the_log_of_a_resumed_run_reads_like_that_of_one_which_never_stopped(tmp_path, checkpoint):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    for run in (straight, resumed):
        run.mkdir()
    log_steps(straight, 0, 40)
    log_steps(resumed, 0, checkpoint)
    log_steps(resumed, checkpoint, 30, last=1.0)
    log_steps(resumed, checkpoint, 40)
    assert lines(resumed) == lines(straight)
    ours, theirs = board(resumed), board(straight)
    for tag in ("train/loss", "train/last"):
        values = [[(event.step, event.value) for event in each.Scalars(tag)] for each in (ours, theirs)]
        assert values[0] == values[1]
    assert [event.step for event in ours.Scalars("train/loss")] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"step": 2, "time": 1.5, "ki', b'{"step": 2, "time": 1.5}', b"\0" * 100, b"\xff\n", b"5\n", b"{}\n",
        b'{"step": "3"}\n',
    ],
    ids=repr,
)  # fmt: skip
def test_a_torn_line_is_dropped_and_the_next_begins_a_line(tmp_path, torn):
    log_steps(tmp_path, 0, 3)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(torn)
    log_steps(tmp_path, 3, 5)
    assert [line["step"] for line in lines(tmp_path) if line["kind"] == "train"] == [0, 1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from train.log import RunLog
log = RunLog(Path(sys.argv[1]), start_step=0, say=sys.exit)
for step in range(1000):
    log.scalars(step, {"loss": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_line(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert [line["step"] for line in lines(tmp_path)] == list(range(1000))


def test_tensorboard_shows_every_tenth_step_every_evaluation_and_pictures(tmp_path):
    rgb_HWC = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with RunLog(tmp_path, start_step=0, say=pytest.fail) as log:
        for step in range(25):
            log.scalars(step, {"loss": step / 2})
        log.scalars(13, {"d1": 0.5}, kind="eval")
        log.pictures(3, {"query": rgb_HWC, "field": rgb_HWC[:, ::-1]})
        log.flush()
        seen = board(tmp_path)
    assert [(event.step, event.value) for event in seen.Scalars("train/loss")] == [(0, 0.0), (10, 5.0), (20, 10.0)]
    assert [(event.step, event.value) for event in seen.Scalars("eval/d1")] == [(13, 0.5)]
    for tag, wanted_HWC in (("query", rgb_HWC), ("field", rgb_HWC[:, ::-1])):
        (event,) = seen.Images(tag)
        assert event.step == 3
        np.testing.assert_array_equal(Image.open(io.BytesIO(event.encoded_image_string)), wanted_HWC)


def test_without_tensorboard_there_is_the_file_and_it_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    with RunLog(tmp_path, start_step=0, say=said.append) as log:
        log.scalars(0, {"loss": 1.0})
        log.pictures(0, {"query": np.zeros((2, 2, 3), np.uint8)})
        log.flush()
    assert said == ["TensorBoard is not installed, the run is logged in log.jsonl alone; pip install tensorboard"]
    assert os.listdir(tmp_path) == ["log.jsonl"]
    assert lines(tmp_path) == [{"step": 0, "kind": "train", "loss": 1.0}]
    assert capsys.readouterr().err == ""


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(TrainError, match=r"log.jsonl: cannot be written: No such file or directory$"):
        RunLog(tmp_path / "nothing", start_step=0, say=pytest.fail)
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(TrainError, match=r"log.jsonl: cannot be written: Is a directory$"):
        RunLog(tmp_path, start_step=0, say=pytest.fail)


FULL = """
import resource, sys
from pathlib import Path
from train.errors import TrainError
from train.log import RunLog
sys.modules["torch.utils.tensorboard"] = None
with RunLog(Path(sys.argv[1]), start_step=0, say=str) as log:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        for step in range(1000):
            log.scalars(step, {"loss": 0.5})
    except TrainError as error:
        print(error)
"""


def test_a_full_disk_is_one_line(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path / 'log.jsonl'}: cannot be written: File too large\n"
    assert done.returncode == 0, done.stderr
