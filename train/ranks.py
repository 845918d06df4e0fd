"""The processes of one run, one a device: who they are, and what they tell each other.

`torchrun --nproc-per-node 4 …` starts them and says in the environment who each is. Without it there is one process,
no process group, and every function here does nothing. Samples are dealt out like cards: sample i of rank r is sample
r + world * i of the global batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from train.device import pick_device
from train.errors import TrainError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """One process's place among all; made by `join`. Every method is to be called by all ranks, in the same order.

    Attributes
    ----------
    rank, world
        Number of this process, and how many there are.
    local_rank
        Number of this process on its machine, which is the number of its card.
    device
        Where this process computes.

    Raises
    ------
    TrainError
        From every method, if another rank is gone or too late. On CUDA a gather only starts the exchange, and a lost
        rank shows later, as the end of this process by NCCL's watchdog.
    """

    rank: int
    world: int
    local_rank: int
    device: torch.device

    def gather_interleaved(self, x_N: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks as one, in global order, the same bits on every rank.

        Parameters
        ----------
        x_N
            N samples, N the same on all ranks; any shape behind, any dtype. Gradients do not pass.

        Returns
        -------
        Tensor
            N * world samples, first dimension in global order; ``x_N`` itself if there is one rank.
        """
        if self.world == 1:
            return x_N
        x_N = x_N.detach().contiguous()
        parts_RN = [torch.empty_like(x_N) for _ in range(self.world)]
        with self._together("a gather"):
            distributed.all_gather(parts_RN, x_N)
        return torch.stack(parts_RN, 1).flatten(0, 1)

    def gather_with_gradient(self, x_N: torch.Tensor) -> torch.Tensor:
        """As `gather_interleaved`, and gradients pass: each rank gets those of all ranks for its samples, summed."""
        if self.world == 1:
            return x_N
        gathered: torch.Tensor = _Gathered.apply(x_N, self)
        return gathered

    def mean_with_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over the ranks; its gradient is the mean of all ranks' gradients."""
        if self.world == 1:
            return x
        mean: torch.Tensor = _Averaged.apply(x, self)
        return mean

    def mean_over_ranks(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace floating-point tensors of one device by their means over the ranks, in one exchange, in place."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with self._together("a mean"):
            distributed.all_reduce(flat)
        flat /= self.world
        start = 0
        for tensor in tensors:
            tensor.detach().copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is up on any rank; also the place where ranks wait for each other.

        The flag travels between processors, so that no device has to finish its work first.
        """
        if self.world == 1:
            return flag
        flags = torch.tensor(int(flag))
        with self._together("a flag"):
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, value: T) -> T:
        """Rank 0's value on every rank: something small that pickles, such as the name of a checkpoint."""
        if self.world == 1:
            return value
        values = [value]
        with self._together("a message"):
            distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def parallel(self, module: nn.Module) -> nn.Module:
        """A network whose backward pass gives every rank the mean gradient; itself if there is one rank.

        Parameters and buffers start as rank 0's. Afterwards every rank's buffers are its own: queues are equal anyway,
        and batch-norm statistics are meant to differ until `mean_over_ranks` joins them.
        """
        if self.world == 1:
            return module
        with self._together("the start of a network"):
            wrapped = DistributedDataParallel(
                module, device_ids=[self.device.index] if self.device.type == "cuda" else None
            )
        # Not an argument: its name differs between versions of torch, and the old one warns where the new one exists.
        wrapped.broadcast_buffers = False
        return wrapped

    def without_exchange(self, parallel: nn.Module) -> AbstractContextManager[object]:
        """A context in which backward passes through what `parallel` made keep their gradients to this rank."""
        return parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise TrainError(
                f"rank {self.rank} of {self.world}: {what} failed, wanted all ranks alive and in time: {reason}"
            ) from error


class _Gathered(torch.autograd.Function):
    """Samples of all ranks; backward, every rank's gradients for all samples are summed and dealt out again."""

    @staticmethod
    def forward(ctx: Any, x_N: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        ctx.ranks = ranks
        return ranks.gather_interleaved(x_N)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        ranks: Ranks = ctx.ranks
        sum_B = gradients[0].contiguous().clone()
        ranks.mean_over_ranks([sum_B])
        return sum_B[ranks.rank :: ranks.world] * ranks.world, None


class _Averaged(torch.autograd.Function):
    """The mean over the ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        ctx.ranks = ranks
        mean = x.clone()
        ranks.mean_over_ranks([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        mean = gradients[0].contiguous().clone()
        ctx.ranks.mean_over_ranks([mean])
        return mean, None


def join(device: torch.device | str = "auto", *, timeout_s: float = 600.0) -> Ranks:
    """Take this process's place among those that torchrun started.

    Tensors on CUDA travel by NCCL, those on the CPU by Gloo.

    Parameters
    ----------
    device
        This process's device, or its name, of which `pick_device` makes this rank's.
    timeout_s
        Seconds to wait for another rank before giving up, here and later. It has to cover what one rank does while
        others wait, such as saving.

    Returns
    -------
    Ranks
        Rank 0 of 1 without torchrun.

    Raises
    ------
    TrainError
        If the environment is not torchrun's, there is no such device, or the others do not come.
    """
    world = _number("WORLD_SIZE", 1)
    rank = _number("RANK", 0 if world <= 1 else None)
    local_rank = _number("LOCAL_RANK", 0 if world <= 1 else None)
    if not 0 <= rank < world:
        raise TrainError(f"RANK {rank} of WORLD_SIZE {world}, wanted a rank from 0 and a world above it")
    ranks = Ranks(rank, world, local_rank, pick_device(device, local_rank) if isinstance(device, str) else device)
    if world > 1:
        backend = "cpu:gloo,cuda:nccl" if ranks.device.type == "cuda" else "gloo"
        with ranks._together("the start"):
            distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    return ranks


def leave() -> None:
    """Leave the other processes; belongs into a ``finally``, and does nothing where there is no group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _number(name: str, default: int | None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise TrainError(f"{name} is {text!r} in the environment, wanted a number as torchrun sets it") from None
