"""What a build would do and cost, from a look at the input and a few frames computed in memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfield.bucket.staging import ObjectStaging
from gfield.frame import BadFrame, Source
from gfield.layers import FrameLayers
from gfield.manifest import Manifest
from gfield.object_path import Location, ObjectPath
from gfield.objects import listing
from gfield.spec import StoreSpec
from gfield.staging import Staging, checked_target, finished_store, is_of, other_stagings
from gfield.worker import available_cpus, settle_worker

_TRIED = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a build.

    Attributes
    ----------
    frames, shards, files
        Size of the store; ``files`` counts shards of all arrays.
    shards_done
        Shards that an earlier, unfinished run has left.
    to_write
        Keys of the arrays that have to be written; empty for a finished store.
    raw_bytes, stored_bytes
        Size by array key, as values and as estimated from a few encoded frames.
    seconds
        Estimated time with ``workers`` workers on this machine.
    free_bytes
        Space on the target's file system; None for a bucket, which has no end.
    """

    frames: int
    shards: int
    files: int
    shards_done: int
    to_write: tuple[str, ...]
    raw_bytes: Mapping[str, int]
    stored_bytes: Mapping[str, int]
    seconds: float
    workers: int
    free_bytes: int | None


def plan_build(
    source: Source, target: Location, spec: StoreSpec, *, workers: int | None = None, overwrite: bool = False
) -> Plan:
    """Work out what `gfield.build.build_store` would do; writes nothing.

    Raises
    ------
    BuildError
        As the build would, if the target does not match.
    """
    workers = workers or available_cpus()
    target = checked_target(target)
    arrays = spec.array_specs()
    current, done = (
        _seen_in_bucket(target, spec, overwrite)
        if isinstance(target, ObjectPath)
        else _seen_in_folder(target, spec, overwrite)
    )
    kept = {entry.fingerprint for entry in current.files.values()} if current else set()
    to_write = tuple(key for key, array in arrays.items() if array.fingerprint not in kept)
    stored, seconds_a_frame = _try_frames(source, spec)
    return Plan(
        frames=spec.frames,
        shards=spec.shards,
        files=spec.shards * len(arrays),
        shards_done=spec.shards if current and not to_write else done,
        to_write=to_write,
        raw_bytes={
            key: spec.frames * int(np.prod(array.frame_shape)) * np.dtype(array.dtype).itemsize
            for key, array in arrays.items()
        },
        stored_bytes=stored,
        seconds=seconds_a_frame * spec.frames * (1 - done / spec.shards) / workers if to_write else 0.0,
        workers=workers,
        free_bytes=_free_bytes(target),
    )


def _seen_in_folder(target: Path, spec: StoreSpec, overwrite: bool) -> tuple[Manifest | None, int]:
    """The store that is there and can be kept, and how many shards of an unfinished one are done."""
    staging, current = Staging(target, spec), finished_store(target, spec, overwrite)
    if not is_of(current, spec):
        other_stagings(staging, overwrite)
    return current, len(staging.finished_shards()) if staging.records.is_dir() else 0


def _seen_in_bucket(target: ObjectPath, spec: StoreSpec, overwrite: bool) -> tuple[Manifest | None, int]:
    staging = ObjectStaging(target, spec)
    current = None if overwrite else staging.finished()
    if current is not None or not staging.is_claimed():
        return current, 0
    return None, len(staging.finished_shards(listing(target)))


def _try_frames(source: Source, spec: StoreSpec) -> tuple[dict[str, int], float]:
    """Bytes by array of the whole store, and seconds a frame, from a few frames spread over the input."""
    settle_worker()
    arrays = spec.array_specs()
    layers = FrameLayers(spec, arrays.values())
    needs = frozenset(name for name in spec.arrays if name not in ("gradient", "depth_native")) | {"rgb"}
    size, good, seconds = dict.fromkeys(arrays, 0), 0, []
    for row in np.unique(np.linspace(0, spec.frames - 1, _TRIED).astype(int)).tolist():
        started = time.perf_counter()
        for frame in source.read(row, row + 1, needs):
            if isinstance(frame, BadFrame):
                continue
            for key, values in layers.of(frame).items():
                payload, crc = arrays[key].codec.encode(values)
                size[key] += len(payload) + len(crc)
            good += 1
            seconds.append(time.perf_counter() - started)
    scale = spec.frames / max(1, good)
    # The first frame pays for warming up; the fastest is closest to the pace of a long run.
    return {key: round(value * scale) for key, value in size.items()}, min(seconds, default=0.0)


def _free_bytes(target: Location) -> int | None:
    if isinstance(target, ObjectPath):
        return None
    folder = next(parent for parent in [target, *target.absolute().parents] if parent.is_dir())
    return shutil.disk_usage(folder).free
