"""What a build takes over of a finished store, and of unfinished builds with other parameters: what still fits."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container
from pathlib import Path

from gfield.files import copy_atomically, make_folder, read_file, side_by_side, sync_folder, write_atomically
from gfield.frame import BadFrame
from gfield.manifest import Entry, Manifest
from gfield.records import Record, read_record, write_record
from gfield.shard_task import own_folders
from gfield.spec import digest, note, read_note
from gfield.staging import Staging

_FROM_STORE = "from-store-"


def adopt_store(staging: Staging, manifest: Manifest) -> None:
    """Take over from the finished store the shards that the new spec still wants.

    To be done `alone`: another builder might else replace the store meanwhile, and shards of that one be taken for this
    one's.
    """
    bad = [BadFrame(entry["frame"], entry["reason"]) for entry in manifest.attributes["excluded"]]

    def entries(shard: int) -> Record:
        frames = staging.spec.shard_frames(shard)
        return Record(manifest.files, tuple(frame for frame in bad if frame.index in frames))

    _adopt(staging, staging.target, entries, lambda: manifest.files)


def make_anew(staging: Staging) -> None:
    """Count no shard of an unfinished build as done that is out of the store which is to be overwritten.

    A build that was not to overwrite may have taken it over, told by its size. To overwrite is to make it again.
    To be done `alone`.
    """
    theirs = _from_store(staging)
    if not theirs:
        return
    for shard in range(staging.spec.shards):
        record = read_record(staging.records, shard)
        files = {path: entry for path, entry in record.files.items() if path not in theirs}
        if len(files) < len(record.files):
            write_record(staging.records, staging.scratch, shard, Record(files, record.bad))
    sync_folder(staging.records)  # lest a power cut bring back a record, and not that it was of no worth
    for path in staging.records.glob(f"{_FROM_STORE}*"):
        path.unlink()


def adopt_staging(staging: Staging, other: Staging) -> None:
    """Take over shards from an unfinished build with other parameters."""
    _adopt(staging, other.store, lambda shard: read_record(other.records, shard), lambda: _from_store(other))


def _adopt(
    staging: Staging, source: Path, known: Callable[[int], Record], of_store: Callable[[], Container[str]]
) -> None:
    adopted: dict[int, Record] = {}
    folders: list[Path] = []
    linked: list[str] = []
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
                linked.append(path)
        if len(files) > len(ours.files):
            adopted[shard] = Record(files, ours.bad or theirs.bad)
    side_by_side(sync_folder, folders)
    out_of_store = of_store()  # after their records are read, since such a note is written before the records
    if from_store := [path for path in linked if path in out_of_store]:
        # A name of its own, since another builder may write one just now.
        name = f"{_FROM_STORE}{digest(from_store)}.json"
        write_atomically(staging.records / name, note(from_store), staging.scratch)
    for shard, record in adopted.items():
        # Read again, since another builder may have made the shard meanwhile.
        files = {**record.files, **read_record(staging.records, shard).files}
        write_record(staging.records, staging.scratch, shard, Record(files, record.bad))


def _from_store(staging: Staging) -> set[str]:
    """Paths of shards that an unfinished build has taken over from the store, or from one that has.

    Where a note of that is damaged, it may have been any of them.
    """
    paths: set[str] = set()
    for path in staging.records.glob(f"{_FROM_STORE}*"):
        try:
            paths.update(read_note(read_file(path)))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            arrays = staging.spec.array_specs().values()
            return {array.shard_path(shard) for array in arrays for shard in range(staging.spec.shards)}
    return paths


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
