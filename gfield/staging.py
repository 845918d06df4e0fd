"""Where an unfinished store lives, what can be taken over into it, and how it becomes the finished one.

A build of ``nyu.zarr`` works in ``nyu.zarr.building-<fingerprint>`` beside it::

    store/      the future store: shards, under their final names
    records/    one file a shard number: what is known to be on the disk
    scratch/    files that are being written
    spec.json   what is being built

``nyu.zarr`` itself appears by one rename, when all is there. The folder's name carries the spec's fingerprint,
so that builders with the same parameters help each other, and a late one with others cannot do harm.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gfield.files import copy_atomically, file_size, make_folder, read_file, side_by_side, sync_folder, write_atomically
from gfield.frame import BadFrame, UserError
from gfield.manifest import Entry, Manifest, StoreError, read_manifest
from gfield.shard_task import Record, own_folders, read_record, write_record
from gfield.spec import FORMAT_VERSION, StoreSpec, canonical, digest, refusals

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
        """Records of the shard numbers for which every array is recorded with today's fingerprint, and is there.

        What was taken over from a store was recorded unseen, and the task that looks at it may be another part's.
        """
        specs = self.spec.array_specs().values()
        records = {shard: read_record(self.records, shard) for shard in range(self.spec.shards)}

        def complete(shard: int, record: Record) -> bool:
            for spec in specs:
                entry = record.files.get(spec.shard_path(shard))
                if entry is None or entry.fingerprint != spec.fingerprint:
                    return False
                if file_size(self.store / spec.shard_path(shard)) != entry.size:
                    return False
            return True

        return {shard: record for shard, record in records.items() if complete(shard, record)}


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


def is_up_to_date(store: Manifest, spec: StoreSpec) -> bool:
    """Whether a finished store has this spec, and its shards too: an older version may have made them otherwise."""
    wanted = {array.shard_path(shard): array for array in spec.array_specs().values() for shard in range(spec.shards)}
    entries = ((store.files.get(path), array.fingerprint) for path, array in wanted.items())
    return digest(store.attributes["spec"]) == spec.fingerprint and all(
        entry is not None and entry.fingerprint == fingerprint for entry, fingerprint in entries
    )


def other_stagings(staging: Staging, overwrite: bool) -> list[Staging]:
    """Unfinished builds of the same target with other parameters whose shards can be taken over.

    Raises
    ------
    BuildError
        If there is one that differs in what cannot be changed, and ``overwrite`` is False.
    """
    others = []
    for folder in sorted(staging.target.parent.glob(f"{staging.target.name}.building-*")):
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
        return "gfield_format" in json.loads(read_file(target / "zarr.json"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def adopt_store(staging: Staging, manifest: Manifest) -> None:
    """Take over from the finished store the shards that the new spec still wants."""
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
        write_record(staging.records, staging.scratch, shard, record)


def _link(existing: Path, new: Path, scratch: Path) -> bool:
    """Give a shard a second name, or copy it where the file system knows no hard links; False if it is gone.

    A folder or a pipe in its place is not taken over either.
    """
    if not existing.is_file():
        return False
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


@contextmanager
def publishing(staging: Staging) -> Iterator[bool]:
    """Hold the lock under which one of several builders publishes; yields False if another has done it meanwhile.

    The lock goes with its process, however that ends.
    """
    try:
        lock = (staging.folder / "publish.lock").open("wb")
    except FileNotFoundError:
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            # Some cluster file systems have no locks. One builder at a time still publishes safely there.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield staging.store.exists()


def published_by_another(staging: Staging, error: FileNotFoundError) -> Manifest | None:
    """The manifest of the store that was to be built, if another builder has published it meanwhile, else None.

    That builder removes the staging folder, to which this one was still writing: ``error`` is then about a file in it,
    and not about one of the input.
    """
    if not Path(str(error.filename)).is_relative_to(staging.folder):
        return None
    try:
        manifest = read_manifest(staging.target)
    except StoreError:
        return None
    return manifest if digest(manifest.attributes["spec"]) == staging.spec.fingerprint else None


def swap_in(staging: Staging) -> None:
    """Rename the complete store to its target; an older store is moved aside first, and removed last."""
    previous = staging.folder / "previous"
    if staging.target.exists() and any(staging.target.iterdir()):
        staging.target.rename(previous)
    staging.store.rename(staging.target)
    sync_folder(staging.target.parent)


def remove(staging: Staging) -> None:
    """Remove a staging folder whose store is published, or is not wanted any more.

    Another builder may put a file into a folder that is just being emptied, which then stays. Where there is a new
    ``spec.json``, somebody has begun to build anew.
    """
    for _ in range(_ATTEMPTS):
        shutil.rmtree(staging.folder, ignore_errors=True)
        if not staging.folder.exists() or (staging.folder / _SPEC).exists():
            break
