"""Run a build's tasks on Dask: on threads of this process, on local processes, or on a cluster that exists."""

from __future__ import annotations

import logging
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from dask.callbacks import Callback
from dask.threaded import get

from gfield.frame import UserError

J = TypeVar("J")
R = TypeVar("R")


class ClusterError(UserError):
    """There is no cluster at the address, or it cannot run the tasks."""


class Cancelled(Exception):
    """Raised inside a task, between two frames, once another task has failed or the user has pressed Ctrl-C."""


def run_in_process(
    task: Callable[[J, Any, Callable[[], None]], R],
    job: J,
    items: Sequence[Any],
    *,
    threads: int,
    on_done: Callable[[R], None],
    on_frame: Callable[[], None],
) -> None:
    """Run ``task(job, item, on_frame)`` for every item on Dask's threaded scheduler.

    The first exception stops the others at their next frame and is raised. ``on_done`` is called from the
    calling thread, ``on_frame`` from the worker threads.
    """
    stop = threading.Event()

    def tick() -> None:
        if stop.is_set():
            raise Cancelled
        on_frame()

    def done(_key: Any, result: Any, _graph: Any, _state: Any, _worker: Any) -> None:
        on_done(result)

    # Dask's threaded scheduler itself: dask.compute would load all of distributed, a tenth of a second, to see whether
    # it is there. Of tasks that are alike in all else, it begins the one whose key is the last. The one long task, the
    # first, might else come last, on one processor.
    graph = {f"task-{len(items) - place:09d}": (partial(task, job), item, tick) for place, item in enumerate(items)}
    try:
        with Callback(posttask=done):
            get(graph, list(graph), num_workers=threads)
    finally:
        stop.set()


def run_on_cluster(
    task: Callable[[J, Any], R], job: J, items: Sequence[Any], *, client: Any, on_done: Callable[[R], None]
) -> None:
    """Run ``task(job, item)`` for every item on the cluster of a ``distributed.Client``.

    The job travels once, as the result of a task, so that the scheduler can make it again when the worker that
    holds it dies. Tasks are idempotent: one that ran on a dead worker runs again and finds its work done.

    Raises
    ------
    ClusterError
        If the scheduler ends, or workers die again and again.
    """
    from distributed import KilledWorker, as_completed
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError
    from distributed.protocol.pickle import dumps

    try:
        # Packed, as a source has the names of all its frames, and Dask warns its user of tasks that are large.
        shared = client.submit(_unpacked, zlib.compress(dumps(job), 1), pure=False)
        futures = [client.submit(partial(_swapped, task), item, shared, pure=False, retries=2) for item in items]
        try:
            for future in as_completed(futures):
                on_done(future.result())
        finally:
            client.cancel(futures)
    except KilledWorker as error:
        raise ClusterError(f"workers died again and again at the same task, for want of memory? ({error})") from error
    except (CancelledError, ClosedClientError, CommClosedError) as error:
        raise ClusterError(
            "the Dask scheduler has ended, or cancelled the tasks; what is done is kept, run the same command to go on"
        ) from error


def _unpacked(packed: bytes) -> Any:
    from distributed.protocol.pickle import loads

    return loads(zlib.decompress(packed))


def _swapped(task: Callable[[J, Any], R], item: Any, job: J) -> R:
    return task(job, item)


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A client of ``workers`` new processes on this machine, one thread each, that end with the block.

    Raises
    ------
    ClusterError
        If one of them dies while it starts.
    """
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        stack.enter_context(_environment_kept())
        with _processes_ignore_interrupts():
            try:
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=None,
                        # Else a second build on this machine is told, on the terminal, that 8787 is taken.
                        scheduler_kwargs={"dashboard_address": ":0"},
                        # Tasks stream frames and hold a few megabytes: Dask's own limits would only get in the way.
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                    )
                )
            except RuntimeError as error:
                raise ClusterError(f"a local process died while it started, for want of memory? ({error})") from error
            client = stack.enter_context(Client(cluster))
        yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what Dask sets in this process's environment for its workers to inherit: OMP_NUM_THREADS=1 and more.

    Left there, all that this process starts later would compute on one thread.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _processes_ignore_interrupts() -> Iterator[None]:
    """Let the processes that start meanwhile ignore Ctrl-C, which a terminal sends to every process of a command.

    It is this process that acts on it, by ending the others; they would only print a traceback each. A blocked signal
    is inherited as such, by Dask's thread and by the processes that it starts, and is kept for this thread until the
    end of the block, where a user who has lost patience is then heard.
    """
    # Started now, since its start ends with unblocking the signal in whatever thread first needs it.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def existing_cluster(address: str, timeout_s: float = 5.0) -> Iterator[Any]:
    """A client of the scheduler at ``address``.

    Raises
    ------
    ClusterError
        If nothing answers there within ``timeout_s`` seconds.
    """
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    # What there is to say of a scheduler that ends is said in a line; Dask would put tracebacks before it.
    with silence_logging_cmgr(logging.CRITICAL):
        try:
            client = Client(address, timeout=timeout_s)
        except (OSError, ValueError) as error:
            raise ClusterError(f"{address}: no Dask scheduler answers there ({error})") from error
        with client:
            yield client
