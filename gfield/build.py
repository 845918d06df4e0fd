"""Build a store: plan it, run one Dask task a shard, publish it whole. The only writer of stores.

source --(shard_task, on Dask)--> shards and records in a staging folder --(publish)--> the store
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gfield.adopt import adopt_staging, adopt_store, make_anew
from gfield.bucket.build import ObjectJob, build_object_shard, build_objects
from gfield.bucket.staging import ObjectStaging
from gfield.cluster.errors import UnfitWorker
from gfield.cluster.where import Where, open_cluster
from gfield.cluster.worker_check import check_cluster, wanted_of
from gfield.frame import BadFrame, LeftOut, Source, UserError
from gfield.input_record import InputRecord
from gfield.listing import counted
from gfield.manifest import Manifest
from gfield.object_path import Location, ObjectPath
from gfield.places import is_there
from gfield.progress import frames_kept
from gfield.publish import complete_store
from gfield.records import forget_records
from gfield.shard_task import INPUTS, Job, OnError, ShardDone, build_shard, items_of
from gfield.spec import (
    StoreSpec,
)
from gfield.specify import make_spec
from gfield.staging import (
    BuildError,
    Staging,
    checked_target,
    clear,
    finished_store,
    is_of,
    leftovers,
    other_stagings,
    published_by_another,
    remove,
    swap_in,
    tell_bad_frames,
)
from gfield.store import Store
from gfield.turns import alone
from gfield.worker import available_cpus


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes
    ----------
    target
        Path of the store.
    state
        ``"built"``; ``"unchanged"`` when a finished store was there already; ``"part"`` when other parts of a
        job array still have shards to do.
    frames, shards
        Size of the store.
    shards_written, bytes_written
        Work done by this run.
    shards_forgotten
        Shards of earlier runs that were made again, since an input file had changed meanwhile.
    seconds
        Wall time of this run.
    excluded
        Frames left empty because they could not be read.
    left_out
        Input files that belong to no frame.
    root
        The manifest's root hash; "" for a part.
    """

    target: Location
    state: Literal["built", "unchanged", "part"]
    frames: int
    shards: int
    shards_written: int
    bytes_written: int
    shards_forgotten: int
    seconds: float
    excluded: tuple[BadFrame, ...]
    left_out: tuple[LeftOut, ...]
    root: str


def build_store(
    source: Source,
    target: str | Location,
    spec: StoreSpec | None = None,
    *,
    on_error: OnError = "stop",
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: Literal["slurm"] | None = None,
    part: tuple[int, int] | None = None,
    report: Path | None = None,
    on_start: Callable[[int], None] = lambda frames: None,
    on_frames: Callable[[int], None] = lambda frames: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> BuildReport:
    """Build ``target``, or finish it, or bring it up to date.

    Parameters
    ----------
    source
        Where the frames come from.
    target
        Folder of the store, conventionally ``*.zarr``, or its ``s3://`` URL.
    spec
        What to build; `make_spec` of the source by default.
    on_error
        ``"stop"``: a frame that cannot be read fails the build, after everything else was done;
        ``"skip"``: its row stays empty, its split becomes ``"excluded"``, and the store lists it.
    overwrite
        Replace a store, or an unfinished one, that does not match.
    workers
        Run on so many new local processes; by default on threads of this one.
    scheduler
        Run on the Dask cluster at this address instead.
    cluster
        ``"slurm"``: run on so many jobs of SLURM as ``workers`` says.
    part
        ``(i, n)``: do only the i-th of n parts, counted from 1; the part that finds all done publishes.
    report
        HTML file for Dask's performance report of the run, which then is on processes, a cluster or SLURM.
    on_start, on_frames
        Told the number of frames ahead of this run, and then, from any thread, how many more are done.
    on_note
        Told in lines, from any thread, what there is to know of a cluster: its dashboard, that it has no workers.

    Raises
    ------
    StoreError
        If a file of a finished store is missing.
    BuildError
        If ``target`` cannot be a store or holds something that does not match, or a frame cannot be read (with
        ``"skip"``: no frame).
    ClusterError
        If there is no scheduler at the address, or its workers are unfit: they have other versions, see other files, or
        die again and again at one shard.
    OSError
        If the target cannot be written.

    Examples
    --------
    >>> from gfield import build_store, make_spec, open_nyuv2
    >>> source = open_nyuv2("nyu_depth_v2_labeled.mat")
    >>> report = build_store(source, "small.zarr", make_spec(source, levels_WH=[(160, 120)]))
    >>> report.state, report.frames
    ('built', 10)
    >>> build_store(source, "small.zarr", make_spec(source, levels_WH=[(160, 120)])).state
    'unchanged'
    """
    started = time.monotonic()
    target = checked_target(target)
    spec = spec or make_spec(source)
    where = Where(workers, scheduler, cluster, report)
    if isinstance(target, ObjectPath):
        object_job = ObjectJob(source, ObjectStaging(target, spec), on_error)

        def run(job: ObjectJob, items: Sequence[Any]) -> list[ShardDone]:
            return _run(job, items, where, on_frames, on_note)

        built = build_objects(object_job, run, overwrite=overwrite, part=part, on_start=on_start)
        return _report(source, target, spec, built.state, started, built.done, built.forgotten, built.manifest)
    # Workers may have other working folders.
    staging = Staging(target if where.in_process else target.absolute(), spec)
    current, others = _begin(staging, overwrite)
    if current is not None and is_of(current, spec):
        Store(target, current, spec).check_files()
        clear(staging)
        return _report(source, target, spec, "unchanged", started, [], 0, current)

    finished = target if current is not None else None
    job = Job(
        source, spec, staging.store, staging.records, staging.scratch, on_error, finished, progress=not where.in_process
    )
    items = items_of(spec, part)
    done: list[ShardDone] = []
    forgotten = 0
    try:
        # One part answers for the input, lest parts quarrel whose copies' times differ.
        forgotten = _set_up(staging, current, () if overwrite else others, source, part is None or part[0] == 1)
        on_start(sum(len(spec.shard_frames(item)) for item in items if item != INPUTS))
        # Once is enough, but for the rare builder that has its record of a shard overwritten by another's older one.
        for _ in range(3):
            done += _run(job, items, where, on_frames, on_note)
            if on_error == "stop" and (bad := [frame for shard in done for frame in shard.bad]):
                raise BuildError(tell_bad_frames(bad, len(staging.finished_shards()), spec.shards))
            manifest = _publish(job, staging, others)
            if manifest is not None or part is not None:
                break
        else:
            raise BuildError(f"{staging.folder}: other builders undo what is done here; run the same command to go on")
    except FileNotFoundError as error:
        if not Path(str(error.filename)).is_relative_to(staging.folder):
            raise
        manifest = published_by_another(staging)
    except UserError:
        if part is None:
            with alone(target):
                if not staging.finished_shards():
                    remove(staging.folder)  # nothing in it to go on with, and in the way of the mended input
        raise
    return _report(source, target, spec, "built" if manifest else "part", started, done, forgotten, manifest)


def _begin(staging: Staging, overwrite: bool) -> tuple[Manifest | None, list[Staging]]:
    """What stands at the target to be kept, and unfinished builds of it to be taken over.

    Unless it is the very store that is wanted, the staging folder is made, and what can be kept is taken over into it.
    """
    target, spec = staging.target, staging.spec
    current = finished_store(target, spec, overwrite)
    if is_of(current, spec):
        return current, []
    with alone(target):
        current = finished_store(target, spec, overwrite)  # again, since another builder may have put it there
        if is_of(current, spec):
            return current, []
        others = other_stagings(staging, overwrite)
        staging.create()
        if current is not None:
            adopt_store(staging, current)
        elif overwrite:
            make_anew(staging)
    return current, others


def _set_up(
    staging: Staging, current: Manifest | None, others: Sequence[Staging], source: Source, check_inputs: bool
) -> int:
    """See whether the input is still the same, and take over what fits; tell how many shards were of other inputs."""
    inputs, forgotten = InputRecord(staging.records, staging.scratch), 0
    if current is not None:
        inputs.keep("", current.attributes["source_files"])
    elif check_inputs:
        forgotten = inputs.forget_others(source.inputs())
    for other in others:
        if InputRecord(other.records, other.scratch).read()[0] in ("", inputs.read()[0]):
            adopt_staging(staging, other)
    return forgotten


def _run(
    job: Job | ObjectJob,
    items: Sequence[Any],
    where: Where,
    on_frames: Callable[[int], None],
    on_note: Callable[[str], None],
) -> list[ShardDone]:
    # Dask is imported for a run alone: finding a store finished takes a second, and would take more with it.
    from gfield.cluster.dispatch import run_in_process, run_on_cluster

    done: list[ShardDone] = []

    def on_done(result: ShardDone | None) -> None:
        if result is not None:
            done.append(result)
            if not where.in_process:
                on_frames(result.frames)

    if where.in_process:
        # More than there are processors, since a thread waits at the end of a shard: for the disk, longer for a bucket.
        threads = available_cpus() + (3 if isinstance(job, ObjectJob) else 1)
        run_in_process(_task, job, items, threads=threads, on_done=on_done, on_frame=lambda: on_frames(1))
        return done
    with open_cluster(where, on_note) as client, wanted_of(job.source.inputs(), job.scratch) as wanted:
        try:
            check_cluster(client, wanted, on_note)
            run_on_cluster(
                _task,
                job,
                items,
                client=client,
                on_done=on_done,
                on_note=on_note,
                wanted=wanted,
                progress_of=lambda item: 0 if item == INPUTS else frames_kept(job.records, item),
            )
        except UnfitWorker:
            if is_there(wanted.token):
                raise
            # Another builder has removed the folder: it is not the worker who does not see it.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(wanted.token)) from None
    return done


def _task(job: Job | ObjectJob, item: Any, on_frame: Callable[[], None] | None = None) -> ShardDone | None:
    if item == INPUTS:
        InputRecord(job.records, job.scratch).describe(job.source.inputs())
        return None
    if isinstance(job, ObjectJob):
        return build_object_shard(job, item, on_frame)
    return build_shard(job, item, on_frame)


def _publish(job: Job, staging: Staging, others: Sequence[Staging]) -> Manifest | None:
    """Complete the store and rename it to its target; None if shards are still missing."""
    with alone(staging.target):
        if not staging.store.exists():
            return published_by_another(staging)
        records = staging.finished_shards()
        described = InputRecord(job.records, job.scratch).read()[1]
        if len(records) < staging.spec.shards or described is None:
            return None
        bad = [frame for record in records.values() for frame in record.bad]
        if len(bad) == job.spec.frames:
            forget_records(job.records)
            raise BuildError(f"{bad[0].reason}\nnone of {counted(len(bad), 'frame')} can be read; no store was made")
        manifest = complete_store(job.store, job.scratch, job.source, job.spec, described, records)
        # What fits of them is taken over. After the swap a builder that is killed would leave them there.
        for other in others:
            remove(other.folder)
        swap_in(staging)
        for folder in leftovers(staging):
            remove(folder)
    return manifest


def _report(
    source: Source,
    target: Location,
    spec: StoreSpec,
    state: Literal["built", "unchanged", "part"],
    started: float,
    done: Sequence[ShardDone],
    forgotten: int,
    manifest: Manifest | None,
) -> BuildReport:
    excluded = manifest.attributes["excluded"] if manifest else []
    return BuildReport(
        target=target,
        state=state,
        frames=spec.frames,
        shards=spec.shards,
        shards_written=sum(result.bytes_written > 0 for result in done),
        bytes_written=sum(result.bytes_written for result in done),
        shards_forgotten=forgotten,
        seconds=time.monotonic() - started,
        excluded=tuple(BadFrame(entry["frame"], entry["reason"]) for entry in excluded),
        left_out=tuple(source.left_out),
        root=manifest.root if manifest else "",
    )
