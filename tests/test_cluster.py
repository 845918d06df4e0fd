"""Builds on a Dask cluster of real processes on loopback, with workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gfield.build import build_store
from gfield.cluster.dispatch import run_on_cluster
from gfield.cluster.errors import ClusterError
from gfield.cluster.opening import local_cluster
from gfield.specify import make_spec
from gfield.staging import Staging

from .dask_clusters import Cluster
from .trees import tree


@pytest.fixture
def cluster(tmp_path_factory):
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("calm") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=1))
    return target


def test_a_cluster_writes_the_same_bytes(cluster, source, built, tmp_path):
    cluster.add_worker()
    cluster.add_worker()
    report = build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=1), scheduler=cluster.address)
    assert (report.state, report.shards_written) == ("built", 10)
    assert tree(tmp_path / "s") == tree(built)


def test_a_worker_that_is_killed_costs_no_byte(cluster, source, built, tmp_path):
    """The worker is killed once it has done a shard; another, which comes later, finishes."""
    spec = make_spec(source, frames_per_shard=1)
    staging = Staging(tmp_path / "s", spec)
    victim = cluster.add_worker()

    def kill_and_replace():
        while not list(staging.records.glob("0*.json")) and not staging.target.exists():
            time.sleep(0.001)
        victim.send_signal(signal.SIGKILL)
        cluster.add_worker()

    killer = threading.Thread(target=kill_and_replace)
    killer.start()
    report = build_store(source, tmp_path / "s", spec, scheduler=cluster.address)
    killer.join()
    assert report.state == "built"
    assert victim.wait(timeout=30) == -signal.SIGKILL
    assert tree(tmp_path / "s") == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_scheduler_that_is_killed_ends_the_build_with_one_line(cluster, nyu_mat, source, built, tmp_path):
    cluster.add_worker()
    staging = Staging(tmp_path / "s", make_spec(source, frames_per_shard=1))
    command = [sys.executable, "-m", "cli", "build", "nyu", nyu_mat, staging.target, "--frames-per-shard", "1"]
    with subprocess.Popen(
        [*command, "--scheduler", cluster.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not list(staging.records.glob("0*.json")):
            time.sleep(0.001)
        cluster.scheduler.kill()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert said.count("\n") == 1, said
    assert "the Dask scheduler has ended" in said
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert tree(tmp_path / "s") == tree(built)


def test_a_local_process_that_dies_while_it_starts_is_told_of_in_one_line(tmp_path):
    def kill_the_first():
        while not (spawned := children("spawn_main")):
            time.sleep(0.001)
        os.kill(spawned[0], signal.SIGKILL)

    def children(of):
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                command = (process / "cmdline").read_text()
            except OSError:
                continue
            if parent == os.getpid() and of in command:
                found.append(int(process.name))
        return found

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with pytest.raises(ClusterError, match="a local process died while it started"), local_cluster(1):
        pass
    killer.join()


def test_a_scheduler_that_does_not_answer_is_named(nyu_mat, tmp_path):
    command = [
        sys.executable,
        "-m",
        "cli",
        "build",
        "nyu",
        nyu_mat,
        tmp_path / "s",
        "--scheduler",
        "tcp://127.0.0.1:9",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "tcp://127.0.0.1:9: no Dask scheduler answers there" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_local_cluster_leaves_the_environment_as_it_was():
    """Dask sets OMP_NUM_THREADS=1 in this process for its workers to inherit, and so would all that starts later."""
    before = dict(os.environ)
    with local_cluster(1) as client:
        assert client.submit(os.getenv, "OMP_NUM_THREADS").result() == os.environ["OMP_NUM_THREADS"]
    assert dict(os.environ) == before


class Named:
    """Stands for a source of 120,000 frames: what makes it large are their names."""

    def __init__(self):
        self.names = [
            f"data/nyu2_train/kitchen_{row // 180:04d}_out/{row % 180}_{row:032d}.jpg" for row in range(240_000)
        ]


def count_names(job, item):
    return item + len(job.names)


@pytest.mark.slow
def test_a_job_of_very_many_names_is_sent_without_dasks_warning():
    done = []
    with local_cluster(1) as client:
        run_on_cluster(count_names, Named(), [1, 2], client=client, on_done=done.append)
    assert sorted(done) == [240_001, 240_002]
