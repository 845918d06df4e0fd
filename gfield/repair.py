"""Undo damage: rebuild the shards and metadata that a verification found wrong, bit for bit as they were."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gfield.files import temporary_name
from gfield.frame import BadFrame, Source
from gfield.inputs import quick_digest
from gfield.manifest import Entry, StoreError
from gfield.publish import text_columns, write_metadata
from gfield.shard_task import Job, Record, build_shard, read_record, write_record
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
        If ``source`` is another input than the store's.
    """
    if source.kind != store.spec.kind or quick_digest(source.inputs()) != store.spec.source:
        raise StoreError(
            f"{store.path}: was built from another input; wanted the {store.spec.kind} files of its source_files"
        )
    _refuse_links(store)
    damaged = {finding.path for finding in findings if finding.path in store.manifest.files}
    scratch = temporary_name(store.path.parent)
    (scratch / "records").mkdir(parents=True)
    try:
        entries = {**_rebuild_shards(store, damaged, source, scratch, on_shard)}
        if damaged - {*entries}:
            excluded = {entry["frame"] for entry in store.attributes["excluded"]}
            columns = text_columns(source, excluded)
            entries |= write_metadata(store.path, scratch, store.spec, store.attributes, columns)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    different = [path for path, entry in entries.items() if entry != store.manifest.files.get(path)]
    return RepairReport(tuple(sorted(damaged & {*entries})), tuple(sorted(different)))


def _refuse_links(store: Store) -> None:
    """What is written must lie in the store: a file that is a link is replaced, but a folder that is one followed."""
    folders = {folder for path in store.manifest.files for folder in PurePosixPath(path).parents}
    for folder in sorted(folders - {PurePosixPath(".")}):
        if (store.path / folder).is_symlink():
            raise StoreError(f"{store.path}: {folder} is a link to a folder; folders in the store itself wanted")


def _rebuild_shards(
    store: Store, damaged: set[str], source: Source, scratch: Path, on_shard: Callable[[], None]
) -> dict[str, Entry]:
    """Run the build's own task on every shard number with damage, straight into the store."""
    job = Job(source, store.spec, store.path, scratch / "records", scratch, on_error="skip")
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
