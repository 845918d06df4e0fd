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

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from glob import escape
from pathlib import Path

from gfield.attributes import parse_spec, spec_of
from gfield.files import (
    file_size,
    read_file,
    sync_folder,
    temporary_name,
    write_atomically,
)
from gfield.frame import BadFrame, InputError, UserError, printable
from gfield.listing import counted
from gfield.manifest import Manifest, StoreError, read_manifest
from gfield.object_path import Location, ObjectPath, location
from gfield.records import Record, read_record
from gfield.spec import FORMAT_VERSION, ArraySpec, StoreSpec, canonical, digest, refusals
from gfield.turns import alone, lock_path

_SPEC = "spec.json"
_ATTEMPTS = 10  # against another builder that does the opposite


class BuildError(UserError):
    """A build cannot start, or cannot finish; the message is one line (more where several frames are named)."""

    def __str__(self) -> str:
        return "\n".join(map(printable, ValueError.__str__(self).split("\n")))


def tell_bad_frames(bad: Sequence[BadFrame], done: int, shards: int) -> str:
    """Lines for a build that is stopped by frames which cannot be read, ``done`` of its ``shards`` being finished."""
    shown = [frame.reason for frame in sorted(bad, key=lambda frame: frame.index)[:10]]
    if len(bad) > len(shown):
        shown.append(f"... and {len(bad) - len(shown)} more")
    kept = f"; the {done} of {shards} shards without them are kept" if done else ""
    ways = "--on-error skip leaves such frames out" + (", --overwrite begins anew with mended files" if done else "")
    return "\n".join([*shown, f"{counted(len(bad), 'frame')} cannot be read{kept}; {ways}"])


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

        What was taken over from a store was recorded unseen, and the task that looks at it may be another part's. And
        where another builder was killed while it removed this folder, records may be left without their shards.
        """
        specs = self.spec.array_specs().values()
        records = {shard: read_record(self.records, shard) for shard in range(self.spec.shards)}

        def lies_there(spec: ArraySpec, path: str, record: Record) -> bool:
            entry = record.files.get(path)
            if entry is None or entry.fingerprint != spec.fingerprint:
                return False
            return file_size(self.store / path) == entry.size

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
    try:
        seen = spec_of(manifest, target)
    except StoreError as error:
        raise BuildError(f"{error}; --overwrite builds it anew") from error
    refuse_differences(target, seen, spec, "--overwrite builds it anew")
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
            other = Staging(staging.target, parse_spec(json.loads(read_file(folder / _SPEC))))
        except (OSError, ValueError, RecursionError):
            continue
        if other.folder != folder:  # a damaged spec
            continue
        if not overwrite:
            refuse_differences(folder, other.spec, staging.spec, "an unfinished build, which --overwrite removes")
        others.append(other)
    return others


def refuse_differences(path: Location, seen: StoreSpec, wanted: StoreSpec, hint: str) -> None:
    """Raise a `BuildError` that names what cannot be changed of a store, if anything of it differs."""
    if differences := refusals(seen, wanted):
        raise BuildError(f"{path}: {'; '.join(differences)}; {hint}")


def checked_target(target: str | Location) -> Location:
    """``target``, if a store can be put there: a folder or prefix that has a name of its own, and a place beside it.

    Raises
    ------
    BuildError
        It is empty, ``.``, ``..``, the root folder, a whole bucket, or a URL of another kind.
    """
    try:
        place = location(target)
    except InputError as error:
        raise BuildError(f"{str(target)!r} cannot be the store; {error}") from error
    if place.name in ("", ".."):
        raise BuildError(f"{str(target)!r} cannot be the store; a folder's path wanted, such as nyu.zarr")
    if isinstance(place, ObjectPath) and place.is_read_only:
        raise BuildError(f"{place} cannot be the store; web servers are read alone, a path or s3:// wanted")
    return place


def _looks_like_ours(target: Path) -> bool:
    try:
        return "gfield_format" in json.loads(read_file(target / "zarr.json"))["attributes"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False


def is_of(store: Manifest | None, spec: StoreSpec) -> bool:
    """Whether a finished store has this spec, and its shards too: an older version may have made them otherwise."""
    if store is None or digest(store.attributes.get("spec")) != spec.fingerprint:
        return False
    wanted = {array.shard_path(shard): array for array in spec.array_specs().values() for shard in range(spec.shards)}
    entries = ((store.files.get(path), array.fingerprint) for path, array in wanted.items())
    return all(entry is not None and entry.fingerprint == fingerprint for entry, fingerprint in entries)


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
    # A name of its own: another one may be left of a builder that was killed before it had removed it.
    previous = temporary_name(staging.folder)
    if staging.target.exists() and any(staging.target.iterdir()):
        staging.target.rename(previous)
    try:
        staging.store.rename(staging.target)
    except OSError:
        with suppress(OSError):  # there may be none; and if it stays aside, the next build still ends well
            previous.rename(staging.target)
        raise
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
