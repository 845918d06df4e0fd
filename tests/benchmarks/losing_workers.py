"""A build on a Dask cluster of three processes, undisturbed, and while a worker is lost every few seconds.

Each lost worker is replaced at once by a new process, as a nanny or SLURM's requeueing replaces it. All of it is on
loopback: what is measured is the work that is lost and done again, and the start of the new processes.
"""

from __future__ import annotations

import filecmp
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import Figure, Line, interleave, ratios
from plan import Plan, build_by_command

WORKERS = 3
EVERY_S = 5.0


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._file = folder / "scheduler.json"
        self._file.unlink(missing_ok=True)
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        while not (self._file.exists() and self._file.read_text()):
            time.sleep(0.05)
        self.address = json.loads(self._file.read_text())["address"]
        self.workers = [self.start_worker() for _ in range(WORKERS)]

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more."""
        return self._start("worker", "--nthreads", "1", "--no-nanny")

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", role, *options, "--no-dashboard", "--scheduler-file", str(self._file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@contextmanager
def losing(cluster: Cluster, rng: random.Random) -> Iterator[list[float]]:
    """Kill one worker of the cluster every few seconds, and start another; the times of it."""
    times: list[float] = []
    over = threading.Event()

    def lose() -> None:
        while not over.wait(EVERY_S):
            place = rng.randrange(WORKERS)
            cluster.workers[place].send_signal(signal.SIGKILL)
            times.append(time.monotonic())
            cluster.workers[place] = cluster.start_worker()

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def losing_figure(plan: Plan) -> Figure:
    """The same build on both, whole process; the stores are compared byte for byte."""
    frames, mat = plan.worker_frames, plan.mat(plan.worker_frames)
    lost: list[float] = []
    stores = {name: plan.folder / f"{name}.zarr" for name in ("calm", "losing")}
    rng = random.Random(0)

    def build(name: str, with_losses: bool) -> Callable[[], float]:
        def run() -> float:
            store = plan.fresh(stores[name].name)
            with ExitStack() as stack:
                cluster = Cluster(plan.folder, stack)
                time.sleep(3)  # until all have started
                if not with_losses:
                    return build_by_command(mat, store, "--scheduler", cluster.address)
                with losing(cluster, rng) as times:
                    seconds = build_by_command(mat, store, "--scheduler", cluster.address)
                lost.append(float(len(times)))
            if different := _different(stores["calm"], store):
                raise SystemExit(f"{store}: differs from the undisturbed build in {different}")
            return seconds

        return run

    times = interleave({"calm": build("calm", False), "losing": build("losing", True)}, plan.rounds)
    for store in stores.values():
        plan.fresh(store.name)
    return Figure(
        f"A Dask cluster of {WORKERS} processes that loses a worker every {EVERY_S:g} s, {frames} frames",
        [
            Line("undisturbed", "s", times["calm"]),
            Line("losing workers", "s", times["losing"]),
            Line("workers lost", "", lost),
            Line("losing workers / undisturbed", "x", ratios(times["losing"], times["calm"]), ("<=", 1.5)),
        ],
        ["every file of every store compared: the same bytes"],
    )


def _different(one: Path, other: Path) -> list[str]:
    """Files that are not the same in both."""
    names = [{str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    _, unequal, unreadable = filecmp.cmpfiles(one, other, sorted(names[0] & names[1]), shallow=False)
    return sorted(names[0] ^ names[1]) + unequal + unreadable
