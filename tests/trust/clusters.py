"""A Dask scheduler and workers on loopback, each a forked process: at work in a tenth of a second."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Scheduler, Worker

from gfield.files import write_atomically
from tests.trust.children import Child


@dataclass(frozen=True)
class Cluster:
    """One scheduler and its workers."""

    address: str
    scheduler: Child
    workers: list[Child]


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A cluster whose processes end with the block; they keep their files and what they say in ``folder``."""
    file, log = folder / "address", folder / "log"
    scheduler = Child(_schedule, file, says=log)
    children = [scheduler]
    try:
        end = time.monotonic() + 60
        while not file.exists():
            if not scheduler.running or time.monotonic() > end:
                raise RuntimeError(f"the scheduler did not start: {log.read_text()}")
            time.sleep(0.002)
        address = file.read_text()
        at_work = [Child(_work, address, folder, says=log) for _ in range(workers)]
        children += at_work
        yield Cluster(address, scheduler, at_work)
    finally:
        for child in children:
            child.kill(group=True)
            child.wait()


def members(group: int, named: str = "") -> list[int]:
    """The processes of a process group that have not ended, but for its leader, with ``named`` in their command."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == group:
            continue
        try:
            text = Path("/proc", name, "stat").read_text()
            command = Path("/proc", name, "cmdline").read_text()
        except OSError:
            continue
        state, _, of_group = text.rpartition(")")[2].split()[:3]
        if int(of_group) == group and state not in "ZX" and named in command:
            found.append(int(name))
    return found


def _schedule(file: Path) -> None:
    async def schedule() -> None:
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
            write_atomically(file, scheduler.address.encode(), durable=False)
            await scheduler.finished()

    asyncio.run(schedule())


def _work(address: str, folder: Path) -> None:
    async def work() -> None:
        async with Worker(address, nthreads=1, dashboard=False, local_directory=str(folder)) as worker:
            await worker.finished()

    asyncio.run(work())
