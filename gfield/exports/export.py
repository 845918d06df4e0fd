"""`export_store`: one store, as one of the formats, in its place whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from gfield.exports.chosen import Chosen, choose
from gfield.exports.croissant import check_file, write_croissant
from gfield.exports.hf import write_hf
from gfield.exports.litdata import write_litdata
from gfield.exports.place import check_folder, check_outside, new_folder
from gfield.exports.webdataset import write_webdataset
from gfield.files import make_folders
from gfield.frame import UserError
from gfield.store import Store

Format = Literal["hf", "webdataset", "litdata", "croissant"]
_WRITERS: Mapping[str, Callable[[Chosen, Path, Callable[[int], None]], None]] = {
    "hf": write_hf,
    "webdataset": write_webdataset,
    "litdata": write_litdata,
}


class Exported(NamedTuple):
    """What an export has written: frames by split, files, bytes, and the excluded frames that it left out."""

    frames: Mapping[str, int]
    level: str
    files: int
    size: int
    excluded: int


def export_store(
    store: Store,
    out: Path,
    to: str,
    *,
    level_WH: tuple[int, int] | None = None,
    split: str | None = None,
    overwrite: bool = False,
    on_start: Callable[[int], None] = lambda _total: None,
    on_done: Callable[[int], None] = lambda _count: None,
) -> Exported:
    """Write a store as another format. A few frames are held at once, whatever the store's size.

    Parameters
    ----------
    store
        The store.
    out
        Where the export goes: a folder, of ``"croissant"`` a JSON file.
    to
        ``"hf"``, ``"webdataset"`` or ``"litdata"``: the frames of one level, every array as it is. ``"croissant"``:
        metadata of the whole store, which stays where it is.
    level_WH, split
        See `gfield.exports.chosen.choose`; not for ``"croissant"``.
    overwrite
        Whether to replace an export of ours that is there.
    on_start, on_done
        Told the frames, of ``"croissant"`` the bytes, that there are to do, and how many more are done.

    Raises
    ------
    UserError
        If the format is unknown, ``out`` cannot be had, or a package is not installed.
    StoreError
        If there is no such level or split, or the store is damaged.
    """
    if to not in get_args(Format):
        raise UserError(f"export to {to!r} is unknown, wanted {', '.join(get_args(Format))}")
    check_outside(out, store.path)
    chosen = choose(store, level_WH, split)
    if to == "croissant":
        if level_WH is not None or split is not None:
            raise UserError("croissant describes a whole store, wanted neither a level nor a split")
        check_file(out, overwrite=overwrite)
        make_folders(out.parent)
        on_start(sum(entry.size for entry in store.manifest.files.values()))
        write_croissant(chosen, out, on_done)
        return _exported(chosen, 1, out.stat().st_size)
    check_folder(out, overwrite=overwrite)
    on_start(chosen.frames)
    with new_folder(out, _facts(chosen, to), overwrite=overwrite) as folder:
        _WRITERS[to](chosen, folder, on_done)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return _exported(chosen, len(sizes), sum(sizes))


def _exported(chosen: Chosen, files: int, size: int) -> Exported:
    frames = {split: len(rows) for split, rows in chosen.rows.items()}
    return Exported(frames, chosen.level, files, size, chosen.excluded)


def _facts(chosen: Chosen, to: str) -> dict[str, Any]:
    """What the export says of itself; no time and no path, so that two exports of one store say the same."""
    return {
        "export": to,
        "store": chosen.store.path.name,
        "root": chosen.store.manifest.root,
        "level": chosen.level,
        "frames": {split: len(rows) for split, rows in chosen.rows.items()},
        "excluded_left_out": chosen.excluded,
    }
