"""Files and folders of a run that are either whole or not there: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

TEMPORARY = ".tmp"


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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that ``path`` holds all of ``data`` or what it held before, after a power cut too."""
    temporary = temporary_name(path.parent)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
