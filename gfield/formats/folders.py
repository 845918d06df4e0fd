"""Folders of an input, through links, each once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gfield.frame import InputError

ODD_NAME = "its path is no printable UTF-8; another name wanted"


def no_file(path: str | Path) -> str:
    """Why what lies at a path is no file that can be read, "" where it is; opening a pipe, say, would wait for ever."""
    if os.path.isfile(path):
        return ""
    return "a link to nowhere" if os.path.islink(path) and not os.path.exists(path) else "not a file"


def walk_once(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder from ``root`` down, as its path below ``root`` and the names of what lies in it beside folders.

    Links are followed, but no folder is visited twice, however many lead to it. Folders whose names begin with a dot
    are passed over. Subfolders come in the order of their names.

    Raises
    ------
    InputError
        A folder cannot be listed.
    """
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder).relative_to(root), files


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}") from error
