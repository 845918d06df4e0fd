"""A Dask cluster whose workers are jobs of SLURM, by dask-jobqueue, which reads ~/.config/dask/jobqueue.yaml."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gfield.cluster.errors import ClusterError
from gfield.cluster.opening import connected
from gfield.listing import counted

_SAY_EVERY_S = 30.0
_LOOK_EVERY_S = 5.0
_CONFIGURATION = "jobqueue.slurm in ~/.config/dask/jobqueue.yaml"


@contextmanager
def slurm_cluster(jobs: int, on_note: Callable[[str], None]) -> Iterator[Any]:
    """A client of ``jobs`` jobs of SLURM, once the first of them runs; they are cancelled with the block.

    A job that ends is replaced by a new one. The scheduler is a thread of this process.

    Parameters
    ----------
    jobs
        Jobs to ask for.
    on_note
        Told in lines what was asked for, and what it waits for.

    Raises
    ------
    ClusterError
        If dask-jobqueue or sbatch is missing, the configuration says too little, SLURM refuses the jobs, or all of
        them end before one has a worker.
    """
    with _signals_kept():
        try:
            from dask_jobqueue.slurm import SLURMCluster, SLURMJob
        except ImportError as error:
            raise ClusterError("--cluster slurm wants dask-jobqueue: pip install 'gfield[cluster]'") from error
    if shutil.which("sbatch") is None:
        raise ClusterError("--cluster slurm: no sbatch on PATH, wanted a machine where jobs are submitted to SLURM")
    from distributed.core import Status
    from distributed.utils import silence_logging_cmgr

    refused: list[str] = []

    class Job(SLURMJob):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except RuntimeError as error:
                refused.append(_last_line(str(error)))
                self.status = Status.failed  # or Dask would not close
                raise

    class Cluster(SLURMCluster):  # type: ignore[misc]
        job_cls = Job

    with silence_logging_cmgr(logging.CRITICAL):
        try:
            opened = Cluster(silence_logs=logging.CRITICAL)
        except (ValueError, TypeError) as error:
            raise ClusterError(
                f"{_CONFIGURATION} does not make a job: {_last_line(str(error))}; cores and memory are wanted there"
            ) from error
        with opened as cluster:
            # Fixed in number, but unlike with `scale` a job that ends is replaced.
            cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
            with connected(cluster) as client:
                on_note(f"SLURM: {counted(jobs, 'job')} asked for; waiting for the first worker")
                _await_worker(cluster, client, refused, on_note)
                yield client


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Take back what happens at Ctrl-C: loading dask-jobqueue lets that end the process at once, with exit code 0."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _await_worker(cluster: Any, client: Any, refused: list[str], on_note: Callable[[str], None]) -> None:
    """Wait for a worker, and say every half minute what SLURM says of the jobs."""
    said = looked = time.monotonic()
    gone = 0
    while not client.scheduler_info()["workers"]:
        if refused:
            raise ClusterError(f"sbatch refuses the job: {refused[0]}; {_CONFIGURATION} describes it")
        time.sleep(0.2)
        now = time.monotonic()
        if now - looked < _LOOK_EVERY_S:
            continue
        looked = now
        numbers = [job.job_id for job in cluster.workers.values() if job.job_id]
        states = _states(numbers)
        gone = gone + 1 if states == [] and numbers else 0
        if gone == 2:
            raise ClusterError(
                f"job {numbers[0]} and all others ended before a worker came; their logs tell (slurm-*.out)"
            )
        if now - said >= _SAY_EVERY_S:
            said = now
            on_note(
                f"SLURM: no worker yet, jobs are {', '.join(sorted(set(states or ['unknown'])))}; Ctrl-C cancels them"
            )


def _states(numbers: list[str]) -> list[str] | None:
    """What squeue says of jobs, each with the reason; None where it says nothing that can be used."""
    if not numbers or shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", "--format=%T (%r)", f"--jobs={','.join(numbers)}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        # Of a job that is long over, it says only that the number is invalid.
        return [] if "Invalid job id" in run.stderr else None
    return run.stdout.split("\n")[:-1]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
