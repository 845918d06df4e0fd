"""Training that is killed or told to stop at any moment, and goes on."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import Child
from tests.trust.interrupted import evaluation, study
from tests.trust.training import (
    STEPS,
    VARIANTS,
    Ended,
    Ground,
    arguments_of,
    await_steps,
    end_of,
    ground,
    leftovers,
    logged_steps,
    result_of,
    run,
    saved_step,
    start,
    uninterrupted,
)


@dataclass(frozen=True)
class _Life:
    """A run from a start, or from where it goes on, to the end of its process.

    Attributes
    ----------
    arguments, out, says
        Of the command.
    seconds, calls
        That a run takes which nobody interrupts.
    """

    arguments: tuple[Any, ...]
    out: Path
    says: Path
    seconds: float
    calls: int

    def start(self, die_at: int | None = None) -> Child:
        return start(self.arguments, self.says, self.out, die_at)

    def end(self, child: Child) -> Ended:
        return end_of(child, self.says)


def _by_the_clock(life: _Life, rng: np.random.Generator, number: int) -> Ended:
    """A signal at any time from the start to a little after the end."""
    child = life.start()
    time.sleep(rng.uniform(0, 1.1 * life.seconds))
    child.kill(number)
    return life.end(child)


def _at_a_step(life: _Life, rng: np.random.Generator, number: int) -> Ended:
    """A signal within the step that follows one that was logged."""
    steps, child = rng.integers(STEPS), life.start()
    await_steps(child, life.out, int(steps) + 1)
    time.sleep(rng.uniform(0, life.seconds / STEPS / 2))
    child.kill(number)
    return life.end(child)


def _in_a_save(life: _Life, rng: np.random.Generator, number: int) -> Ended:
    """A signal while a checkpoint has not got its name yet."""
    child = life.start()
    while child.running and not any(life.out.glob("checkpoints/*.tmp")):
        time.sleep(0.001)
    time.sleep(rng.choice([0, rng.uniform(0, 0.1)]))
    child.kill(number)
    return life.end(child)


def _at_a_call(life: _Life, rng: np.random.Generator, number: int) -> Ended:
    """SIGKILL before a call of the file system that names something in the run's folder."""
    assert number == signal.SIGKILL
    return life.end(life.start(die_at=int(rng.integers(1, life.calls + 1))))


def _at_any_time(life: _Life, rng: np.random.Generator, number: int) -> Ended:
    harms = _by_the_clock, _by_the_clock, _at_a_step, _in_a_save
    return harms[rng.integers(len(harms))](life, rng, number)


_KILL, _STOP = (signal.SIGKILL,), (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
# What is done to a run, by which signals. A case has one of them, and some have more in a row.
_HARMS = ((_in_a_save, _KILL), (_at_a_step, _KILL), (_at_any_time, _STOP), (_at_a_call, _KILL), (_by_the_clock, _KILL))
_IN_A_ROW = (0.6, 0.3, 0.1)  # how likely it is that they are one, two or three


def _case(ground: Ground, number: int, rng: np.random.Generator, folder: Path) -> str:
    if number % 30 == 29:
        return study(ground, rng, folder)
    if number % 6 == 5:
        return evaluation(ground, rng, folder)
    name = [*VARIANTS][(number // 3 + number // 24) % len(VARIANTS)]
    harms = [number % 6, *rng.integers(len(_HARMS), size=2)][: 1 + rng.choice(len(_IN_A_ROW), p=_IN_A_ROW)]
    told = [_interrupted(ground, name, harm, rng, folder) for harm in harms]
    _goes_on_to_the_same_end(ground, name, rng, folder)
    return told[0] if len(told) == 1 else f"{len(told)} interruptions in a row"


def _life(ground: Ground, name: str, rng: np.random.Generator, folder: Path) -> _Life:
    """Start or resume a run with what need not be as it was before."""
    free = (
        *("--save-every", rng.integers(1, 4), "--threads", rng.integers(1, 4)),
        *("--cache", rng.choice(["auto", "host", "none"])),
    )
    whole = uninterrupted(ground, name)
    arguments = (*arguments_of(ground, name), "--out", folder / "run", "--resume", *free)
    return _Life(arguments, folder / "run", folder / "said", whole["seconds"], whole["calls"])


def _interrupted(ground: Ground, name: str, harm: int, rng: np.random.Generator, folder: Path) -> str:
    """Start or resume a run and interrupt it; which signal fell where."""
    life = _life(ground, name, rng, folder)
    saved, logged, left = saved_step(life.out) or 0, logged_steps(life.out), leftovers(life.out)
    act, signals = _HARMS[harm]
    number = signals[rng.integers(len(signals))]
    ended = act(life, rng, number)
    _lost_nothing(life, ended, saved)
    where = _where(life, ended, logged, left)
    if number != signal.SIGKILL:
        _stopped_well(life, ended, number, where)
    return f"{number.name} {where}"


def _lost_nothing(life: _Life, ended: Ended, saved: int) -> None:
    """What was saved before is where the run has gone on, and what is saved now is no less."""
    if "damaged" in ended.said:
        raise Wrong(f"a checkpoint was not whole: {ended.said}")
    if saved and "resumed at" in ended.said and f"resumed at step {saved} of" not in ended.said:
        raise Wrong(f"{saved} steps had been saved, and the run goes on elsewhere: {ended.said}")
    if (saved_step(life.out) or 0) < saved:
        raise Wrong(f"{saved} steps had been saved, now {saved_step(life.out)}")


def _where(life: _Life, ended: Ended, logged: int, left: list[str]) -> str:
    """Where a run was interrupted, by what it left that was not left before."""
    if saved_step(life.out) == STEPS:
        return "after the last save"
    if "Stopped by" in ended.said:
        return "between steps"
    if not (life.out / "meta.json").exists():
        return "before the run began"
    if set(leftovers(life.out)) - set(left):
        return "in a save"
    return "between steps" if logged_steps(life.out) > logged else "before the first step"


def _stopped_well(life: _Life, ended: Ended, number: signal.Signals, where: str) -> None:
    """A signal to stop is obeyed after a step, which is saved and said; or nothing was under way yet, or any more."""
    if f"Stopped by {number.name} and saved; --resume goes on." in ended.said:
        code = 130 if number == signal.SIGINT else 0
        if ended.code != code:
            raise Wrong(f"{number.name} ended with {ended.code}, wanted {code}: {ended.said}")
        if saved_step(life.out) != logged_steps(life.out):
            raise Wrong(f"{logged_steps(life.out)} steps done and {saved_step(life.out)} saved: {ended.said}")
        if leftovers(life.out):
            raise Wrong(f"{leftovers(life.out)} left: {ended.said}")
    elif where not in ("before the run began", "before the first step", "after the last save"):
        raise Wrong(f"{number.name} {where} ended with {ended.code} and did not save: {ended.said}")


def _goes_on_to_the_same_end(ground: Ground, name: str, rng: np.random.Generator, folder: Path) -> None:
    life = _life(ground, name, rng, folder)
    saved = saved_step(life.out) or 0
    ended = run(life.arguments, life.says, life.out)
    if ended.code:
        raise Wrong(f"resumed at {saved}, it ended with {ended.code}: {ended.said}")
    _lost_nothing(life, ended, saved)
    wanted, got = uninterrupted(ground, name), result_of(life.out)
    for what in ("log", "step", "digest"):
        if got[what] != wanted[what]:
            raise Wrong(f"{name}: {what} is {got[what]}, uninterrupted {wanted[what]}")
    if leftovers(life.out):
        raise Wrong(f"left behind: {leftovers(life.out)}")


CAMPAIGNS = [
    Campaign(
        "trainer",
        "SIGKILL, SIGTERM or SIGINT at any moment of training, inside a save and inside an evaluation, up to three "
        "times in a row; then the same command again",
        "weights, optimizer and log are bit for bit those of a run that was never interrupted, nothing temporary is "
        "left, and SIGTERM saves and exits with 0",
        quick=6,
        soak=150,
        prepare=ground,
        case=_case,
        seconds=300,
    )
]
