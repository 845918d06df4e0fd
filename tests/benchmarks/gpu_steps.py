"""Our steps on a card, as the loop of training queues them: on a constant batch, or on a stream with a cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

import gfield
from train.depth import make_depth_net
from train.device import Numerics, numerics
from train.encoders import make_encoder
from train.finetune import LOSSES_OF, Finetuning
from train.loop import queue_step
from train.optimizers import make_adam, make_sgd
from train.pretexts import method_named
from train.pretexts.pretext import Setup
from train.pretexts.sight import Sight
from train.pretrain import Pretraining, resolve_options
from train.ranks import Ranks
from train.readback import Readback
from train.session import Settings
from train.stream import Batch, Stream

# Frames of an epoch, in batches: enough that a shuffled epoch is no single batch.
_BATCHES = 4


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes
    ----------
    encoder, network
        Encoder, and depth network; none for pre-training by gradient-field MoCo.
    batch, queue
        Samples of a step; keys in the queue.
    size_WH
        Size of the pictures.
    """

    encoder: str
    batch: int
    size_WH: tuple[int, int]
    network: str | None = None
    queue: int = 65536

    @property
    def arrays(self) -> tuple[str, ...]:
        """What it reads of a store."""
        return ("rgb", "gradient") if self.network is None else ("rgb", "depth")

    @property
    def frames(self) -> int:
        """Frames that it wants."""
        return _BATCHES * self.batch

    @property
    def title(self) -> str:
        """In words."""
        size = f"{self.size_WH[0]}x{self.size_WH[1]}, batch {self.batch}"
        return f"Pre-training, {self.encoder}, {size}" if self.network is None else (
            f"Fine-tuning, {self.network} on {self.encoder}, {size}"
        )  # fmt: skip


class OurSteps:
    """A task of training with its optimizer, and the numbers of its steps on their way back.

    Parameters
    ----------
    work, device
        What is trained, and where.
    compiled, parts
        ``--compile`` and ``--accumulate``.
    """

    def __init__(self, work: Work, device: torch.device, *, compiled: bool = False, parts: int = 1) -> None:
        self.work, self.device = work, device
        numbers = numerics(device, "bf16" if device.type == "cuda" else "float32")
        settings = Settings(
            Path("unused"), batch=work.batch, epochs=1, rate=0.01, compiled=compiled, accumulate=parts
        )  # fmt: skip
        make = _pretraining if work.network is None else _finetuning
        self.task, self.optimizer = make(work, settings, numbers)
        self.skipped = 0
        self._readback: Readback[None] = Readback(device)

    def queue(self, batch: Batch) -> None:
        """Queue one step, and start its numbers on their way."""
        self._readback.send(None, *queue_step(self.task, batch, self.optimizer, 0.001))

    def train_on(self, batches: Iterable[Batch]) -> None:
        """Steps as the loop makes them."""
        for batch in batches:
            self.queue(batch)
            self._receive()
        self._receive(everything=True)

    def _receive(self, *, everything: bool = False) -> None:
        for _, scalars in self._readback.receive(everything=everything):
            self.skipped += int(scalars["skipped"])


class Feed:
    """Batches for steps: the next ones of a stream, or one over and over again.

    Parameters
    ----------
    work, frames, device
        What the batches are for, of, and where.
    cache
        ``--cache`` of a stream; None for a constant batch, the first of the stream.
    """

    def __init__(self, work: Work, frames: Any, device: torch.device, cache: Any) -> None:
        self._stream = Stream(frames, batch=work.batch, seed=0, device=device, cache=cache or "none")
        self._constant: Batch | None = None
        self._step = 0
        if cache is None:
            batch = next(iter(self._stream.batches(0, 1)))
            kept = {name: tensor.clone() for name, tensor in batch.arrays.items()}
            self._constant = Batch(0, np.array(batch.index_N), kept)

    @property
    def cache(self) -> str:
        """Where frames are kept after all: of a CPU, the device's memory is the host's."""
        return self._stream.cache

    @property
    def wait_s(self) -> float:
        """Seconds waited for batches so far."""
        return self._stream.wait_s

    def batches(self, count: int) -> Iterator[Batch]:
        """So many batches."""
        if self._constant is not None:
            return itertools.repeat(self._constant, count)
        start, self._step = self._step, self._step + count
        return self._stream.batches(start, self._step)

    def close(self) -> None:
        """End the stream's threads."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _quiet(text: str) -> None:
    """Nobody to tell."""


def _pretraining(work: Work, settings: Settings, numbers: Numerics) -> tuple[Any, torch.optim.Optimizer]:
    ranks = Ranks(0, 1, 0, numbers.device)
    width, height = work.size_WH
    _, options = resolve_options("gradient-moco", None, {"queue": work.queue})
    region = gfield.Region(height // 60, height - height // 60, width // 60, width - width // 60)
    sight = Sight(
        region=region, size_HW=(height, width), seed=0, batch=work.batch, ranks=ranks, options=options
    )  # fmt: skip
    pretext = method_named("gradient-moco").make(
        Setup(
            *[lambda: make_encoder(work.encoder, 0)] * 2, options=options, sight=sight, frames=work.frames,
            settings=settings, ranks=ranks, numbers=numbers, say=_quiet,
        )
    )  # fmt: skip
    numbers.place(pretext.model)
    task = Pretraining(pretext, settings=settings, ranks=ranks, numbers=numbers)
    trained = [weight for weight in pretext.model.parameters() if weight.requires_grad]
    return task, make_sgd(trained, 0.001, momentum=0.9, weight_decay=1e-4)


def _finetuning(work: Work, settings: Settings, numbers: Numerics) -> tuple[Any, torch.optim.Optimizer]:
    assert work.network is not None
    net = make_depth_net(work.network, make_encoder(work.encoder, 0), seed=0)
    numbers.place(net)
    task = Finetuning(
        net, loss=LOSSES_OF[work.network], gradient_weight=0.0, settings=settings,
        ranks=Ranks(0, 1, 0, numbers.device), numbers=numbers,
    )  # fmt: skip
    return task, make_adam(net.parameters(), 0.001)
