"""SLURM's commands, played by tests/slurm, for tests that submit real scripts to them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "slurm"
OVER = ("COMPLETED", "FAILED", "CANCELLED")


class Slurm:
    """A queue of its own, in which nothing has run yet; ``environ`` leads to it, and to the commands of this package.

    Attributes
    ----------
    folder
        Where jobs are submitted from, and write what they say.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder / "slurm", folder / "work"
        for made in (self.root, self.folder, folder / "home" / ".config" / "dask"):
            made.mkdir(parents=True)
        self.configuration = folder / "home" / ".config" / "dask" / "jobqueue.yaml"
        places = (ROOT / "tests" / "slurm" / "bin", Path(sys.executable).parent)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")} | {
            "SLURM_STANDIN": str(self.root),
            "PATH": os.pathsep.join([*map(str, places), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "DASK_CONFIG": str(self.configuration.parent),
        }

    def sbatch(self, *words: object, **environ: str) -> int:
        """Submit a job; its number."""
        run = subprocess.run(
            ["sbatch", "--parsable", *map(str, words)], cwd=self.folder, env=self.environ | environ,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return int(run.stdout)

    def states(self, job: int) -> list[str]:
        """Of all tasks of a job."""
        return [path.read_text() for path in sorted((self.root / "jobs" / str(job)).glob("state*"))]

    def wait(self, job: int, seconds: float = 120) -> list[str]:
        """Until all tasks of a job have ended; how."""
        deadline = time.monotonic() + seconds
        while not {*(states := self.states(job))} <= {*OVER}:
            assert time.monotonic() < deadline, f"job {job} is {states}: {self.said()}"
            time.sleep(0.02)
        return states

    def said(self) -> str:
        """What all jobs have written."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.out")))

    def end(self) -> None:
        """Cancel all that still runs, and wait for it."""
        (self.root / "hold").unlink(missing_ok=True)
        for job in (self.root / "jobs").glob("*"):
            subprocess.run(["scancel", job.name], env=self.environ, check=True)
            self.wait(int(job.name))
