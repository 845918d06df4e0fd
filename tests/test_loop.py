"""The loop where numbers come late, as from a CUDA device, and steps that are skipped; here on the CPU."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from train import loop
from train.checkpoint import load_checkpoint
from train.readback import Readback
from train.stream import Batch

from .small_runs import SMALL, train
from .test_device_waits import BATCH, HOST, TASKS, batch_on, optimizer_of

pytestmark = pytest.mark.usefixtures("one_thread")

FINETUNE = ("--init", "random", "--network", "fcrn", *SMALL)


class Late(Readback):
    """Gives out numbers two steps late, as it does for a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._lag = 2


def test_numbers_come_in_order_each_once_and_no_earlier_than_they_may():
    readback = Late(HOST)
    seen = []
    for step in range(5):
        readback.send(step, ("double", "skipped"), torch.tensor([2.0 * step, 0.0]))
        seen.append([(about, numbers["double"]) for about, numbers in readback.receive()])
    assert seen == [[], [], [(0, 0)], [(1, 2)], [(2, 4)]]
    assert [about for about, _ in readback.receive(everything=True)] == [3, 4]
    assert list(readback.receive(everything=True)) == []


def test_on_the_cpu_numbers_come_at_once():
    readback = Readback(HOST)
    readback.send("a step", ("loss",), torch.tensor([0.5]))
    assert list(readback.receive()) == [("a step", {"loss": 0.5})]


def lines_of(run) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("time", "wait_share")} for line in lines]


@pytest.mark.parametrize("rate", ["1e-4", "1e30"], ids=["a sound run", "a run that bursts"])
def test_a_run_whose_numbers_come_late_tells_the_same(rate, small_store, tmp_path, monkeypatch):
    code = 1 if rate == "1e30" else 0
    options = ["finetune", small_store, *FINETUNE, "--lr", rate, "--save-every", 4, "--steps", 25 if code else 6]
    said = [train(*options, "--out", tmp_path / "soon", code=code).output]
    monkeypatch.setattr(loop, "Readback", Late)
    said.append(train(*options, "--out", tmp_path / "late", code=code).output)
    soon, late = (load_checkpoint(tmp_path / name, say=pytest.fail) for name in ("soon", "late"))
    assert (soon.step, soon.state["skipped"]) == (late.step, late.state["skipped"])
    assert all(torch.equal(late.state["model"][name], value) or code for name, value in soon.state["model"].items())
    lines = lines_of(tmp_path / "late")
    assert lines[: len(lines_of(tmp_path / "soon"))] == lines_of(tmp_path / "soon")
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == list(range(len(steps)))
    if code:
        assert soon.state["skipped"] > 0
        assert "10th step in a row" in said[0]
        errors = [next(line for line in text.splitlines() if "10th" in line) for text in said]
        assert errors[0] == errors[1]


def test_the_log_has_every_step_that_was_done_before_the_data_failed(small_store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Readback", Late)
    honest = loop.Stream.batches

    def failing(stream, start, stop):
        yield from honest(stream, start, 3)
        raise OSError("the disk is gone")

    monkeypatch.setattr(loop.Stream, "batches", failing)
    said = train("finetune", small_store, *FINETUNE, "--steps", 9, "--out", tmp_path / "run", code=1).output
    assert "the disk is gone" in said
    assert [line["step"] for line in lines_of(tmp_path / "run")] == [0, 1, 2]


def spoilt(batch: Batch) -> Batch:
    """The same batch, with a part of a field that is not a number."""
    arrays = {name: tensor.clone() for name, tensor in batch.arrays.items()}
    arrays["gradient"][0, 30:60, 30:60] = torch.nan
    return Batch(batch.step, batch.index_N, arrays)


@pytest.mark.parametrize("done", [0, 2], ids=["the first step", "a later step"])
def test_a_step_that_is_not_finite_leaves_weights_keys_and_queue(done):
    task = TASKS["gradient-moco"](HOST)
    optimizer, batch = optimizer_of(task), batch_on(HOST)
    for _ in range(done):
        loop.queue_step(task, batch, optimizer, 0.1)
    before = copy.deepcopy(task.model.state_dict())
    names, values = loop.queue_step(task, spoilt(batch), optimizer, 0.1)
    told = dict(zip(names, values.tolist(), strict=True))
    assert told["skipped"] == 1
    assert not np.isfinite(told["loss"])
    assert told["queue_filled"] == done * BATCH, "as it was when the step began"
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in task.model.state_dict().items():
        assert name.endswith(statistics) or torch.equal(value, before[name]), name
    assert before["queue_filled"] == done * BATCH


def test_keys_stay_even_where_queries_have_burst():
    task = TASKS["gradient-moco"](HOST)
    moco = task.model
    with torch.no_grad():
        next(iter(moco.encoder_q.parameters())).fill_(torch.inf)
    before = copy.deepcopy(moco.state_dict())
    moco.update_keys(torch.tensor(1.0))
    moco.enqueue(torch.full((BATCH, len(moco.queue_CK)), torch.nan), skip=torch.tensor(1.0))
    assert all(torch.equal(value, before[name]) for name, value in moco.state_dict().items())
