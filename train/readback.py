"""A step's numbers on their way to the host, which goes on queueing work while they travel.

On CUDA a number is there only when all that was queued before it is done. Whoever reads it at once holds up the
host until the device has run dry, and the device until the host has queued the next step. So they are read late:
copied into pinned memory behind the step, and looked at some steps later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import torch

T = TypeVar("T")
# Steps of a CUDA device that the host is ahead of it. One would keep the device busy; two do so when the host stumbles.
_LAG = 2


class _Sent(NamedTuple):
    names: tuple[str, ...]
    values: torch.Tensor
    arrived: torch.cuda.Event | None


class Readback(Generic[T]):
    """Numbers of steps, in order, each with what the caller wants to remember of its step.

    When a step's numbers are given out depends on the count of steps alone and never on the clock, so that all ranks
    of a run, which see the same numbers, draw the same conclusions at the same step.

    Parameters
    ----------
    device
        Where the numbers come from. Those of the CPU are given out at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._lag = _LAG if device.type == "cuda" else 0
        self._sent: deque[tuple[T, _Sent]] = deque()

    def send(self, about: T, names: tuple[str, ...], values: torch.Tensor) -> None:
        """Start the journey of the numbers of one step: names, and a vector of as many on the device."""
        if values.device.type != "cuda":
            self._sent.append((about, _Sent(names, values, None)))
            return
        # Asked not to block, torch copies into pinned memory.
        host = values.to("cpu", non_blocking=True)
        # Blocking: the host sleeps while it waits, and leaves its processor to the threads that read.
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(values.device))
        self._sent.append((about, _Sent(names, host, arrived)))

    def receive(self, *, everything: bool = False) -> Iterator[tuple[T, Mapping[str, float]]]:
        """The numbers of all steps but the last few, or of all, each once.

        Waits for those that are not there; the last few of a CUDA device then still keep it busy.
        """
        while len(self._sent) > (0 if everything else self._lag):
            about, sent = self._sent.popleft()
            if sent.arrived is not None:
                sent.arrived.synchronize()
            yield about, dict(zip(sent.names, sent.values.tolist(), strict=True))
