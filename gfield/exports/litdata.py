"""Chunks that LitData streams: of each frame a dict of its row, its texts and its arrays, uncompressed.

One folder a split, for ``litdata.StreamingDataset("OUT/train")``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gfield.exports.chosen import Chosen, library

_CHUNK_BYTES = "64MB"


def write_litdata(chosen: Chosen, folder: Path, advance: Callable[[int], None]) -> None:
    """Write a folder of chunks a split into a folder.

    Parameters
    ----------
    chosen
        What to write.
    folder
        An empty folder.
    advance
        Told how many frames are done.

    Raises
    ------
    UserError
        If `litdata` is not installed.
    StoreError
        If a frame cannot be read.
    """
    # By its writer and not by `litdata.optimize`, which starts processes and keeps its files in the user's home.
    writer_module = library("litdata.streaming.writer")
    for split, rows in chosen.rows.items():
        (folder / split).mkdir()
        writer = writer_module.BinaryWriter(str(folder / split), chunk_bytes=_CHUNK_BYTES)
        place = 0
        for some, arrays in chosen.blocks(rows):
            for at, row in enumerate(some):
                # Ours to keep: the writer holds samples until a chunk is full.
                own = {name: np.ascontiguousarray(array[at]) for name, array in arrays.items()}
                writer[place] = {"row": row, **chosen.texts(row), **own}
                place += 1
            advance(len(some))
        writer.done()
        writer.merge()
