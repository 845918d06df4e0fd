"""What all figures share: interleaved runs of commands, medians with spread, and lines with targets.

The machine's pace wanders, so whatever is compared runs in turns (A B A B ...), and what counts is the median of
the ratios of neighbours.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

HERE = Path(__file__).parent
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """One measured quantity.

    Attributes
    ----------
    what, unit
        Its name and unit; a ratio's unit is "x".
    values
        One a round.
    target
        ``(">=", 4.5)``; None where nothing is to be reached.
    """

    what: str
    unit: str
    values: Sequence[float]
    target: tuple[Literal[">=", "<="], float] | None = None

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the target; None without one."""
        if self.target is None:
            return None
        sign, limit = self.target
        return self.median >= limit if sign == ">=" else self.median <= limit

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": self.target,
            "reached": self.reached,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """The lines of one experiment, and what else it has to tell, as text and as data for JSON."""

    title: str
    lines: Sequence[Line]
    text: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """One ratio a round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def interleave(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run all in turns, ``rounds`` times; what each returned, in order."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            tell(f"round {number + 1} of {rounds}: {name}")
            values[name].append(run())
    return values


def tell(text: str) -> None:
    """Say on the terminal, not in the output, what runs now."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def gfield_command() -> list[str]:
    """The command as a user starts it."""
    installed = Path(sys.executable).with_name("gfield")
    return [str(installed)] if installed.is_file() else [sys.executable, str(HERE.parents[1] / "cli.py")]


def time_command(command: Sequence[str | Path]) -> float:
    """Seconds from start to exit of a process; ends the benchmarks if it fails."""
    started = time.perf_counter()
    _output_of(command)
    return time.perf_counter() - started


def run_script(name: str, *arguments: str | Path) -> dict[str, Any]:
    """What a script of this folder reports of itself on its last line, with ``whole``, the process's seconds."""
    started = time.perf_counter()
    output = _output_of([sys.executable, HERE / name, *arguments])
    whole = time.perf_counter() - started
    return {**json.loads(output.splitlines()[-1]), "whole": whole}


def _output_of(command: Sequence[str | Path]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


class Watched(NamedTuple):
    """Peak of a process's resident memory, and bytes that it sent to the disk."""

    peak_bytes: int
    written_bytes: int


def watch_command(command: Sequence[str | Path]) -> Watched:
    """Run a process of one's own and look at it in /proc until it ends (Linux only)."""
    peak = written = 0
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Not ru_maxrss, which counts the parent's memory before exec. What is lost is the last 10 ms.
            peak = max(peak, 1024 * _from_proc(process.pid, "status", "VmHWM:"))
            written = max(written, _from_proc(process.pid, "io", "write_bytes:"))
            time.sleep(_POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {process.returncode}")
    return Watched(peak, written)


def _from_proc(pid: int, file: str, label: str) -> int:
    """A number from /proc; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(label)), 0)
