"""Batches of frames in an order that depends on numbers alone; the state of a stream is a step number.

The order of an epoch is one permutation of all frames from (seed, epoch); rank r of W takes every W-th of them from
the r-th, so that the frames of a global batch do not depend on W.

Legend: N samples of a batch of this rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch

from train.cache import CacheMode, HostCache, choose_cache, fill_device, ranks_on_this_machine
from train.device import to_device
from train.errors import TrainError
from train.frames import Frames
from train.prefetch import Batch, Places, prefetched
from train.random import generator

__all__ = ["Batch", "CacheMode", "Stream", "epoch_order", "in_order"]


def epoch_order(length: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> Places:
    """The frames of an epoch, in the order in which a rank sees them; a pure function.

    Parameters
    ----------
    length
        Frames of all ranks.
    seed, epoch
        Decide the permutation.
    rank, world
        This rank, and how many there are.

    Returns
    -------
    ndarray of intp
        Elements ``rank::world`` of the permutation of ``range(length)``.

    Examples
    --------
    Two processes share an epoch: together they have every place once.

    >>> from train.stream import epoch_order
    >>> parts = [epoch_order(6, seed=0, epoch=1, rank=rank, world=2).tolist() for rank in (0, 1)]
    >>> sorted(parts[0] + parts[1])
    [0, 1, 2, 3, 4, 5]
    """
    return generator(seed, "order", epoch).permutation(length)[rank::world].astype(np.intp)


class Stream:
    """Shuffled batches, without end; to be closed.

    Parameters
    ----------
    frames
        What to read.
    batch
        Samples of a batch of this rank; the last frames of an epoch that fill none are left out.
    seed, rank, world
        Of the order; see `epoch_order`.
    device
        Where batches are wanted.
    cache
        Where decoded frames are kept; see `train.cache.choose_cache`.
    threads
        That read; by default one for each of this rank's processors, at most 8.

    Attributes
    ----------
    steps_per_epoch
        Batches of an epoch.
    cache, cache_reason
        Where frames are kept, and why.
    wait_s
        Seconds that the consumer has waited for batches so far.

    Raises
    ------
    TrainError
        If a batch of all ranks is empty or larger than the data, or the cache does not fit.
    StoreError
        If the device's cache is filled and a frame cannot be read.
    """

    def __init__(
        self,
        frames: Frames,
        *,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        cache: CacheMode = "auto",
        threads: int | None = None,
    ) -> None:
        if batch < 1:
            raise TrainError(f"batch {batch}, wanted 1 or more")
        if batch * world > len(frames):
            raise TrainError(f"batch {batch * world} is larger than the data, {len(frames)} frames")
        self._frames, self._batch, self._seed = frames, batch, seed
        self._rank, self._world = rank, world
        self._device = torch.device(device)
        self.steps_per_epoch = len(frames) // (batch * world)
        self.wait_s = 0.0
        self.cache, self.cache_reason = choose_cache(cache, frames, self._device)
        self._threads = threads or _default_threads()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="stream")
        self._read = HostCache(frames).read if self.cache == "host" else frames.read
        self._on_device: dict[str, torch.Tensor] = {}
        if self.cache == "device":
            try:
                self._on_device = fill_device(frames, self._device, self._pool)
            except BaseException:
                self.close()
                raise

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps ``start`` to ``stop - 1``, across epochs.

        Raises
        ------
        StoreError
            From the step whose frames cannot be read.
        """
        if self.cache == "device":
            return map(self._from_device, self._plan(start, stop))
        return prefetched(
            self._plan(start, stop),
            self._read,
            self._frames,
            batch=self._batch,
            device=self._device,
            pool=self._pool,
            threads=self._threads,
            on_wait=self._waited,
        )

    def close(self) -> None:
        """End the threads and let go of the cache; no batch can be asked for after it."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._read, self._on_device = self._frames.read, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _plan(self, start: int, stop: int) -> Iterator[tuple[int, Places]]:
        read_epoch, order = -1, np.empty(0, np.intp)
        for step in range(start, stop):
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch != read_epoch:
                order = epoch_order(len(self._frames), self._seed, epoch, self._rank, self._world)
                read_epoch = epoch
            yield step, order[place * self._batch : (place + 1) * self._batch]

    def _from_device(self, planned: tuple[int, Places]) -> Batch:
        step, index_N = planned
        places_N = to_device(index_N, self._device)
        return Batch(step, index_N, {name: kept.index_select(0, places_N) for name, kept in self._on_device.items()})

    def _waited(self, seconds: float) -> None:
        self.wait_s += seconds


def in_order(
    frames: Frames, batch: int, device: torch.device | str = "cpu", threads: int | None = None
) -> Iterator[Batch]:
    """Every frame once, in order, read ahead by threads; the last batch may be short."""
    threads = threads or _default_threads()
    places = np.arange(len(frames), dtype=np.intp)
    plan = enumerate(places[start : start + batch] for start in range(0, len(frames), batch))
    with ThreadPoolExecutor(threads, thread_name_prefix="in-order") as pool:
        yield from prefetched(
            plan,
            frames.read,
            frames,
            batch=min(batch, len(frames)),
            device=torch.device(device),
            pool=pool,
            threads=threads,
        )


def _default_threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(8, processors // ranks_on_this_machine()))
