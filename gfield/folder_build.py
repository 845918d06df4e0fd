"""Build a store in a folder: shards in a staging folder beside it, then published whole by one rename."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gfield.adopt import adopt_staging, adopt_store, make_anew
from gfield.frame import Source, UserError
from gfield.input_record import InputRecord
from gfield.listing import counted
from gfield.manifest import Manifest
from gfield.publish import complete_store
from gfield.records import forget_records
from gfield.shard_task import INPUTS, Built, Job, OnError, ShardDone, items_of
from gfield.staging import (
    BuildError,
    Staging,
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


def build_folder(
    source: Source,
    staging: Staging,
    run: Callable[[Job, Sequence[Any]], list[ShardDone]],
    *,
    on_error: OnError,
    progress: bool,
    overwrite: bool,
    part: tuple[int, int] | None,
    on_start: Callable[[int], None],
) -> Built:
    """Build a store in a folder, or finish it, or bring it up to date.

    Parameters
    ----------
    source, staging
        Where frames come from, what the store is to hold, and where.
    run
        Does items of `gfield.shard_task.items_of`: shards by `gfield.shard_task.build_shard`.
    on_error, progress
        As of `gfield.shard_task.Job`.
    overwrite, part, on_start
        As of `gfield.build.build_store`.
    """
    target, spec = staging.target, staging.spec
    current, others = _begin(staging, overwrite)
    if current is not None and is_of(current, spec):
        Store(target, current, spec).check_files()
        clear(staging)
        return Built("unchanged", current, [], 0)
    finished = target if current is not None else None
    job = Job(source, spec, staging.store, staging.records, staging.scratch, on_error, finished, progress=progress)
    items = items_of(spec, part)
    done: list[ShardDone] = []
    forgotten = 0
    try:
        # One part answers for the input, lest parts quarrel whose copies' times differ.
        forgotten = _set_up(staging, current, () if overwrite else others, source, part is None or part[0] == 1)
        on_start(sum(len(spec.shard_frames(item)) for item in items if item != INPUTS))
        # Once is enough, but for the rare builder that has its record of a shard overwritten by another's older one.
        for _ in range(3):
            done += run(job, items)
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
    return Built("built" if manifest else "part", manifest, done, forgotten)


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
