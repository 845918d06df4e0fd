"""What an unfinished build knows of its input: what the files are, and whether they are still the same.

A spec's quick digest looks at a part of large files only. A file that was mended or replaced between two runs of one
build can pass it, and what was made of the file before must then not end in the same store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield.frame import InputError
from gfield.inputs import describe_files
from gfield.object_path import Location, ObjectPath
from gfield.places import file_size, object_tag, read_file, write_whole
from gfield.records import forget_records
from gfield.spec import note, read_note

Described = Sequence[Mapping[str, Any]]


def stamp(files: Sequence[Location]) -> str:
    """A digest of all sizes and times, which differs when a file was written, moved or copied since."""
    hasher = blake3()
    for file in files:
        try:
            written = _when_written(file)
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        hasher.update(f"{written}\n".encode())
    return hasher.hexdigest(length=16)


def _when_written(file: Location) -> str:
    if isinstance(file, ObjectPath):
        return f"{file_size(file)} {object_tag(file)}"
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


@dataclass(frozen=True)
class InputRecord:
    """The file ``inputs.json`` among a build's records."""

    records: Location
    scratch: Location

    @property
    def path(self) -> Location:
        return self.records / "inputs.json"

    def read(self) -> tuple[str, Described | None]:
        """The stamp of the files when they were looked at, "" where they were not; and what they are, once known."""
        try:
            stored = read_note(read_file(self.path))
            return str(stored["stamp"]), stored["files"]
        except OSError as error:
            if isinstance(self.path, Path) or isinstance(error, FileNotFoundError):
                return "", None
            raise
        except (ValueError, KeyError, TypeError):
            return "", None

    def keep(self, stamp: str, files: Described | None) -> None:
        """Write the record."""
        described = None if files is None else [dict(entry) for entry in files]
        write_whole(self.path, note({"stamp": stamp, "files": described}), self.scratch)

    def describe(self, files: Sequence[Location]) -> None:
        """Take the files' hashes, unless they are known."""
        if self.read()[1] is None:
            before = stamp(files)
            self.keep(before, describe_files(files))

    def forget_others(self, files: Sequence[Location]) -> int:
        """Forget the shards that were made of other contents of these files, and tell how many those were.

        Files that were only moved or copied are told by their hashes, where those were taken.
        """
        now, (seen, described) = stamp(files), self.read()
        if seen == now:
            return 0
        if described is not None and describe_files(files) == described:
            self.keep(now, described)
            return 0
        forgotten = forget_records(self.records) if seen or described is not None else 0
        self.keep(now, None)
        return forgotten
