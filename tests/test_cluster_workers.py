"""Workers of a Dask cluster that come and go in mid-build, one by one and several at once, and one that always dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gfield import open_nyuv2
from gfield.build import build_store
from gfield.cluster import dispatch
from gfield.cluster.errors import ClusterError
from gfield.cluster.opening import existing_cluster
from gfield.sources.nyuv2 import NyuV2
from gfield.specify import make_spec
from gfield.staging import Staging

from .dask_clusters import Cluster
from .trees import tree

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster(tmp_path_factory):
    """Of a scheduler that gives a task up at its first death, where it would do so at the fourth."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cluster")
        yield Cluster(folder, stack, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0", PYTHONPATH=str(ROOT))


@pytest.fixture
def spec(source):
    return make_spec(source, frames_per_shard=1)


@pytest.fixture(scope="module")
def calm(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("calm") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=1))
    return target


def meanwhile(*steps):
    """A thread that does these, one after another."""
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    return thread


def until_done(staging, shards):
    """A step that waits for so many shards' records, or for the end."""

    def wait():
        while len(list(staging.records.glob("0*.json"))) < shards and not staging.target.exists():
            time.sleep(0.001)

    return wait


def test_several_workers_die_at_once_and_others_come(cluster, source, spec, calm, tmp_path):
    """The last of the first three, too, so that those who came must have worked."""
    staging = Staging(tmp_path / "s", spec)
    first = [cluster.add_worker() for _ in range(3)]
    thread = meanwhile(
        until_done(staging, 1),
        lambda: [worker.kill() for worker in first[:2]],
        lambda: [cluster.add_worker() for _ in range(2)],
        until_done(staging, 4),
        first[2].kill,
    )
    report = build_store(source, staging.target, spec, scheduler=cluster.address)
    thread.join()
    assert report.state == "built"
    assert [worker.wait(30) for worker in first] == [-signal.SIGKILL] * 3
    assert tree(staging.target) == tree(calm)


def test_a_build_outlives_more_deaths_than_dask_allows_and_of_the_worker_that_holds_the_job(
    cluster, source, spec, calm, tmp_path
):
    """There is one worker at a time, which has all there is of the build in its memory, and each is killed at work."""
    staging, notes = Staging(tmp_path / "s", spec), []
    workers = [cluster.add_worker()]

    def kill_and_replace():
        while not list(staging.scratch.glob("seen-*-[0-9]*")) and not staging.target.exists():
            time.sleep(0.0005)
        workers[-1].kill()
        workers[-1].wait()
        workers.append(cluster.add_worker())

    steps = [step for done in (1, 3, 5) for step in (until_done(staging, done), kill_and_replace)]
    thread = meanwhile(*steps)
    report = build_store(source, staging.target, spec, scheduler=cluster.address, on_note=notes.append)
    thread.join()
    assert report.state == "built"
    assert len(workers) == 4
    assert any(note.startswith("workers died at shard ") for note in notes), notes
    assert tree(staging.target) == tree(calm)


@dataclass(frozen=True)
class Deadly(NyuV2):
    """A source whose seventh frame kills whoever reads it, as one that asks for too much memory does."""

    def read(self, start, stop, arrays):
        if start <= 6 < stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(start, stop, arrays)


def test_a_shard_that_kills_every_worker_is_named_and_the_others_are_kept(
    cluster, nyu_mat, source, spec, calm, tmp_path
):
    staging = Staging(tmp_path / "s", spec)
    workers = [cluster.add_worker() for _ in range(dispatch.LIVES + 1)]
    opened = open_nyuv2(nyu_mat)
    deadly = Deadly(**{name: getattr(opened, name) for name in opened.__dataclass_fields__ if name != "kind"})
    with pytest.raises(ClusterError) as raised:
        build_store(deadly, staging.target, spec, scheduler=cluster.address)
    assert str(raised.value).startswith(
        "shard 6: the workers that do it die again and again, the last at tcp://127.0.0.1:"
    )
    assert "\n" not in str(raised.value)
    ended = [worker for worker in workers if worker.poll() is not None]
    assert len(ended) == dispatch.LIVES, "one for each of the shard's lives"
    assert 6 not in staging.finished_shards()
    build_store(source, staging.target, spec)
    assert tree(staging.target) == tree(calm)


def test_a_build_without_workers_says_so_and_waits_for_some(cluster, source, spec, calm, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "_LOOK_EVERY_S", 0.05)
    notes = []

    def on_note(note):
        notes.append(note)
        if "has no workers" in note:
            cluster.add_worker()

    build_store(source, tmp_path / "s", spec, scheduler=cluster.address, on_note=on_note)
    assert notes == ["the cluster has no workers; waiting for some, Ctrl-C ends it", "workers are there again"]
    assert tree(tmp_path / "s") == tree(calm)


def die_four_times(folder, item):
    """A task that comes a step further each time, and dies there by no fault of its own."""
    steps = len(list(folder.iterdir()))
    (folder / str(steps)).touch()
    if steps < 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return steps


@pytest.mark.slow
def test_a_task_that_comes_further_each_time_is_not_given_up(cluster, tmp_path):
    for _ in range(2 * dispatch.LIVES + 2):
        cluster.add_worker()
    going, standing, done = tmp_path / "going", tmp_path / "standing", []
    going.mkdir()
    standing.mkdir()
    with existing_cluster(cluster.address) as client:
        run = partial(dispatch.run_on_cluster, die_four_times, client=client, on_done=done.append)
        run(going, [0], progress_of=lambda item: len(list(going.iterdir())))
        assert done == [4]
        with pytest.raises(ClusterError, match="shard 0: the workers that do it die again and again"):
            run(standing, [0])
    assert len(list(standing.iterdir())) == dispatch.LIVES
