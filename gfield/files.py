"""Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

T = TypeVar("T")

TEMPORARY = ".tmp"
MOST_NOTE_BYTES = 48 * 1024 * 1024
_WAITING_THREADS = 16
_COPIED_BYTES = 1 << 20


class FileStamp(NamedTuple):
    """A file's number on its file system, its size, and when it was written."""

    inode: int
    size: int
    mtime_ns: int


def open_file(path: Path) -> BinaryIO:
    """Open a plain file for reading, and nothing else: a pipe would be waited for, and a device has no end.

    Raises
    ------
    OSError
        Whatever `open` raises, or it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")  # whose file closes it, also where Ctrl-C comes next


def read_file(path: Path, most: int = MOST_NOTE_BYTES) -> bytes:
    """All of a plain file.

    Raises
    ------
    OSError
        As `open_file`, or it has more than ``most`` bytes.
    """
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"More than {most} bytes", str(path))
    return data


def is_one_file(path: Path, other: Path) -> bool:
    """Whether both are there, and are one file by two names."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def temporary_name(folder: Path) -> Path:
    """A name in ``folder`` that nobody else uses; whoever owns the folder may remove what ends in `TEMPORARY`."""
    return folder / f"{uuid.uuid4().hex}{TEMPORARY}"


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (creations and renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_size(path: Path) -> int | None:
    """Size of a file in bytes; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def file_stamp(path: Path) -> FileStamp | None:
    """What tells a file from another one that is put in its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileStamp(status.st_ino, status.st_size, status.st_mtime_ns)


def make_folder(folder: Path, top: Path) -> None:
    """Make a folder below ``top`` and those between the two, unless they are there.

    Raises
    ------
    FileNotFoundError
        If ``top`` is not there; it is not made again, since whoever removed it has had reasons.
    """
    try:
        _mkdir(folder)
    except FileNotFoundError:
        if folder in (top, *top.parents) or folder.parent == top:
            raise
        make_folder(folder.parent, top)
        _mkdir(folder)


def _mkdir(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        if os.path.lexists(folder):
            raise
        # It was there, and somebody removed it before it could be seen to be a folder.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from error


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are not there, each forced to the disk before there is another in it.

    So of those that are there already, only the innermost may be one that a killed process has left unforced.
    """
    if folder.exists():
        with suppress(OSError):  # somebody else's folder, in which we have made nothing
            sync_folder(folder.parent)
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def side_by_side(call: Callable[[T], object], items: Iterable[T]) -> None:
    """Call a function that waits for the disk with each of the items, at once: the disk serves many waits together."""
    with ThreadPoolExecutor(_WAITING_THREADS) as pool:
        for _ in pool.map(call, items):
            pass


def write_atomically(path: Path, data: bytes, scratch: Path | None = None, *, durable: bool = True) -> None:
    """Write a small file so that ``path`` holds all of ``data`` or what it held before.

    Parameters
    ----------
    path
        Where the file goes; its folder exists.
    data
        All of its bytes.
    scratch
        Folder for the temporary file, on the same file system; the file's own folder by default.
    durable
        Whether the file must also outlive a power cut right after. Without it the file may then be empty.
    """
    with _replacing(path, scratch or path.parent) as file:
        file.write(data)
        if durable:
            _force(file)
    if durable:
        sync_folder(path.parent)


def copy_atomically(existing: Path, path: Path, scratch: Path) -> None:
    """Copy a file of any size so that ``path`` holds all of it, on the disk; the caller sees to the folder's entry."""
    with existing.open("rb") as whole, _replacing(path, scratch) as file:
        shutil.copyfileobj(whole, file, _COPIED_BYTES)
        _force(file)


@contextmanager
def _replacing(path: Path, scratch: Path) -> Iterator[BinaryIO]:
    """A new file that gets its name at the end of the block, or is removed where that raises."""
    temporary = temporary_name(scratch)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _force(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
