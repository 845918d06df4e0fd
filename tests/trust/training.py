"""Runs of `train` in forked processes, small enough to be killed often, and what they have to end as."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

import cli
from gfield.build import build_store
from gfield.sample.nyu_mat import write_splits
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from tests.trust.campaign import Wrong
from tests.trust.children import Child, ChildDied, in_child
from tests.trust.inputs import small_mat
from train.checkpoint import load_checkpoint

STEPS = 5  # with three steps an epoch, so that a resumption may lie within one
_FRAMES, _TRAIN = 9, 6
SMALL = ("--encoder", "resnet18", "--size", "80x60", "--device", "cpu")
_FINETUNE = ("finetune", "--init", "random", "--network")
# What is trained, by name.
VARIANTS: dict[str, tuple[str, ...]] = {
    "fcrn": (*_FINETUNE, "fcrn", "--batch", "2"),
    "gradient-moco": ("pretrain", "--batch", "2"),
    "simclr": ("pretrain", "--method", "simclr", "--batch", "2"),
    "rotation": ("pretrain", "--method", "rotation", "--batch", "2"),
    "densedepth": (*_FINETUNE, "densedepth", "--batch", "2", "--accumulate", "2", "--warmup", "2"),
    "moco": ("pretrain", "--method", "moco", "--batch", "2", "--accumulate", "2", "--schedule", "step"),
    "exemplar": ("pretrain", "--method", "exemplar", "--batch", "2"),
    "jigsaw": ("pretrain", "--method", "jigsaw", "--batch", "2"),
}
# What the commands import when they run, here once before anything is forked.
_IMPORTED = (
    "torch.utils.tensorboard",
    *("train.evaluate", "train.export", "train.finetune", "train.importing", "train.predict", "train.pretrain"),
    *("train.study.rehearsal", "train.study.report", "train.study.run", "train.study.page"),
)


@dataclass(frozen=True)
class Ground:
    """What the cases share.

    Attributes
    ----------
    folder
        Holds the store, and what uninterrupted runs ended as once somebody has asked for it.
    store
        Six frames to train on and three to test, at 640x480 and 80x60.
    """

    folder: Path
    store: Path


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, negative for a signal; what it said; and its calls of the file system."""

    code: int
    said: str
    calls: int = 0


def ground(folder: Path) -> Ground:
    """Load everything, and build the store."""
    torch.set_num_threads(1)
    for name in _IMPORTED:
        importlib.import_module(name)
    mat = small_mat(folder, _FRAMES)
    write_splits(folder / "splits.mat", range(1, _TRAIN + 1), range(_TRAIN + 1, _FRAMES + 1))
    source = open_nyuv2(mat)
    in_child(build_store, source, folder / "nyu.zarr", make_spec(source, levels_WH=((640, 480), (80, 60))))
    # A fork takes one thread along: of a pool that torch had started here, a child would wait for the others.
    assert len(os.listdir("/proc/self/task")) == 1, "a process that forks has threads"
    return Ground(folder, folder / "nyu.zarr")


def start(
    arguments: tuple[Any, ...],
    says: Path,
    watched: Path,
    die_at: int | None = None,
    *,
    program: str = "train",
    before: Callable[[], None] | None = None,
) -> Child:
    """Start a command.

    Parameters
    ----------
    arguments
        Of the command.
    says
        Where its output goes, anew.
    watched
        Calls of the file system that name something in this folder are counted.
    die_at
        Before this one of them, counted from 1, the process kills itself.
    program
        Whose command: of ``train`` or ``gfield``.
    before
        Called in the new process first.
    """
    says.write_bytes(b"")
    return Child(_command, program, [str(argument) for argument in arguments], watched, die_at, before, says=says)


def end_of(child: Child, says: Path, seconds: float = 120) -> Ended:
    """Wait until a command has ended.

    Raises
    ------
    Exception
        What would have been a traceback.
    """
    try:
        code, calls = child.result(seconds)
    except ChildDied as died:
        code, calls = died.status, 0
    except KeyboardInterrupt:  # before the command had begun, or after its end
        code, calls = -signal.SIGINT, 0
    return Ended(code, says.read_text(), calls)


def run(arguments: tuple[Any, ...], says: Path, watched: Path, program: str = "train") -> Ended:
    """A command from its start to its end."""
    return end_of(start(arguments, says, watched, program=program), says)


def once(ground: Ground, name: str, find_out: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What a function finds out in a new folder of that name; whoever asks first does it, others wait for it."""
    path = ground.folder / f"{name}.json"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            shutil.rmtree(ground.folder / name, ignore_errors=True)  # of a case that took too long
            (ground.folder / name).mkdir()
            path.write_text(json.dumps(find_out(ground.folder / name)))
    return dict(json.loads(path.read_text()))


def whole_run(arguments: tuple[Any, ...], folder: Path, watched: Path) -> dict[str, Any]:
    """Run a command that has to end well: how long it takes, and in how many calls of the file system."""
    began = time.monotonic()
    ended = run(arguments, folder / "said", watched)
    if ended.code:
        raise Wrong(f"uninterrupted, it ended with {ended.code}: {ended.said}")
    return {"seconds": time.monotonic() - began, "calls": ended.calls}


def uninterrupted(ground: Ground, name: str) -> dict[str, Any]:
    """What a variant's run ends as and what it takes, if nobody interrupts it."""

    def find_out(folder: Path) -> dict[str, Any]:
        out = folder / "run"
        taken = whole_run((*arguments_of(ground, name), "--out", out, "--save-every", 2), folder, out)
        result = result_of(out)
        shutil.rmtree(out)
        return {**taken, **result}

    return once(ground, name, find_out)


def arguments_of(ground: Ground, name: str) -> tuple[Any, ...]:
    """The command of a variant, without its folder."""
    command, *options = VARIANTS[name]
    return command, ground.store, *SMALL, *options, "--steps", STEPS


def result_of(out: Path) -> dict[str, Any]:
    """What a run ended as: a hash of all that its last checkpoint holds, and what its log says of every step."""
    step, digest = in_child(digest_of, out)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_bytes().splitlines()]
    for line in lines:
        del line["time"], line["wait_share"]
    return {"step": step, "digest": digest, "log": lines}


def logged_steps(out: Path) -> int:
    """Complete lines of a run's log."""
    try:
        return (out / "log.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def await_steps(child: Child, out: Path, steps: int, seconds: float = 60) -> None:
    """Wait until so many steps of a run are logged, or its process has ended."""
    end = time.monotonic() + seconds
    while child.running and logged_steps(out) < steps:
        if time.monotonic() > end:
            child.kill(group=True)
            raise Wrong(f"{logged_steps(out)} steps after {seconds:g} s, wanted {steps}")
        time.sleep(0.002)


def saved_step(out: Path) -> int | None:
    """Steps of the newest checkpoint that has its name."""
    names = [path.name for path in (out / "checkpoints").glob("step-*")]
    return max((int(name[5:14]) for name in names if re.fullmatch(r"step-\d{9}(\.old)?", name)), default=None)


def leftovers(folder: Path) -> list[str]:
    """What is there under a name that is temporary."""
    found = (path for pattern in ("*.tmp", "*.old") for path in folder.rglob(pattern))
    return sorted(str(path.relative_to(folder)) for path in found)


def _command(
    program: str, arguments: list[str], watched: Path, die_at: int | None, before: Callable[[], None] | None
) -> tuple[int, int]:
    # Whoever runs the campaign in the background has told its children to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()
    calls = _Calls(str(watched), die_at)
    sys.addaudithook(calls.see)
    try:
        getattr(cli, program).main(arguments, prog_name=program)
    except SystemExit as end:
        return int(end.code or 0), calls.seen
    return 0, calls.seen


class _Calls:
    """Counts calls of the file system that name something in a folder, and dies before one of them."""

    def __init__(self, folder: str, die_at: int | None) -> None:
        self.seen, self._folder, self._die_at = 0, folder, die_at

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" and not event.startswith(("os.", "shutil.")):
            return
        if any(self._folder in str(argument) for argument in arguments[:2]):
            self.seen += 1
            if self.seen == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def digest_of(out: Path) -> tuple[int, str]:
    """Steps of a run's newest checkpoint, and a hash of all that it holds.

    Raises
    ------
    Wrong
        If it is not whole, or there is none.
    """
    damages: list[str] = []
    checkpoint = load_checkpoint(out, say=damages.append)
    if checkpoint is None or damages:
        raise Wrong(f"{out.name}: {'; '.join(damages) or 'no checkpoint'}")
    digest = blake3()
    _add(digest, checkpoint.state)
    return checkpoint.step, digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Add nested values to a hash, tensors bit for bit, dicts in the order of their keys' texts."""
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key!r}\n".encode())
            _add(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}\n".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(f"{value!r}\n".encode())
