"""What must hold of a target after harm: a store that is whole, of the bytes of an uninterrupted build, and alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gfield.manifest import MANIFEST_PATH, Manifest, StoreError, read_manifest
from gfield.shard import hash_file
from tests.trust.campaign import Wrong


def check_store(target: Path, roots: Collection[str], *, alone: bool = True) -> Manifest:
    """The manifest of a store that has one of these roots, and every file of which is what the manifest says.

    Parameters
    ----------
    target
        Path of the store.
    roots
        Root hashes of uninterrupted builds.
    alone
        Whether nothing but the store may lie in its folder.

    Raises
    ------
    Wrong
        Naming the first thing that does not hold.
    """
    try:
        manifest = read_manifest(target)
    except StoreError as error:
        raise Wrong(f"no store: {error}; beside it: {_names(target.parent)}") from error
    if manifest.root not in roots:
        raise Wrong(f"root {manifest.root} of {target.name}, wanted {' or '.join(sorted(roots))}")
    for path, entry in manifest.files.items():
        if not (target / path).is_file():
            raise Wrong(f"{path} is missing")
        seen = hash_file(target / path)
        if (seen.size, seen.blake3) != (entry.size, entry.blake3):
            raise Wrong(f"{path} is not what the manifest says: {seen}, wanted {entry}")
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if unknown := files - {*manifest.files, MANIFEST_PATH}:
        raise Wrong(f"too many files in the store: {sorted(unknown)}")
    if alone and (others := _names(target.parent) - {target.name}):
        raise Wrong(f"beside the store: {sorted(others)}")
    return manifest


def check_readable(target: Path, roots: Collection[str]) -> None:
    """See that a reader who comes now finds no store, or one that is whole.

    Raises
    ------
    Wrong
        If it finds another one, or half of one.
    """
    try:
        read_manifest(target)
    except StoreError as error:
        if "unfinished" in str(error) or "no such store" in str(error):
            return
        raise Wrong(f"what a reader finds is neither a store nor none: {error}") from error
    check_store(target, roots, alone=False)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
