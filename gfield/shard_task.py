"""One task of a build: check one shard of every array, and write those that are missing or stale.

A task needs nothing but its arguments and the file system, may run anywhere and any number of times, and gives
the same bytes each time. Its last act is a small record, so that a later run knows what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gfield.files import file_size, is_one_file, make_folder, sync_folder, temporary_name
from gfield.frame import BadFrame, Source
from gfield.layers import Array, FrameLayers
from gfield.manifest import Entry, Manifest
from gfield.progress import Progress
from gfield.records import Record, read_record, write_record
from gfield.shard import Shard, ShardWriter, hash_file
from gfield.spec import ArraySpec, StoreSpec, level_name
from gfield.worker import settle_worker

OnError = Literal["stop", "skip"]
INPUTS = "inputs"


@dataclass(frozen=True)
class Job:
    """What all tasks of one build share.

    Attributes
    ----------
    source, spec
        Where frames come from, and what the store is to hold.
    store, records, scratch
        Folders for shards, for records, and for files that are not finished; on one file system.
    on_error
        Whether a frame that cannot be read stops the build, or is left empty and listed.
    finished
        The finished store that shards were taken over from. Those that are its files still are told by size, as in
        any finished store, unless something is made of them; `gfield verify` is what reads them.
    elsewhere
        Shards that are in place, and not in ``store``: in the bucket that the store is built in.
    durable
        Whether shards are to outlive this process: not those that are put elsewhere, and then removed.
    progress
        Whether to keep what is done of a shard, for whoever goes on with it if this process dies: on a cluster, where
        workers come and go.
    """

    source: Source
    spec: StoreSpec
    store: Path
    records: Path
    scratch: Path
    on_error: OnError = "stop"
    finished: Path | None = None
    elsewhere: frozenset[str] = frozenset()
    durable: bool = True
    progress: bool = False


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A task's result: frames looked at, bytes written (0 where all was in place), frames that could not be read.

    Of a shard in a bucket also its ``record``, which would else have to be asked for.
    """

    shard: int
    frames: int
    bytes_written: int
    bad: tuple[BadFrame, ...]
    record: Record | None = None


class Built(NamedTuple):
    """What a build came to; see `gfield.build.BuildReport`."""

    state: Literal["built", "unchanged", "part"]
    manifest: Manifest | None
    done: list[ShardDone]
    forgotten: int


def items_of(spec: StoreSpec, part: tuple[int, int] | None) -> list[Any]:
    """What there is to do, or the i-th of n parts of it: to describe the input files, and the shard numbers."""
    items: list[Any] = [INPUTS, *range(spec.shards)]
    return items if part is None else items[part[0] - 1 :: part[1]]


def own_folders(path: Path, spec: ArraySpec) -> Sequence[Path]:
    """Of the folders that the shard at ``path`` lies in those that are its alone, innermost first: all below ``c``."""
    return path.parents[: len(spec.frame_shape)]


def build_shard(job: Job, shard: int, on_frame: Callable[[], None] | None = None) -> ShardDone:
    """Bring one shard of every array into place.

    Parameters
    ----------
    job
        What to build, and where.
    shard
        Number of the shard.
    on_frame
        Called after each frame; an exception that it raises stops the task and leaves nothing half-written.

    Returns
    -------
    ShardDone
        With ``bad`` frames and ``on_error="stop"``, nothing of the shard was kept.
    """
    settle_worker()
    specs = job.spec.array_specs()
    record = read_record(job.records, shard)
    if job.on_error == "stop" and record.bad:
        record = Record()
    in_place = {
        spec.shard_path(shard): entry
        for spec in specs.values()
        if (entry := record.files.get(spec.shard_path(shard))) and _is_whole(job, spec, shard, entry)
    }
    todo = [spec for spec in specs.values() if spec.shard_path(shard) not in in_place]
    frames = job.spec.shard_frames(shard)
    if not todo:
        if on_frame is not None:
            for _ in frames:
                on_frame()
        return ShardDone(shard, len(frames), 0, record.bad)

    here = in_place.keys() - job.elsewhere
    stored_rgb = [spec for spec in specs.values() if spec.name == "rgb" and spec.shard_path(shard) in here]
    use_stored_rgb = _can_use_stored_rgb(todo, stored_rgb)
    if use_stored_rgb and (wrong := [spec for spec in stored_rgb if not _has_its_hash(job, spec, shard, in_place)]):
        in_place = {path: entry for path, entry in in_place.items() if path not in {s.shard_path(shard) for s in wrong}}
        todo, use_stored_rgb = [spec for spec in specs.values() if spec.shard_path(shard) not in in_place], False
    progress = None
    make: Callable[[int], Iterator[Mapping[str, Array] | BadFrame]]
    if use_stored_rgb:
        make = partial(_fields_from_stored_rgb, job, shard, todo)
    else:
        make = partial(_arrays_from_source, job, shard, todo, record.bad)
        if job.progress and not record.bad:
            progress = Progress(job.records, job.scratch, shard, len(frames), todo)
    written, bad = _write_shards(job, shard, todo, make, progress, on_frame)
    if bad and job.on_error == "stop":
        return ShardDone(shard, len(frames), 0, bad)
    if in_place and set(bad) - set(record.bad):
        # A frame turned out bad in an array that is new: the arrays that are in place must leave it empty too.
        write_record(job.records, job.scratch, shard, Record())
        return build_shard(job, shard)
    bad = bad or record.bad
    write_record(job.records, job.scratch, shard, Record({**in_place, **written}, bad))
    if progress is not None:
        progress.forget()
    return ShardDone(shard, len(frames), sum(entry.size for entry in written.values()), bad)


def _is_whole(job: Job, spec: ArraySpec, shard: int, entry: Entry) -> bool:
    if spec.shard_path(shard) in job.elsewhere:
        return True
    path = job.store / spec.shard_path(shard)
    if entry.fingerprint != spec.fingerprint or file_size(path) != entry.size:
        return False
    return _is_finished(job, spec, shard) or hash_file(path).blake3 == entry.blake3


def _is_finished(job: Job, spec: ArraySpec, shard: int) -> bool:
    """Whether a shard that is in place is the finished store's own file, and not one that was repaired there since."""
    path = spec.shard_path(shard)
    return job.finished is not None and is_one_file(job.finished / path, job.store / path)


def _has_its_hash(job: Job, spec: ArraySpec, shard: int, in_place: Mapping[str, Entry]) -> bool:
    """Whether a shard that was told by its size holds what it should.

    Fields are taken from such pictures alone: those of swapped or damaged ones would be written down as right.
    """
    path = spec.shard_path(shard)
    return not _is_finished(job, spec, shard) or hash_file(job.store / path).blake3 == in_place[path].blake3


def _can_use_stored_rgb(todo: Iterable[ArraySpec], stored_rgb: Iterable[ArraySpec]) -> bool:
    stored_levels = {spec.level_WH for spec in stored_rgb}
    return all(spec.name == "gradient" and spec.level_WH in stored_levels for spec in todo)


def _write_shards(
    job: Job,
    shard: int,
    todo: list[ArraySpec],
    make: Callable[[int], Iterator[Mapping[str, Array] | BadFrame]],
    progress: Progress | None,
    on_frame: Callable[[], None] | None,
) -> tuple[dict[str, Entry], tuple[BadFrame, ...]]:
    """Encode frames as they come, all arrays in step; rename into place unless a bad frame stops the build.

    ``make`` gives the shard's frames from the one on that it is called with.
    """
    bad: list[BadFrame] = []
    with ExitStack() as stack:
        temporaries: dict[str, Path] = {}
        writers: dict[str, ShardWriter] = {}
        for spec in todo:
            temporaries[spec.key] = temporary_name(job.scratch)
            stack.callback(temporaries[spec.key].unlink, missing_ok=True)
            writers[spec.key] = ShardWriter(
                temporaries[spec.key], job.spec.frames_per_shard, spec.codec, durable=job.durable
            )
            stack.callback(writers[spec.key].close)
        empty = {spec.key: np.full(spec.frame_shape, spec.fill, spec.dtype) for spec in todo}
        done = progress.go_on(writers) if progress is not None else 0
        for arrays in make(done):
            if isinstance(arrays, BadFrame):
                bad.append(arrays)
                arrays = empty  # noqa: PLW2901
            for spec in todo:
                writers[spec.key].append(arrays[spec.key])
            if progress is not None and not bad:
                progress.keep(writers, temporaries)
            if on_frame is not None:
                on_frame()
        if bad and job.on_error == "stop":
            return {}, tuple(bad)
        # Side by side, so that a file system may commit them together.
        with ThreadPoolExecutor(len(todo)) as pool:
            finished = list(pool.map(lambda spec: writers[spec.key].finish(), todo))
            paths = [spec.shard_path(shard) for spec in todo]
            list(pool.map(lambda spec, path: _put_in_place(job, temporaries[spec.key], path, spec), todo, paths))
        entries = {
            path: Entry(size, blake3, spec.fingerprint)
            for spec, path, (size, blake3) in zip(todo, paths, finished, strict=True)
        }
        return entries, tuple(bad)


def _put_in_place(job: Job, finished: Path, shard_path: str, spec: ArraySpec) -> None:
    """Give a finished shard its name, and force that to the disk.

    The shards' own folders are most folders of a store. Forced to the disk here, other tasks compute meanwhile.
    """
    path = job.store / shard_path
    make_folder(path.parent, job.store)
    finished.replace(path)
    if job.durable:
        for folder in own_folders(path, spec):
            sync_folder(folder)


def _arrays_from_source(
    job: Job, shard: int, todo: list[ArraySpec], known_bad: tuple[BadFrame, ...], first: int
) -> Iterator[Mapping[str, Array] | BadFrame]:
    """The wanted arrays of the shard's frames from its ``first`` on, in buffers that the next frame overwrites.

    A frame that is known to be bad is so in every array, also in those that could be read.
    """
    of_source = {"gradient": "rgb", "depth_native": "depth"}
    needs = frozenset(of_source.get(spec.name, spec.name) for spec in todo)
    layers = FrameLayers(job.spec, todo)
    frames = job.spec.shard_frames(shard)[first:]
    bad = {frame.index: frame for frame in known_bad}
    for frame in job.source.read(frames.start, frames.stop, needs):
        seen = bad.get(frame.index, frame)
        yield seen if isinstance(seen, BadFrame) else layers.of(seen)


def _fields_from_stored_rgb(job: Job, shard: int, todo: list[ArraySpec], first: int) -> Iterator[Mapping[str, Array]]:
    """Gradient fields recomputed from the store's own RGB, which every level keeps."""
    specs = job.spec.array_specs()
    layers = FrameLayers(job.spec, todo)
    with ExitStack() as stack:
        shards, rgb = {}, {}
        for spec in todo:
            assert spec.level_WH is not None
            of_level = specs[f"{level_name(spec.level_WH)}/rgb"]
            path = job.store / of_level.shard_path(shard)
            shards[spec.key] = stack.enter_context(Shard(path, job.spec.frames_per_shard, of_level.codec))
            rgb[spec.key] = np.empty(of_level.frame_shape, np.uint8)
        slots = range(first, len(job.spec.shard_frames(shard)))
        for stored in shards.values():
            for slot in slots:
                stored.will_read(slot)
        for slot in slots:
            for spec in todo:
                shards[spec.key].read(slot, rgb[spec.key])
            yield {spec.key: layers.gradient(spec, rgb[spec.key]) for spec in todo}
