"""No step waits for its device: what would make it wait is an error here, on a card that is only pretended.

Tensors of torch's FakeTensorMode say that they are on a CUDA device, have shapes and no numbers, and need no card. A
step runs on them whole but for the backward pass, for which autograd wants a real one: gradients of zeros stand in. The
backward pass runs in a second step, on the CPU, where asking a tensor for a number is an error all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfield import Region
from train import loop
from train.depth import make_depth_net
from train.device import Numerics
from train.encoders import make_encoder
from train.finetune import Finetuning
from train.optimizers import make_adam, make_sgd
from train.pretexts import METHODS, method_named
from train.pretexts.pretext import Setup
from train.pretexts.sight import Sight
from train.pretrain import Pretraining, resolve_options
from train.ranks import Ranks
from train.readback import Readback
from train.session import Settings
from train.stream import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH, HEIGHT, WIDTH = 4, 96, 128
CARD, HOST = torch.device("cuda", 0), torch.device("cpu")
# What has a number, or a size that depends on numbers, for an answer.
ANSWERS = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "argwhere", "masked_select", "unique_dim",
    "_unique", "_unique2", "unique_consecutive", "unique_dim_consecutive", "bincount", "repeat_interleave.Tensor",
}  # fmt: skip
COPIES = {"_to_copy", "copy_"}


class Waits(AssertionError):
    """An operation for which the host has to wait."""


class NoWaiting(TorchDispatchMode):
    """Refuses what a CUDA device would make its host wait for, and copies between the two that are not queued."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[int] = set()
        self.kept: list[torch.Tensor] = []  # an id is a tensor's own while it lives
        self.seen: set[str] = set()

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """In place of `torch.Tensor.pin_memory`, which wants a card."""
        copy = tensor.clone()
        self.pinned.add(id(copy))
        self.kept.append(copy)
        return copy

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet, overload = func.overloadpacket.__name__, str(func).removeprefix("aten.")
        self.seen.add(packet)
        if packet in ANSWERS or overload in ANSWERS:
            raise Waits(overload)
        if packet in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            raise Waits(f"{overload} by a mask, whose length is a number")
        if packet.startswith(("_fused_", "_foreach_")):
            devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
            if len(devices) > 1:
                raise Waits(f"{overload} of tensors on {devices}")
            if packet == "_fused_sgd_" and devices == {CARD}:
                return None  # which torch cannot pretend, and which changes numbers alone
        result = func(*args, **kwargs)
        if packet in COPIES:
            target, source = (args[0], args[1]) if packet == "copy_" else (result, args[0])
            self.check_copy(overload, source, target, queued=bool(kwargs.get("non_blocking") or True in args[2:]))
        return result

    def check_copy(self, name: str, source: torch.Tensor, target: torch.Tensor, *, queued: bool) -> None:
        """Between card and host, only queued copies; to the card from pinned memory, as torch's own to the host is."""
        if source.device.type == target.device.type:
            return
        if not queued or (target.device.type == "cuda" and id(source) not in self.pinned):
            raise Waits(f"{name} from {source.device} to {target.device}")


@contextlib.contextmanager
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[NoWaiting]:
    """Inside, tensors are fake and on a card, and whoever waits for it fails."""
    waits = NoWaiting()

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        return waits.pin(tensor)

    def no_backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        assert loss.requires_grad

    class Event:
        def __init__(self, **options: bool) -> None:
            """Nothing to make."""

        def record(self, stream: object) -> None:
            """Nothing to record."""

        def synchronize(self) -> None:
            """Nothing to wait for."""

    with monkeypatch.context() as patched, FakeTensorMode(allow_non_fake_inputs=True):
        patched.setattr(torch.Tensor, "pin_memory", pin)
        patched.setattr(torch.Tensor, "backward", no_backward)
        patched.setattr(torch.cuda, "Event", Event)
        patched.setattr(torch.cuda, "current_stream", lambda device=None: None)
        yield waits


def ranks_on(device: torch.device) -> Ranks:
    return Ranks(0, 1, 0, device)


def pretraining(device: torch.device, method: str, **options: Any) -> Any:
    """A method's task as `train.pretrain` makes it, its network still on the CPU."""
    numbers = Numerics(device, bf16=False, channels_last=True)
    settings = Settings(Path("unused"), batch=BATCH, epochs=1, rate=0.1)
    found = method_named(method)
    _, resolved = resolve_options(method, None, options)
    resolved = dict(found.complete(resolved, 4 * BATCH, BATCH))
    sight = Sight(
        region=Region(2, HEIGHT - 2, 2, WIDTH - 2), size_HW=(HEIGHT, WIDTH), seed=0, batch=BATCH,
        ranks=ranks_on(device), options=resolved,
    )  # fmt: skip
    pretext = found.make(
        Setup(
            *[lambda: make_encoder("resnet18", 0)] * 2, options=resolved, sight=sight, frames=4 * BATCH,
            settings=settings, ranks=ranks_on(device), numbers=numbers, say=lambda text: None,
        )
    )  # fmt: skip
    return Pretraining(pretext, settings=settings, ranks=ranks_on(device), numbers=numbers)


def finetuning(device: torch.device, network: str, loss: str) -> Any:
    """Fine-tuning's task as `train.finetune` makes it, its network still on the CPU."""
    numbers = Numerics(device, bf16=False, channels_last=True)
    net = make_depth_net(network, make_encoder("resnet18", 0), seed=0)
    settings = Settings(Path("unused"), batch=BATCH, epochs=1, rate=0.1)
    return Finetuning(net, loss=loss, gradient_weight=1.0, settings=settings, ranks=ranks_on(device), numbers=numbers)


def optimizer_of(task: Any) -> torch.optim.Optimizer:
    """The optimizer that goes with the task."""
    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    if isinstance(task, Finetuning):
        return make_adam(trained, 1e-4)
    return make_sgd(trained, 0.1, momentum=0.9, weight_decay=1e-4)


def put_on_the_card(module: torch.nn.Module) -> None:
    """Replace parameters and buffers; `Module.to` does not know how to make fake ones of them."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                fake = torch.empty_like(value, device=CARD)
                part._parameters[name] = torch.nn.Parameter(fake, requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty_like(value, device=CARD)


TASKS: dict[str, Callable[[torch.device], Any]] = {
    **{method: lambda device, method=method: pretraining(device, method) for method in METHODS},
    "two groups": lambda device: pretraining(device, "gradient-moco", bn_groups=2, jitter=0.4, grey=0.5, blur=0.9),
    "densedepth": lambda device: finetuning(device, "densedepth", "densedepth"),
    "fcrn": lambda device: finetuning(device, "fcrn", "l1"),
    "berhu": lambda device: finetuning(device, "fcrn", "berhu"),
}


def batch_on(device: torch.device) -> Batch:
    depth = torch.full((BATCH, HEIGHT // 2, WIDTH // 2), 2.0, device=device)
    arrays = {
        "rgb": torch.full((BATCH, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8, device=device),
        "gradient": torch.ones((BATCH, HEIGHT, WIDTH), dtype=torch.float16, device=device),
        "depth": depth,
    }
    return Batch(0, np.arange(BATCH), arrays)


def steps_on_a_card(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]) -> NoWaiting:
    """Two steps, so that the second meets what the first has left."""
    task = make(CARD)
    with pretended_card(monkeypatch) as waits:
        put_on_the_card(task.model)
        optimizer, batch = optimizer_of(task), batch_on(CARD)
        for _ in range(2):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            with waits:
                Readback[None](CARD).send(None, *loop.queue_step(task, batch, optimizer, 0.1))
    return waits


@pytest.mark.parametrize("name", TASKS)
def test_a_step_on_a_card_waits_for_nothing(name, monkeypatch):
    waits = steps_on_a_card(monkeypatch, TASKS[name])
    assert "convolution" in waits.seen
    assert waits.seen & {"_fused_sgd_", "_fused_adam_"}


@pytest.mark.parametrize("name", ["gradient-moco", "densedepth", "fcrn"])
def test_a_step_and_its_backward_pass_ask_for_no_number(name):
    task, batch = TASKS[name](HOST), batch_on(HOST)
    optimizer = optimizer_of(task)
    with NoWaiting() as waits:
        loop.queue_step(task, batch, optimizer, 0.1)
    assert "convolution_backward" in waits.seen


SINS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "a condition": lambda x: bool(x.sum() > 0),
    "a list": lambda x: x.flatten()[:2].tolist(),
    "a mask": lambda x: x[x > 0],
    "a mask that is written to": lambda x: x.clone().__setitem__(x > 0, 0.0),
    "a copy to the host": lambda x: x.cpu(),
    "numbers from the host": lambda x: x + torch.tensor([1.0], device=x.device),
    "a bound from the host": lambda x: x.maximum(x.new_tensor(0.5)),
    "a queued copy of memory that is not pinned": lambda x: torch.zeros(3).to(x.device, non_blocking=True),
}


@pytest.mark.parametrize("sin", SINS)
def test_what_would_wait_is_found(sin, monkeypatch):
    def make(device: torch.device) -> Any:
        task = finetuning(device, "fcrn", "l1")
        honest = task.views

        def views(batch: Batch) -> Any:
            SINS[sin](batch.arrays["depth"])
            return honest(batch)

        task.views = views
        return task

    with pytest.raises(Waits):
        steps_on_a_card(monkeypatch, make)
