"""Dask clusters of real processes on loopback, started as their users start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any


class Cluster:
    """A scheduler and workers, each a process.

    ``options`` are of the command lines of all, but for those of the dashboard, which are the scheduler's; ``environ``
    is added to the environment; ``python`` and ``cwd`` are of the scheduler.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *options: str,
        python: Sequence[str] = (sys.executable,),
        cwd: Path | None = None,
        **environ: str,
    ) -> None:
        self._stack = stack
        self._of_scheduler, self._options = (options, ()) if "--dashboard-address" in options else ((), options)
        self.environ = os.environ | environ
        self._file = folder / "scheduler.json"
        self.log = folder / "log"
        self._log = stack.enter_context(self.log.open("wb"))
        options = self._of_scheduler or ("--no-dashboard",)
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", *options, python=python, cwd=cwd
        )
        deadline = time.monotonic() + 30
        while not self._file.exists() or not self._file.read_text():
            assert time.monotonic() < deadline, f"the scheduler does not start: {self.log.read_text()}"
            time.sleep(0.02)
        self.address: str = json.loads(self._file.read_text())["address"]

    def add_worker(self, **how: Any) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; ``python`` is what its command begins with, the rest for `subprocess.Popen`."""
        return self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", **how)

    def _start(
        self,
        role: str,
        *arguments: str,
        python: Sequence[str] = (sys.executable,),
        env: dict[str, str] | None = None,
        **how: Any,
    ) -> subprocess.Popen[bytes]:
        command = [*python, "-m", "dask", role, *arguments, *self._options, "--scheduler-file", str(self._file)]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self.environ | (env or {}), **how)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process
