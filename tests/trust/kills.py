"""Processes of a build are killed at any time of it, and the build is run again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gfield.build import BuildReport, build_store
from gfield.cluster.errors import ClusterError
from gfield.field import FieldParams
from gfield.manifest import Entry, read_manifest
from gfield.records import read_record
from gfield.shard import hash_file
from gfield.spec import StoreSpec
from gfield.staging import Staging
from gfield.worker import available_cpus
from tests.trust.campaign import Campaign, Wrong
from tests.trust.checks import check_readable, check_store
from tests.trust.children import Child, ChildDied, in_child
from tests.trust.clusters import Cluster, cluster, members
from tests.trust.inputs import Small, small

SHARDS, WORKERS = 12, 2
WORK = ("a new store", "a replaced store", "new thresholds")
# Of ten cases: what a build runs on, and who of it may be killed.
THREADS = ("threads", ("driver",))
EXISTING = ("existing cluster", ("driver", "worker", "scheduler", "everything"))
LOCAL = ("local processes", ("driver", "worker", "everything"))
MODES = (THREADS, EXISTING, THREADS, LOCAL, THREADS, EXISTING, THREADS, EXISTING, THREADS, THREADS)
# Longer than any build, or end of one that has lost its scheduler, takes on a busy machine.
SECONDS = 60.0
THREADS_OF_A_BUILD = available_cpus() + 1


@dataclass(frozen=True)
class Kit:
    """What all cases share.

    Attributes
    ----------
    small
        The input, and the store of it.
    tight, tight_root
        The spec of a store with other thresholds, and the root hash of an uninterrupted build of it.
    seconds
        How long an uninterrupted build takes, by what it runs on and what it does.
    """

    small: Small
    tight: StoreSpec
    tight_root: str
    seconds: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Build:
    """One build of a case: the store to come, how it is to be made, and where."""

    kit: Kit
    target: Path
    spec: StoreSpec
    options: dict[str, Any]

    @property
    def root(self) -> str:
        return self.kit.tight_root if self.spec == self.kit.tight else self.kit.small.root

    @property
    def staging(self) -> Staging:
        return Staging(self.target, self.spec)

    @property
    def on_threads(self) -> Build:
        """The same, on threads of the process that builds."""
        return replace(self, options={"overwrite": self.options["overwrite"]})

    def __call__(self) -> BuildReport:
        return build_store(self.kit.small.source, self.target, self.spec, **self.options)


def _prepare(folder: Path) -> Kit:
    of = small(folder, SHARDS, 1)
    tight = replace(of.spec, operator=FieldParams(low=20, high=90).to_dict())
    in_child(build_store, of.source, folder / "tight.zarr", tight)
    kit = Kit(of, tight, read_manifest(folder / "tight.zarr").root, {})
    for mode, _ in (THREADS, EXISTING, LOCAL):
        for work in WORK:
            with ExitStack() as stack:
                inside = folder / f"{mode} {work}"
                build, _ = _begun(kit, mode, work, inside, stack)
                began = time.monotonic()
                in_child(build)
                kit.seconds[mode, work] = time.monotonic() - began
                shutil.rmtree(inside)
    return kit


def _begun(kit: Kit, mode: str, work: str, folder: Path, stack: ExitStack) -> tuple[Build, Cluster | None]:
    """What a case begins with: a build that has not started, and the cluster that it is to run on."""
    stores = folder / "stores"
    stores.mkdir(parents=True)
    target = stores / "s.zarr"
    if work != "a new store":
        shutil.copytree(kit.small.store, target)
    at_work, options = None, {"overwrite": work == "a replaced store"}
    if mode == "existing cluster":
        (folder / "cluster").mkdir()
        at_work = stack.enter_context(cluster(folder / "cluster", WORKERS))
        options["scheduler"] = at_work.address
    elif mode == "local processes":
        options["workers"] = WORKERS
    return Build(kit, target, kit.small.spec if work == "a new store" else kit.tight, options), at_work


def _case(kit: Kit, number: int, rng: np.random.Generator, folder: Path) -> str:
    mode, victims = MODES[number % len(MODES)]
    victim, work = str(rng.choice(victims)), str(rng.choice(WORK))
    with ExitStack() as stack:
        build, at_work = _begun(kit, mode, work, folder, stack)
        ended_well = _killed(build, at_work, victim, _when(build, kit.seconds[mode, work], rng))
        check_readable(build.target, {build.root, kit.small.root})
        if victim == "worker" and ended_well:
            check_store(build.target, {build.root})
            return f"{mode}, {victim} killed: goes on by itself"
        twice = rng.random() < 0.25
        if twice:
            again = build.on_threads
            ended_well = _killed(again, None, "driver", _when(again, kit.seconds["threads", work], rng))
            check_readable(build.target, {build.root, kit.small.root})
        redone = _resumed(build.on_threads, begun_by=(1 + twice) * max(WORKERS, THREADS_OF_A_BUILD))
    end = "was done" if ended_well else "is killed"
    return f"{mode}, {victim} killed{' twice' if twice else ''}: {end}, {redone}"


def _when(build: Build, seconds: float, rng: np.random.Generator) -> Callable[[Child], None]:
    """A wait until some time of a build: any, or while it publishes."""
    if rng.random() < 0.7:
        until = seconds * rng.uniform(0, 1.15)
        return lambda driver: time.sleep(until)
    late = rng.uniform(0, 0.012)

    def publishing(driver: Child) -> None:
        end = time.monotonic() + SECONDS
        while driver.running and not (build.staging.store / "zarr.json").exists() and time.monotonic() < end:
            time.sleep(0.0002)
        time.sleep(late)

    return publishing


def _killed(build: Build, at_work: Cluster | None, victim: str, wait: Callable[[Child], None]) -> bool:
    """Start a build and kill one process, or all, of it at some time; whether it ended well all the same."""
    driver = Child(build)
    wait(driver)
    if victim in ("driver", "everything"):
        driver.kill()
    if victim == "everything":
        # All but Python's tracker, which is there to remove what killed processes leave in /dev/shm.
        for worker in members(driver.pid, "spawn_main"):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    if at_work is not None:
        for child in _victims(at_work, victim):
            child.kill()
    elif victim == "worker" and (workers := members(driver.pid, "spawn_main")):
        with suppress(ProcessLookupError):
            os.kill(workers[0], signal.SIGKILL)
    try:
        driver.result(SECONDS)
    except ChildDied as died:
        if victim not in ("driver", "everything") or died.status != -signal.SIGKILL:
            raise Wrong(f"{victim} killed, and the driver: {died}") from died
        _await_end(driver.pid)
        return False
    except ClusterError as error:
        if victim != "scheduler" and "died while it started" not in str(error):
            raise Wrong(f"{victim} killed, and the build ended with {error!r}") from error
        return False
    return True


def _victims(at_work: Cluster, victim: str) -> list[Child]:
    if victim == "everything":
        return [at_work.scheduler, *at_work.workers]
    return {"worker": at_work.workers[:1], "scheduler": [at_work.scheduler]}.get(victim, [])


def _await_end(group: int) -> None:
    """Wait until the processes that a killed driver has started have noticed."""
    end = time.monotonic() + SECONDS
    while members(group):
        if time.monotonic() > end:
            raise Wrong("processes of a killed build are still running")
        time.sleep(0.01)


def _resumed(build: Build, begun_by: int) -> str:
    """Run a build again to its end, and see that it did nothing again but what was in flight.

    Parameters
    ----------
    build
        What was killed.
    begun_by
        How many tasks may have been at work when it was.
    """
    whole, lost = _standing(build)
    if lost > begun_by:
        raise Wrong(f"{lost} shards are written and not recorded, with {begun_by} tasks in flight")
    report: BuildReport = in_child(build, seconds=SECONDS)
    if report.root != build.root:
        raise Wrong(f"built again: {report}, wanted root {build.root}")
    if report.shards_written > build.spec.shards - whole:
        raise Wrong(f"{whole} of {build.spec.shards} shards stood, and {report.shards_written} were written again")
    check_store(build.target, {build.root})
    return "nothing left to do" if report.state == "unchanged" else "goes on"


def _standing(build: Build) -> tuple[int, int]:
    """Shard numbers that are recorded and whole; and those of which a file lies there that no record knows.

    A file that was taken over from a finished store, where it has a second name, has cost nothing.
    """
    whole, lost = 0, set()
    known = build.staging.finished_shards()
    for shard in range(build.spec.shards):
        record = read_record(build.staging.records, shard)
        for spec in build.spec.array_specs().values():
            path = spec.shard_path(shard)
            file = build.staging.store / path
            if path not in record.files and file.exists() and file.stat().st_nlink == 1:
                lost.add(shard)
        files = known[shard].files.items() if shard in known else ()
        whole += bool(files) and all(_same(build.staging.store / path, entry) for path, entry in files)
    return whole, len(lost)


def _same(path: Path, entry: Entry) -> bool:
    if not path.is_file():
        return False
    seen = hash_file(path)
    return (seen.size, seen.blake3) == (entry.size, entry.blake3)


CAMPAIGNS = [
    Campaign(
        "kills",
        "driver, worker, scheduler or all processes of a build killed at any time of it, and the build run again",
        "the store's root hash is that of a build in one go, no recorded shard is made again, nothing else is left; "
        "a build that loses a worker goes on by itself, one that loses its scheduler ends and says so",
        quick=10,
        soak=500,
        prepare=_prepare,
        case=_case,
    )
]
