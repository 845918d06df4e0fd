"""An unfinished store in a bucket: where its shards are already, who builds it, and what is known of them.

A bucket has no rename and no locks, so a store there is what has a manifest. Shards are put where they will stay, and
the manifest last; what is known meanwhile lies beside, in ``nyu.zarr.building``::

    claim.json     which store is being built; there is one claim, and builders of that very store share it
    before.json    the manifest of the store that is being brought up to date, whose shards still count, and their tags
    inputs.json    what the input files are
    000000.json    one a shard number: its files, with the tags by which the bucket knows them

While a store is brought up to date or overwritten, it has no manifest: it is away. Before it ends, a builder asks the
bucket whether every shard is still the one that it knows of; another one with other parameters, which has taken over
the claim, is noticed by that at the latest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gfield.attributes import parse_spec, spec_of
from gfield.frame import BadFrame
from gfield.listing import counted
from gfield.manifest import MANIFEST_PATH, Entry, Manifest, StoreError, read_manifest
from gfield.object_path import ObjectPath
from gfield.objects import ObjectStamp, create, listing, put, remove, side_by_side
from gfield.places import is_there, read_file
from gfield.records import Record, read_record
from gfield.spec import FORMAT_VERSION, StoreSpec, note, read_note
from gfield.staging import BuildError, is_of, refuse_differences

_ANEW = "--overwrite builds it anew"


class Begun(NamedTuple):
    """The manifest of the very store that is wanted, where that is there; and whether nothing at all is there."""

    current: Manifest | None
    nothing: bool


class Before(NamedTuple):
    """A store that is brought up to date: its manifest, its root's metadata, and the tags of its shards by path."""

    manifest: Manifest
    root: bytes
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ObjectStaging:
    """One unfinished store, which is to have this spec."""

    target: ObjectPath
    spec: StoreSpec

    @cached_property
    def records(self) -> ObjectPath:
        """What is beside the store while it is built."""
        return self.target.with_name(f"{self.target.name}.building")

    @property
    def claim(self) -> ObjectPath:
        """Who builds it."""
        return self.records / "claim.json"

    @property
    def before(self) -> ObjectPath:
        """The manifest of the store that was there."""
        return self.records / "before.json"

    def begin(self, overwrite: bool) -> Begun:
        """Take the claim, unless the very store that is wanted is there.

        Raises
        ------
        BuildError
            If there is something else than a store, or a store or an unfinished build that differs in what cannot be
            changed, and is not to be overwritten.
        """
        if overwrite:
            self._refuse_strangers()
        current = None if overwrite else self.finished()
        if current is not None and is_of(current, self.spec):
            return Begun(current, False)
        wanted = note(self.spec.to_json())
        is_new = create(self.claim, wanted)
        is_ours = not is_new and self.is_claimed()
        if not (is_new or is_ours):
            self._take_over(overwrite)
            put(self.claim, wanted)
        if overwrite and not (is_ours and self.before_update is None):  # else its records are of another part
            remove([self.records / path for path in listing(self.records) if path != "claim.json"])
            self.__dict__.pop("before_update", None)
        elif current is not None:
            root = read_file(self.target / "zarr.json").decode()
            before = {"manifest": current.to_bytes().decode(), "root": root, "tags": self._tags(current)}
            put(self.before, note(before))
            self.__dict__.pop("before_update", None)
        self.retire()
        return Begun(None, is_new and current is None)

    def is_claimed(self) -> bool:
        """Whether it is still this store that is being built there."""
        try:
            return bool(read_note(read_file(self.claim)) == json.loads(json.dumps(self.spec.to_json())))
        except (FileNotFoundError, ValueError):
            return False

    def known(self, shard: int) -> Record:
        """What is known of a shard: by its record, and for the rest by the store that was there."""
        record, before = read_record(self.records, shard), self.before_update
        if before is None:
            return record
        paths = [array.shard_path(shard) for array in self.spec.array_specs().values()]
        files = {path: before.manifest.files[path] for path in paths if path in before.tags}
        tags = {path: before.tags[path] for path in files}
        frames = self.spec.shard_frames(shard)
        bad = [BadFrame(entry["frame"], entry["reason"]) for entry in before.manifest.attributes["excluded"]]
        of_shard = tuple(frame for frame in bad if frame.index in frames)
        return Record({**files, **record.files}, record.bad or of_shard, {**tags, **record.tags})

    @cached_property
    def before_update(self) -> Before | None:
        """The store that is brought up to date."""
        try:
            stored = read_note(read_file(self.before))
            manifest = Manifest.from_bytes(stored["manifest"].encode(), self.target)
            return Before(manifest, stored["root"].encode(), stored["tags"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def finished_shards(
        self, found: Mapping[str, ObjectStamp], known: Mapping[int, Record] | None = None
    ) -> dict[int, Record]:
        """Records of the shard numbers that are whole, of what a listing of the target has found.

        Those that are known to this process need not be read.
        """
        specs = self.spec.array_specs().values()
        shards = range(self.spec.shards)
        _ = self.before_update  # once, and not by each of the threads
        records = dict(known or {})
        unread = [shard for shard in shards if shard not in records]
        records |= zip(unread, side_by_side(self.known, unread), strict=True)

        def lies_there(path: str, fingerprint: str, record: Record) -> bool:
            entry, there = record.files.get(path), found.get(path)
            if entry is None or there is None or (entry.fingerprint, entry.size) != (fingerprint, there.size):
                return False
            return record.tags.get(path, there.tag) == there.tag

        return {
            shard: record
            for shard, record in sorted(records.items())
            if all(lies_there(spec.shard_path(shard), spec.fingerprint, record) for spec in specs)
        }

    def give_up(self) -> None:
        """Put the store that was there back, if nothing of it was changed; keep what is of use to a later build."""
        if any(path[:1].isdecimal() for path in listing(self.records)):
            return
        before = self.before_update
        if before is not None:
            found = listing(self.target)
            if any(path not in found or found[path].tag != tag for path, tag in before.tags.items()):
                return
            put(self.target / "zarr.json", before.root)
            put(self.target / MANIFEST_PATH, before.manifest.to_bytes())
        self.clear()

    def clear(self) -> None:
        """Remove what is beside a store that is finished or given up, the claim last; not what is another one's."""
        if not self.is_claimed() and is_there(self.claim):
            return
        paths = listing(self.records).keys() - {"claim.json"}
        remove([self.records / path for path in paths])
        remove([self.claim])

    def retire(self) -> None:
        """Take the manifest and the root's metadata away: from now on there is no store until it is finished."""
        remove([self.target / MANIFEST_PATH, self.target / "zarr.json"])

    def _tags(self, manifest: Manifest) -> dict[str, str]:
        found = listing(self.target)
        return {
            path: found[path].tag
            for path, entry in manifest.files.items()
            if entry.fingerprint and path in found and found[path].size == entry.size
        }

    def finished(self) -> Manifest | None:
        """The manifest of a store that can be kept or brought up to date."""
        try:
            manifest = read_manifest(self.target)
        except StoreError as error:
            if is_there(self.target / MANIFEST_PATH):
                raise BuildError(f"{error}; {_ANEW}") from error
            self._refuse_strangers()
            return None
        version = manifest.attributes.get("gfield_format")
        if version != FORMAT_VERSION:
            raise BuildError(f"{self.target}: format {version} in the store, {FORMAT_VERSION} here; {_ANEW}")
        try:
            seen = spec_of(manifest, self.target)
        except StoreError as error:
            raise BuildError(f"{error}; {_ANEW}") from error
        refuse_differences(self.target, seen, self.spec, _ANEW)
        return manifest

    def _refuse_strangers(self) -> None:
        """See that what lies at the target is a store, finished or not, or nothing: all else there will be removed."""
        if is_there(self.target / MANIFEST_PATH) or is_there(self.claim):
            return
        if others := listing(self.target):
            raise BuildError(
                f"{self.target}: {counted(len(others), 'object')} such as {min(others)} and no manifest, wanted a "
                "store, or nothing; it was left as it is"
            )

    def _take_over(self, overwrite: bool) -> None:
        """See whether an unfinished build with other parameters may be gone on with by this one."""
        if overwrite:
            return
        try:
            seen = parse_spec(read_note(read_file(self.claim)))
        except (FileNotFoundError, ValueError):
            return
        refuse_differences(self.records, seen, self.spec, "an unfinished build, which --overwrite removes")


def whole(entry: Entry, fingerprint: str, there: ObjectStamp | None, tag: str | None) -> bool:
    """Whether a shard that is known is still there, of today's fingerprint."""
    if there is None or (entry.fingerprint, entry.size) != (fingerprint, there.size):
        return False
    return tag is None or tag == there.tag
