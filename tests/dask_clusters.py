"""Dask clusters of real processes on loopback, started as their users start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any


class Cluster:
    """A scheduler and workers, each a process.

    ``options`` are of the command lines of all; ``environ`` is added to the environment.
    """

    def __init__(self, folder: Path, stack: ExitStack, *options: str, host: str = "127.0.0.1", **environ: str) -> None:
        self._stack = stack
        self._options = options
        self._environ = os.environ | environ
        self._file = folder / "scheduler.json"
        self.log = folder / "log"
        self._log = stack.enter_context(self.log.open("wb"))
        dashboard = () if any("dashboard" in option for option in options) else ("--no-dashboard",)
        self.scheduler = self._start("scheduler", "--host", host, "--port", "0", *dashboard)
        deadline = time.monotonic() + 30
        while not self._file.exists() or not self._file.read_text():
            assert time.monotonic() < deadline, f"the scheduler does not start: {self.log.read_text()}"
            time.sleep(0.02)
        self.address: str = json.loads(self._file.read_text())["address"]

    def add_worker(self, *options: str, nanny: bool = False, **how: Any) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; ``how`` is for `subprocess.Popen`."""
        return self._start(
            "worker", "--nthreads", "1", "--nanny" if nanny else "--no-nanny", "--no-dashboard", *options, **how
        )

    def _start(self, role: str, *arguments: str, env: dict[str, str] | None = None, **how: Any) -> Any:
        options = [option for option in self._options if role == "scheduler" or "dashboard" not in option]
        command = [sys.executable, "-m", "dask", role, *arguments, *options, "--scheduler-file", str(self._file)]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self._environ | (env or {}), **how)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process
