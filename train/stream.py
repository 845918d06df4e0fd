"""Batches of frames in an order that depends on numbers alone, read ahead of the step by threads.

The order of an epoch is one permutation of all frames from (seed, epoch); rank r of W takes every W-th of them from
the r-th, so that the frames of a global batch do not depend on W. The state of a stream is a step number.

Two sets of buffers take turns: while the step works on one batch, threads decode the next one into the other set.
Threads, and no forked processes: decompression releases Python's lock, and nothing is copied between processes.

Legend: N samples of a batch of this rank.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from train.cache import CacheMode, choose_cache
from train.errors import TrainError
from train.frames import Array, Frames
from train.random import generator

Index = npt.NDArray[np.intp]
__all__ = ["Batch", "CacheMode", "Stream", "epoch_order", "in_order"]

_PIECE = 8  # frames of one array that a thread takes at a time


def epoch_order(length: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> Index:
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
    """
    return generator(seed, "order", epoch).permutation(length)[rank::world].astype(np.intp)


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes
    ----------
    step
        Its number, counted from the run's start.
    index_N
        Places of its frames in the list that is streamed.
    arrays
        Tensors on the device, by name: ``rgb`` uint8 N,H,W,3; ``gradient`` float16 N,H,W; ``depth`` float32 N,H,W in
        metres, NaN where there is none. They hold until the next batch is asked for.
    """

    step: int
    index_N: Index
    arrays: dict[str, torch.Tensor]


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
        Where batches are wanted. On the CPU their tensors are the buffers that were read into, uncopied.
    cache
        Where decoded frames are kept; see `train.cache.choose_cache`.
    threads
        That read; by default one a processor, at most 8.
    on_fill
        Is told, while a cache is filled, how many more frames are in.

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
        If a batch of all ranks is larger than the data.
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
        on_fill: Callable[[int], None] | None = None,
    ) -> None:
        if batch * world > len(frames):
            raise TrainError(f"batch {batch * world} is larger than the data, {len(frames)} frames")
        self._frames, self._batch, self._seed = frames, batch, seed
        self._rank, self._world = rank, world
        self._device = torch.device(device)
        self.steps_per_epoch = len(frames) // (batch * world)
        self.wait_s = 0.0
        self.cache, self.cache_reason = choose_cache(cache, frames, self._device)
        self._pool = ThreadPoolExecutor(threads or _default_threads(), thread_name_prefix="stream")
        self._kept: dict[str, Array] | dict[str, torch.Tensor] = {}
        try:
            if self.cache in ("host", "device"):
                self._fill(on_fill or (lambda frames_done: None))
        except BaseException:
            self.close()
            raise
        self._order: tuple[int, Index] = (-1, np.empty(0, np.intp))

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps ``start`` to ``stop``, across epochs.

        Raises
        ------
        StoreError
            From the step whose frames cannot be read.
        """
        if self.cache == "device":
            yield from self._from_device(start, stop)
            return
        slots = [_Slot(self._frames, self._batch, self._device) for _ in range(min(2, max(0, stop - start)))]
        try:
            if start < stop:
                self._begin(slots[start % len(slots)], start)
            for step in range(start, stop):
                if step + 1 < stop:
                    # The batch before this one was in that slot, and its consumer has come back for more.
                    self._begin(slots[(step + 1) % len(slots)], step + 1)
                slot = slots[step % len(slots)]
                asked = time.perf_counter()
                arrays = slot.wait()
                self.wait_s += time.perf_counter() - asked
                yield Batch(step, slot.index_N, arrays)
        finally:
            for slot in slots:
                slot.abandon()

    def close(self) -> None:
        """End the threads and let go of the cache."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._kept = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _index_of(self, step: int) -> Index:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self._frames), self._seed, epoch, self._rank, self._world))
        return self._order[1][place * self._batch : (place + 1) * self._batch]

    def _begin(self, slot: _Slot, step: int) -> None:
        slot.begin(self._pool, self._read, self._index_of(step))

    def _read(self, name: str, index_N: Index, out: Array) -> None:
        if self.cache == "host":
            np.take(self._kept[name], index_N, axis=0, out=out, mode="clip")
        else:
            self._frames.read(name, index_N, out)

    def _from_device(self, start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            index_N = self._index_of(step)
            places_N = torch.from_numpy(index_N).to(self._device, non_blocking=True)
            kept: dict[str, Any] = self._kept
            yield Batch(step, index_N, {name: kept[name].index_select(0, places_N) for name in kept})

    def _fill(self, on_fill: Callable[[int], None]) -> None:
        """Decode every frame once, piece by piece, in all threads."""
        count = len(self._frames)
        kept: dict[str, Any] = {name: self._frames.empty(name, count) for name in self._frames.names}

        def read(start: int) -> int:
            index_N = np.arange(start, min(start + _PIECE, count))
            for name, array in kept.items():
                self._frames.read(name, index_N, array[index_N[0] : index_N[-1] + 1])
            return len(index_N)

        for done in self._pool.map(read, range(0, count, _PIECE)):
            on_fill(done)
        if self.cache == "device":
            kept = {name: torch.from_numpy(array).to(self._device) for name, array in kept.items()}
        self._kept = kept


class _Slot:
    """Buffers of one batch: arrays that threads decode into and, on CUDA, their copies on the device.

    On CUDA the copy runs on a stream of its own, and events keep three orders: the host buffer is overwritten after
    its copy has ended; the device buffer after the step that used it; and the step begins after the copy.
    """

    def __init__(self, frames: Frames, batch: int, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._tensors = {
            name: torch.from_numpy(frames.empty(name, batch)) if not self._cuda else self._pinned(frames, name, batch)
            for name in frames.names
        }
        self._buffers: dict[str, Array] = {name: tensor.numpy() for name, tensor in self._tensors.items()}
        self._parts: list[Future[None]] = []
        self.index_N: Index = np.empty(0, np.intp)
        if self._cuda:
            self._device = device
            self._on_device = {name: torch.empty_like(tensor, device=device) for name, tensor in self._tensors.items()}
            self._side, self._copied = torch.cuda.Stream(device), torch.cuda.Event()

    @staticmethod
    def _pinned(frames: Frames, name: str, batch: int) -> torch.Tensor:
        example = torch.from_numpy(frames.empty(name, 0))
        return torch.empty((batch, *example.shape[1:]), dtype=example.dtype, pin_memory=True)

    def begin(self, pool: ThreadPoolExecutor, read: Callable[[str, Index, Array], None], index_N: Index) -> None:
        """Let threads decode a batch into the buffers."""
        if self._cuda:
            self._copied.synchronize()
        self.index_N = index_N
        self._parts = [
            pool.submit(read, name, index_N[start:stop], buffer[start:stop])
            for start, stop in _pieces(len(index_N))
            for name, buffer in self._buffers.items()
        ]

    def wait(self) -> dict[str, torch.Tensor]:
        """The batch, as soon as it is there; raises what a thread raised."""
        for part in self._parts:
            part.result()
        self._parts = []
        if not self._cuda:
            return {name: tensor[: len(self.index_N)] for name, tensor in self._tensors.items()}
        step_stream = torch.cuda.current_stream(self._device)
        self._side.wait_stream(step_stream)
        with torch.cuda.stream(self._side):
            for name, tensor in self._tensors.items():
                self._on_device[name].copy_(tensor, non_blocking=True)
            self._copied.record()
        step_stream.wait_event(self._copied)
        return {name: tensor[: len(self.index_N)] for name, tensor in self._on_device.items()}

    def abandon(self) -> None:
        """Cancel what has not begun, and wait for what has: it writes into these buffers."""
        for part in self._parts:
            part.cancel()
        for part in self._parts:
            if not part.cancelled():
                part.exception()


def in_order(
    frames: Frames, batch: int, device: torch.device | str = "cpu", threads: int | None = None
) -> Iterator[Batch]:
    """Every frame once, in order, read ahead by threads; the last batch may be short."""
    device, steps = torch.device(device), -(-len(frames) // batch)
    with ThreadPoolExecutor(threads or _default_threads(), thread_name_prefix="in-order") as pool:
        slots = [_Slot(frames, min(batch, len(frames)), device) for _ in range(min(2, steps))]

        def begin(step: int) -> None:
            index_N = np.arange(step * batch, min((step + 1) * batch, len(frames)), dtype=np.intp)
            slots[step % len(slots)].begin(pool, frames.read, index_N)

        try:
            if steps:
                begin(0)
            for step in range(steps):
                if step + 1 < steps:
                    begin(step + 1)
                slot = slots[step % len(slots)]
                arrays = slot.wait()
                yield Batch(step, slot.index_N, arrays)
        finally:
            for slot in slots:
                slot.abandon()


def _pieces(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + _PIECE, count)) for start in range(0, count, _PIECE)]


def _default_threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)
