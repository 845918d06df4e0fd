"""Undo damage: rebuild the shards and metadata that a verification found wrong, bit for bit as they were."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gfield.bucket.repair import rebuild_objects
from gfield.files import temporary_name
from gfield.frame import BadFrame, Source
from gfield.inputs import quick_digest
from gfield.manifest import Entry, StoreError
from gfield.object_path import ObjectPath
from gfield.publish import text_columns, write_metadata
from gfield.records import Record, read_record, write_record
from gfield.shard_task import Job, build_shard
from gfield.store import Store
from gfield.verify import Finding


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Files that were written again, and those that came out different from the manifest."""

    restored: tuple[str, ...]
    different: tuple[str, ...]


def repair_store(
    store: Store,
    findings: Collection[Finding],
    source: Source,
    *,
    on_shard: Callable[[], None] = lambda: None,
) -> RepairReport:
    """Rebuild what is missing or damaged, from the input that the store was made of.

    Parameters
    ----------
    store
        The damaged store; its manifest must be whole.
    findings
        What `gfield.verify.verify_store` found. Unknown files are left alone.
    source
        The data set that the store was built from.
    on_shard
        Called after each shard number.

    Returns
    -------
    RepairReport
        ``different`` is empty unless other software versions give other bytes than the manifest records.

    Raises
    ------
    StoreError
        If ``source`` is another input than the store's, the manifest itself is not what the store should be, or
        something that is not the store's stands where a file or its folders go. Nothing is changed then.
    """
    if source.kind != store.spec.kind or quick_digest(source.inputs()) != store.spec.source:
        raise StoreError(
            f"{store.path}: was built from another input; wanted the {store.spec.kind} files of its source_files"
        )
    for finding in findings:
        if finding.kind == "stale" or (finding.kind == "missing" and finding.path not in store.manifest.files):
            raise StoreError(f"{store.path}: {finding.message}, by the manifest itself; `gfield build` makes it again")
    damaged = {finding.path for finding in findings if finding.path in store.manifest.files}
    if isinstance(store.path, ObjectPath):
        if store.path.is_read_only:
            raise StoreError(f"{store.path}: nothing can be written there; the store itself wanted, to repair it")
        entries = rebuild_objects(store, damaged, source, on_shard)
    else:
        entries = _rebuild_files(store, store.path, damaged, source, on_shard)
    different = [path for path, entry in entries.items() if entry != store.manifest.files.get(path)]
    return RepairReport(tuple(sorted(damaged & {*entries})), tuple(sorted(different)))


def _rebuild_files(
    store: Store, folder: Path, damaged: set[str], source: Source, on_shard: Callable[[], None]
) -> dict[str, Entry]:
    _make_way(folder, damaged)
    scratch = temporary_name(folder.parent)
    (scratch / "records").mkdir(parents=True)
    try:
        entries = {**_rebuild_shards(store, folder, damaged, source, scratch, on_shard)}
        if damaged - {*entries}:
            excluded = {entry["frame"] for entry in store.attributes["excluded"]}
            columns = text_columns(source, excluded)
            entries |= write_metadata(folder, scratch, store.spec, store.attributes, columns)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return entries


def _make_way(store: Path, damaged: Collection[str]) -> None:
    """Remove empty folders that stand where files go; refuse where something else is, which is not ours to remove.

    A link where a file goes is replaced. One where a folder goes might lead to the files of another one.
    """
    empty = []
    for name in damaged:
        for folder in [store / parent for parent in Path(name).parents if parent.name]:
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                seen = "a link" if folder.is_symlink() else "a file"
                raise StoreError(f"{folder}: {seen}, wanted a folder for {name}; removed, it can be repaired")
        path = store / name
        if path.is_dir() and not path.is_symlink():
            if any(path.iterdir()):
                raise StoreError(f"{path}: a folder with something in it, wanted a file; removed, it can be repaired")
            empty.append(path)
    for path in empty:
        path.rmdir()


def _rebuild_shards(
    store: Store, folder: Path, damaged: set[str], source: Source, scratch: Path, on_shard: Callable[[], None]
) -> dict[str, Entry]:
    """Run the build's own task on every shard number with damage, straight into the store."""
    job = Job(source, store.spec, folder, scratch / "records", scratch, on_error="skip")
    bad = tuple(BadFrame(entry["frame"], entry["reason"]) for entry in store.attributes["excluded"])
    rebuilt: dict[str, Entry] = {}
    for shard in range(store.spec.shards):
        paths = [array.shard_path(shard) for array in store.arrays.values()]
        broken = damaged.intersection(paths)
        if not broken:
            continue
        whole = {path: store.manifest.files[path] for path in paths if path not in broken}
        write_record(job.records, scratch, shard, Record(whole, bad))
        build_shard(job, shard)
        record = read_record(job.records, shard)
        rebuilt |= {path: record.files[path] for path in broken}
        on_shard()
    return rebuilt
