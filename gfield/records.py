"""What a build knows to be done: one small file a shard number, with the files of that shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gfield.frame import BadFrame
from gfield.manifest import Entry
from gfield.object_path import Location, ObjectPath
from gfield.objects import listing, remove
from gfield.places import read_file, write_whole
from gfield.progress import SUFFIX
from gfield.spec import note, read_note


@dataclass(frozen=True)
class Record:
    """What is known to be on the disk for one shard number: its files, and the frames that could not be read.

    With a file, the folders that are its alone (`own_folders`) are on the disk; publication sees to the others.
    Objects have ``tags``, by which their bucket tells them from others that take their place.
    """

    files: Mapping[str, Entry] = field(default_factory=dict)
    bad: tuple[BadFrame, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def record_path(records: Location, shard: int) -> Location:
    """File name of a shard's record."""
    return records / f"{shard:06d}.json"


def read_record(records: Location, shard: int) -> Record:
    """The record of a shard; an empty one where there is none, or none that can be read.

    Raises
    ------
    OSError
        If a bucket does not answer.
    """
    try:
        stored = read_note(read_file(record_path(records, shard)))
        files = {path: Entry(*entry) for path, entry in stored["files"].items()}
        bad = tuple(BadFrame(index, reason) for index, reason in stored["bad"])
        tags = dict(stored.get("tags", {}))
    except OSError as error:
        if isinstance(records, Path) or isinstance(error, FileNotFoundError):
            return Record()
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        return Record()
    return Record(files, bad, tags) if stored["shard"] == shard else Record()


def write_record(records: Location, scratch: Location, shard: int, record: Record) -> None:
    """Keep a record, atomically. Should a power cut take it, the shard is made again."""
    bad = [[frame.index, frame.reason] for frame in record.bad]
    tags = {"tags": record.tags} if record.tags else {}
    data = note({"shard": shard, "files": record.files, "bad": bad, **tags})
    write_whole(record_path(records, shard), data, scratch, durable=False)


def forget_records(records: Location) -> int:
    """Remove the records of all shards, which are then made again; tell how many there were."""
    if isinstance(records, ObjectPath):
        known = [records / name for name in listing(records) if name[:1].isdecimal()]
        remove(known)
        return len(known)
    forgotten = 0
    for path in records.glob(f"[0-9]*{SUFFIX}"):
        path.unlink(missing_ok=True)
    for path in records.glob("[0-9]*.json"):
        path.unlink(missing_ok=True)
        forgotten += 1
    return forgotten
