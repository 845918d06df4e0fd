"""A wish to stop, noted by a signal and obeyed between two steps."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While entered, SIGTERM and the first Ctrl-C only set a flag, which the loop reads at every step.

    A second Ctrl-C raises `KeyboardInterrupt` at once. Where one is entered inside another, as a run in a study, what
    the inner one was told the outer one knows when the inner one is left.

    Attributes
    ----------
    received
        The signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            # A shell may have told a background job to ignore Ctrl-C; that stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
            outer = getattr(before, "__self__", None)
            if isinstance(outer, StopSignals) and outer.received is None:
                outer.received = self.received

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT and _speaks_for_all():
            # A step may take long. Not by print, which this may have interrupted.
            with contextlib.suppress(OSError):
                os.write(2, b"\nStopping at the end of this step; Ctrl-C again stops at once, without saving.\n")
        self.received = number


def _speaks_for_all() -> bool:
    """Whether this process is the first rank, and no job of a study: a terminal sends Ctrl-C to all of them."""
    return os.environ.get("RANK", "0") == "0" and multiprocessing.parent_process() is None
