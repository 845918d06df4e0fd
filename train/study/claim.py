"""Claims on work: one of several processes does a thing, and the system lets go of it when that process dies.

A claim is a lock on a file of its own, like that of a run's folder. On a file system that several machines share it
holds between them too, wherever ``flock`` does: NFS since version 4, Lustre with ``-o flock``, GPFS.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from train.errors import TrainError


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim what a lock file stands for, for as long as the ``with`` block lasts.

    Yields
    ------
    bool
        Whether the claim is ours; if not, another process has it.

    Raises
    ------
    TrainError
        If the file system has no locks, or the file cannot be made.
    """
    descriptor = _open(path)
    try:
        ours = _lock(path, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if ours:
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield ours
    finally:
        os.close(descriptor)


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """As `claimed`, but wait until the claim is ours: for what takes a moment.

    Raises
    ------
    TrainError
        As `claimed`.
    """
    descriptor = _open(path)
    try:
        _lock(path, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def owner(path: Path) -> str:
    """Who has, or had last, the claim of a lock file, for people."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error


def _lock(path: Path, descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        raise TrainError(
            f"{path}: the file system has no locks ({error.strerror}), wanted one with them for --out"
        ) from error
    return True
