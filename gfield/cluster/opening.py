"""Open the cluster that a build runs on: local processes, a scheduler that exists, or jobs of SLURM."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gfield.cluster.errors import ClusterError

Note = Callable[[str], None]


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
                        # Else a second build on this machine is told, on the terminal, that 8787 is taken; and where
                        # bokeh is installed, Dask takes most of a second to load it.
                        scheduler_kwargs={"dashboard_address": ":0", "dashboard": False},
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
    from distributed.utils import silence_logging_cmgr

    # What there is to say of a scheduler that ends is said in a line; Dask would put tracebacks before it.
    with silence_logging_cmgr(logging.CRITICAL):
        try:
            client = connected(address, timeout=timeout_s)
        except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
            raise ClusterError(f"{address}: no Dask scheduler answers there ({_reason(address, error)})") from error
        with client:
            yield client


def connected(cluster: Any, **options: Any) -> Any:
    """A ``distributed.Client``; what Dask says of versions, in a table, `gfield.cluster.worker_check` says in a line.

    Parameters
    ----------
    cluster
        An address, or Dask's object.
    options
        Of the client.
    """
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        return Client(cluster, **options)


def _reason(address: str, error: Exception) -> str:
    if address.startswith(("tls:", "wss:")) and isinstance(error, TypeError):
        return "no certificates here: distributed.comm.tls in ~/.config/dask/distributed.yaml names them"
    if isinstance(error, MemoryError):  # the letters of another protocol, taken for the length of a message
        return "what answers is something else, such as a dashboard"
    return " ".join(str(error).split()) or type(error).__name__


def tell_dashboard(client: Any, on_note: Note) -> None:
    """Say where the cluster's dashboard is, if it has one: that takes bokeh where the scheduler runs."""
    if "dashboard" not in client.scheduler_info()["services"]:
        return
    told = client.get_versions(check=False, packages=["bokeh"])["scheduler"]
    link = client.dashboard_link
    if told["packages"].get("bokeh") and not _says_no(link):
        on_note(f"dashboard: {link}")


def _says_no(link: str) -> bool:
    """Whether a server is there without that page: Dask's has other pages too, and names its port with none as well.

    One that does not answer at all may be behind a firewall, and the user may know a way.
    """
    parts = urlsplit(link)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=1)) as asking:
        try:
            asking.request("HEAD", parts.path)
            return asking.getresponse().status == 404
        except (OSError, HTTPException):
            return False


@contextmanager
def reported(client: Any, report: Path | None, on_note: Note) -> Iterator[None]:
    """Write Dask's performance report of the block, an HTML page, to ``report``; of one that fails, too.

    Raises
    ------
    ClusterError
        If bokeh, which draws it, is missing here or where the scheduler runs; before the block.
    """
    if report is None:
        yield
        return
    told = client.get_versions(check=False, packages=["bokeh"])
    for where in ("client", "scheduler"):
        if not told[where]["packages"].get("bokeh"):
            raise ClusterError(f"--report wants bokeh, which the {where} has not: pip install 'gfield[cluster]'")
    from distributed import performance_report

    unfinished = report.with_name(f".{report.name}.part")
    recorder = performance_report(filename=str(unfinished))
    recorder.__enter__()
    try:
        yield
    finally:
        try:
            recorder.__exit__(None, None, None)
            unfinished.replace(report)
        except Exception as error:  # a scheduler that has ended, most of all; what the block says of that is in front
            unfinished.unlink(missing_ok=True)
            on_note(f"{report}: no report could be written ({type(error).__name__})")
