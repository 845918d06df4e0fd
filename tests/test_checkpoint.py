"""Checkpoints: what goes in comes out, and as many remain as are to be kept."""

from __future__ import annotations

import functools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from train.checkpoint import load_checkpoint, load_module_state, save_checkpoint
from train.errors import TrainError
from train.state_file import plain_state

ROOT = Path(__file__).parents[1]
META = {"command": "pretrain", "arguments": {"seed": 3, "lr": 0.1}, "note": "süß"}


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A little network, and an optimizer with a state, after some steps on data of a fixed seed."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    with torch.no_grad():
        for index, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape) * (index + 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    go_on(net, optimizer, range(steps))
    return net, optimizer


def go_on(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x_NCHW = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(step))
        net(x_NCHW).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@functools.cache
def state_of(step: int) -> dict:
    """A state that tells its step, with what real ones have: half precision, odd numbers, ordered dicts."""
    net, optimizer = trained(step % 7)
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": torch.tensor(step),
        "half": torch.linspace(-3, 3, 50, dtype=torch.bfloat16),
        "others": [(1, 2**70, True, None, float("inf"), "ü"), {}],
    }


def same(a: object, b: object) -> bool:
    """Whether two states have the same types, numbers and bits of tensors."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        bits = [x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or [math.isnan(x) for x in (a, b)] == [True, True])


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A run with checkpoints of steps 5 and 10; not to be changed."""
    folder = tmp_path_factory.mktemp("original")
    for step in (5, 10):
        save_checkpoint(folder, step, state_of(step), META)
    return folder


@pytest.fixture
def run(original, tmp_path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(original, tmp_path / "run")


def load(run: Path) -> tuple[int | None, list[str]]:
    """The step of the checkpoint that is loaded, and what is said; its state must be that of its step."""
    said: list[str] = []
    checkpoint = load_checkpoint(run, say=said.append)
    if checkpoint is None:
        return None, said
    assert same(plain_state(state_of(checkpoint.step)), checkpoint.state)
    return checkpoint.step, said


# What goes in comes out.


def test_a_checkpoint_comes_back_whole_and_is_readable_for_people(run):
    assert load(run) == (10, [])
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert (checkpoint.step, checkpoint.meta, checkpoint.path.name) == (10, META, "step-000000010")
    meta = json.loads((checkpoint.path / "meta.json").read_text())
    data = (checkpoint.path / "state.pt").read_bytes()
    assert meta["step"] == 10
    assert meta["size"] == len(data)
    assert meta["blake3"] == blake3(data).hexdigest()
    assert meta["meta"] == META
    assert type(checkpoint.state["model"]) is dict


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
    | st.builds(
        lambda shape, dtype: torch.arange(shape[0] * shape[1], dtype=torch.int64).to(dtype).reshape(shape),
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]),
    )
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=30)
@given(tree=TREES)
def test_any_nested_state_comes_back(tmp_path_factory, tree):
    run = tmp_path_factory.mktemp("run")
    save_checkpoint(run, 1, {"tree": tree}, {})
    assert same(load_checkpoint(run, say=pytest.fail).state["tree"], tree)


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    straight, optimizer = trained(3)
    state = {"model": straight.state_dict(), "optimizer": optimizer.state_dict()}
    save_checkpoint(tmp_path, 3, state, {})
    go_on(straight, optimizer, range(3, 6))

    resumed, optimizer = trained(0)
    checkpoint = load_checkpoint(tmp_path, say=pytest.fail)
    resumed.load_state_dict(checkpoint.state["model"])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    go_on(resumed, optimizer, range(3, 6))
    assert same(plain_state(straight.state_dict()), plain_state(resumed.state_dict()))


def test_a_tensor_keeps_its_layout_and_leaves_its_gradient(tmp_path):
    weight = torch.nn.Parameter(torch.rand(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    save_checkpoint(tmp_path, 1, {"weight": weight}, {})
    seen = load_checkpoint(tmp_path, say=pytest.fail).state["weight"]
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert not seen.requires_grad
    assert torch.equal(seen, weight)


def test_a_part_of_a_large_storage_is_saved_alone(tmp_path):
    storage = torch.zeros(1 << 22)
    path = save_checkpoint(tmp_path, 1, {"a": storage[:10], "b": storage[100:].view(-1, 4)[:2, :1]}, {})
    assert (path / "state.pt").stat().st_size < 10_000
    assert load_checkpoint(tmp_path, say=pytest.fail).state["b"].shape == (2, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_state_on_a_card_comes_back_on_the_cpu_or_on_the_card(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": torch.arange(5, device="cuda")}, {})
    assert load_checkpoint(tmp_path, say=pytest.fail).state["x"].tolist() == [0, 1, 2, 3, 4]
    assert load_checkpoint(tmp_path, say=pytest.fail, device="cuda").state["x"].is_cuda


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float64(1.5), r"state\['a'\]\[1\] is a float64"),
        (np.zeros(3), r"state\['a'\]\[1\] is a ndarray"),
        ({1, 2}, r"is a set"),
        (Path("x"), r"is a PosixPath"),
        (b"x", r"is a bytes"),
        ({1.5: 1}, r"key 1.5 is a float"),
        (torch.eye(3).to_sparse(), "layout torch.sparse_coo"),
        (torch.float32, "is a dtype"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(run, value, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(run, 15, {"a": [0, value]}, META)
    assert names(run) == ["step-000000005", "step-000000010"]


def test_a_meta_that_json_does_not_have_is_not_saved(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(run, 15, state_of(15), {"loss": float("nan")})
    save_checkpoint(run, 15, state_of(15), {"sizes": (1, 2), 3: "x"})
    assert load_checkpoint(run, say=pytest.fail).meta == {"sizes": [1, 2], "3": "x"}


# Which ones remain.


def test_as_many_remain_as_are_to_be_kept(run):
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000010", "step-000000015"]
    save_checkpoint(run, 20, state_of(20), META, keep=3)
    assert names(run) == ["step-000000010", "step-000000015", "step-000000020"]
    save_checkpoint(run, 1_000_000_000, state_of(1), META, keep=1)
    assert names(run) == ["step-1000000000"]


def test_a_step_that_is_saved_again_is_replaced_and_later_ones_go(run):
    save_checkpoint(run, 10, state_of(10), {"again": True})
    assert names(run) == ["step-000000005", "step-000000010"]
    assert load_checkpoint(run, say=pytest.fail).meta == {"again": True}
    save_checkpoint(run, 7, state_of(7), META, keep=1)
    assert names(run) == ["step-000000007"]


def test_strangers_and_leftovers(run):
    """What a kill left behind goes at the next save; what others put there stays, and is not taken for a checkpoint."""
    leftover = run / "checkpoints" / "0123.tmp"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    (run / "checkpoints" / "step-12").mkdir()
    (run / "checkpoints" / "step-000000099.bak").mkdir()
    assert load(run) == (10, [])
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000010", "step-000000015", "step-000000099.bak", "step-12"]


def test_a_kill_between_the_two_renames_of_a_step_saved_again(run):
    newest = run / "checkpoints" / "step-000000010"
    newest.rename(newest.with_name("step-000000010.old"))
    assert load(run) == (10, [])
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000005", "step-000000015"]


def test_no_run_and_no_checkpoint(tmp_path):
    assert load(tmp_path) == (None, [])
    assert load(tmp_path / "nothing") == (None, [])
    (tmp_path / "checkpoints").mkdir()
    assert load(tmp_path) == (None, [])


# The network alone.


def test_the_network_of_a_run_or_of_one_checkpoint(run):
    for path in (run, run / "checkpoints" / "step-000000010"):
        state, meta = load_module_state(path, say=pytest.fail)
        assert same(state, plain_state(state_of(10)["model"]))
        assert meta == META


def test_no_network(tmp_path):
    with pytest.raises(TrainError, match="no such folder, wanted a run"):
        load_module_state(tmp_path / "nothing", say=pytest.fail)
    with pytest.raises(TrainError, match="has no checkpoint yet"):
        load_module_state(tmp_path, say=pytest.fail)
    save_checkpoint(tmp_path, 1, {"queue": torch.zeros(2), "model": 3}, {})
    with pytest.raises(TrainError, match="holds queue, model, wanted a model"):
        load_module_state(tmp_path, say=pytest.fail)
