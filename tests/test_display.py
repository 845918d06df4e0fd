"""What a run shows: the right numbers, in a terminal of any width, and few lines where nobody watches."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from train.display import TrainingDisplay

ROOT = Path(__file__).parents[1]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def trained(
    capsys, *, steps: int, seconds: float, per_epoch: int, loss=lambda step: 2.0, skipped: int = 0
) -> list[str]:
    """The plain lines of a run from step 100 on, of 16 images and a tenth of waiting a step."""
    clock = Clock()
    with TrainingDisplay("pretrain", 1000, start=100, steps_per_epoch=per_epoch, clock=clock) as display:
        for step in range(101, 101 + steps):
            clock.now_s += seconds
            wait_s = (step - 100) * seconds / 10
            display.update(step, loss=loss(step), images=16, wait_s=wait_s, skipped=skipped)
    return capsys.readouterr().err.splitlines()


def test_a_plain_line_every_half_minute_tells_all(capsys):
    assert trained(capsys, steps=70, seconds=1.0, per_epoch=900) == [
        "pretrain: step 130 of 1000, epoch 0.1, loss 2.0000, 16 images/s, 10.0% waiting, 14 min 30 s left",
        "pretrain: step 160 of 1000, epoch 0.2, loss 2.0000, 16 images/s, 10.0% waiting, 14 min 0 s left",
    ]


def test_a_plain_line_ends_each_epoch_unless_epochs_are_very_short(capsys):
    long = trained(capsys, steps=40, seconds=1.0, per_epoch=10)
    assert [line.split(",")[0] for line in long] == [f"pretrain: step {step} of 1000" for step in (110, 120, 130, 140)]
    short = trained(capsys, steps=400, seconds=0.125, per_epoch=2)
    assert len(short) == 10


def test_the_loss_is_a_running_mean_of_the_finite_ones(capsys):
    (line,) = trained(
        capsys, steps=30, seconds=1.0, per_epoch=900, loss=lambda step: float("nan") if step % 2 else 5.0, skipped=15
    )
    assert "loss 5.0000" in line
    assert "15 skipped" in line
    (line,) = trained(capsys, steps=30, seconds=1.0, per_epoch=900, loss=lambda step: 1.0 if step == 130 else 3.0)
    assert "loss 2.9000" in line
    (line,) = trained(capsys, steps=30, seconds=1.0, per_epoch=900, loss=lambda step: float("inf"))
    assert "loss nan" in line


def test_rates_are_those_of_the_last_minute(capsys):
    clock = Clock()
    with TrainingDisplay("finetune", 1000, start=0, steps_per_epoch=5000, clock=clock) as display:
        for step in range(1, 301):
            clock.now_s += 10.0 if step <= 10 else 1.0
            display.update(step, loss=1.0, images=8, wait_s=90.0, skipped=0)
    assert "8 images/s, 0.0% waiting, 11 min 40 s left" in capsys.readouterr().err.splitlines()[-1]


@given(
    width=st.integers(24, 120),
    steps=st.sampled_from([10, 5000, 1_000_000]),
    done=st.integers(1, 9),
    seconds=st.sampled_from([0.001, 0.7, 50.0]),
    skipped=st.sampled_from([0, 12]),
)
def test_no_width_cuts_a_fact(width, steps, done, seconds, skipped):
    clock = Clock()
    display = TrainingDisplay("finetune", steps, start=0, steps_per_epoch=4, clock=clock)
    for step in range(done + 1):
        display.update(step, loss=7.123456, images=16, wait_s=0.1 * step * seconds, skipped=skipped)
        clock.now_s += seconds
    display._refresh()
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    console.print(display)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    facts = [
        f"epoch {done / 4:.1f}",
        "loss 7.1235",
        "images/s",
        "10.0% waiting",
        *([f"{skipped} skipped"] if skipped else []),
    ]
    assert [fact for fact in facts if fact not in shown] == []
    if width >= 40:
        assert f"{done}/{steps}" in shown
        assert " left" in shown
        assert "…" not in shown


TERMINAL = """
import sys, time
from train.display import TrainingDisplay
hurried = lambda: 60 * time.monotonic()
with TrainingDisplay("pretrain", 60, start=0, steps_per_epoch=20, clock=hurried) as display:
    for step in range(1, 61):
        time.sleep(0.02)
        display.update(step, loss=2.0, images=16, wait_s=0.0, skipped=0)
        if step == 30:
            print("said meanwhile", file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_in_a_terminal(kind):
    """A real one; what others say meanwhile is not lost, and in the end the lines are gone."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": "80"}
    command = [sys.executable, "-c", TERMINAL]
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 10_000)
            except OSError:  # how Linux says that nobody has the other end any more
                break
            if not part:
                break
            seen += part
        os.close(ours)
    assert process.returncode == 0
    text = seen.decode()
    assert "said meanwhile" in text
    assert [part in text for part in ("/60", "━", "\x1b[2K")] == [kind == "xterm"] * 3
    assert ("pretrain: step " in text) == (kind == "dumb")
