"""Processes of one run: alone, two of them under torchrun, and what the living say of the dead."""

from __future__ import annotations

import subprocess

import pytest
import torch
from torch import distributed

from train.errors import TrainError
from train.ranks import Ranks, join, leave

from .two_ranks import CPU, start_two, torchrun

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return torchrun("collectives", tmp_path_factory.mktemp("ranks"))


@pytest.fixture
def no_ranks(monkeypatch):
    """An environment without torchrun."""
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_there_is_no_group_and_nothing_to_do(no_ranks):
    ranks = join("cpu")
    assert ranks == Ranks(0, 1, 0, CPU)
    assert not distributed.is_initialized()
    x_N, mean = torch.arange(4), torch.tensor([1.0, 3.0])
    ranks.mean_over_ranks([mean])
    assert ranks.gather_interleaved(x_N) is x_N
    assert mean.tolist() == [1, 3]
    network = torch.nn.Linear(1, 1)
    assert ranks.parallel(network) is network
    assert [ranks.any_rank(True), ranks.any_rank(False), ranks.from_first("x")] == [True, False, "x"]
    leave()


def test_torchrun_with_one_process_is_alone_too(no_ranks):
    for name, value in zip(RANK_VARIABLES, "010", strict=True):
        no_ranks.setenv(name, value)
    assert join(CPU) == Ranks(0, 1, 0, CPU)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK is None in the environment, wanted a number"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "LOCAL_RANK is None"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"},
            "RANK 2 of WORLD_SIZE 2, wanted a rank from 0 and a world above it",
        ),
        ({"WORLD_SIZE": "0"}, "RANK 0 of WORLD_SIZE 0, wanted"),
    ],
)
def test_a_half_set_environment_is_refused_before_anyone_waits(no_ranks, environment, said):
    for name, value in environment.items():
        no_ranks.setenv(name, value)
    with pytest.raises(TrainError, match=said):
        join("cpu")


def test_each_process_knows_its_place(results):
    assert [result["who"] for result in results] == [[0, 2, 0, "cpu"], [1, 2, 1, "cpu"]]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16"])
def test_gather_puts_samples_into_global_order(results, dtype):
    for result in results:
        assert result[dtype].dtype == getattr(torch, dtype)
        assert result[dtype].tolist() == list(range(10))


def test_gather_takes_images_of_any_layout(results):
    wanted = torch.arange(10.0)[:, None, None, None].expand(10, 3, 2, 2)
    assert all(torch.equal(result["images"], wanted) for result in results)


def test_means_flags_and_messages_are_the_same_everywhere(results):
    for result in results:
        assert [mean.tolist() for mean in result["mean"]] == [[1.5, 3.0], 0.5]
        assert result["any"] == [False, True, True]
        assert result["first"] == {"checkpoint": "of rank 0", "step": 7}


@pytest.mark.parametrize(("what", "lost"), [("dies", "a flag failed"), ("sleeps", "a gather failed")])
def test_a_lost_rank_ends_the_others_with_one_line(tmp_path, what, lost):
    survivor, other = start_two(what, tmp_path)
    try:
        said = survivor.communicate(timeout=60)[1]
        (tmp_path / "told").touch()
        other.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("the survivor hangs")
    finally:
        for process in (survivor, other):
            process.kill()
            process.wait()
    assert survivor.returncode == 1
    told = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert told[0].startswith(f"Error: rank 0 of 2: {lost}, wanted all ranks alive and in time: ")
    assert "Traceback" not in said
