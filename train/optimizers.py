"""The optimizers of a run: torch's fused ones, which a number on the device can keep from changing anything.

Whether a step's gradients are finite is known on the device first. A host that asked would have to wait until the
device is done, and the device would then wait for the host's next step. The fused kernels read the answer themselves:
where it says skip, they leave weights and state alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn


def make_sgd(
    parameters: Iterable[nn.Parameter], rate: float, *, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """SGD with momentum, for `step_unless`."""
    optimizer = torch.optim.SGD(parameters, rate, momentum=momentum, weight_decay=weight_decay, fused=True)
    _complete(optimizer)
    return optimizer


def make_adam(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Adam:
    """Adam, for `step_unless`."""
    return torch.optim.Adam(parameters, rate, fused=True)


def step_unless(optimizer: torch.optim.Optimizer, skip: torch.Tensor) -> None:
    """The optimizer's step, unless ``skip`` holds 1; the host does not look at it.

    Parameters
    ----------
    optimizer
        Made here.
    skip
        float32 scalar on the parameters' device, 0 or 1.
    """
    # By this name torch's own GradScaler hands the fused kernels its verdict.
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    optimizer.step()


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state dict, also one of a run whose optimizer was not fused or was on another device."""
    groups = [{**group, "fused": True, "foreach": None} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})
    _complete(optimizer)


def _complete(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD the momentum that it has not yet, and every part of a state the memory layout of its parameter."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter] if group.get("momentum") else optimizer.state.get(parameter, {})
            if group.get("momentum") and state.get("momentum_buffer") is None:
                # torch leaves it without a value until the first step, which may be one that is skipped.
                state["momentum_buffer"] = torch.zeros_like(parameter)
            for name, value in state.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    # The fused kernels walk through memory in order, whatever lies there.
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
