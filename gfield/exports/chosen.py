"""What an export takes from a store: the readable frames of one level, by split, a few at a time.

Dimension letters as in `gfield.frame`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gfield.frame import UserError
from gfield.manifest import StoreError
from gfield.spec import ArraySpec, level_name
from gfield.store import Store

EXCLUDED = "excluded"
BLOCK = 8  # frames that are held at once
FILE_BYTES = 256_000_000  # of decoded frames in one file
_READING_THREADS = 2


@dataclass(frozen=True)
class Chosen:
    """The frames and arrays of a store that are exported; made by `choose`.

    Attributes
    ----------
    store, level
        The store, and the name of the level.
    arrays
        By the name that they have in the export, such as ``"rgb"``; the sensor's own grid is among them.
    columns
        The text columns, one entry a frame of the whole store.
    rows
        Row numbers by split, in order; splits in order of their first row.
    excluded
        Frames of the store that could not be read when it was built, and are left out.
    """

    store: Store
    level: str
    arrays: Mapping[str, ArraySpec]
    columns: Mapping[str, npt.NDArray[np.str_]]
    rows: Mapping[str, npt.NDArray[np.intp]]
    excluded: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(map(len, self.rows.values()))

    def files(self, split: str) -> list[npt.NDArray[np.intp]]:
        """The rows of a split, as many to a file as fill `FILE_BYTES`."""
        frame_bytes = sum(
            int(np.prod(array.frame_shape)) * np.dtype(array.dtype).itemsize for array in self.arrays.values()
        )
        each = max(1, FILE_BYTES // frame_bytes)
        rows = self.rows[split]
        return [rows[start : start + each] for start in range(0, len(rows), each)]

    def blocks(self, rows: npt.NDArray[np.intp]) -> Iterator[tuple[list[int], dict[str, npt.NDArray[np.generic]]]]:
        """Row numbers and arrays (frame first) of `BLOCK` frames or fewer at a time."""
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            yield (
                some.tolist(),
                {
                    name: self.store.read(array.key, some, threads=_READING_THREADS)
                    for name, array in self.arrays.items()
                },
            )

    def texts(self, row: int) -> dict[str, str]:
        """The text columns' entries of one frame."""
        return {name: str(texts[row]) for name, texts in self.columns.items()}


def choose(store: Store, level_WH: tuple[int, int] | None = None, split: str | None = None) -> Chosen:
    """What to export.

    Parameters
    ----------
    store
        The store.
    level_WH
        One of its levels; the largest by default.
    split
        One of its splits; all of them by default.

    Raises
    ------
    StoreError
        If there is no such level or split, no frame that could be read, or a file of the store is missing.
    """
    level = store.levels[0] if level_WH is None else level_name(level_WH)
    if level not in store.levels:
        raise StoreError(f"{store.path}: no level {level!r}, it has {', '.join(store.levels)}")
    if split == EXCLUDED:
        raise StoreError(f"{store.path}: excluded frames hold nothing, wanted a split of frames that could be read")
    readable = store.rows()
    if not len(readable):
        raise StoreError(f"{store.path}: no frame that could be read, wanted one or more")
    splits = list(dict.fromkeys(store.splits[readable].tolist())) if split is None else [split]
    store.check_files()
    return Chosen(
        store,
        level,
        {array.name: array for array in store.arrays.values() if array.level_WH is None or f"{level}/" in array.key},
        text_columns(store),
        {name: store.rows(name) for name in splits},
        len(store) - len(readable),
    )


def text_columns(store: Store) -> dict[str, npt.NDArray[np.str_]]:
    """All text columns, those that every store has first."""
    known = ["name", "split", "scene"]
    others = {path.partition("/")[0] for path in store.manifest.files if path.count("/") == 1}
    others -= {*known, *store.levels, *(key.partition("/")[0] for key in store.arrays)}
    return {name: store.text(name) for name in [*known, *sorted(others)]}


def library(name: str) -> Any:
    """A package that exports need and gfield does not.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(
            f"{package} cannot be imported ({error}), wanted for this export: pip install 'gfield[tools]'"
        ) from None
