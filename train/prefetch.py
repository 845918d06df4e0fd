"""Batches read ahead of the step: two sets of buffers take turns, and threads fill one while the step uses the other.

Threads, and no forked processes: decompression releases Python's lock, and nothing is copied between processes.
On the CPU a batch's tensors are the buffers themselves. On CUDA the buffers are pinned and have twins on the device;
the copy is started by whichever thread fills the last piece, so that it runs while the step before still computes.

Legend: N samples of a batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from train.frames import Array, Frames

Places = npt.NDArray[np.intp]
Read = Callable[[str, Places, Array], None]
_SLOTS = 2
_PIECES_A_THREAD = 4
_LINE_BYTES = 64  # of the processor's caches


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
    index_N: Places
    arrays: dict[str, torch.Tensor]


def prefetched(
    plan: Iterable[tuple[int, Places]],
    read: Read,
    frames: Frames,
    *,
    batch: int,
    device: torch.device,
    pool: ThreadPoolExecutor,
    threads: int,
    on_wait: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Batch]:
    """Read batches, one or two ahead of the one that is in use.

    Parameters
    ----------
    plan
        Number and frames of every batch, in order.
    read
        Puts frames of one array into a buffer: `Frames.read`, or what stands in for it. Called from many threads.
    frames
        Says what the arrays are.
    batch
        Frames of the largest batch.
    device
        Where the tensors are wanted.
    pool, threads
        Who reads, and how many they are.
    on_wait
        Told after every batch how many seconds it had to be waited for.

    Raises
    ------
    Exception
        What ``read`` raised, as it is, in place of the batch that it spoilt.
    """
    side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    slots = [_Slot(frames, batch, device, side) for _ in range(_SLOTS)]
    ahead: deque[_Slot] = deque()
    planned = iter(plan)
    piece = max(1, batch // (_PIECES_A_THREAD * threads))

    def begin(slot: _Slot) -> None:
        for step, index_N in planned:
            slot.begin(step, index_N, read, pool, piece)
            ahead.append(slot)
            break

    try:
        for slot in slots:
            begin(slot)
        while ahead:
            slot = ahead.popleft()
            asked = time.perf_counter()
            slot.wait()
            on_wait(time.perf_counter() - asked)
            yield slot.batch()
            slot.give_back()
            begin(slot)
    finally:
        for slot in slots:
            slot.abandon()
        if side is not None:
            # Copies that nobody waited for still write to buffers that are now let go.
            torch.cuda.current_stream(device).wait_stream(side)


class _Slot:
    """The buffers of one batch. In turns: threads fill them, the consumer uses them, gives them back."""

    def __init__(self, frames: Frames, batch: int, device: torch.device, side: torch.cuda.Stream | None) -> None:
        tensors = {name: _empty(frames, name, batch, pinned=side is not None) for name in frames.names}
        self._buffers: dict[str, Array] = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._tensors: Mapping[str, torch.Tensor] = tensors
        self._twin = _Twin(tensors, device, side) if side is not None else None
        self._step, self._index_N = 0, np.empty(0, np.intp)
        self._pieces: list[Future[None]] = []
        self._lock, self._left = threading.Lock(), 0

    def begin(self, step: int, index_N: Places, read: Read, pool: ThreadPoolExecutor, piece: int) -> None:
        """Let threads fill the buffers with a batch, a few frames of one array at a time."""
        self._step, self._index_N = step, index_N
        parts = [
            (name, start, min(start + piece, len(index_N)))
            for start in range(0, len(index_N), piece)
            for name in self._buffers
        ]
        self._left = len(parts)
        self._pieces = [pool.submit(self._fill, read, *part) for part in parts]

    def wait(self) -> None:
        """Return once the batch is there; raises what a thread raised."""
        for piece in self._pieces:
            piece.result()
        if self._twin is not None:
            self._twin.await_copy()

    def batch(self) -> Batch:
        """The batch that was waited for."""
        tensors = self._tensors if self._twin is None else self._twin.tensors
        count = len(self._index_N)
        return Batch(self._step, self._index_N, {name: tensor[:count] for name, tensor in tensors.items()})

    def give_back(self) -> None:
        """The consumer asks for no more of this batch than it has asked already."""
        if self._twin is not None:
            self._twin.used()

    def abandon(self) -> None:
        """Cancel what has not begun, and wait for what has, for it writes into these buffers."""
        for piece in self._pieces:
            piece.cancel()
        for piece in self._pieces:
            if not piece.cancelled():
                piece.exception()

    def _fill(self, read: Read, name: str, start: int, stop: int) -> None:
        if self._twin is not None:
            self._twin.await_host_buffer()
        read(name, self._index_N[start:stop], self._buffers[name][start:stop])
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and self._twin is not None:
            self._twin.copy(len(self._index_N))


class _Twin:
    """A slot's tensors on a CUDA device, and the events that keep three orders without holding up the consumer.

    A host buffer is overwritten after its copy has ended; the device's tensor is overwritten after the work that was
    queued on it; and what the consumer queues next begins after the copy.
    """

    def __init__(self, host: Mapping[str, torch.Tensor], device: torch.device, side: torch.cuda.Stream) -> None:
        self._host, self._side, self._device = host, side, device
        self.tensors = {name: torch.empty_like(tensor, device=device) for name, tensor in host.items()}
        self._copied, self._used = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]
        # Memory that the allocator hands out may still be in use by work that is queued before it.
        self.used()

    def await_host_buffer(self) -> None:
        """Hold up a reading thread until the last copy out of the host buffers has ended."""
        self._copied.synchronize()

    def copy(self, count: int) -> None:
        """Queue the copy of the first ``count`` samples; called by a reading thread."""
        with torch.cuda.stream(self._side):
            self._side.wait_event(self._used)
            for name, tensor in self._host.items():
                self.tensors[name][:count].copy_(tensor[:count], non_blocking=True)
            self._copied.record(self._side)

    def await_copy(self) -> None:
        """Let the consumer's stream, not the consumer, wait for the copy."""
        torch.cuda.current_stream(self._device).wait_event(self._copied)

    def used(self) -> None:
        """Mark the end of what the consumer has queued on the tensors."""
        self._used.record(torch.cuda.current_stream(self._device))


def _empty(frames: Frames, name: str, count: int, *, pinned: bool) -> torch.Tensor:
    shape, dtype = (count, *frames.frame_shape(name)), frames.dtype(name)
    if pinned:
        return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
    # NumPy asks the system for huge pages where torch does not: fewer of them have to be found. It begins 16 bytes
    # behind a line of the cache, and only whole lines can be written past it.
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE_BYTES, np.uint8)
    return torch.from_numpy(np.ndarray(shape, dtype, memory, -memory.ctypes.data % _LINE_BYTES))
