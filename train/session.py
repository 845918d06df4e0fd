"""One training run from its options to its last checkpoint: processes, device, run folder, stream, loop.

`train.pretrain` and `train.finetune` say what is trained; what they share is here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from gfield import Location, Store, open_store
from train.arithmetic import compute_as_begun
from train.checkpoint import load_checkpoint
from train.device import Numerics, Precision, memory_advice, numerics
from train.display import TrainingDisplay
from train.errors import TrainError
from train.frames import Frames, level_of, preflight, size_of_level
from train.log import RunLog
from train.loop import Loop, Outcome, Task
from train.ranks import Ranks, join, leave
from train.runs import check_folder, create_run
from train.schedule import Schedule, ScheduleName
from train.signals import StopSignals
from train.stream import CacheMode, Stream

Say = Callable[[str], None]
MakeTask = Callable[[Ranks, Numerics, Say], tuple[Task, torch.optim.Optimizer]]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What every training run is told, beside what it trains.

    Attributes
    ----------
    out
        Folder of the run.
    batch
        Samples of a step, over all ranks and micro-batches.
    epochs, steps
        Length of the run; ``steps`` wins where it is given.
    rate, schedule, warmup
        Learning rate, how it falls, and the steps in which it rises.
    seed
        Of everything random: order, views, colours, initial weights.
    accumulate
        Micro-batches of a step; same result, less memory.
    device, precision, compiled
        See `train.device`; ``compiled`` lets torch.compile have the networks.
    cache, threads
        See `train.stream.Stream`.
    save_every
        Steps between checkpoints; every ten minutes by default.
    resume, overwrite
        Go on with the run that is there (or start it), or replace it.
    rehearse
        Stop where all that may be refused has been, before the folder is touched or anything is computed.
    """

    out: Path
    batch: int
    epochs: int
    rate: float
    steps: int | None = None
    schedule: ScheduleName = "cosine"
    warmup: int = 0
    seed: int = 0
    accumulate: int = 1
    device: str = "auto"
    precision: Precision = "auto"
    compiled: bool = False
    cache: CacheMode = "auto"
    threads: int | None = None
    save_every: int | None = None
    resume: bool = False
    overwrite: bool = False
    rehearse: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As ``meta.json`` keeps them."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


# What may differ between a run and its resumption: where and how it computes, not what.
FREE_ARGUMENTS = ("cache", "threads", "device", "save_every", "resume", "overwrite", "out", "rehearse")


def open_stores(paths: Sequence[Location]) -> list[Store]:
    """Open stores and refuse those with missing or stale shards, before anything is computed."""
    stores = [open_store(path) for path in paths]
    preflight(stores)
    return stores


def common_size(stores: Sequence[Store], size_WH: tuple[int, int] | None) -> tuple[str, tuple[int, int]]:
    """The level of all stores that has a size, by name, and its size; the largest of the first store by default.

    Raises
    ------
    TrainError
        If a store has no such level, or one is upright where another lies.
    """
    size_WH = size_WH or stores[0].spec.levels_WH[0]
    levels = [level_of(store, size_WH) for store in stores]
    for store, level in zip(stores, levels, strict=True):
        if level != levels[0]:
            raise TrainError(
                f"{store.path}: pictures of {level}, wanted {levels[0]} as in {stores[0].path}; "
                f"one run trains on pictures of one shape"
            )
    return levels[0], size_of_level(levels[0])


def rows_of(store: Store, splits: Sequence[str]) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Rows of some splits, in order; those that the store does not have add nothing."""
    return np.flatnonzero(np.isin(store.splits, splits))


def run_training(settings: Settings, frames: Frames, make_task: MakeTask, meta: Mapping[str, Any], say: Say) -> Outcome:
    """Train, or go on training, in this process or as one rank of torchrun.

    Parameters
    ----------
    settings, frames
        How, and on what.
    make_task
        Builds networks and optimizer on the device of this rank, and has the voice of the first one.
    meta
        The run's ``command``, ``arguments`` and ``stores``, for ``meta.json``.
    say
        Is told what the user should know; by the first rank only.

    Raises
    ------
    TrainError
        If the options do not fit together or the run's folder is not free; see also `Loop.fit`.
    """
    ranks = join(settings.device)
    try:
        first_say: Say = say if ranks.rank == 0 else lambda text: None
        return _on_rank(ranks, settings, frames, make_task, meta, first_say)
    finally:
        leave()


def _on_rank(
    ranks: Ranks, settings: Settings, frames: Frames, make_task: MakeTask, meta: Mapping[str, Any], say: Say
) -> Outcome:
    _check_settings(settings, len(frames), ranks)
    numbers = numerics(ranks.device, settings.precision)
    per_epoch = len(frames) // settings.batch
    steps = settings.steps or settings.epochs * per_epoch
    if settings.warmup > steps:
        raise TrainError(f"--warmup {settings.warmup} of {steps} steps never ends, wanted {steps} or less")
    schedule = Schedule(settings.schedule, settings.rate, steps, settings.warmup, decay_steps=30 * per_epoch)
    with contextlib.ExitStack() as open_things:
        signals = open_things.enter_context(StopSignals())
        out, resume, overwrite = settings.out, settings.resume, settings.overwrite
        free = _free_arguments(meta["arguments"])
        _by_first(ranks, lambda: check_folder(out, meta, resume=resume, overwrite=overwrite, may_differ=free))
        # All else that may be refused comes before the folder is touched: a slip must not cost the run that is there.
        with memory_advice():
            task, optimizer = make_task(ranks, numbers, say)
            if settings.rehearse:
                return Outcome(step=0, steps=steps, rank=ranks.rank)
            stream = open_things.enter_context(
                Stream(
                    frames,
                    batch=settings.batch // ranks.world,
                    seed=settings.seed,
                    rank=ranks.rank,
                    world=ranks.world,
                    device=ranks.device,
                    cache=settings.cache,
                    threads=settings.threads,
                )
            )
        run = create_run(out, meta, resume=resume, overwrite=overwrite, may_differ=free)
        begun = _by_first(ranks, lambda: open_things.enter_context(run))
        compute_as_begun(begun, ranks.device, say)
        checkpoint = load_checkpoint(out, say=say) if resume else None
        start = checkpoint.step if checkpoint else 0
        say(
            f"{len(frames)} frame{'s' if len(frames) > 1 else ''}, "
            f"{per_epoch} step{'s' if per_epoch > 1 else ''} an epoch, batch {settings.batch}, {ranks.world} "
            f"process{'es' if ranks.world > 1 else ''} on {ranks.device.type}, cache: {stream.cache} "
            f"({stream.cache_reason})"
        )
        if checkpoint is not None:
            say(f"resumed at step {start} of {steps}")
        log = display = None
        if ranks.rank == 0:
            log = open_things.enter_context(RunLog(out, start_step=start, say=say))
            label = str(meta["command"])
            display = open_things.enter_context(TrainingDisplay(label, steps, start=start, steps_per_epoch=per_epoch))
        loop = Loop(out, log, display, ranks, signals, meta, settings.save_every)
        return loop.fit(task, stream, optimizer, schedule, checkpoint)


def _check_settings(settings: Settings, frames: int, ranks: Ranks) -> None:
    batch, parts = settings.batch, ranks.world * settings.accumulate
    if batch > frames:
        raise TrainError(f"batch {batch} is larger than the data, {frames} frames")
    if not 0 <= settings.rate < math.inf:
        raise TrainError(f"--lr {settings.rate}, wanted a finite rate of 0 or more")
    if batch % parts:
        raise TrainError(
            f"batch {batch} on {ranks.world} processes with --accumulate {settings.accumulate}, "
            f"wanted a multiple of {parts}"
        )


def _free_arguments(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What a resumption need not share: also the place of a start that is told by its content, as a store's is."""
    told = any(name.startswith("init_") for name in arguments)
    return (*FREE_ARGUMENTS, "init") if told else FREE_ARGUMENTS


def _by_first(ranks: Ranks, action: Callable[[], T]) -> T:
    """What the first rank gets from an action that is its alone; all fail if it does, instead of waiting for it."""
    problem: str | None = None
    result: T | None = None
    if ranks.rank == 0:
        try:
            result = action()
        except (TrainError, OSError) as error:
            problem = str(error)
    problem, result = ranks.from_first((problem, result))
    if problem is not None:
        raise TrainError(problem)
    return cast(T, result)


def describe(stores: Sequence[Store]) -> list[dict[str, str]]:
    """Path and fingerprint of stores, as ``meta.json`` lists them."""
    return [{"path": str(store.path.resolve()), "fingerprint": store.spec.fingerprint} for store in stores]
