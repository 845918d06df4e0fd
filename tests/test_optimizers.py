"""Optimizers that a number on the device holds back, and the states of those that were not such."""

from __future__ import annotations

import copy

import pytest
import torch

from train.optimizers import load_optimizer, make_adam, make_sgd, step_unless

GO, SKIP = torch.tensor(0.0), torch.tensor(1.0)
MAKERS = {
    "sgd": lambda parameters: make_sgd(parameters, 0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda parameters: make_adam(parameters, 0.1),
}
UNFUSED = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.1),
}
both = pytest.mark.parametrize("name", MAKERS)


def weights() -> list[torch.nn.Parameter]:
    """A kernel that lies channels last, and a bias."""
    random = torch.Generator().manual_seed(0)
    kernel = torch.randn(8, 4, 3, 3, generator=random).to(memory_format=torch.channels_last)
    return [torch.nn.Parameter(kernel), torch.nn.Parameter(torch.randn(5, generator=random))]


def give_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    random = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=random))


def steps(parameters, optimizer, numbers) -> None:
    for step in numbers:
        give_gradients(parameters, step)
        step_unless(optimizer, GO)


@both
@pytest.mark.parametrize("done", [0, 2], ids=["the first step", "a later step"])
def test_a_step_that_is_skipped_changes_nothing(name, done):
    parameters = weights()
    optimizer = MAKERS[name](parameters)
    steps(parameters, optimizer, range(done))
    other = copy.deepcopy(parameters)
    untouched = MAKERS[name](other)
    load_optimizer(untouched, copy.deepcopy(optimizer.state_dict()))
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, torch.nan)
    step_unless(optimizer, SKIP)
    for _ in range(2):
        assert all(map(torch.equal, parameters, other))
        steps(parameters, optimizer, range(5, 7))
        steps(other, untouched, range(5, 7))


@both
def test_steps_are_those_of_the_plain_optimizer(name):
    ours, plain = weights(), weights()
    optimizer = UNFUSED[name](plain)
    for step in range(4):
        give_gradients(plain, step)
        optimizer.step()
    steps(ours, MAKERS[name](ours), range(4))
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@both
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_state_of_a_plain_optimizer_loads_and_goes_on(name, layout):
    """As checkpoints have it that were made before optimizers were fused, and whatever the layout of its tensors."""
    plain = weights()
    optimizer = UNFUSED[name](plain)
    for step in range(3):
        give_gradients(plain, step)
        optimizer.step()
    ours = copy.deepcopy(plain)
    state = copy.deepcopy(optimizer.state_dict())
    for values in state["state"].values():
        for key, value in values.items():
            values[key] = value.contiguous(memory_format=layout) if value.dim() == 4 else value
    loaded = MAKERS[name](ours)
    load_optimizer(loaded, state)
    assert all(group["fused"] for group in loaded.param_groups)
    steps(ours, loaded, range(3, 6))
    for step in range(3, 6):
        give_gradients(plain, step)
        optimizer.step()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert {key: set(values) for key, values in loaded.state_dict()["state"].items()} == {
        key: set(values) for key, values in state["state"].items()
    }


def test_the_state_of_a_plain_optimizer_that_never_stepped_loads():
    parameters = weights()
    optimizer = MAKERS["sgd"](parameters)
    load_optimizer(optimizer, UNFUSED["sgd"](weights()).state_dict())
    step_unless(optimizer, SKIP)
    assert not any(values["momentum_buffer"].any() for values in optimizer.state.values())
