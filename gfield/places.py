"""What is read, wherever it lies: the functions of `gfield.files` that read, for objects too."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from gfield import files
from gfield.files import MOST_NOTE_BYTES, FileStamp
from gfield.object_path import Location, ObjectPath
from gfield.objects import ObjectStamp, RangedFile, ReadAhead, put, read, remove, stamp

Stamp: TypeAlias = FileStamp | ObjectStamp
ReadRange: TypeAlias = Callable[[int, int], bytes | memoryview]


def read_file(place: Location, most: int = MOST_NOTE_BYTES) -> bytes:
    """All of a plain file or an object.

    Raises
    ------
    OSError
        If there is none, it cannot be read, or it has more than ``most`` bytes.
    """
    return read(place, most) if isinstance(place, ObjectPath) else files.read_file(place, most)


def file_stamp(place: Location) -> Stamp | None:
    """What tells a file from another one that is put in its place; None where there is none, or it cannot be had."""
    if not isinstance(place, ObjectPath):
        return files.file_stamp(place)
    try:
        return stamp(place)
    except FileNotFoundError:
        return None


def file_size(place: Location) -> int:
    """Size in bytes.

    Raises
    ------
    OSError
        If there is no such file.
    """
    if not isinstance(place, ObjectPath):
        return place.stat().st_size
    return _present(place).size


def object_tag(place: Location) -> str:
    """The tag of an object; "" for a file, which has none."""
    return _present(place).tag if isinstance(place, ObjectPath) else ""


def open_file(place: Location) -> BinaryIO:
    """A plain file or an object, open for reading at any place of it; an object is asked for piece by piece.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    if not isinstance(place, ObjectPath):
        return files.open_file(place)
    return cast(BinaryIO, io.BufferedReader(RangedFile(place, _present(place)), 1 << 16))


@contextmanager
def ranges_of(place: Location, ranges: Iterable[tuple[int, int]], tag: str = "") -> Iterator[ReadRange]:
    """What reads ranges of a file or an object, given offset and size; short only at a file's end.

    Parameters
    ----------
    place
        The file or object.
    ranges
        Offset and size of those that will be read, in this order; of an object they are asked for ahead.
    tag
        Of the object, where it has to be this one.
    """
    if isinstance(place, ObjectPath):
        with closing(ReadAhead(place, tag, ranges)) as ahead:
            yield ahead.read
        return
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lambda offset, size: os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def write_whole(place: Location, data: bytes, scratch: Location | None = None, *, durable: bool = True) -> None:
    """Write a small file or object so that there is all of ``data`` or what there was; see `files.write_atomically`."""
    if isinstance(place, ObjectPath):
        put(place, data)
        return
    files.write_atomically(place, data, cast(Path | None, scratch), durable=durable)


def remove_file(place: Location) -> None:
    """Remove a file or an object, if it is there."""
    if isinstance(place, ObjectPath):
        remove([place])
    else:
        place.unlink(missing_ok=True)


def is_there(place: Location) -> bool:
    """Whether a plain file or an object is there."""
    return file_stamp(place) is not None if isinstance(place, ObjectPath) else place.is_file()


def _present(place: ObjectPath) -> ObjectStamp:
    found = stamp(place)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(place))
    return found
