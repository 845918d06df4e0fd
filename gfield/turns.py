"""Builders of one target take turns, where they give or take away names."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gfield.files import make_folders


def lock_path(target: Path) -> Path:
    """The file that is locked by whoever works on ``target`` alone; it is there no longer than that."""
    return target.with_name(f"{target.name}.building-lock")


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Be the only one of all builders of ``target`` that gives names to stores and staging folders, or removes them.

    The lock goes with its process, however that ends.
    """
    path = lock_path(target)
    make_folders(path.parent)
    while True:
        with path.open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                # Some cluster file systems have no locks. One builder at a time still publishes safely there.
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
            if not _is_still(path, lock):
                continue  # who held it has removed it, and the next one has a new file
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
