"""Where an export goes: it appears under its name by one rename, whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gfield.files import make_folders, side_by_side, sync_folder
from gfield.frame import UserError
from gfield.object_path import Location

MARK = "gfield-export.json"


@contextmanager
def new_folder(out: Path, facts: Mapping[str, Any], *, overwrite: bool) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` at the end of the block, or is removed where that raises.

    Parameters
    ----------
    out
        The folder to be; those above it are made.
    facts
        What `MARK` in the folder is to say, by which a later call knows the folder as an export.
    overwrite
        Whether to replace an export, or an empty folder, that is there.

    Raises
    ------
    UserError
        If ``out`` is there and may not be replaced.
    """
    check_folder(out, overwrite=overwrite)
    make_folders(out.parent)
    # Beside OUT, by a name that tells whose it is: a killed export leaves it.
    temporary = out.with_name(f"{out.name}.exporting-{uuid.uuid4().hex[:8]}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        temporary.mkdir()
        yield temporary
        (temporary / MARK).write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")
        _force(temporary)
        if overwrite and os.path.lexists(out):
            out.rename(old)
        try:
            temporary.rename(out)
        except OSError as error:
            if old.exists():
                old.rename(out)
            if not out.exists():
                raise
            raise UserError(f"{out}: another export has got this name, wanted one at a time") from error
        sync_folder(out.parent)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse an ``out`` that is there, but for an export of ours, or an empty folder, that may be replaced."""
    if not os.path.lexists(out):
        return
    ours = out.is_dir() and not out.is_symlink() and ((out / MARK).is_file() or not any(out.iterdir()))
    if not ours:
        raise UserError(f"{out}: is there and is no export of gfield, wanted a name that is free")
    if not overwrite:
        raise UserError(f"{out}: is there; --overwrite replaces it")


def check_outside(out: Path, store: Location) -> None:
    """Refuse an ``out`` inside a store, which holds nothing but what its manifest lists."""
    whole = store.resolve() if isinstance(store, Path) else None
    if whole in (out.resolve(), *out.resolve().parents):
        raise UserError(f"{out}: inside the store, wanted a name outside it")


def _force(folder: Path) -> None:
    def force(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems cannot
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    side_by_side(force, [*folder.rglob("*"), folder])
