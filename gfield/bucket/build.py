"""Build a store in a bucket: a shard is made as for a folder, in a temporary one, and put where it will stay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield.bucket.staging import ObjectStaging, whole
from gfield.bucket.workroom import workroom
from gfield.codec import ChecksumError
from gfield.files import make_folder
from gfield.frame import Source, UserError
from gfield.hierarchy import hierarchy_files
from gfield.input_record import InputRecord
from gfield.listing import counted
from gfield.manifest import MANIFEST_PATH, Entry, Manifest, StoreError, read_manifest
from gfield.object_path import ObjectPath
from gfield.objects import listing, put, remove, side_by_side, stamp
from gfield.publish import store_attributes, text_columns
from gfield.records import Record, read_record, write_record
from gfield.remote_shard import cached_shard
from gfield.shard import hash_file
from gfield.shard_task import INPUTS, Built, Job, OnError, ShardDone, build_shard, items_of
from gfield.spec import ArraySpec, StoreSpec
from gfield.staging import BuildError, is_of, tell_bad_frames
from gfield.store import Store


@dataclass(frozen=True)
class ObjectJob:
    """What all tasks of one build share.

    Attributes
    ----------
    source
        Where frames come from.
    staging
        What the store is to hold, and where.
    on_error
        Whether a frame that cannot be read stops the build, or is left empty and listed.
    nothing
        Whether there was nothing when it began, so that no shard need be looked for.
    """

    source: Source
    staging: ObjectStaging
    on_error: OnError = "stop"
    nothing: bool = False

    @property
    def spec(self) -> StoreSpec:
        """What the store is to hold."""
        return self.staging.spec

    @property
    def records(self) -> ObjectPath:
        """Where the build keeps what it knows."""
        return self.staging.records

    @property
    def scratch(self) -> ObjectPath:
        """The same, since what is put is never seen half."""
        return self.staging.records


def build_objects(
    job: ObjectJob,
    run: Callable[[ObjectJob, Sequence[Any]], list[ShardDone]],
    *,
    overwrite: bool,
    part: tuple[int, int] | None,
    on_start: Callable[[int], None],
) -> Built:
    """Build a store in a bucket, or finish it, or bring it up to date.

    Parameters
    ----------
    job
        The store, and its input.
    run
        Does items of `gfield.shard_task.items_of`: shards by `build_object_shard`.
    overwrite, part, on_start
        As of `gfield.build.build_store`.
    """
    staging, spec = job.staging, job.spec
    current, nothing = staging.begin(overwrite)
    if current is not None:
        Store(staging.target, current, spec).check_files()
        staging.clear()
        return Built("unchanged", current, [], 0)
    items = items_of(spec, part)
    done: list[ShardDone] = []
    try:
        forgotten = _check_inputs(job) if part is None or part[0] == 1 else 0
        on_start(sum(len(spec.shard_frames(item)) for item in items if item != INPUTS))
        for attempt in range(3):
            done += run(replace(job, nothing=nothing and attempt == 0), items)
            if job.on_error == "stop" and (bad := [frame for shard in done for frame in shard.bad]):
                finished = len(staging.finished_shards(listing(staging.target)))
                raise BuildError(tell_bad_frames(bad, finished, spec.shards))
            manifest = publish_objects(job, {shard.shard: shard.record for shard in done if shard.record is not None})
            if manifest is not None or part is not None:
                return Built("built" if manifest else "part", manifest, done, forgotten)
        raise BuildError(f"{staging.records}: other builders undo what is done here; {_AGAIN}")
    except UserError:
        if part is None:
            staging.give_up()
        raise


def _check_inputs(job: ObjectJob) -> int:
    """See whether the input is still the same; tell how many shards were of another one."""
    inputs, before = InputRecord(job.records, job.scratch), job.staging.before_update
    if before is None:
        return inputs.forget_others(job.source.inputs())
    inputs.keep("", before.manifest.attributes["source_files"])
    return 0


def build_object_shard(job: ObjectJob, shard: int, on_frame: Callable[[], None] | None = None) -> ShardDone:
    """Bring one shard of every array into the bucket; see `gfield.shard_task.build_shard`.

    Raises
    ------
    BuildError
        If another builder with other parameters has taken over.
    OSError
        If the bucket or the temporary folder cannot be written.
    """
    staging, target = job.staging, job.staging.target
    specs = {spec.shard_path(shard): spec for spec in job.spec.array_specs().values()}
    known = Record() if job.nothing else staging.known(shard)
    if job.on_error == "stop" and known.bad:
        known = Record()
    stamps = dict(zip(known.files, side_by_side(lambda path: stamp(target / path), known.files), strict=True))
    in_place = {
        path: entry
        for path, entry in known.files.items()
        if path in specs and whole(entry, specs[path].fingerprint, stamps[path], known.tags.get(path))
    }
    with workroom() as folder:
        local = _local_job(job, folder, in_place)
        fetched = _fetch_rgb(local, target, shard, specs, in_place)
        local = _local_job(job, folder, {path: entry for path, entry in in_place.items() if path not in fetched})
        write_record(local.records, local.scratch, shard, Record(in_place, known.bad))
        done = build_shard(local, shard, on_frame)
        if done.bad and job.on_error == "stop":
            return done
        record = read_record(local.records, shard)
        made = [
            path
            for path, entry in record.files.items()
            if (local.store / path).exists() and (path not in fetched or entry != in_place[path])
        ]
        tags = {path: tag for path, tag in known.tags.items() if path in in_place and path not in made}
        if made and not staging.is_claimed():
            if published(staging) is None:
                raise BuildError(f"{target}: another build with other parameters has taken over; {_AGAIN}")
            return ShardDone(shard, done.frames, 0, record.bad)
        tags.update(zip(made, side_by_side(lambda path: put(target / path, local.store / path), made), strict=True))
    known = Record(record.files, record.bad, tags)
    write_record(staging.records, staging.records, shard, known)
    return replace(done, record=known)


def published(staging: ObjectStaging) -> Manifest | None:
    """The manifest of the store that was to be built, where another builder has published it."""
    with suppress(StoreError):
        manifest = read_manifest(staging.target)
        return manifest if is_of(manifest, staging.spec) else None
    return None


_AGAIN = "run the same command to build this one"


def _local_job(job: ObjectJob, folder: Path, elsewhere: Mapping[str, Entry]) -> Job:
    store, records, scratch = (folder / name for name in ("store", "records", "scratch"))
    for place in (store, records, scratch):
        place.mkdir(exist_ok=True)
    known = frozenset(elsewhere)
    return Job(job.source, job.spec, store, records, scratch, job.on_error, elsewhere=known, durable=False)


def _fetch_rgb(
    local: Job, target: ObjectPath, shard: int, specs: Mapping[str, ArraySpec], in_place: dict[str, Entry]
) -> list[str]:
    """Fetch the pictures, where fields alone are to be made of them; a damaged one is made anew with all else."""
    todo = [spec for path, spec in specs.items() if path not in in_place]
    pictures = {spec.level_WH: path for path, spec in specs.items() if spec.name == "rgb" and path in in_place}
    if not todo or not all(spec.name == "gradient" and spec.level_WH in pictures for spec in todo):
        return []
    wanted = [pictures[spec.level_WH] for spec in todo]
    try:
        for path in wanted:
            make_folder((local.store / path).parent, local.store)
            cached_shard(target / path, in_place[path], local.scratch).rename(local.store / path)
    except ChecksumError:
        for path in wanted:
            in_place.pop(path, None)
            (local.store / path).unlink(missing_ok=True)
        return []
    return wanted


def publish_objects(job: ObjectJob, known: Mapping[int, Record]) -> Manifest | None:
    """Put metadata, text columns and, last, the manifest beside a complete set of shards; None if some are missing.

    The records that are known need not be read.

    Raises
    ------
    BuildError
        If no frame could be read, or another builder has changed a shard meanwhile.
    """
    staging, target = job.staging, job.staging.target
    found = listing(target)
    records = staging.finished_shards(found, known)
    described = InputRecord(staging.records, staging.records).read()[1]
    if len(records) < job.spec.shards or described is None:
        if (manifest := published(staging)) is not None:
            staging.clear()
        return manifest
    bad = sorted((frame for record in records.values() for frame in record.bad), key=lambda frame: frame.index)
    if len(bad) == job.spec.frames:
        staging.clear()
        raise BuildError(f"{bad[0].reason}\nnone of {counted(len(bad), 'frame')} can be read; no store was made")
    attributes = store_attributes(job.source, job.spec, described, bad)
    columns = text_columns(job.source, {frame.index for frame in bad})
    metadata = hierarchy_files(job.spec, attributes, columns)
    entries = {path: entry for record in records.values() for path, entry in record.files.items()}
    entries |= {path: Entry(len(data), blake3(data).hexdigest(), "") for path, data in metadata.items()}
    manifest = Manifest(attributes, dict(sorted(entries.items())))
    if not staging.is_claimed():
        raise BuildError(f"{target}: another build with other parameters has taken over; {_AGAIN}")
    below = [path for path in metadata if path != "zarr.json"]
    deque(side_by_side(lambda path: put(target / path, metadata[path]), below), maxlen=0)
    # The root last of the metadata, so that plain Zarr readers find no store before all else is there.
    put(target / "zarr.json", metadata["zarr.json"])
    put(target / MANIFEST_PATH, manifest.to_bytes())
    now = listing(target)
    changed = [path for path, entry in entries.items() if entry.fingerprint and now.get(path) != found[path]]
    if any(hash_file(target / path) != entries[path][:2] for path in changed):  # the tag alone may be another one
        staging.retire()
        raise BuildError(f"{target}: another builder has changed its shards meanwhile; {_AGAIN}")
    remove([target / path for path in now.keys() - {*entries, MANIFEST_PATH}])
    staging.clear()
    return manifest
