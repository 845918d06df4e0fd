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

from gfield.bucket.build import ObjectJob, build_object_shard, build_objects
from gfield.bucket.staging import ObjectStaging
from gfield.cluster.errors import UnfitWorker
from gfield.cluster.where import Where, open_cluster
from gfield.cluster.worker_check import check_cluster, wanted_of
from gfield.folder_build import build_folder
from gfield.frame import BadFrame, LeftOut, Source
from gfield.input_record import InputRecord
from gfield.object_path import Location, ObjectPath
from gfield.places import is_there
from gfield.progress import frames_kept
from gfield.shard_task import INPUTS, Built, Job, OnError, ShardDone, build_shard
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from gfield.staging import (
    Staging,
    checked_target,
)
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

    def run(job: Job | ObjectJob, items: Sequence[Any]) -> list[ShardDone]:
        return _run(job, items, where, on_frames, on_note)

    if isinstance(target, ObjectPath):
        object_job = ObjectJob(source, ObjectStaging(target, spec), on_error)
        built = build_objects(object_job, run, overwrite=overwrite, part=part, on_start=on_start)
    else:
        # Workers may have other working folders.
        staging = Staging(target if where.in_process else target.absolute(), spec)
        built = build_folder(
            source,
            staging,
            run,
            on_error=on_error,
            progress=not where.in_process,
            overwrite=overwrite,
            part=part,
            on_start=on_start,
        )
    return _report(source, target, spec, built, started)


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


def _report(source: Source, target: Location, spec: StoreSpec, built: Built, started: float) -> BuildReport:
    manifest, done = built.manifest, built.done
    excluded = manifest.attributes["excluded"] if manifest else []
    return BuildReport(
        target=target,
        state=built.state,
        frames=spec.frames,
        shards=spec.shards,
        shards_written=sum(result.bytes_written > 0 for result in done),
        bytes_written=sum(result.bytes_written for result in done),
        shards_forgotten=built.forgotten,
        seconds=time.monotonic() - started,
        excluded=tuple(BadFrame(entry["frame"], entry["reason"]) for entry in excluded),
        left_out=tuple(source.left_out),
        root=manifest.root if manifest else "",
    )
