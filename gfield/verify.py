"""Is a store what its manifest says, are its fields what the operator gives, and can damage be undone.

Checks, from the outside in: every file of the manifest is there, has its size and its hash; no file is too
many; shards carry today's fingerprints; every chunk's checksum holds; fields, recomputed from the stored RGB,
are equal bit for bit (on a sample of frames, or on all).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gfield.codec import ChecksumError
from gfield.field import FieldKernel, FieldParams
from gfield.frame import InputError
from gfield.levels import area_resize
from gfield.manifest import MANIFEST_PATH, Entry, StoreError
from gfield.object_path import ObjectPath
from gfield.objects import THREADS, listing
from gfield.places import is_there
from gfield.shard import hash_file
from gfield.shard_reader import open_shard
from gfield.spec import ArraySpec, level_name
from gfield.store import Store
from gfield.worker import available_cpus, settle_worker

_NAMES = ("name/zarr.json", "name/c/0")
Kind = Literal["missing", "size", "content", "swapped", "stale", "unknown file", "field", "rgb"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind
        What sort of damage.
    path
        File inside the store.
    message
        One line with the values seen and wanted.
    """

    kind: Kind
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was looked at, and what was found.

    Attributes
    ----------
    files, bytes
        Files compared with the manifest, and their size.
    recomputed
        Frames whose fields were recomputed, counted once a level.
    findings
        Everything wrong, in the order of the manifest.
    root
        The manifest's root hash.
    """

    files: int
    bytes: int
    recomputed: int
    findings: tuple[Finding, ...]
    root: str


def verify_store(
    store: Store, *, sample: int | None = 32, on_bytes: Callable[[int], None] = lambda count: None
) -> VerifyReport:
    """Check a store.

    Parameters
    ----------
    store
        The store.
    sample
        How many frames, evenly spread, to recompute the fields of; None for all.
    on_bytes
        Told how many bytes more have been read.

    Examples
    --------
    >>> from gfield import open_store, verify_store
    >>> report = verify_store(open_store("nyu.zarr"), sample=None)
    >>> report.recomputed, report.findings
    (20, ())
    """
    store = replace(store, cache=None)  # what lies at the store's place is asked for, and no copy of it
    files = store.manifest.files

    def check(path: str) -> Finding | None:
        finding = _check_file(store, path)
        on_bytes(files[path].size)
        return finding

    waiting = THREADS if isinstance(store.path, ObjectPath) else available_cpus()
    with ThreadPoolExecutor(waiting) as pool:
        found = [finding for finding in pool.map(check, files) if finding]
    found += _stale(store)
    found += [Finding("unknown file", path, f"{path}: not in the manifest") for path in sorted(_unknown_files(store))]
    damaged = {finding.path for finding in found}
    rows = _sample_rows(len(store), sample)
    recomputed = 0
    for level_WH in store.spec.levels_WH:
        for finding, count in _check_level(store, level_WH, rows, damaged):
            recomputed += count
            found += [finding] if finding else []
    return VerifyReport(
        len(files), sum(entry.size for entry in files.values()), recomputed, tuple(found), store.manifest.root
    )


def _check_file(store: Store, path: str) -> Finding | None:
    wanted, file = store.manifest.files[path], store.path / path
    if not is_there(file):
        return Finding("missing", path, f"{path}: missing")
    if led_to := _led_inside(store, path):
        return Finding("swapped", path, f"{path}: a link to {led_to} of the same store")
    size, blake3 = hash_file(file)
    if (size, blake3) == (wanted.size, wanted.blake3):
        return None
    for other, entry in store.manifest.files.items():
        if (entry.size, entry.blake3) == (size, blake3):
            return Finding("swapped", path, f"{path}: holds the content of {other}")
    if size != wanted.size:
        return Finding("size", path, f"{path}: {size} bytes, wanted {wanted.size}")
    frames = _damaged_frames(store, path)
    return Finding("content", path, f"{path}: hash {blake3[:12]}, wanted {wanted.blake3[:12]}{frames}")


def _led_inside(store: Store, path: str) -> str:
    """The other place in the store that a link leads to, where a repair would change both files; else empty.

    A link that leads out of the store may be meant, as in caches that keep all files elsewhere.
    """
    if isinstance(store.path, ObjectPath):
        return ""
    root = os.path.realpath(store.path)
    real = Path(os.path.realpath(store.path / path))
    inside = real.relative_to(root).as_posix() if real.is_relative_to(root) else path
    return inside if inside != path else ""


def _damaged_frames(store: Store, path: str) -> str:
    """Which frames of a shard fail their checksums, for the message."""
    for array in store.arrays.values():
        for shard in range(store.spec.shards):
            if array.shard_path(shard) == path:
                try:
                    open_shard(store.path / path, store.spec.frames_per_shard, array.codec)
                except (OSError, ChecksumError):
                    return ", no frame of it can be read"
                bad = [row for row in store.spec.shard_frames(shard) if not _readable(store, array, row)]
                return f", frames {', '.join(map(str, bad))} fail their checksums" if bad else ""
    return ""


def _readable(store: Store, array: ArraySpec, row: int) -> bool:
    try:
        store.read(array.key, [row])
    except StoreError:
        return False
    return True


def _stale(store: Store) -> Iterator[Finding]:
    for array in store.arrays.values():
        for shard in range(store.spec.shards):
            path = array.shard_path(shard)
            entry: Entry | None = store.manifest.files.get(path)
            if entry is None:
                yield Finding("missing", path, f"{path}: not in the manifest")
            elif entry.fingerprint != array.fingerprint:
                message = f"{path}: made with fingerprint {entry.fingerprint[:12]}, wanted {array.fingerprint[:12]}"
                yield Finding("stale", path, message)


def _unknown_files(store: Store) -> Iterator[str]:
    """What is in the store's folder and not in its manifest: no folders, but links to folders that no file is in."""
    known = {*store.manifest.files, MANIFEST_PATH}
    if isinstance(store.path, ObjectPath):
        # A web server does not say what else it has.
        yield from () if store.path.is_read_only else listing(store.path).keys() - known
        return
    for file in store.path.rglob("*"):
        path = file.relative_to(store.path).as_posix()
        if path in known or (file.is_dir() and not file.is_symlink()):
            continue
        if not file.is_dir() or not any(each.startswith(f"{path}/") for each in known):
            yield path


def _sample_rows(frames: int, sample: int | None) -> Sequence[int]:
    if sample is None or sample >= frames:
        return range(frames)
    return np.unique(np.linspace(0, frames - 1, sample).astype(int)).tolist() if sample else []


def _check_level(
    store: Store, level_WH: tuple[int, int], rows: Sequence[int], damaged: set[str]
) -> Iterator[tuple[Finding | None, int]]:
    """Recompute fields, and smaller RGB from the largest, of the frames whose shards are whole."""
    settle_worker()
    largest, level = level_name(store.spec.size_WH), level_name(level_WH)
    rgb, field = store.arrays[f"{level}/rgb"], store.arrays[f"{level}/gradient"]
    parent = store.arrays.get(f"{largest}/rgb") if level != largest else None
    try:
        kernel, region = FieldKernel(FieldParams.from_dict(store.spec.operator)), store.spec.level_region(level_WH)
    except InputError as error:
        raise StoreError(f"{store.path}: {error}") from error
    for row in rows:
        shard = row // store.spec.frames_per_shard
        used = [array.shard_path(shard) for array in (rgb, field, parent) if array is not None]
        if damaged.intersection(used):
            continue
        rgb_HWC = store.read(rgb.key, [row])[0]
        field_HW = store.read(field.key, [row])[0]
        expected_HW = kernel(rgb_HWC, region, out=np.zeros_like(field_HW))
        where = f"frame {row}" if damaged.intersection(_NAMES) else f"frame {row} ({store.names[row]})"
        if not np.array_equal(expected_HW, field_HW):
            wrong = np.count_nonzero(expected_HW != field_HW)
            message = f"{field.key}: {where}: {wrong} pixels differ from the operator on its RGB"
            yield Finding("field", field.shard_path(shard), message), 1
        elif parent is not None and not np.array_equal(
            area_resize(store.read(parent.key, [row])[0], np.empty_like(rgb_HWC)), rgb_HWC
        ):
            message = f"{rgb.key}: {where}: is not the area average of {parent.key}"
            yield Finding("rgb", rgb.shard_path(shard), message), 1
        else:
            yield None, 1
