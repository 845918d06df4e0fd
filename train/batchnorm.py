"""Batch-norm whose statistics are those of parts of the batch: one device computes what several would.

MoCo needs it. Where a query's negatives and its key share one set of statistics, these tell the network which key
belongs to the batch, a shortcut that needs no picture (He et al. 2020, section 3.3, "shuffling BN"). With several
groups, and keys that are shuffled between them, the statistics that a key sees are not those of its query's group.

SimCLR needs the opposite, joint batch-norm: where all views of all ranks share one set of statistics, these tell
nothing either (Chen et al. 2020, section 2.2, "global BN").

Legend: N samples, G groups, C channels, H W rows and columns.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from train.errors import TrainError
from train.ranks import Ranks


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm over G groups of samples, one behind the other; `in_groups` puts them so. In evaluation it is plain.

    The running statistics take the mean over the groups.

    Each group is a batch of its own in memory, whatever the layout, so that nothing is copied but the results, once,
    behind one another. (Groups that become channels by a reshape are one call instead of G. Channels-last memory has
    to be turned for it and back, in both directions: three times the time of a plain batch-norm on a CPU.)
    """

    def __init__(self, channels: int, groups: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum)
        self.groups = groups

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Raises
        ------
        TrainError
            In training, if the groups do not divide the samples.
        """
        if not self.training:
            return super().forward(x_NCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        N, G = len(x_NCHW), self.groups
        if N % G:
            raise TrainError(f"{N} samples in batch-norm of {G} groups, wanted a multiple of {G}")
        mean_GC, var_GC = self.running_mean.repeat(G, 1), self.running_var.repeat(G, 1)
        if torch.compiler.is_compiling():
            y_NCHW = self._in_one_call(x_NCHW, mean_GC, var_GC)
        else:
            parts = zip(x_NCHW.chunk(G), mean_GC.unbind(0), var_GC.unbind(0), strict=True)
            y_NCHW = torch.cat([self._normalised(*part, self.weight, self.bias) for part in parts])
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.copy_(mean_GC.mean(0))
            self.running_var.copy_(var_GC.mean(0))
        return y_NCHW

    def _in_one_call(self, x_NCHW: torch.Tensor, mean_GC: torch.Tensor, var_GC: torch.Tensor) -> torch.Tensor:
        """Groups as channels, for compilers: they read memory in any order, and take their time over every call."""
        (N, C, H, W), G = x_NCHW.shape, self.groups
        y_nGCHW = self._normalised(
            x_NCHW.reshape(G, N // G, C, H, W).transpose(0, 1).reshape(N // G, G * C, H, W),
            mean_GC.view(-1), var_GC.view(-1), self.weight.repeat(G), self.bias.repeat(G),
        )  # fmt: skip
        y_NCHW = y_nGCHW.reshape(N // G, G, C, H, W).transpose(0, 1).reshape(N, C, H, W)
        last = x_NCHW.is_contiguous(memory_format=torch.channels_last)
        return y_NCHW.contiguous(memory_format=torch.channels_last) if last else y_NCHW

    def _normalised(
        self, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        momentum = self.momentum or 0.0
        return functional.batch_norm(x, mean, var, weight, bias, training=True, momentum=momentum, eps=self.eps)


def in_groups(x_N: torch.Tensor, groups: int) -> torch.Tensor:
    """Samples in the order in which split batch-norm wants them: those of group g, which are ``x[g::G]``, as one block.

    The interleaved slices agree with those of ranks and micro-batches: a batch in G groups gives what G ranks give
    whose samples are ``[rank::G]``. The memory layout stays.
    """
    return torch.cat([x_N[group::groups] for group in range(groups)]) if groups > 1 else x_N


def out_of_groups(x_N: torch.Tensor, groups: int) -> torch.Tensor:
    """The inverse of `in_groups`."""
    return x_N.reshape(groups, -1, *x_N.shape[1:]).transpose(0, 1).flatten(0, 1) if groups > 1 else x_N


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm over the samples of all ranks: several processes compute what one would. In evaluation it is plain.

    torch's own SyncBatchNorm does the same on CUDA alone; this one runs, and is tested, everywhere.
    """

    def __init__(self, channels: int, ranks: Ranks, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum)
        self.ranks = ranks

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Normalise; to be called by all ranks together, with as many samples each."""
        if not self.training:
            return super().forward(x_NCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        wide_NCHW = x_NCHW.float()
        mean_C = self.ranks.mean_with_gradient(wide_NCHW.mean((0, 2, 3)))
        centred_NCHW = wide_NCHW - mean_C[:, None, None]
        var_C = self.ranks.mean_with_gradient(centred_NCHW.square().mean((0, 2, 3)))
        scale_C = self.weight * (var_C + self.eps).rsqrt()
        y_NCHW = centred_NCHW * scale_C[:, None, None] + self.bias[:, None, None]
        with torch.no_grad():
            count = x_NCHW.numel() // x_NCHW.shape[1] * self.ranks.world
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C, self.momentum or 0.0)
            self.running_var.lerp_(var_C * (count / max(1, count - 1)), self.momentum or 0.0)
        return y_NCHW.to(x_NCHW.dtype)


def split_batchnorm(module: nn.Module, groups: int) -> nn.Module:
    """Let every `torch.nn.BatchNorm2d` of a network work in groups.

    Parameters
    ----------
    module
        Changed in place; parameters, buffers and their names stay the very same.
    groups
        Number of groups; 1 changes nothing.

    Returns
    -------
    Module
        ``module``, or its replacement if it is a batch-norm itself.

    Raises
    ------
    TrainError
        If there is less than one group.
    """
    if groups < 1:
        raise TrainError(f"batch-norm groups {groups}, wanted 1 or more")
    if groups == 1:
        return module
    if isinstance(module, nn.BatchNorm2d):
        split = SplitBatchNorm2d(module.num_features, groups, eps=module.eps, momentum=_momentum(module))
        return _like(module, split)
    for name, child in module.named_children():
        setattr(module, name, split_batchnorm(child, groups))
    return module


def joint_batchnorm(module: nn.Module, ranks: Ranks) -> nn.Module:
    """Let every `torch.nn.BatchNorm2d` of a network see the samples of all ranks; one rank changes nothing.

    Parameters
    ----------
    module
        Changed in place; parameters, buffers and their names stay the very same.
    ranks
        The processes of the run.
    """
    if ranks.world == 1:
        return module
    if isinstance(module, nn.BatchNorm2d):
        return _like(module, JointBatchNorm2d(module.num_features, ranks, eps=module.eps, momentum=_momentum(module)))
    for name, child in module.named_children():
        setattr(module, name, joint_batchnorm(child, ranks))
    return module


def default_bn_groups(batch: int) -> int:
    """Groups for a batch (of one rank, one micro-batch): as many as divide it, with 8 samples or more, at most 8.

    Fewer samples make the statistics noisy, and few groups make the shuffle weak; a batch below 16 stays whole.
    """
    return max((groups for groups in range(1, 9) if batch % groups == 0 and batch // groups >= 8), default=1)


def running_statistics(module: nn.Module) -> list[torch.Tensor]:
    """The running means and variances of a network, in order: what ranks average before a network is used or saved."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]


def _momentum(norm: nn.BatchNorm2d) -> float:
    assert norm.momentum is not None, "a cumulative average has no mean over groups"
    return norm.momentum


def _like(norm: nn.BatchNorm2d, other: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The other batch-norm, with what the first one holds."""
    assert norm.affine
    assert norm.track_running_stats
    # The same objects: an optimizer that has the parameters keeps them, and their device and type stay.
    other.weight, other.bias = norm.weight, norm.bias
    other.running_mean, other.running_var = norm.running_mean, norm.running_var
    other.num_batches_tracked = norm.num_batches_tracked
    return other.train(norm.training)
