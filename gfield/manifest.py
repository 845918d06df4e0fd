"""The manifest: every file of a finished store with its size, content hash and, for shards, fingerprint.

It is the last thing that a build writes, as the attributes of the store's group ``manifest``, so that it is
both a plain JSON file (``nyu.zarr/manifest/zarr.json``) and a regular member of the Zarr hierarchy. A Zarr
reader takes a missing shard for zeros; the manifest is how ours knows better.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple, Self

from gfield.frame import UserError
from gfield.object_path import Location, ObjectPath
from gfield.places import is_there, read_file
from gfield.spec import FORMAT_VERSION, canonical, digest

MANIFEST_PATH = "manifest/zarr.json"
MOST_FILES = 300_000  # whose manifest `gfield.files.read_file` still reads, with room to spare
_MOST_SIZE = 1 << 63
_HASH_LETTERS = 64
_PATH_LETTERS = 255


class StoreError(UserError):
    """A path is no readable store, or a store is not what its manifest says; the message is one line."""


class Entry(NamedTuple):
    """One file: size in bytes, BLAKE3 of its content, fingerprint of its array ("" for metadata)."""

    size: int
    blake3: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """The files of a finished store.

    Attributes
    ----------
    attributes
        The attributes of the store's root group, from which all metadata can be written again.
    files
        Entries by path inside the store, with ``/`` between the parts; the manifest itself is not among them.
    """

    attributes: Mapping[str, Any]
    files: Mapping[str, Entry] = field(repr=False)

    @property
    def root(self) -> str:
        """One hash for the whole store: two stores with the same root have the same bytes."""
        return digest([self.attributes, self.files])

    def to_bytes(self) -> bytes:
        """The manifest as the metadata of a Zarr v3 group."""
        attributes = {
            "gfield_manifest": FORMAT_VERSION,
            "root": self.root,
            "attributes": self.attributes,
            "files": self.files,
        }
        return canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})

    @classmethod
    def from_bytes(cls, data: bytes, store: Location) -> Self:
        """Parse and check.

        Raises
        ------
        StoreError
            If one bit differs from what `to_bytes` wrote, or a path in it is not one inside a store. What else its
            attributes say is checked by `gfield.attributes`.
        """
        damaged = f"{store}: the manifest is damaged"
        # Each file has a list. So many small ones would take twenty times the memory of their text.
        if data.count(b"[") + data.count(b"{") > 2 * MOST_FILES:
            raise StoreError(f"{damaged}: over {2 * MOST_FILES} lists and objects; at most {MOST_FILES} files wanted")
        try:
            stored = json.loads(data)["attributes"]
            files = {path: Entry(*values) for path, values in stored["files"].items()}
            manifest = cls(stored["attributes"], files)
            same = isinstance(manifest.attributes, dict) and manifest.to_bytes() == data
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{damaged}: {error!s:.200}") from error
        if not same:
            raise StoreError(f"{damaged}: its content does not match its root hash; build the store again")
        if not (_inside(files) and _plausible(files.values())):
            raise StoreError(f"{damaged}: a path leads out of the store, or a size or hash is none; a manifest wanted")
        return manifest


def _inside(paths: Collection[str]) -> bool:
    """Whether no path leads out of the store: no part is empty, or begins with a dot, and all can be printed."""
    text = f"/{'/ /'.join(paths)}/"  # all at once: thousands one by one take as long as all else
    short = max(map(len, paths), default=0) <= _PATH_LETTERS
    return short and "//" not in text and "/." not in text and text.isprintable()


def _plausible(entries: Collection[Entry]) -> bool:
    """Whether sizes and hashes are of the types that they have to be."""
    sizes, hashes, fingerprints = zip(*entries, strict=True) if entries else ((), (), ())
    kinds = {*map(type, sizes)}, {*map(type, hashes), *map(type, fingerprints)}
    if not (kinds[0] <= {int} and kinds[1] <= {str}):
        return False
    few = {*fingerprints}  # one an array
    longest = max(0, *map(len, few), *{*map(len, hashes)})
    return (
        0 <= min(sizes, default=0) <= max(sizes, default=0) < _MOST_SIZE
        and longest <= _HASH_LETTERS
        and f"0{''.join(few)}{''.join(hashes)}".encode().isalnum()
    )


def read_manifest(store: Location) -> Manifest:
    """The manifest of a finished store.

    Raises
    ------
    StoreError
        If ``store`` is no folder, is no finished store, or its manifest is damaged.
    """
    try:
        data = read_file(store / MANIFEST_PATH)
    except OSError as error:
        if isinstance(store, ObjectPath):
            raise StoreError(_why_not_a_remote_store(store, error)) from error
        raise StoreError(_why_not_a_store(store, error)) from error
    return Manifest.from_bytes(data, store)


def _why_not_a_store(store: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{store}: permission denied"
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"{store}: {MANIFEST_PATH}: {error.strerror}"
    if store.is_dir():
        zarr = "a Zarr group without a manifest" if (store / "zarr.json").exists() else "a folder"
        return f"{store}: {zarr}, wanted a store that `gfield build` has finished"
    unfinished = sorted(store.parent.glob(f"{escape(store.name)}.building-*")) if store.name else []
    if unfinished:
        return f"{store}: unfinished ({unfinished[0].name} is there); run the same `gfield build` again to finish it"
    if store.exists():
        return f"{store}: a file, wanted the folder of a store"
    return f"{store}: no such store"


def _why_not_a_remote_store(store: ObjectPath, error: OSError) -> str:
    if error.errno != errno.ENOENT or error.filename == store.root:
        return f"{error.filename or store}: {error.strerror}"
    try:
        if not store.is_read_only and is_there(store.with_name(f"{store.name}.building") / "claim.json"):
            return (
                f"{store}: unfinished ({store.name}.building is there); run the same `gfield build` again to finish it"
            )
        if is_there(store / "zarr.json"):
            return f"{store}: a Zarr group without a manifest, wanted a store that `gfield build` has finished"
    except OSError:
        pass
    return f"{store}: no such store"
