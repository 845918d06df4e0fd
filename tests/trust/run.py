"""Run a campaign: prepare once, fork a few processes, let them do case after case, and gather what each saw."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import numpy as np

from tests.trust.campaign import Campaign, Wrong


@dataclass
class Tally:
    """What came of a campaign.

    Attributes
    ----------
    name, tier, seed
        Which campaign, how much of it, by which chance.
    wanted, done
        Cases.
    seconds
        Wall time of the cases.
    outcomes
        How often each thing happened.
    failures
        A text for each case that was wrong, with its number.
    """

    name: str
    tier: str
    seed: int
    wanted: int
    done: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all cases were run and nothing was wrong."""
        return not self.failures and self.done == self.wanted

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(vars(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """What `to_json` wrote."""
        stored = json.loads(text)
        return cls(**{**stored, "outcomes": Counter(stored["outcomes"])})


def run_campaign(
    campaign: Campaign,
    scratch: Path,
    *,
    tier: str,
    seed: int,
    processes: int,
    minutes: float = float("inf"),
    case: int | None = None,
) -> Tally:
    """Run a tier of a campaign, or one case of it.

    Parameters
    ----------
    campaign
        What to run.
    scratch
        An empty folder, in which what the cases share is kept in ``shared`` and each has a folder while it runs.
    tier, seed
        Of `TIERS`; and what all chance comes from.
    processes
        How many run cases at once.
    minutes
        No case is begun later than so many minutes after the first.
    case
        Run this one alone.
    """
    shared = scratch / "shared"
    shared.mkdir()
    prepared = campaign.prepare(shared)
    count = campaign.cases(tier, prepared)
    numbers = iter(range(count) if case is None else [case])
    tally = Tally(campaign.name, tier, seed, count if case is None else 1)
    began = time.monotonic()
    numbers = _until(began + 60 * minutes, numbers)
    running: dict[Connection, _Worker] = {}
    try:
        for place in range(processes):
            _give(running, _Worker(campaign, prepared, seed, scratch / f"process-{place}"), numbers)
        while running:
            ready = wait([*running], timeout=1)
            for connection, worker in [*running.items()]:
                if connection not in ready and not worker.late:
                    continue
                del running[connection]
                kind, text = worker.answer()
                tally.done += 1
                if kind == "fine":
                    tally.outcomes[text] += 1
                else:
                    tally.failures.append(f"case {worker.number}: {text}")
                if kind == "dead":
                    worker = _Worker(campaign, prepared, seed, worker.folder)  # noqa: PLW2901
                _give(running, worker, numbers)
    finally:
        for worker in running.values():
            worker.kill()
    tally.seconds = time.monotonic() - began
    return tally


def _until(end: float, numbers: Iterator[int]) -> Iterator[int]:
    for number in numbers:
        if time.monotonic() > end:
            return
        yield number


def _give(running: dict[Connection, _Worker], worker: _Worker, numbers: Iterator[int]) -> None:
    """Hand a worker its next case, or let it go."""
    number = next(numbers, None)
    if number is None:
        worker.kill()
        return
    worker.begin(number)
    running[worker.connection] = worker


class _Worker:
    """A forked process that runs the cases it is told, one at a time."""

    def __init__(self, campaign: Campaign, prepared: Any, seed: int, folder: Path) -> None:
        self.campaign, self.folder, self.number = campaign, folder, -1
        self._began = 0.0
        self.connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                self.connection.close()
                _serve(campaign, prepared, seed, folder, theirs)
            finally:
                os._exit(0)
        theirs.close()

    @property
    def late(self) -> bool:
        return time.monotonic() - self._began > self.campaign.seconds

    def begin(self, number: int) -> None:
        self.number, self._began = number, time.monotonic()
        self.connection.send(number)

    def answer(self) -> tuple[str, str]:
        """How the case ended: "fine", "wrong" or "dead"; and what there is to say of it."""
        if not self.connection.poll():
            self.kill()
            return "dead", f"did not end within {self.campaign.seconds:g} s"
        try:
            kind, text = self.connection.recv()
        except EOFError:
            status = self.kill()
            return "dead", f"took the process that ran it down, which ended with {status}"
        return kind, text

    def kill(self) -> int:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.connection.close()
        with suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0


def _serve(campaign: Campaign, prepared: Any, seed: int, folder: Path, connection: Connection) -> None:
    while True:
        number = connection.recv()
        _emptied(folder)
        try:
            connection.send(("fine", campaign.case(prepared, number, np.random.default_rng([seed, number]), folder)))
        except Wrong as wrong:
            connection.send(("wrong", str(wrong)))
        except BaseException:
            connection.send(("wrong", traceback.format_exc()))
        _emptied(folder)


def _emptied(folder: Path) -> None:
    """Make a folder empty, whatever a case has left in it."""
    if folder.exists():
        for inside, _, _ in os.walk(folder):
            os.chmod(inside, 0o700)
        shutil.rmtree(folder)
    folder.mkdir()
