"""The progress of a run: two lines that live in a terminal, or a plain line now and then for log files."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

from gfield.console import readable_time

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

_WINDOW_S = 60.0  # rates are of this last while: the first steps of a run are slow
_LINE_EVERY_S = 30.0
_EPOCH_LINE_EVERY_S = 5.0  # epochs of a few frames do not fill a log file
_REFRESH_EVERY_S = 0.1
_NARROW = 60  # columns


class _Mark(NamedTuple):
    time_s: float
    step: int
    images: int
    wait_s: float


class TrainingDisplay:
    """Shows step, epoch, loss, images a second, share of waiting, skipped steps and time left, on standard error.

    Parameters
    ----------
    label
        What is running.
    steps
        Steps of the whole run.
    start
        The step it begins at.
    steps_per_epoch
        Length of an epoch.
    clock
        Seconds, for tests.
    """

    def __init__(
        self, label: str, steps: int, *, start: int, steps_per_epoch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._steps, self._per_epoch, self._clock = label, steps, steps_per_epoch, clock
        self._step, self._loss, self._skipped = start, math.nan, 0
        self._marks: deque[_Mark] = deque(maxlen=1024)
        self._left, self._facts = "", [f"epoch {start / steps_per_epoch:.1f}"]
        self._said_s = self._refreshed_s = -math.inf
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._said_s = self._clock()
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(self, console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, step: int, *, loss: float, images: int, wait_s: float, skipped: int) -> None:
        """Tell of a finished step.

        Parameters
        ----------
        step
            Steps done.
        loss
            Of this step; a running mean of the finite ones is shown.
        images
            Samples of this step.
        wait_s
            Seconds spent waiting for data since the run began.
        skipped
            Steps skipped so far.
        """
        now_s = self._clock()
        if math.isfinite(loss):
            self._loss = 0.95 * self._loss + 0.05 * loss if math.isfinite(self._loss) else loss
        self._step, self._skipped = step, skipped
        done = self._marks[-1].images + images if self._marks else 0
        self._marks.append(_Mark(now_s, step, done, wait_s))
        while len(self._marks) > 2 and self._marks[0].time_s < now_s - _WINDOW_S:
            self._marks.popleft()
        if self._live is None:
            epoch_ends = step % self._per_epoch == 0
            if now_s - self._said_s >= (_EPOCH_LINE_EVERY_S if epoch_ends else _LINE_EVERY_S):
                self._said_s = now_s
                self._refresh()
                facts = [f"step {step} of {self._steps}", *self._facts, *([self._left] if self._left else [])]
                print(f"{self._label}: {', '.join(facts)}", file=sys.stderr)  # noqa: T201
        elif now_s - self._refreshed_s >= _REFRESH_EVERY_S:
            self._refreshed_s = now_s
            self._refresh()

    def _refresh(self) -> None:
        first, last = self._marks[0], self._marks[-1]
        facts = [f"epoch {self._step / self._per_epoch:.1f}", f"loss {self._loss:.4f}"]
        if last.time_s > first.time_s:
            seconds = last.time_s - first.time_s
            facts.append(f"{_three_digits((last.images - first.images) / seconds)} images/s")
            facts.append(f"{min(1.0, (last.wait_s - first.wait_s) / seconds):.1%} waiting")
            if last.step > first.step:
                left_s = (self._steps - last.step) * seconds / (last.step - first.step)
                self._left = f"{readable_time(left_s)} left"
        if self._skipped:
            facts.append(f"{self._skipped} skipped")
        self._facts = facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        narrow = options.max_width < _NARROW
        cells = [self._label, f"{self._step}/{self._steps}", self._left]
        head = Table.grid(padding=(0, 2), expand=not narrow)
        for _ in cells:
            head.add_column(no_wrap=True)
        if narrow:
            head.add_row(*cells)
        else:
            head.add_column(ratio=1)
            head.add_row(*cells, ProgressBar(self._steps, self._step))
        yield head
        yield Text("\n".join(_packed(self._facts, options.max_width)), no_wrap=True, overflow="ellipsis")


def _packed(facts: list[str], width: int) -> list[str]:
    """The facts in as few lines as they fit in, none broken in two."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines


def _three_digits(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
