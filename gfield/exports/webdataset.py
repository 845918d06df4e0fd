"""Tar files as WebDataset streams them: of each frame a PNG, an .npy an array, and a JSON of its texts.

Needs no package: the format is that of tar, with the members of a sample side by side under one key.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfield.exports.chosen import Chosen
from gfield.exports.hf import png


def write_webdataset(chosen: Chosen, folder: Path, advance: Callable[[int], None]) -> None:
    """Write ``SPLIT-000000.tar`` and so on into a folder.

    A sample's key is its row in the store, in eight digits: names of frames may hold dots, where WebDataset ends a key.

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
    StoreError
        If a frame cannot be read.
    """
    for split in chosen.rows:
        for number, rows in enumerate(chosen.files(split)):
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for row, members in _samples(chosen, rows):
                    for suffix, data in members.items():
                        member = tarfile.TarInfo(f"{row:08d}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    advance(1)


def _samples(chosen: Chosen, rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, dict[str, bytes]]]:
    for some, arrays in chosen.blocks(rows):
        for place, row in enumerate(some):
            members = {"rgb.png": png(arrays["rgb"][place])}
            members |= {f"{name}.npy": _npy(array[place]) for name, array in arrays.items() if name != "rgb"}
            facts = {"row": row, **chosen.texts(row)}
            yield row, members | {"json": json.dumps(facts, ensure_ascii=False).encode()}


def _npy(array: npt.NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
