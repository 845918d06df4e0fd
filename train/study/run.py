"""The study at work: which piece is next, who does it, what happens when one fails or a signal comes.

Any number of processes may run this on one folder. Each takes the first piece that is not done, not claimed by
another, and not waiting for a pre-training; one that finds only claimed pieces waits, and takes them over if whoever
had them is gone. The pieces depend on the plan alone, so who did them shows nowhere.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gfield import UserError
from train.signals import StopSignals
from train.study.claim import claimed, owner
from train.study.folder import StudyFolder, count_done
from train.study.pieces import Cell, Plan, Pretraining, needed_pretrainings
from train.study.work import StoppedError, run_cell, run_pretraining

_POLL_S = 1.0
Say = Callable[[str], None]


@dataclass
class StudyOutcome:
    """How a study's process ended.

    Attributes
    ----------
    done, cells
        Finished cells of those that were to be done, by whichever process.
    failures
        What failed here, a line each.
    signal
        The signal that stopped it, or None.
    """

    done: int = 0
    cells: int = 0
    failures: list[str] = field(default_factory=list)
    signal: int | None = None


def part_of(cells: Sequence[Cell], part: tuple[int, int] | None) -> list[Cell]:
    """The i-th of N parts of some cells, as ``(i, N)`` counted from 1: every N-th one."""
    return list(cells) if part is None else list(cells[part[0] - 1 :: part[1]])


def work_on(
    plan: Plan,
    folder: StudyFolder,
    cells: Sequence[Cell],
    *,
    command: str,
    keep: str = "newest",
    say: Say,
    say_run: Say,
    poll_s: float = _POLL_S,
) -> StudyOutcome:
    """Do some cells of a plan and the pre-trainings that they need, as far as they are not done.

    Parameters
    ----------
    plan, folder, cells
        What to do, of which whole, and where; the folder has begun.
    command, keep
        For the results' header; what stays of checkpoints, see `train.study.work.KEEP`.
    say, say_run
        Told of every piece; told what the runs themselves say.
    poll_s
        Seconds between looks at what another process has.

    Returns
    -------
    StudyOutcome
        A piece that fails is in there, and the others are done all the same.
    """
    outcome = StudyOutcome(cells=len(cells))
    with StopSignals() as signals:
        worker = _Worker(plan, folder, list(cells), command, keep, say, say_run, signals, outcome)
        try:
            worker.work(poll_s)
        except StoppedError as stopped:
            outcome.signal = stopped.signal
    outcome.done = count_done(folder, cells)
    return outcome


@dataclass
class _Worker:
    plan: Plan
    folder: StudyFolder
    cells: list[Cell]
    command: str
    keep: str
    say: Say
    say_run: Say
    signals: StopSignals
    outcome: StudyOutcome
    failed: dict[str, str] = field(default_factory=dict)  # pieces that failed here, by id

    def work(self, poll_s: float) -> None:
        """Until nothing is left that can be done."""
        waiting = ""
        while True:
            began, busy = self.round()
            if not began and not busy:
                return
            if began:
                waiting = ""
                continue
            told = f"waiting for {busy.id}: {owner(self.folder.claim_path(busy))} has it" if busy else ""
            if told != waiting:
                self.say(told)
                waiting = told
            self.pause(poll_s)

    def round(self) -> tuple[bool, Cell | Pretraining | None]:
        """Go through all that is left once: whether anything was done, and the first piece that another has."""
        began, busy = False, None
        for cell in self.cells:
            self.look()
            for piece in self.pieces(cell):
                with claimed(self.folder.claim_path(piece)) as ours:
                    if not ours:
                        busy = busy or piece
                        break
                    # Another may have finished it since it was looked at.
                    if not self.done(piece):
                        began = True
                        self.attempt(piece)
                if not self.done(piece):
                    break
        return began, busy

    def pieces(self, cell: Cell) -> list[Cell | Pretraining]:
        """What is left for a cell, in order; nothing if a part of it has failed here."""
        if self.folder.is_done(cell):
            return []
        links = [link for link in needed_pretrainings([cell]) if self.folder.pretrained(link) is None]
        pieces: list[Cell | Pretraining] = [*links, cell]
        for piece in pieces:
            if piece.id in self.failed:
                if piece is not cell and cell.id not in self.failed:
                    self.fail(cell, f"{cell.title}: not begun, its pre-training failed")
                return []
        return pieces

    def done(self, piece: Cell | Pretraining) -> bool:
        """Whether a piece is finished."""
        if isinstance(piece, Cell):
            return self.folder.is_done(piece)
        return self.folder.pretrained(piece) is not None

    def attempt(self, piece: Cell | Pretraining) -> None:
        """Do a piece; what the user can mend is noted, so that the others are done."""
        title = self.plan.title(piece)
        self.say(title)
        started = time.monotonic()
        try:
            if isinstance(piece, Cell):
                scores = run_cell(piece, self.plan, self.folder, keep=self.keep, say=self.say_run, look=self.look)
                self.folder.refresh(self.plan, self.command)
                self.say(f"done in {_time(time.monotonic() - started)}: {_scores(scores)}")
            else:
                run_pretraining(piece, self.plan, self.folder, keep=self.keep, say=self.say_run)
                facts = self.folder.pretrained(piece) or {}
                accuracy = "" if facts.get("accuracy") is None else f", accuracy {facts['accuracy']:.3f}"
                self.say(f"done in {_time(time.monotonic() - started)}: loss {facts['loss']:.4f}{accuracy}")
        except UserError as error:
            self.fail(piece, f"{title}: {error}")
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            self.fail(piece, f"{title}: {where}{error.strerror or error}")
        except StoppedError:
            raise
        except Exception as error:  # a defect costs one piece, and its traceback is told, not the days that are left
            self.say_run("".join(traceback.format_exception(error)))
            self.fail(piece, f"{title}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")

    def fail(self, piece: Cell | Pretraining, text: str) -> None:
        """Note a failure, and tell it now: the end may be days away."""
        self.failed[piece.id] = text
        self.outcome.failures.append(text)
        self.say(f"failed: {text}")

    def look(self) -> None:
        """Stop if a signal has come."""
        if self.signals.received is not None:
            raise StoppedError(self.signals.received)

    def pause(self, seconds: float) -> None:
        """Wait, and obey a signal at once."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, 0.1))


def how_it_stopped(number: int) -> str:
    """A line about a signal that stopped a study."""
    return f"Stopped by {signal.Signals(number).name} and saved; the same command goes on."


def _scores(scores: dict[str, dict[str, object]]) -> str:
    texts = []
    for name, score in scores.items():
        metrics = score["metrics"]
        assert isinstance(metrics, dict)
        texts.append(f"{name} d1 {metrics['d1']:.3f}, rms {metrics['rms']:.3f} m")
    return "; ".join(texts)


def _time(seconds: float) -> str:
    from gfield.console import readable_time

    return readable_time(seconds)
