"""Run a build's tasks on Dask: on threads of this process, or on a cluster that `gfield.cluster.opening` has opened."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from dask.callbacks import Callback
from dask.threaded import get

from gfield.cluster.errors import ClusterError, ended_schedulers_told
from gfield.cluster.on_worker import pack
from gfield.cluster.worker_check import Wanted, check_versions

J = TypeVar("J")
R = TypeVar("R")

# How often a task is given to the cluster. Dask gives it back once more workers that had it have died than its setting
# `allowed-failures` says, 3 by default, whoever is to blame for them; most tasks have only waited for their turn there.
LIVES = 3
_WAITED = 10 * LIVES
_LOOK_EVERY_S = 10.0


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
    task: Callable[[J, Any], R],
    job: J,
    items: Sequence[Any],
    *,
    client: Any,
    on_done: Callable[[R], None],
    on_note: Callable[[str], None] = lambda note: None,
    wanted: Wanted | None = None,
    progress_of: Callable[[Any], int] = lambda item: 0,
) -> None:
    """Run ``task(job, item)`` for every item on the cluster of a ``distributed.Client``.

    The job travels once, as the result of a task, so that the scheduler can make it again when the worker that
    holds it dies. Tasks are idempotent: one that ran on a dead worker runs again and finds its work done.

    Parameters
    ----------
    task, job, items
        What to do, what it is done with, and what each time.
    client
        Of the cluster.
    on_done
        Called with each result, from the calling thread.
    on_note
        Told, from any thread, in a line, that there are no workers, or that workers die again and again.
    wanted
        What each worker must have and see.
    progress_of
        How far a task has come: one that dies, and each time later, does not die of itself.

    Raises
    ------
    ClusterError
        If the scheduler ends, the workers that a task is given to die each time, or one is unfit.
    """
    from distributed import KilledWorker, as_completed

    shared, deaths = _Shared(client, task, job, wanted), _Deaths(wanted, progress_of)
    items_of = {shared.submit(item): item for item in items}
    try:
        with ended_schedulers_told(), _telling_of_no_workers(client, on_note):
            for future in (waiting := as_completed(list(items_of))):
                item = items_of.pop(future)
                try:
                    on_done(future.result())
                except KilledWorker as error:
                    if deaths.were_of(item, error):
                        on_note(f"workers died at {_named(item)}; it is tried again")
                    again = shared.submit(item)
                    items_of[again] = item
                    waiting.add(again)
    except (ImportError, AttributeError) as error:
        # A worker that came since the others were looked at cannot even load what is to be done.
        check_versions(client)
        raise ClusterError(f"a worker cannot load the task ({error}); wanted gfield of this version there") from error
    finally:
        client.cancel(list(items_of))


class _Shared:
    """What all tasks are given, on the cluster; it is sent anew where its own task is lost."""

    def __init__(self, client: Any, task: Callable[[J, Any], R], job: J, wanted: Wanted | None) -> None:
        self._client = client
        self._packed = pack(task, job, wanted)
        self._sent: Any = None

    def submit(self, item: Any) -> Any:
        if self._sent is None or self._sent.status not in ("pending", "finished"):
            self._sent = self._client.submit(bytes, self._packed, pure=False)
        return self._client.submit(_portable(), item, self._sent, pure=False, retries=2)


def _portable() -> Callable[[Any, bytes], Any]:
    """What Dask is given to run: it travels as code and not by name, since it is a function's own.

    A worker without gfield would else end at the message that the task comes in, and nobody would hear why.
    """

    def run(item: Any, packed: bytes) -> Any:
        from gfield.cluster.on_worker import run_packed

        return run_packed(item, packed)

    return run


class _Deaths:
    """How often the workers died that a task was given to: while they did it, and while it waited there."""

    def __init__(self, wanted: Wanted | None, progress_of: Callable[[Any], int]) -> None:
        self._wanted, self._progress_of = wanted, progress_of
        self._died: Counter[Any] = Counter()
        self._waited: Counter[Any] = Counter()
        self._come: Counter[Any] = Counter()

    def were_of(self, item: Any, error: Any) -> bool:
        """Whether the task was begun there, of which Dask's ``KilledWorker`` tells.

        Raises
        ------
        ClusterError
            If it is not to be given to workers any more.
        """
        begun = self._wanted is None or self._wanted.forget_begun(item)
        if (progress := self._progress_of(item)) > self._come[item]:
            self._come[item], self._died[item] = progress, 0
        (self._died if begun else self._waited)[item] += 1
        if self._died[item] == LIVES or self._waited[item] == _WAITED:
            raise ClusterError(_tell_deaths(item, error)) from error
        return begun


@contextmanager
def _telling_of_no_workers(client: Any, on_note: Callable[[str], None]) -> Iterator[None]:
    """While entered, say once that there is nobody to do the work, and once that there is again."""
    over = threading.Event()

    def look() -> None:
        alone = False
        while not over.wait(_LOOK_EVERY_S):
            try:
                workers = len(client.scheduler_info()["workers"])
            except Exception:  # the scheduler has ended, which is told elsewhere
                return
            if alone != (workers == 0):
                alone = workers == 0
                on_note(
                    "the cluster has no workers; waiting for some, Ctrl-C ends it"
                    if alone
                    else "workers are there again"
                )

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1)


def _tell_deaths(item: Any, error: Any) -> str:
    return (
        f"{_named(item)}: the workers that do it die again and again, the last at {error.last_worker.address}; "
        "for want of memory? Their logs tell; what is done is kept, run the same command to go on"
    )


def _named(item: Any) -> str:
    return f"shard {item}" if isinstance(item, int) else str(item)
