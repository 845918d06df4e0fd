"""Pick frames of a store and lay them out as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gfield.contact_sheet import SheetRow, contact_sheet
from gfield.levels import UInt8
from gfield.manifest import StoreError
from gfield.store import Store


def preview_store(store: Store, *, level: str | None = None, frames: int = 6, rows: Sequence[int] = ()) -> UInt8:
    """A contact sheet of a store: one row a frame, with RGB, gradient field and depth.

    Parameters
    ----------
    store
        The store.
    level
        Level to show, such as ``"320x240"``; the largest by default.
    frames
        How many frames to show, evenly spread over those that could be read.
    rows
        Show these instead.

    Returns
    -------
    rgb_HWC
        (H, W, 3) uint8.

    Raises
    ------
    StoreError
        If there is no such level or row.
    """
    level = level or store.levels[0]
    if level not in store.levels:
        raise StoreError(f"{store.path}: no level {level!r}, it has {', '.join(store.levels)}")
    if not rows:
        readable = store.rows()
        rows = readable[np.unique(np.linspace(0, len(readable) - 1, frames).astype(int))].tolist()
    rgb = store.read(f"{level}/rgb", rows)
    field = store.read(f"{level}/gradient", rows)
    if f"{level}/depth" in store.arrays:
        depth = store.read(f"{level}/depth", rows)
    else:
        depth = np.full(field.shape, np.nan, np.float32)
    sheet_rows = [
        SheetRow(str(store.names[row]), str(store.splits[row]), rgb[place], field[place], depth[place])
        for place, row in enumerate(rows)
    ]
    title = f"{store.path.name}, {level}"
    return contact_sheet(sheet_rows, title=title, subtitle=f"{store.attributes['title']}, {len(store)} frames")
