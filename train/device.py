"""Where a step runs and in which numbers: the device, autocast and memory layout; and what to do when memory ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from train.errors import TrainError

Precision = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True)
class Numerics:
    """How the networks compute.

    Attributes
    ----------
    device
        Where they are.
    bf16
        Whether convolutions and matrix products run in bfloat16. Losses, batch-norm statistics, the optimizer and
        the momentum average stay in float32.
    channels_last
        Whether weights and activations lie channels last in memory, which convolutions prefer, on CPUs too.
    """

    device: torch.device
    bf16: bool
    channels_last: bool

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def place(self, module: torch.nn.Module) -> None:
        """Move a network to the device, in the memory layout."""
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)

    def lay_out(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Images in the memory layout of the networks."""
        return images_NCHW.contiguous(memory_format=torch.channels_last) if self.channels_last else images_NCHW


def pick_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """The device of a name: ``"auto"`` is CUDA where there is some, ``"cuda"`` is this rank's card.

    Raises
    ------
    TrainError
        If the name is none, or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainError(f"device {name!r} is unknown, wanted auto, cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not torch.cuda.is_available():
        raise TrainError(f"device {name!r} is not there, wanted one of this machine's; --device cpu works everywhere")
    if device.index is None:
        device = torch.device("cuda", local_rank)
    if device.index >= torch.cuda.device_count():
        raise TrainError(f"device {device} is not there, this machine has {torch.cuda.device_count()} CUDA devices")
    torch.cuda.set_device(device)
    return device


def numerics(device: torch.device, precision: Precision = "auto") -> Numerics:
    """How to compute on a device: ``"auto"`` is bfloat16 where a CUDA card has it, else float32.

    Raises
    ------
    TrainError
        If the card has no bfloat16 and it was asked for.
    """
    cuda = device.type == "cuda"
    able = not cuda or torch.cuda.is_bf16_supported()
    if precision == "bf16" and not able:
        raise TrainError(f"{device} has no bfloat16, wanted --precision float32")
    bf16 = precision == "bf16" or (precision == "auto" and cuda and able)
    if cuda:
        torch.backends.cudnn.benchmark = True
        # float32 means float32: by default cuDNN would keep ten bits of it. (Matrix products do not, by default.)
        torch.backends.cudnn.allow_tf32 = bf16
    return Numerics(device, bf16=bf16, channels_last=True)


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """A small array on the device, by a copy that the CPU does not wait for: from pinned memory, on CUDA."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


_CPU_MEMORY = re.compile("can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)


@contextmanager
def memory_advice() -> Iterator[None]:
    """Turn an out-of-memory error, of the device or of this machine, into one line that says which options need less.

    Raises
    ------
    TrainError
        In place of `torch.OutOfMemoryError`, `MemoryError`, and what torch raises where the CPU's memory is out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0].split(". GPU ")[0].rstrip(".")
        raise TrainError(
            f"{first}; less memory: --accumulate 2 (same result), --cache host, a smaller --batch, or --size 320x240"
        ) from error
    except (MemoryError, RuntimeError) as error:
        text = str(error) or "out of memory"
        if not isinstance(error, MemoryError) and not _CPU_MEMORY.search(text):
            raise
        first = text.splitlines()[0].rstrip(".")
        raise TrainError(
            f"this machine's memory is not enough: {first}; less: --cache none, --accumulate 2 (same result), "
            "a smaller --batch, or --size 320x240"
        ) from error
