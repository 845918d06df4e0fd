"""What became of a run's steps, known when their numbers have come from the device."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from train.display import TrainingDisplay
from train.errors import TrainError
from train.log import RunLog
from train.stream import Stream


@dataclass
class Outcome:
    """How a run ended.

    Attributes
    ----------
    step, steps
        Steps done, and wanted.
    skipped
        Steps whose loss or gradient was not finite, and changed nothing.
    images, seconds, wait_s
        Samples of this process and time it took, and the part of it spent waiting for data.
    scalars
        The last step's.
    signal
        The signal that stopped it, or None.
    rank
        Of this process; the first one speaks for all.
    """

    step: int
    steps: int
    skipped: int = 0
    images: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    scalars: dict[str, float] = field(default_factory=dict)
    signal: int | None = None
    rank: int = 0

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data."""
        return self.wait_s / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Done:
    """What the host knows of a step when it has queued it: its number from 0, samples of this rank, learning rate."""

    step: int
    samples: int
    rate: float


class Account:
    """Steps whose numbers have come: added up, told to log and display, and refused where too many are not finite.

    Parameters
    ----------
    outcome
        Where they are added up; all but ``step`` and ``signal``.
    stream
        Says how long was waited for data.
    log, display, patience
        As in `train.loop.Loop`.
    world
        Processes of the run.
    """

    def __init__(
        self, outcome: Outcome, stream: Stream, *, log: RunLog | None, display: TrainingDisplay | None, world: int,
        patience: int,
    ) -> None:  # fmt: skip
        self._outcome, self._stream, self._log, self._display = outcome, stream, log, display
        self._world, self._patience, self._in_a_row = world, patience, 0
        self._started, self._wait_before = time.monotonic(), stream.wait_s

    def settle(self, steps: Iterable[tuple[Done, Mapping[str, float]]]) -> None:
        """Account for steps whose numbers have come.

        Raises
        ------
        TrainError
            At the last of ``patience`` steps in a row that were not finite.
        """
        outcome = self._outcome
        for done, numbers in steps:
            scalars = dict(numbers)
            skipped = bool(scalars.pop("skipped"))
            outcome.images += done.samples
            outcome.seconds = time.monotonic() - self._started
            outcome.wait_s = self._stream.wait_s - self._wait_before
            outcome.scalars = scalars
            outcome.skipped += skipped
            self._in_a_row = self._in_a_row + 1 if skipped else 0
            self._tell(done, skipped)
            if self._in_a_row == self._patience:
                raise TrainError(
                    f"step {done.step + 1}: loss {scalars['loss']}, the {self._in_a_row}th step in a row that is not "
                    f"finite; none of them changed the weights; a smaller --lr or --precision float32 may help"
                )

    def _tell(self, done: Done, skipped: bool) -> None:
        outcome, log, display = self._outcome, self._log, self._display
        if log is not None:
            log.scalars(done.step, {**outcome.scalars, "rate": done.rate, "wait_share": outcome.wait_share})
            if skipped:
                log.event(done.step, "skipped: loss or gradient not finite")
        if display is not None:
            display.update(
                done.step + 1,
                loss=outcome.scalars["loss"],
                images=done.samples * self._world,
                wait_s=outcome.wait_s,
                skipped=outcome.skipped,
            )
