"""Where an unfinished store lives, what can be taken over into it, and how it becomes the finished one.

A build of ``nyu.zarr`` works in ``nyu.zarr.building-<fingerprint>`` beside it::

    store/      the future store: shards, under their final names
    records/    one file a shard number: what is known to be on the disk
    scratch/    files that are being written
    spec.json   what is being built

``nyu.zarr`` itself appears by one rename, when all is there. The folder's name carries the spec's fingerprint,
so that builders with the same parameters help each other, and a late one with others cannot do harm.
What gives or takes away a name, of a store or of such a folder, does so `alone`: else one builder might remove the
folder of another that is just publishing what is in it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import BinaryIO

from gfield.files import copy_atomically, make_folder, side_by_side, sync_folder, temporary_name, write_atomically
from gfield.frame import BadFrame, UserError
from gfield.manifest import Entry, Manifest, StoreError, read_manifest
from gfield.shard_task import Record, own_folders, read_record, write_record
from gfield.spec import FORMAT_VERSION, ArraySpec, StoreSpec, canonical, digest, refusals

_SPEC = "spec.json"
_ATTEMPTS = 10  # against another builder that does the opposite


class BuildError(UserError):
    """A build cannot start, or cannot finish; the message is one line (more where several frames are named)."""


@dataclass(frozen=True)
class Staging:
    """The folder of one unfinished store."""

    target: Path
    spec: StoreSpec

    @cached_property
    def folder(self) -> Path:
        return self.target.with_name(f"{self.target.name}.building-{self.spec.fingerprint[:12]}")

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def create(self) -> None:
        """Make the folders; harmless where another builder has made them, or is just removing them."""
        folders = (self.store, self.records, self.scratch)
        for attempt in range(_ATTEMPTS):
            try:
                for folder in folders:
                    folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / _SPEC, canonical(self.spec.to_json()), self.scratch)
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                if all(folder.is_dir() for folder in folders):
                    break
        sync_folder(self.target.parent)

    def finished_shards(self) -> dict[int, Record]:
        """Records of the shard numbers of which every array is recorded with today's fingerprint, and lies there.

        Where another builder was killed while it removed this folder, records may be left without their shards.
        """
        specs = self.spec.array_specs().values()
        records = {shard: read_record(self.records, shard) for shard in range(self.spec.shards)}

        def lies_there(spec: ArraySpec, path: str, record: Record) -> bool:
            entry = record.files.get(path)
            if entry is None or entry.fingerprint != spec.fingerprint:
                return False
            try:
                return (self.store / path).stat().st_size == entry.size
            except FileNotFoundError:
                return False

        return {
            shard: record
            for shard, record in records.items()
            if all(lies_there(spec, spec.shard_path(shard), record) for spec in specs)
        }


def finished_store(target: Path, spec: StoreSpec, overwrite: bool) -> Manifest | None:
    """The manifest of the store that stands at ``target``, when it can be kept or brought up to date.

    Returns
    -------
    Manifest or None
        None where there is nothing to take over, or ``overwrite`` says to take nothing over.

    Raises
    ------
    BuildError
        If ``target`` is something else than a store, or a store that differs in what cannot be changed.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        manifest = read_manifest(target)
    except StoreError as error:
        if overwrite and _looks_like_ours(target):
            return None
        hint = "--overwrite builds it anew" if _looks_like_ours(target) else "it was left as it is"
        raise BuildError(f"{error}; {hint}") from error
    if overwrite:
        return None
    version = manifest.attributes.get("gfield_format")
    if version != FORMAT_VERSION:
        raise BuildError(f"{target}: format {version} in the store, {FORMAT_VERSION} here; --overwrite builds it anew")
    _refuse_differences(target, StoreSpec.from_json(manifest.attributes["spec"]), spec, "--overwrite builds it anew")
    return manifest


def other_stagings(staging: Staging, overwrite: bool) -> list[Staging]:
    """Unfinished builds of the same target with other parameters whose shards can be taken over.

    Raises
    ------
    BuildError
        If there is one that differs in what cannot be changed, and ``overwrite`` is False.
    """
    others = []
    for folder in _staging_folders(staging.target):
        if folder == staging.folder:
            continue
        try:
            spec = StoreSpec.from_json(json.loads((folder / _SPEC).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not overwrite:
            _refuse_differences(folder, spec, staging.spec, "an unfinished build, which --overwrite removes")
        others.append(Staging(staging.target, spec))
    return others


def _refuse_differences(path: Path, seen: StoreSpec, wanted: StoreSpec, hint: str) -> None:
    if differences := refusals(seen, wanted):
        raise BuildError(f"{path}: {'; '.join(differences)}; {hint}")


def checked_target(target: str | Path) -> Path:
    """``target``, if a store can be put there: a folder that has a name of its own, and a place beside it.

    Raises
    ------
    BuildError
        It is empty, ``.``, ``..``, the root folder, or a URL.
    """
    path = Path(target)
    if path.name in ("", "..") or re.match(r"[A-Za-z][A-Za-z0-9+]+:/", str(path)):  # a Path has one slash of two
        raise BuildError(f"{str(target)!r} cannot be the store; a folder's path wanted, such as nyu.zarr")
    return path


def _looks_like_ours(target: Path) -> bool:
    try:
        return "gfield_format" in json.loads((target / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def adopt_store(staging: Staging, manifest: Manifest) -> None:
    """Take over from the finished store the shards that the new spec still wants.

    To be done `alone`: another builder might else replace the store meanwhile, and shards of that one be taken for this
    one's.
    """
    bad = [BadFrame(entry["frame"], entry["reason"]) for entry in manifest.attributes["excluded"]]

    def entries(shard: int) -> Record:
        frames = staging.spec.shard_frames(shard)
        return Record(manifest.files, tuple(frame for frame in bad if frame.index in frames))

    _adopt(staging, staging.target, entries)


def adopt_staging(staging: Staging, other: Staging) -> None:
    """Take over shards from an unfinished build with other parameters."""
    _adopt(staging, other.store, lambda shard: read_record(other.records, shard))


def _adopt(staging: Staging, source: Path, known: Callable[[int], Record]) -> None:
    adopted: dict[int, Record] = {}
    folders: list[Path] = []
    specs = staging.spec.array_specs().values()
    for shard in range(staging.spec.shards):
        ours, theirs = read_record(staging.records, shard), known(shard)
        files: dict[str, Entry] = dict(ours.files)
        for spec in specs:
            path = spec.shard_path(shard)
            entry = theirs.files.get(path)
            if path in files or entry is None or entry.fingerprint != spec.fingerprint:
                continue
            make_folder((staging.store / path).parent, staging.store)
            if _link(source / path, staging.store / path, staging.scratch):
                files[path] = entry
                folders += own_folders(staging.store / path, spec)
        if len(files) > len(ours.files):
            adopted[shard] = Record(files, ours.bad or theirs.bad)
    side_by_side(sync_folder, folders)
    for shard, record in adopted.items():
        # Read again, since another builder may have made the shard meanwhile.
        files = {**record.files, **read_record(staging.records, shard).files}
        write_record(staging.records, staging.scratch, shard, Record(files, record.bad))


def _link(existing: Path, new: Path, scratch: Path) -> bool:
    """Give a shard a second name, or copy it where the file system knows no hard links; False if it is gone."""
    try:
        os.link(existing, new)
    except FileExistsError:
        pass
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES):
            raise
        if not existing.exists():
            return False
        copy_atomically(existing, new, scratch)
    return True


def lock_path(target: Path) -> Path:
    """The file that is locked by whoever works on ``target`` alone; it is there no longer than that."""
    return target.with_name(f"{target.name}.building-lock")


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Be the only one of all builders of ``target`` that gives names to stores and staging folders, or removes them.

    The lock goes with its process, however that ends.
    """
    path = lock_path(target)
    with suppress(FileExistsError):  # a file, and then what follows says better what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                # Some cluster file systems have no locks. One builder at a time still publishes safely there.
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
            if not _is_still(path, lock):
                continue  # who held it has removed it, and the next one has a new file
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def is_of(manifest: Manifest | None, spec: StoreSpec) -> bool:
    """Whether a finished store is the one that ``spec`` describes."""
    return manifest is not None and digest(manifest.attributes["spec"]) == spec.fingerprint


def published_by_another(staging: Staging) -> Manifest:
    """The manifest of the store that was to be built, when another builder has published it and removed the folder.

    Raises
    ------
    BuildError
        If that one has built another store.
    """
    with suppress(StoreError):
        manifest = read_manifest(staging.target)
        if is_of(manifest, staging.spec):
            return manifest
    raise BuildError(
        f"{staging.folder}: removed by a build of {staging.target.name} with other parameters, which has ended first; "
        "run the same command to build this one"
    )


def swap_in(staging: Staging) -> None:
    """Rename the complete store to its target; an older store is moved aside first, and removed last."""
    if staging.target.exists() and any(staging.target.iterdir()):
        # A name of its own: another one may be left of a builder that was killed before it had removed it.
        staging.target.rename(temporary_name(staging.folder))
    staging.store.rename(staging.target)
    sync_folder(staging.target.parent)


def leftovers(staging: Staging) -> list[Path]:
    """What is to be removed once the store of ``staging`` is published, of that which lies there.

    That is its own folder, and those without a ``spec.json``, which builders that were killed have half removed.
    """
    folders = [folder for folder in _staging_folders(staging.target) if not (folder / _SPEC).exists()]
    return [staging.folder, *folders] if staging.folder.exists() else folders


def clear(staging: Staging) -> None:
    """Remove the `leftovers` of a store that is finished, where there are any."""
    if leftovers(staging) or lock_path(staging.target).exists():
        with alone(staging.target):
            for folder in leftovers(staging):
                remove(folder)


def remove(folder: Path) -> None:
    """Remove a staging folder whose store is published, or is not wanted any more; to be done `alone`.

    Another builder may put a file into a folder that is just being emptied, which then stays. Where there is a new
    ``spec.json``, somebody has begun to build anew.
    """
    for _ in range(_ATTEMPTS):
        # First of all, so that what is left of the folder, should we be killed, is known as a leftover.
        (folder / _SPEC).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or (folder / _SPEC).exists():
            break


def _staging_folders(target: Path) -> list[Path]:
    return sorted(path for path in target.parent.glob(f"{escape(target.name)}.building-*") if path.is_dir())
