"""Kills and full disks while a checkpoint is saved, in processes of their own: a whole one is always left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from train.checkpoint import load_checkpoint, save_checkpoint

from .test_checkpoint import META, names, state_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with checkpoints of steps 5 and 10."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (5, 10):
        save_checkpoint(folder, step, state_of(step), META)
    return folder


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from train.checkpoint import load_checkpoint, save_checkpoint

run, keep, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
numbers = random.Random(1)
size = 500_000

def save(step, salt):
    save_checkpoint(run, step, {"a": torch.full((size,), salt), "b": torch.full((size,), salt)}, {"salt": salt}, keep)

step = salt = 0
for kill in range(10):
    saved, told = os.pipe()
    child = os.fork()
    if child == 0:
        for count in range(1, 10_000):
            save(step + stride * count, salt + count)
            os.write(told, b".")
    # A save has been seen to take this long here, so the kill falls anywhere within the next two.
    os.read(saved, 1)
    before = time.monotonic()
    os.read(saved, 1)
    time.sleep(numbers.uniform(0, 2 * (time.monotonic() - before)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    checkpoint = load_checkpoint(run, say=sys.exit)
    assert checkpoint.meta["salt"] >= salt + 2, "a kill lost a finished checkpoint"
    step, salt = checkpoint.step, checkpoint.meta["salt"]
    assert (checkpoint.state["a"] == salt).all() and (checkpoint.state["b"] == salt).all()
    os.close(saved), os.close(told)
save(step + stride, salt + 1)
left = sorted(os.listdir(run / "checkpoints"))
assert len(left) == keep and all(name[5:].isdigit() for name in left), left
"""


def in_a_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


KEPT = [(2, 1), (1, 0)]
KEPT_IDS = ["new steps", "the same step, one kept"]


@pytest.mark.parametrize(("keep", "stride"), KEPT, ids=KEPT_IDS)
def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path, keep, stride):
    in_a_process(KILLS, tmp_path, keep, stride)


EVERY_CALL = """
import os, signal, sys
from pathlib import Path
import torch
from train.checkpoint import load_checkpoint, save_checkpoint

run, keep, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)

def save_until_call(calls):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event == "open" or event.startswith(("os.", "shutil.")):
            seen += 1
            if seen == calls + 1:  # and not at os.kill itself
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    save_checkpoint(run, 5 + stride, {"x": torch.full((9,), calls)}, {"calls": calls}, keep)
    os._exit(0)

save_checkpoint(run, 5, {"x": torch.full((9,), -1)}, {"calls": -1}, keep)
for calls in range(1000):
    child = os.fork()
    if child == 0:
        save_until_call(calls)
    _, status = os.waitpid(child, 0)
    checkpoint = load_checkpoint(run, say=sys.exit)
    assert (checkpoint.state["x"] == checkpoint.meta["calls"]).all()
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
assert calls > 10 and checkpoint.meta["calls"] == calls
left = sorted(os.listdir(run / "checkpoints"))
assert len(left) == min(keep, 1 + stride) and all(name[5:].isdigit() for name in left), left
"""


@pytest.mark.parametrize(("keep", "stride"), KEPT, ids=KEPT_IDS)
def test_a_kill_before_any_call_to_the_file_system_leaves_a_whole_checkpoint(tmp_path, keep, stride):
    in_a_process(EVERY_CALL, tmp_path, keep, stride)


FULL = """
import os, resource, sys
from pathlib import Path
import torch
from train.checkpoint import save_checkpoint
from train.errors import TrainError

run = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for size in (60_000, 300_000):
    try:
        save_checkpoint(run, 15, {"a": torch.zeros(size), "b": torch.zeros(1000)}, {})
    except TrainError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_the_older_ones_stay(run):
    out = in_a_process(FULL, run).splitlines()
    assert len(out) == 1
    assert out[0] == (
        f"{run / 'checkpoints'}: step 15 was not saved: File too large; what was saved before is still there"
    )
    assert names(run) == ["step-000000010", "step-000000015"]
    assert load_checkpoint(run, say=pytest.fail).state["a"].shape == (60_000,)
