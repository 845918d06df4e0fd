"""A temporary folder to make shards in that are put elsewhere; what killed processes have left is removed."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX = "gfield-work-"
_LOCK = "lock"  # held for as long as the folder is in use, and let go with the process, however that ends


@contextmanager
def workroom() -> Iterator[Path]:
    """A new folder below the system's temporary one, that is gone with the block.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    top = Path(tempfile.gettempdir())
    for folder in top.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's
            _remove_abandoned(folder)
    folder, lock = _made(top)
    try:
        with lock:
            yield folder
            _empty(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(top: Path) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=top))
        try:
            lock = (folder / _LOCK).open("wb")
        except FileNotFoundError:
            continue  # taken for abandoned, as it had no lock yet
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                lock.close()
                continue  # likewise, just now
            # Where there are no locks, nobody takes it for abandoned either.
        if (folder / _LOCK).exists():
            return folder, lock
        lock.close()


def _remove_abandoned(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        folder.rmdir()  # its process was killed before it was locked, or after it was emptied


def _empty(folder: Path) -> None:
    """Remove all but the lock, by which others know the folder until the end."""
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
