"""A shard that a process dies at: the next one goes on with its frames, to the same bytes, and trusts none unseen."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, replace

import pytest

from gfield import progress
from gfield.blockfile import BLOCK_BYTES, BlockFile
from gfield.build import build_store
from gfield.progress import progress_path
from gfield.records import forget_records, read_record
from gfield.shard_task import Job, build_shard
from gfield.sources.nyuv2 import NyuV2
from gfield.specify import make_spec
from gfield.staging import Staging

from .trees import tree
from .trust.children import Child

read_from: list[int] = []


@dataclass(frozen=True)
class Watched(NyuV2):
    """A source that tells from which frame on it is read."""

    def read(self, start, stop, arrays):
        read_from.append(start)
        return super().read(start, stop, arrays)


@pytest.fixture
def job(source, tmp_path, monkeypatch):
    """All ten frames in one shard."""
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    read_from.clear()
    watched = Watched(**{name: getattr(source, name) for name in source.__dataclass_fields__ if name != "kind"})
    staging = Staging(tmp_path / "nyu.zarr", make_spec(source, frames_per_shard=10))
    staging.create()
    return Job(watched, staging.spec, staging.store, staging.records, staging.scratch, progress=True)


@pytest.fixture(scope="module")
def calm(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("calm") / "nyu.zarr"
    build_store(source, target, make_spec(source, frames_per_shard=10))
    return target


def die_at(job, frames):
    """Let a process make so many frames of the shard, and die as by kill -9."""
    done = []

    def on_frame():
        done.append(1)
        if len(done) == frames:
            os.kill(os.getpid(), signal.SIGKILL)

    child = Child(build_shard, job, 0, on_frame)
    assert child.wait() == -signal.SIGKILL
    assert progress.frames_kept(job.records, 0) >= frames
    assert not read_record(job.records, 0).files


def assert_finished(job, calm):
    build_shard(job, 0)
    assert not progress_path(job.records, 0).exists()
    assert shards_of(job.store) == shards_of(calm) != {}


def shards_of(store):
    return {path: data for path, data in tree(store).items() if re.match(r"\d+x\d+/.*/c/", str(path))}


@pytest.mark.parametrize("made", [1, 7, 10])
def test_frames_of_a_process_that_died_are_not_made_again(job, calm, made):
    die_at(job, made)
    assert_finished(job, calm)
    assert read_from == [made]


def test_one_that_dies_after_another_goes_on_from_there(job, calm):
    die_at(job, 3)
    die_at(job, 2)
    assert_finished(job, calm)
    assert read_from == [5]


def test_a_frame_whose_bytes_are_damaged_is_made_again_and_those_after_it(job, calm):
    die_at(job, 6)
    places = progress.read_note(progress_path(job.records, 0).read_bytes())["arrays"]["320x240/depth"]
    with (job.scratch / places["file"]).open("r+b") as file:
        file.seek(places["places"][4][0] + 7)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert_finished(job, calm)
    assert read_from == [4]


@pytest.mark.parametrize("harm", ["cut", "gone", "note", "fingerprint", "outside"])
def test_a_note_that_cannot_be_followed_costs_nothing_but_time(job, calm, harm):
    die_at(job, 6)
    note = progress_path(job.records, 0)
    stored = progress.read_note(note.read_bytes())
    one = stored["arrays"]["640x480/rgb"]
    if harm == "cut":
        os.truncate(job.scratch / one["file"], 100)
    elif harm == "gone":
        (job.scratch / one["file"]).unlink()
    elif harm == "note":
        note.write_bytes(note.read_bytes()[:-9])
    else:
        one |= {"fingerprint": "0" * 32} if harm == "fingerprint" else {"places": [[1 << 62, 1 << 62]] * 6}
        note.write_bytes(progress.note(stored))
    assert_finished(job, calm)
    assert read_from == [0]


def test_what_was_made_of_other_input_is_forgotten(job, calm):
    die_at(job, 6)
    assert forget_records(job.records) == 0, "no shard was done"
    assert_finished(job, calm)
    assert read_from == [0]


def test_builds_on_threads_keep_no_notes(job, calm):
    build_shard(replace(job, progress=False), 0, lambda: [].extend(job.records.iterdir()))
    assert not list(job.records.glob("*.progress"))


@pytest.mark.parametrize("lengths", [[5], [4096, 1], [BLOCK_BYTES - 1, 2, BLOCK_BYTES], [10, BLOCK_BYTES - 10]])
def test_a_settled_file_has_all_that_was_appended_and_goes_on(tmp_path, lengths):
    file, whole = BlockFile(tmp_path / "f"), b""
    for number, length in enumerate(lengths):
        whole += bytes([number + 1]) * length
        file.append(bytes([number + 1]) * length)
        file.settle()
        assert (tmp_path / "f").read_bytes()[: len(whole)] == whole
    file.finish()
    assert (tmp_path / "f").read_bytes() == whole
