"""Several processes on one study, on one machine: each is a part of it as another machine would be."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

from train.signals import StopSignals
from train.study.folder import StudyFolder
from train.study.pieces import Cell, Plan
from train.study.plan import make_plan
from train.study.run import StudyOutcome, part_of, work_on
from train.study.study_file import Study

_POLL_S = 0.2


@dataclass(frozen=True)
class Share:
    """What a process is to do, in a form that travels to it.

    Attributes
    ----------
    study, machine
        See `train.study.plan.make_plan`.
    out
        The study's folder.
    tables
        Only cells of these; all where empty.
    part
        See `train.study.run.part_of`.
    command, keep
        See `train.study.run.work_on`.
    """

    study: Study
    machine: Mapping[str, Any]
    out: Path
    tables: tuple[str, ...]
    part: tuple[int, int] | None
    command: str
    keep: str

    def cells(self, plan: Plan) -> list[Cell]:
        """The cells of a plan that belong to it."""
        chosen = [cell for cell in plan.cells if not self.tables or set(self.tables) & set(cell.tables)]
        return part_of(chosen, self.part)


def run_jobs(share: Share, jobs: int) -> StudyOutcome:
    """Do a share in several processes at once, and wait for them.

    What the runs show goes to OUT/logs/job-N.log; standard error tells of every piece. A signal stops all of them.
    Cards are dealt out in turn where there are several and none is named.

    Returns
    -------
    StudyOutcome
        Of all of them; a process that died is a failure, and the others have done its work as far as they could.
    """
    (share.out / "logs").mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    devices = _devices(share)
    running: list[tuple[BaseProcess, Connection]] = []
    outcome = StudyOutcome()
    with StopSignals() as signals, _threads_for_children(threads):
        for number in range(1, jobs + 1):
            receiver, sender = context.Pipe(duplex=False)
            device = devices[(number - 1) % len(devices)]
            process = context.Process(target=_job, args=(share, number, device, threads, sender), daemon=True)
            process.start()
            sender.close()
            running.append((process, receiver))
        told = False
        while alive := [process for process, _ in running if process.is_alive()]:
            wait([process.sentinel for process in alive], timeout=_POLL_S)
            if signals.received is not None and not told:
                told = True
                for job in alive:
                    # Not SIGINT: a terminal has sent them that one, and a second one would not let them save.
                    job.terminate()
        outcome.signal = signals.received
    for number, (job, receiver) in enumerate(running, start=1):
        job.join()
        _add(outcome, number, job, receiver)
    return outcome


def _add(total: StudyOutcome, number: int, process: BaseProcess, receiver: Connection) -> None:
    try:
        outcome: StudyOutcome = receiver.recv()
    except (EOFError, OSError):
        total.failures.append(f"job {number}: ended by itself, exit code {process.exitcode}")
        return
    total.signal = total.signal if total.signal is not None else outcome.signal
    total.failures += [text for text in outcome.failures if text not in total.failures]


def _job(share: Share, number: int, device: Mapping[str, str], threads: int, sender: Connection) -> None:
    import torch

    torch.set_num_threads(threads)
    _stop_with_parent()
    terminal = sys.stderr
    with (share.out / "logs" / f"job-{number}.log").open("a", buffering=1, encoding="utf-8") as log:
        plan = make_plan(share.study, {**share.machine, **device})
        with contextlib.redirect_stderr(log):
            outcome = work_on(
                plan,
                StudyFolder(share.out),
                share.cells(plan),
                command=share.command,
                keep=share.keep,
                say=lambda text: _tell(text, number, terminal, log),
                say_run=lambda text: print(text, file=log),
            )
    sender.send(outcome)


def _tell(text: str, number: int, *files: TextIO) -> None:
    for file in files:
        print(f"job {number}: {text}", file=file, flush=True)


def _stop_with_parent() -> None:
    """Stop as by SIGTERM, saving, when the process that started this one is gone."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _threads_for_children(threads: int) -> Iterator[None]:
    """OpenMP counts its threads when a process begins."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _devices(share: Share) -> Sequence[Mapping[str, str]]:
    """What the jobs are told of devices, in turn: nothing, where the user or the study names one."""
    import torch

    named = {str(share.machine.get("device", "auto"))}
    named |= {str(options.get("device", "auto")) for options in (share.study.pretrain, share.study.finetune)}
    if named <= {"auto", "cuda"} and torch.cuda.device_count() > 1:
        return [{"device": f"cuda:{number}"} for number in range(torch.cuda.device_count())]
    return [{}]
