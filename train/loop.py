"""The only loop: from the cursor to the last step, for pre-training and fine-tuning alike.

A step is: a batch, its gradients, a check that they are finite, the optimizer, and what the task does after it.
All that the next step needs is the task's model, the optimizer and the cursor, so that a run that was killed and
resumed ends with the weights of the run that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from train.batchnorm import running_statistics
from train.checkpoint import Checkpoint, save_checkpoint
from train.device import memory_advice
from train.display import TrainingDisplay
from train.errors import TrainError
from train.log import RunLog
from train.ranks import Ranks
from train.schedule import Schedule
from train.signals import StopSignals
from train.stream import Batch, Stream
from train.weights import load_weights

Pictures = Mapping[str, npt.NDArray[np.uint8]]
_SECONDS_BETWEEN_SAVES = 600.0


class Task(Protocol):
    """What the loop trains."""

    @property
    def model(self) -> torch.nn.Module:
        """Everything that a checkpoint keeps, without wrappers of compilers or ranks."""
        ...

    def backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Add up the gradients of one batch; returns scalars to log, ``"loss"`` among them."""
        ...

    def commit(self) -> None:
        """What follows the optimizer's step; left out when a step is skipped."""
        ...

    def pictures(self, batch: Batch) -> Pictures:
        """What the network saw of a batch, as H,W,3 pictures by name."""
        ...


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
class Loop:
    """What surrounds a task while it trains.

    Attributes
    ----------
    folder
        The run's folder, for its checkpoints.
    log, display
        Where numbers and progress go; None on all ranks but the first.
    ranks, signals
        The processes of the run, and a wish to stop.
    meta
        What a checkpoint's ``meta.json`` says beside the position.
    save_every
        Steps between checkpoints; every ten minutes by default.
    pictures_every
        Steps between pictures in the log.
    patience
        Steps in a row that may be skipped before the run gives up.
    """

    folder: Path
    log: RunLog | None
    display: TrainingDisplay | None
    ranks: Ranks
    signals: StopSignals
    meta: Mapping[str, Any]
    save_every: int | None = None
    pictures_every: int = 500
    patience: int = 10

    def fit(
        self,
        task: Task,
        stream: Stream,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        checkpoint: Checkpoint | None = None,
    ) -> Outcome:
        """Train until ``schedule.steps`` or a signal, and leave a checkpoint of the last step.

        Parameters
        ----------
        task, stream, optimizer, schedule
            What to train, on what, and how.
        checkpoint
            Where to go on; its state has been checked, not yet loaded.

        Raises
        ------
        TrainError
            If ``patience`` steps in a row were not finite, the device's memory ends, or the checkpoint does not fit.
        """
        outcome = Outcome(step=0, steps=schedule.steps, rank=self.ranks.rank)
        if checkpoint is not None:
            _restore(checkpoint, task.model, optimizer)
            outcome.step, outcome.skipped = checkpoint.step, int(checkpoint.state["skipped"])
        in_a_row = 0
        saved, saved_at, started = outcome.step, time.monotonic(), time.monotonic()
        wait_before = stream.wait_s
        with memory_advice():
            for batch in stream.batches(outcome.step, schedule.steps):
                if self.log is not None and batch.step % self.pictures_every == 0:
                    self.log.pictures(batch.step, task.pictures(batch))
                rate = schedule(batch.step)
                scalars = _step(task, batch, optimizer, rate)
                outcome.step = batch.step + 1
                outcome.images += len(batch.index_N)
                outcome.seconds, outcome.wait_s = time.monotonic() - started, stream.wait_s - wait_before
                outcome.scalars = scalars
                in_a_row = 0 if scalars["finite"] else in_a_row + 1
                outcome.skipped += not scalars["finite"]
                self._tell(batch, outcome, rate)
                if in_a_row >= self.patience:
                    raise TrainError(
                        f"step {outcome.step}: loss {scalars['loss']}, the {in_a_row}th step in a row that is not "
                        f"finite; none of them changed the weights; a smaller --lr or --precision float32 may help"
                    )
                stop = self.ranks.any_rank(self.signals.received is not None)
                if self._save_is_due(outcome.step - saved, saved_at):
                    self._save(task.model, optimizer, outcome)
                    saved, saved_at = outcome.step, time.monotonic()
                if stop:
                    outcome.signal = self.signals.received
                    break
        if saved != outcome.step or checkpoint is None:
            self._save(task.model, optimizer, outcome)
        return outcome

    def _save_is_due(self, steps: int, saved_at: float) -> bool:
        if self.save_every is not None:
            return steps >= self.save_every
        # The first rank's clock decides, so that all average their statistics at the same step.
        return self.ranks.any_rank(self.ranks.rank == 0 and time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES)

    def _save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, outcome: Outcome) -> None:
        # Ranks differ in their running statistics alone; their mean is what one process with as many groups has.
        self.ranks.mean_over_ranks(running_statistics(model))
        if self.ranks.rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "skipped": outcome.skipped}
            save_checkpoint(self.folder, outcome.step, state, dict(self.meta))
            if self.log is not None:
                self.log.flush()
        # The others wait for the first, which is the one that writes.
        self.ranks.any_rank(False)

    def _tell(self, batch: Batch, outcome: Outcome, rate: float) -> None:
        scalars = {name: value for name, value in outcome.scalars.items() if name != "finite"}
        if self.log is not None:
            self.log.scalars(batch.step, {**scalars, "rate": rate, "wait_share": outcome.wait_share})
            if not outcome.scalars["finite"]:
                self.log.event(batch.step, "skipped: loss or gradient not finite")
        if self.display is not None:
            self.display.update(
                outcome.step,
                loss=scalars["loss"],
                images=len(batch.index_N) * self.ranks.world,
                wait_s=outcome.wait_s,
                skipped=outcome.skipped,
            )


def _step(task: Task, batch: Batch, optimizer: torch.optim.Optimizer, rate: float) -> dict[str, float]:
    """One step; unless loss and gradients are finite, it changes nothing."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    tensors = task.backward(batch)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    tensors["gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    names = list(tensors)
    # One copy to the host a step: the numbers are wanted there, and so is the answer whether to go on.
    values = torch.stack([tensors[name].detach().float().cpu() for name in names]).tolist()
    scalars = dict(zip(names, values, strict=True))
    finite = math.isfinite(scalars["loss"]) and math.isfinite(scalars["gradient_norm"])
    if finite:
        optimizer.step()
        task.commit()
    optimizer.zero_grad(set_to_none=True)
    return {**scalars, "finite": finite}


def _restore(checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    load_weights(model, checkpoint.state["model"], str(checkpoint.path))
    optimizer.load_state_dict(checkpoint.state["optimizer"])
