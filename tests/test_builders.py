"""Several builders of one target: what one does while another publishes, and what one finds that another has left."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from gfield import build, folder_build
from gfield.build import build_store
from gfield.field import FieldParams
from gfield.files import make_folder
from gfield.manifest import StoreError, read_manifest
from gfield.specify import make_spec
from gfield.staging import BuildError, Staging
from gfield.store import open_store
from gfield.turns import alone, lock_path

from .trees import tree

LEVELS_WH = [(80, 60)]


@pytest.fixture(scope="module")
def spec(source):
    return make_spec(source, levels_WH=LEVELS_WH, frames_per_shard=2, codec="raw")


@pytest.fixture(scope="module")
def other(spec):
    """The same with other thresholds; shards are not compressed, so that all are of one size."""
    return replace(spec, operator=FieldParams(low=20, high=90).to_dict())


@pytest.fixture(scope="module")
def built(source, spec, tmp_path_factory):
    target = tmp_path_factory.mktemp("built") / "s"
    build_store(source, target, spec)
    return target


@pytest.fixture(scope="module")
def other_built(source, other, tmp_path_factory):
    target = tmp_path_factory.mktemp("other") / "s"
    build_store(source, target, other)
    return target


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_who_waits_to_be_alone_is_alone_then(tmp_path):
    """Though the file of the lock is removed each time, and those who waited had opened it."""
    inside, most = [], []

    def enter():
        for _ in range(40):
            with alone(tmp_path / "s"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 240
    assert max(most) == 1
    assert not names(tmp_path)


def test_who_waits_to_publish_finds_nothing_left_to_publish(source, spec, built, tmp_path, monkeypatch):
    """Not even where its own last task has just put a shard back under the folder's name."""
    publish, swap_in = folder_build._publish, folder_build.swap_in
    is_ready, may_publish, reports = threading.Event(), threading.Event(), []

    def second():
        reports.append(build_store(source, tmp_path / "s", spec))

    def waiting_publish(job, staging, others):
        if threading.current_thread() is waiting:
            is_ready.set()
            may_publish.wait(60)
        return publish(job, staging, others)

    def swapping_in(staging):
        swap_in(staging)
        (staging.store / "80x60").mkdir(parents=True)
        may_publish.set()
        waiting.join(0.3)  # as long as it takes to do the wrong thing; what is right waits for the lock

    monkeypatch.setattr(folder_build, "_publish", waiting_publish)
    monkeypatch.setattr(folder_build, "swap_in", swapping_in)
    waiting = threading.Thread(target=second)
    waiting.start()
    is_ready.wait(60)
    build_store(source, tmp_path / "s", spec)
    waiting.join(60)
    assert [(report.state, report.root) for report in reports] == [("built", read_manifest(built).root)]
    assert tree(tmp_path / "s") == tree(built)
    assert names(tmp_path) == {"s"}


def test_a_builder_that_publishes_is_not_disturbed_by_one_of_another_store(
    source, spec, other, other_built, tmp_path, monkeypatch
):
    """That one has all its shards too, and is about to publish them and to remove the folder of the first."""
    target = tmp_path / "s"
    build_store(source, target, other, part=(1, 2))
    swap_in, publish = folder_build.swap_in, folder_build._publish
    publishes, may_publish, refused = threading.Event(), threading.Event(), []

    def rival():
        with pytest.raises(BuildError, match="removed by a build of s with other parameters"):
            build_store(source, target, spec)
        refused.append(spec)

    def waiting_publish(job, staging, others):
        if staging.spec == spec:
            publishes.set()
            may_publish.wait(60)
        return publish(job, staging, others)

    def swapping_in(staging):
        if staging.spec == other:
            may_publish.set()
            rivals.join(0.3)  # as long as it takes to do harm; what is right waits
        swap_in(staging)

    monkeypatch.setattr(folder_build, "_publish", waiting_publish)
    monkeypatch.setattr(folder_build, "swap_in", swapping_in)
    rivals = threading.Thread(target=rival)
    rivals.start()
    publishes.wait(60)
    assert build_store(source, target, other).root == read_manifest(other_built).root
    rivals.join(60)
    assert refused == [spec]
    assert tree(target) == tree(other_built)
    assert names(tmp_path) == {"s"}


@pytest.mark.parametrize(("module", "step"), [(build, "_task"), (folder_build, "_publish")])
def test_a_builder_that_one_of_another_store_overtakes_says_so(
    source, spec, other, other_built, tmp_path, monkeypatch, module, step
):
    overtaken = getattr(module, step)

    def overtaking(*arguments):
        monkeypatch.setattr(module, step, overtaken)
        build_store(source, tmp_path / "s", other)
        return overtaken(*arguments)

    monkeypatch.setattr(module, step, overtaking)
    with pytest.raises(BuildError, match="removed by a build of s with other parameters, which has ended first"):
        build_store(source, tmp_path / "s", spec)
    assert tree(tmp_path / "s") == tree(other_built)


def test_what_is_taken_over_is_of_the_store_that_stands_there(source, spec, other, tmp_path, monkeypatch):
    """And not of the one that stood there when the builder began."""
    target, finished_store = tmp_path / "s", folder_build.finished_store
    more = make_spec(source, levels_WH=LEVELS_WH, frames_per_shard=2, codec="raw", optional=["label"])
    build_store(source, target, spec)

    def then_another_builds(*arguments):
        found = finished_store(*arguments)
        monkeypatch.setattr(folder_build, "finished_store", finished_store)
        build_store(source, target, other)
        return found

    monkeypatch.setattr(folder_build, "finished_store", then_another_builds)
    build_store(source, target, more)
    build_store(source, tmp_path / "fresh", more)
    assert tree(target) == tree(tmp_path / "fresh")


def test_the_store_that_a_killed_builder_has_moved_aside_is_in_nobodys_way(source, spec, built, tmp_path, monkeypatch):
    target = tmp_path / "s"
    build_store(source, target, spec)
    with monkeypatch.context() as killed:
        killed.setattr(folder_build, "remove", lambda folder: None)
        build_store(source, target, spec, overwrite=True)
    assert names(tmp_path) > {"s"}
    build_store(source, target, spec, overwrite=True)
    assert tree(target) == tree(built)
    assert names(tmp_path) == {"s"}


def test_records_without_their_shards_publish_nothing(source, spec, built, tmp_path):
    """A builder that was killed in the middle of removing the folder leaves such."""
    target, staging = tmp_path / "s", Staging(tmp_path / "s", spec)
    assert build_store(source, target, spec, part=(1, 2)).state == "part"
    for shard in staging.store.glob("80x60/rgb/c/*/0/0/0"):
        shard.unlink()
    assert build_store(source, target, spec, part=(2, 2)).state == "part"
    with pytest.raises(StoreError, match="unfinished"):
        open_store(target)
    build_store(source, target, spec)
    assert tree(target) == tree(built)


@pytest.mark.parametrize("name", ["s", "s[1]*"])
@pytest.mark.parametrize("again", [False, True], ids=["the build that follows", "the one after that"])
def test_a_folder_that_is_half_removed_goes_with(source, spec, other, built, tmp_path, name, again):
    target = tmp_path / name
    if again:
        build_store(source, target, spec)
    build_store(source, tmp_path / "elsewhere" / name, other, part=(1, 2))
    half = Staging(target, other).folder
    (tmp_path / "elsewhere" / half.name).rename(half)
    (tmp_path / "elsewhere").rmdir()
    (half / "spec.json").unlink()
    lock_path(target).touch()
    assert build_store(source, target, spec).state == ("unchanged" if again else "built")
    assert tree(target) == tree(built)
    assert names(tmp_path) == {name}


def test_a_folder_that_is_removed_just_when_it_is_found_to_be_there_is_missing(tmp_path, monkeypatch):
    """So that a builder that another one overtakes there says so, instead of that a file exists."""
    mkdir = os.mkdir

    def then_another_removes(path, *arguments):
        try:
            mkdir(path, *arguments)
        finally:
            os.rmdir(path)

    (tmp_path / "c").mkdir()
    monkeypatch.setattr(os, "mkdir", then_another_removes)
    with pytest.raises(FileNotFoundError) as raised:
        make_folder(tmp_path / "c", tmp_path)
    assert raised.value.filename == str(tmp_path / "c")


def test_a_build_whose_work_is_undone_again_and_again_does_not_end_as_if_it_were_a_part(
    source, spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(folder_build, "_publish", lambda *arguments: None)
    with pytest.raises(BuildError, match="other builders undo what is done here"):
        build_store(source, tmp_path / "s", spec)
