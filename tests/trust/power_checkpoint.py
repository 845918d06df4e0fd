"""Power cuts at any moment of a run that saves checkpoints, by what POSIX lets a disk forget."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.disk import Disk, check_film, power_cut, told
from tests.trust.shim import Kind, Operation, mark, read_trace, traced
from train.checkpoint import load_checkpoint, save_checkpoint
from train.runs import create_run

_RUN = "new/folder/run"
_META = {"command": "pretrain", "arguments": {"batch": 4}, "stores": []}
_KEEP = 2
_NUMBERS = 20_000
_DAMAGE = -1
# What is done one after another: a save of this step, or the damage to the newest checkpoint, past which a run goes
# back. The saves have their place here as a number.
_DONE = (5, 10, 15, 15, 20, _DAMAGE, 18, 20)
# Which save is loaded after each.
_LOADED = (0, 1, 2, 3, 4, 3, 6, 7)


class Film(NamedTuple):
    """The disk before a run, and all that was done there."""

    before: Disk
    trace: list[Operation]


def _state(number: int) -> dict[str, Any]:
    return {"x": torch.full((_NUMBERS,), number), "y": {"cursor": number}}


def _save(run: Path, step: int, number: int) -> None:
    save_checkpoint(run, step, _state(number), {"number": number}, _KEEP)


def _train(run: Path) -> None:
    with create_run(run, _META):
        for number, step in enumerate(_DONE):
            if step == _DAMAGE:
                with (run / "checkpoints/step-000000020/state.pt").open("r+b") as file:
                    file.truncate(1000)
                    os.fsync(file.fileno())
            else:
                _save(run, step, number)
            mark(number)


def _prepare(folder: Path) -> Film:
    disk, trace = folder / "disk", folder / "trace"
    disk.mkdir()
    before = Disk(disk)
    in_child(traced, disk, trace, _train, disk / _RUN)
    film = Film(before, read_trace(trace))
    check_film(before, film.trace, disk)
    return film


def _case(film: Film, number: int, rng: np.random.Generator, folder: Path) -> str:
    disk = folder / "disk"
    cut = power_cut(film.before, film.trace, rng, disk, worst=number == 0)
    done = sum(operation.kind == Kind.MARK for operation in film.trace[:cut])
    allowed = {None, *_LOADED[:1]} if done == 0 else {*_LOADED[done - 1 : done + 1]}
    try:
        loaded = in_child(_checked, disk / _RUN, allowed)
    except Wrong as wrong:
        raise Wrong(f"power cut {told(film.trace, cut)}: {wrong}") from wrong
    if loaded is None:
        return "no checkpoint yet"
    return "the checkpoint saved last" if done and loaded == _LOADED[done - 1] else "the one that was being saved"


def _checked(run: Path, allowed: set[int | None]) -> int | None:
    loaded = _loaded(run)
    if loaded not in allowed:
        raise Wrong(f"save {loaded} is loaded, wanted one of {allowed}")
    with create_run(run, _META, resume=True):
        _save(run, 25, len(_DONE))
    if _loaded(run) != len(_DONE):
        raise Wrong("what is saved after the cut is not what is loaded")
    left = [path.name for path in (run / "checkpoints").iterdir()]
    if len(left) > _KEEP or not all(name.removeprefix("step-").isdigit() for name in left):
        raise Wrong(f"left: {', '.join(left)}")
    return loaded


def _loaded(run: Path) -> int | None:
    """Which save is loaded, once all of it is found as it was."""
    checkpoint = load_checkpoint(run, say=lambda text: None)
    if checkpoint is None:
        return None
    number = int(checkpoint.meta["number"])
    wanted = _state(number)
    if not torch.equal(checkpoint.state["x"], wanted["x"]) or checkpoint.state["y"] != wanted["y"]:
        raise Wrong(f"save {number} is loaded with another content")
    return number


CAMPAIGNS = [
    Campaign(
        "power-loss-checkpoint",
        "power is cut while checkpoints are saved: what was not forced to the disk is lost, torn or zeros",
        "the checkpoint saved last is loaded, or the one that was being saved, whole; saving goes on",
        quick=20,
        soak=500,
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
