"""Files and folders of a run that are either whole or not there: the stores' way, and how a folder goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from gfield.files import TEMPORARY, make_folders, read_file, sync_folder, temporary_name, write_atomically

__all__ = ["TEMPORARY", "make_folders", "read_file", "remove", "sync_folder", "temporary_name", "write_atomically"]


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
