"""The manifest: every file of a finished store with its size, content hash and, for shards, fingerprint.

It is the last thing that a build writes, as the attributes of the store's group ``manifest``, so that it is
both a plain JSON file (``nyu.zarr/manifest/zarr.json``) and a regular member of the Zarr hierarchy. A Zarr
reader takes a missing shard for zeros; the manifest is how ours knows better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple, Self

from gfield.files import read_file
from gfield.frame import UserError
from gfield.spec import FORMAT_VERSION, canonical, digest

MANIFEST_PATH = "manifest/zarr.json"


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
    def from_bytes(cls, data: bytes, store: Path) -> Self:
        """Parse and check.

        Raises
        ------
        StoreError
            If one bit differs from what `to_bytes` wrote.
        """
        damaged = f"{store}: the manifest is damaged"
        try:
            stored = json.loads(data)["attributes"]
            files = {path: Entry(*values) for path, values in stored["files"].items()}
            manifest = cls(stored["attributes"], files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{damaged}: {error}") from error
        if manifest.to_bytes() != data:
            raise StoreError(f"{damaged}: its content does not match its root hash; build the store again")
        return manifest


def read_manifest(store: Path) -> Manifest:
    """The manifest of a finished store.

    Raises
    ------
    StoreError
        If ``store`` is no folder, is no finished store, or its manifest is damaged.
    """
    try:
        data = read_file(store / MANIFEST_PATH)
    except OSError as error:
        raise StoreError(_why_not_a_store(store, error)) from error
    return Manifest.from_bytes(data, store)


def _why_not_a_store(store: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{store}: permission denied"
    if store.is_dir():
        zarr = "a Zarr group without a manifest" if (store / "zarr.json").exists() else "a folder"
        return f"{store}: {zarr}, wanted a store that `gfield build` has finished"
    unfinished = sorted(store.parent.glob(f"{escape(store.name)}.building-*")) if store.name else []
    if unfinished:
        return f"{store}: unfinished ({unfinished[0].name} is there); run the same `gfield build` again to finish it"
    if store.exists():
        return f"{store}: a file, wanted the folder of a store"
    return f"{store}: no such store"
