"""examples/slurm/pretrain.sh on a stand-in for SLURM: its time is up, it is requeued, and the run ends as it would."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import torch

from train.checkpoint import load_checkpoint

from .slurm_jobs import EXAMPLES, Slurm
from .small_runs import SMALL, train
from .test_training import assert_same

# Steps enough that the signal comes before the last of them.
OPTIONS = (*SMALL, "--steps", "12")


@pytest.fixture
def slurm(tmp_path):
    queue = Slurm(tmp_path)
    yield queue
    queue.end()


def state_of(run: Path):
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert checkpoint is not None
    return checkpoint


def steps_of(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def submit(slurm, store, nodes, *options):
    return slurm.sbatch(
        f"--nodes={nodes}",
        EXAMPLES / "pretrain.sh",
        store,
        "run",
        *options,
        OMP_NUM_THREADS="1",
        SLURM_GPUS_ON_NODE="1",
    )


def reach_the_limit(slurm, job):
    """Wait for a few steps, and let the stand-in send what it sends before the time is over."""
    run = slurm.folder / "run"
    while steps_of(run) < 2 and slurm.states(job)[0] in ("PENDING", "RUNNING"):
        time.sleep(0.01)
    (slurm.root / "jobs" / str(job) / "limit").touch()
    assert slurm.wait(job) == ["COMPLETED"], slurm.said()
    said = slurm.said()
    assert said.count("stopped before the time was over; back into the queue\n") == 1, said
    assert "Stopped by SIGTERM and saved; --resume goes on." in said
    assert "run: step 12 of 12" in said
    return state_of(run)


def test_a_job_whose_time_is_up_goes_on_from_the_queue_to_the_same_weights(slurm, small_store, one_thread):
    job = submit(slurm, small_store, 1, *OPTIONS)
    ended = reach_the_limit(slurm, job)
    train("pretrain", small_store, "--out", slurm.folder / "calm", *OPTIONS)
    calm = state_of(slurm.folder / "calm")
    assert ended.step == calm.step == 12
    assert_same(ended.state, calm.state)


@pytest.mark.slow
def test_so_does_one_on_two_nodes(slurm, small_store):
    """But for batch-norm's running statistics, of which each rank has its own: a checkpoint has their mean, rounded."""
    calm = submit(slurm, small_store, 2, *OPTIONS)
    assert slurm.wait(calm) == ["COMPLETED"], slurm.said()
    (slurm.folder / "run").rename(slurm.folder / "calm")
    assert "2 processes on cpu" in slurm.said()
    job = submit(slurm, small_store, 2, *OPTIONS)
    states = [reach_the_limit(slurm, job).state, state_of(slurm.folder / "calm").state]
    running = [
        {name: model.pop(name) for name in [*model] if "running_" in name} for model in (s["model"] for s in states)
    ]
    assert_same(*states)
    assert running[0].keys() == running[1].keys() != set()
    for name, values in running[0].items():
        torch.testing.assert_close(values, running[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_fails_is_not_requeued(slurm, tmp_path):
    job = slurm.sbatch("--nodes=1", EXAMPLES / "pretrain.sh", tmp_path / "missing.zarr", "run", *OPTIONS)
    assert slurm.wait(job) == ["FAILED"]
    assert "missing.zarr" in slurm.said()
    assert "back into the queue" not in slurm.said()


@pytest.mark.slow
def test_a_cancelled_job_ends_its_training_too(slurm, small_store):
    job = submit(slurm, small_store, 1, *SMALL, "--epochs", "1000")
    while steps_of(slurm.folder / "run") < 1 and slurm.states(job)[0] in ("PENDING", "RUNNING"):
        time.sleep(0.01)
    subprocess.run(["scancel", str(job)], env=slurm.environ, check=True)
    assert slurm.wait(job) == ["CANCELLED"], slurm.said()
