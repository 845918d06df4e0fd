"""The progress of a run: a line that lives in a terminal, or a plain line now and then for log files."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from gfield.console import readable_time

_LINE_EVERY_S = 30.0


class TrainingDisplay:
    """Shows step, epoch, loss, images a second, share of waiting, skipped steps and time left, on standard error.

    Parameters
    ----------
    label
        What is running.
    steps, start, steps_per_epoch
        Length of the run, the step it begins at, and the length of an epoch.
    """

    def __init__(self, label: str, steps: int, *, start: int, steps_per_epoch: int) -> None:
        self._label, self._steps, self._start, self._per_epoch = label, steps, start, steps_per_epoch
        self._began = self._said = time.monotonic()
        self._images, self._loss = 0, float("nan")
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self._began = self._said = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True)
            columns = [TextColumn("{task.description}"), TextColumn("{task.fields[facts]}")]
            if console.width >= 100:
                columns.insert(1, BarColumn(bar_width=20))  # type: ignore[arg-type]
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._steps, completed=self._start, facts="")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, *, loss: float, images: int, wait_s: float, skipped: int) -> None:
        """Tell of a finished step.

        Parameters
        ----------
        step
            Steps done.
        loss
            Of this step; a running mean is shown.
        images
            Samples of this step.
        wait_s
            Seconds spent waiting for data since the run began.
        skipped
            Steps skipped so far.
        """
        self._images += images
        if loss == loss:  # not NaN
            self._loss = loss if self._loss != self._loss else 0.95 * self._loss + 0.05 * loss
        now = time.monotonic()
        if self._bar is not None:
            facts = self._facts(step, wait_s, skipped, now)
            narrow = self._bar.console.width < 80
            self._bar.update(self._task, completed=step, facts="  ".join(facts[:3] if narrow else facts))
        elif now - self._said >= _LINE_EVERY_S:
            self._said = now
            print(f"{self._label}: {', '.join(self._facts(step, wait_s, skipped, now))}", file=sys.stderr)  # noqa: T201

    def _facts(self, step: int, wait_s: float, skipped: int, now: float) -> list[str]:
        seconds = max(1e-6, now - self._began)
        left = seconds / max(1, step - self._start) * (self._steps - step)
        rate = self._images / seconds
        facts = [
            f"step {step}/{self._steps}",
            f"loss {self._loss:.4f}",
            f"{readable_time(left)} left",
            f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s",
            f"{wait_s / seconds:.1%} waiting",
            f"epoch {step / self._per_epoch:.1f}",
        ]
        return [*facts, f"{skipped} skipped"] if skipped else facts
