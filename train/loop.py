"""The only loop: from the cursor to the last step, for pre-training and fine-tuning alike.

A step is: a batch, its gradients, a check that they are finite, the optimizer, and what the task does after it.
All that the next step needs is the task's model, the optimizer and the cursor, so that a run that was killed and
resumed ends with the weights of the run that was not.

The host queues steps and never asks the device how one went before it queues the next: whether the gradients are
finite is decided on the device, which changes nothing where they are not, and the numbers come back later (see
`train.optimizers` and `train.readback`). Before a checkpoint, and at the end, they have all come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from train.account import Account, Done, Outcome
from train.batchnorm import running_statistics
from train.checkpoint import Checkpoint, save_checkpoint
from train.device import memory_advice
from train.display import TrainingDisplay
from train.log import RunLog
from train.optimizers import load_optimizer, step_unless
from train.ranks import Ranks
from train.readback import Readback
from train.schedule import Schedule
from train.signals import StopSignals
from train.stream import Batch, Stream
from train.weights import load_weights

__all__ = ["Loop", "Outcome", "Pictures", "Task", "queue_step"]

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

    def commit(self, skip: torch.Tensor) -> None:
        """What follows the optimizer's step; changes nothing where ``skip``, a scalar on the device, is 1 and not 0."""
        ...

    def pictures(self, batch: Batch) -> Pictures:
        """What the network saw of a batch, as H,W,3 pictures by name."""
        ...


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
        saved, saved_at = outcome.step, time.monotonic()
        readback: Readback[Done] = Readback(self.ranks.device)
        account = Account(
            outcome, stream, log=self.log, display=self.display, world=self.ranks.world, patience=self.patience
        )
        try:
            with memory_advice():
                for batch in stream.batches(outcome.step, schedule.steps):
                    if self.log is not None and batch.step % self.pictures_every == 0:
                        self.log.pictures(batch.step, task.pictures(batch))
                    rate = schedule(batch.step)
                    names, values = queue_step(task, batch, optimizer, rate)
                    readback.send(Done(batch.step, len(batch.index_N), rate), names, values)
                    outcome.step = batch.step + 1
                    account.settle(readback.receive())
                    # Ranks wait for each other here, host for host, while their devices go on with what is queued.
                    stop = self.ranks.any_rank(self.signals.received is not None)
                    if self._save_is_due(outcome.step - saved, saved_at):
                        account.settle(readback.receive(everything=True))
                        self._save(task.model, optimizer, outcome)
                        saved, saved_at = outcome.step, time.monotonic()
                    if stop:
                        outcome.signal = self.signals.received
                        break
        finally:
            # Also when the data cannot be read any further: the log has a line for every step that was done.
            account.settle(readback.receive(everything=True))
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


def queue_step(
    task: Task, batch: Batch, optimizer: torch.optim.Optimizer, rate: float
) -> tuple[tuple[str, ...], torch.Tensor]:
    """Queue one step on the device, which changes nothing unless its loss and gradients are finite.

    Nothing here waits for the device, nor may a task: no number of it is looked at.

    Returns
    -------
    tuple of str, Tensor
        Names and float32 values of the step's scalars: the task's, ``"gradient_norm"``, and ``"skipped"``, 1 or 0.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    scalars = task.backward(batch)
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    scalars["gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    finite = torch.isfinite(scalars["loss"]) & torch.isfinite(scalars["gradient_norm"])
    scalars["skipped"] = skip = (~finite).float()
    # Before the commit, which changes in place what some of them are taken from.
    values = torch.stack([scalar.detach().float() for scalar in scalars.values()])
    step_unless(optimizer, skip)
    task.commit(skip)
    optimizer.zero_grad(set_to_none=True)
    return tuple(scalars), values


def _restore(checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    load_weights(model, checkpoint.state["model"], str(checkpoint.path))
    load_optimizer(optimizer, checkpoint.state["optimizer"])
