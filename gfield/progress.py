"""What has been done of a shard that is being written, kept on the disk for whoever goes on if this process dies.

Frames in a file under its temporary name are copied, checked by their own checksums, into the file of the process that
goes on: nothing is taken from one that may still be at work after all. A note that leads nowhere costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gfield.codec import check_crc
from gfield.files import open_file, read_file, write_atomically
from gfield.object_path import Location, ObjectPath
from gfield.shard import ShardWriter
from gfield.spec import ArraySpec, note, read_note

SUFFIX = ".progress"
_EVERY_S = 1.0


def progress_path(records: Path, shard: int) -> Path:
    """File name of a shard's note."""
    return records / f"{shard:06d}{SUFFIX}"


def frames_kept(records: Location, shard: int) -> int:
    """How many frames of an unfinished shard are kept; in a bucket none are."""
    if isinstance(records, ObjectPath):
        return 0
    try:
        arrays = read_note(read_file(progress_path(records, shard)))["arrays"].values()
        return min(len(array["places"]) for array in arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


@dataclass
class Progress:
    """The progress of one shard's files, which are written in step.

    Attributes
    ----------
    records, scratch
        Folders of the note and of the temporary files.
    shard, frames
        Number of the shard, and how many frames it has.
    arrays
        What is written, in order.
    """

    records: Path
    scratch: Path
    shard: int
    frames: int
    arrays: Sequence[ArraySpec]
    _said: float = field(default_factory=time.monotonic)

    def go_on(self, writers: Mapping[str, ShardWriter]) -> int:
        """Put into new files what another process has left of this shard; how many frames that is."""
        frames = 0
        for chunks in self._left():
            for one, chunk in zip(self.arrays, chunks, strict=True):
                writers[one.key].append_stored(chunk)
            frames += 1
        return frames

    def _left(self) -> Iterator[list[bytes]]:
        """Stored chunks of one frame after another, of all arrays; what follows the first that is damaged is not."""
        with ExitStack() as stack:
            try:
                stored = read_note(read_file(progress_path(self.records, self.shard)))
                left = [stored["arrays"][one.key] for one in self.arrays]
                wanted = [one.fingerprint for one in self.arrays]
                if stored["shard"] != self.shard or [array["fingerprint"] for array in left] != wanted:
                    return
                names = [Path(str(array["file"])).name for array in left]
                files = [stack.enter_context(open_file(self.scratch / name)) for name in names]
                frames = list(zip(*(array["places"] for array in left), strict=True))[: self.frames]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return
            for places in frames:
                try:
                    yield [_chunk(file, *place) for file, place in zip(files, places, strict=True)]
                except (OSError, ValueError, TypeError, OverflowError):
                    return

    def keep(self, writers: Mapping[str, ShardWriter], files: Mapping[str, Path]) -> None:
        """Let the files have what was written to them, and note what that is; not more often than once a second."""
        if (now := time.monotonic()) - self._said < _EVERY_S:
            return
        self._said = now
        arrays = {
            one.key: {
                "file": files[one.key].name,
                "fingerprint": one.fingerprint,
                "places": writers[one.key].settle(),
            }
            for one in self.arrays
        }
        data = note({"shard": self.shard, "arrays": arrays})
        write_atomically(progress_path(self.records, self.shard), data, self.scratch, durable=False)

    def forget(self) -> None:
        """Remove the note, once the shard is done."""
        progress_path(self.records, self.shard).unlink(missing_ok=True)


def _chunk(file: BinaryIO, start: int, length: int) -> bytes:
    """A chunk that is whole, by its own checksum."""
    file.seek(start)
    chunk = file.read(length)
    if len(chunk) != length:
        raise ValueError(f"{len(chunk)} bytes, wanted {length}")
    check_crc(np.frombuffer(chunk, np.uint8))
    return chunk
