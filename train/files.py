"""Files and folders of a run that are either whole or not there: the stores' way, and how a folder goes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from gfield.files import TEMPORARY, make_folders, read_file, sync_folder, temporary_name, write_atomically

__all__ = [
    "TEMPORARY",
    "make_folders",
    "read_file",
    "remove",
    "sync_folder",
    "temporary_name",
    "write_atomically",
    "write_in_turn",
]

_OF_A_FILE = re.compile(r"[0-9a-f]{32}" + re.escape(TEMPORARY))


def write_in_turn(path: Path, data: bytes) -> None:
    """As `write_atomically`, in a folder that any number of processes write to; what killed ones left there goes.

    They take turns by a lock on the folder. Where folders have none, as on NFS, what a kill leaves stays.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
            for leftover in path.parent.iterdir():
                if _OF_A_FILE.fullmatch(leftover.name) and leftover.is_file():
                    leftover.unlink()
        write_atomically(path, data)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it points to), or a folder; a folder never shows half of itself under its name.

    What cannot be removed is left behind under a temporary name: a full or slow disk must not stop a run.
    """
    if path.suffix != TEMPORARY:
        path = path.rename(temporary_name(path.parent))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
