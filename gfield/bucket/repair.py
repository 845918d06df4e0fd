"""Undo damage of a store in a bucket: make its objects again, bit for bit, and put them where they were."""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from gfield.bucket.workroom import workroom
from gfield.frame import BadFrame, Source
from gfield.hierarchy import hierarchy_files
from gfield.manifest import Entry
from gfield.object_path import ObjectPath
from gfield.objects import put
from gfield.publish import text_columns
from gfield.records import Record, read_record, write_record
from gfield.shard_task import Job, build_shard
from gfield.store import Store


def rebuild_objects(store: Store, damaged: set[str], source: Source, on_shard: Callable[[], None]) -> dict[str, Entry]:
    """Put again what is damaged; entries of what was put, by path.

    Parameters
    ----------
    store, source
        The store, and what it was built from.
    damaged
        Paths of the manifest.
    on_shard
        Called after each shard number.
    """
    target = store.path
    assert isinstance(target, ObjectPath)
    entries: dict[str, Entry] = {}
    bad = tuple(BadFrame(entry["frame"], entry["reason"]) for entry in store.attributes["excluded"])
    for shard in range(store.spec.shards):
        paths = [array.shard_path(shard) for array in store.arrays.values()]
        broken = damaged.intersection(paths)
        if not broken:
            continue
        whole = {path: store.manifest.files[path] for path in paths if path not in broken}
        with workroom() as top:
            for name in ("store", "records"):
                (top / name).mkdir()
            known = frozenset(whole)
            job = Job(source, store.spec, top / "store", top / "records", top, "skip", elsewhere=known, durable=False)
            write_record(job.records, job.scratch, shard, Record(whole, bad))
            build_shard(job, shard)
            record = read_record(job.records, shard)
            for path in broken:
                put(target / path, job.store / path)
                entries[path] = record.files[path]
        on_shard()
    columns = text_columns(source, {entry["frame"] for entry in store.attributes["excluded"]})
    for path, data in hierarchy_files(store.spec, store.attributes, columns).items():
        if path in damaged:
            put(target / path, data)
            entries[path] = Entry(len(data), blake3(data).hexdigest(), "")
    return entries
