"""What is measured of a store's frames: holes, depths, edges of the field, and their agreement with depth's edges."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from gfield.frame import Region
from gfield.report.agreement import Agreement, EdgePair, agreement, edge_pair
from gfield.spec import level_name
from gfield.store import Store

Counts: TypeAlias = npt.NDArray[np.int64]

_LEAST_SIDE = 240
_BLOCK = 16  # frames that a thread reads at once
_MOST_THREADS = 16
BINS_A_DECADE = 20
NEAREST_M, DECADES = 0.1, 4
"""Depths are counted in bins of equal ratio from here on; what is nearer or farther is in the first or last."""


class FrameMeasures(NamedTuple):
    """Of one frame.

    Attributes
    ----------
    row
        Its row in the store.
    coverage
        Share of the pixels inside the valid region where the field is not 0.
    holes
        Share of the pixels without depth; None in a store without depth.
    raw_holes
        The same of ``raw_depth``.
    agreement
        None where there is no depth, or too few edges to tell.
    """

    row: int
    coverage: float
    holes: float | None
    raw_holes: float | None
    agreement: Agreement | None


@dataclass(frozen=True)
class StoreMeasures:
    """Of a store.

    Attributes
    ----------
    level
        Name of the level that was measured.
    readable
        How many frames could be read when the store was built; those that were measured may be a sample of them.
    frames
        By rising row.
    depths
        Pixels by bin of depth, see `bin_edges`, of every split; empty without depth.
    """

    level: str
    readable: int
    frames: Sequence[FrameMeasures]
    depths: Mapping[str, Counts]

    def worst(self) -> list[FrameMeasures]:
        """Frames with an agreement, the most suspicious first."""
        told = [frame for frame in self.frames if frame.agreement is not None]
        return sorted(told, key=_rank)


def measure_store(
    store: Store,
    *,
    sample: int | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    on_frames: Callable[[int], None] = lambda more: None,
) -> StoreMeasures:
    """Measure frames of a store, side by side, at the smallest level whose sides have 240 pixels or more.

    Parameters
    ----------
    store
        The store.
    sample
        How many frames, evenly spread over those that could be read; by default all.
    on_start, on_frames
        Are told how many there will be, and how many more are done.

    Raises
    ------
    StoreError
        If a shard is missing or damaged.
    """
    rows = store.rows()
    readable = len(rows)
    if sample is not None and sample < readable:
        rows = rows[np.unique(np.linspace(0, readable - 1, sample).astype(int))]
    level_WH = measured_level(store)
    on_start(len(rows))
    frames: list[FrameMeasures] = []
    depths: dict[str, Counts] = {}
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    for measured, counts in _side_by_side(lambda block: _measure(store, level_WH, block), blocks):
        frames += measured
        for split, count in counts.items():
            depths[split] = depths.get(split, np.zeros_like(count)) + count
        on_frames(len(measured))
    return StoreMeasures(level_name(level_WH), readable, frames, dict(sorted(depths.items())))


def measured_level(store: Store) -> tuple[int, int]:
    """Width and height of the level to measure."""
    return min(store.spec.levels_WH, key=lambda level: (min(level) < _LEAST_SIDE, abs(min(level) - _LEAST_SIDE)))


def edges_of(store: Store, level_WH: tuple[int, int], row: int) -> EdgePair:
    """The edges of a frame with depth, as they are compared."""
    level = level_name(level_WH)
    field_HW = store.read(f"{level}/gradient", [row])[0].astype(np.float16, copy=False)
    depth_HW = store.read(f"{level}/depth", [row])[0].astype(np.float32, copy=False)
    return edge_pair(field_HW, depth_HW, store.spec.level_region(level_WH), store.spec.depth_shape_HW)


def bin_edges() -> npt.NDArray[np.float64]:
    """Ends of the bins of depth, in metres."""
    edges: npt.NDArray[np.float64] = NEAREST_M * 10 ** (np.arange(BINS_A_DECADE * DECADES + 1) / BINS_A_DECADE)
    return edges


def _side_by_side(
    call: Callable[[npt.NDArray[np.intp]], tuple[list[FrameMeasures], dict[str, Counts]]],
    blocks: Sequence[npt.NDArray[np.intp]],
) -> Iterator[tuple[list[FrameMeasures], dict[str, Counts]]]:
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        tasks = [pool.submit(call, block) for block in blocks]
        try:
            for task in tasks:
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()


def _measure(
    store: Store, level_WH: tuple[int, int], rows: npt.NDArray[np.intp]
) -> tuple[list[FrameMeasures], dict[str, Counts]]:
    level, region = level_name(level_WH), store.spec.level_region(level_WH)
    field_NHW = store.read(f"{level}/gradient", rows).astype(np.float16, copy=False)
    depth_NHW = _depth_of(store, f"{level}/depth", rows)
    raw_NHW = _depth_of(store, f"{level}/raw_depth", rows)
    frames: list[FrameMeasures] = []
    counts: dict[str, Counts] = {}
    for place, row in enumerate(rows.tolist()):
        fits = None
        if depth_NHW is not None:
            fits = agreement(edge_pair(field_NHW[place], depth_NHW[place], region, store.spec.depth_shape_HW))
            split = str(store.splits[row])
            counts[split] = counts.get(split, _NO_COUNTS) + _depth_counts(depth_NHW[place])
        holes, raw_holes = (None if one is None else _holes(one[place]) for one in (depth_NHW, raw_NHW))
        frames.append(FrameMeasures(row, _coverage(field_NHW[place], region), holes, raw_holes, fits))
    return frames, counts


def _depth_of(store: Store, key: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32] | None:
    return store.read(key, rows).astype(np.float32, copy=False) if key in store.arrays else None


def _coverage(field_HW: npt.NDArray[np.float16], region: Region | None) -> float:
    top, bottom, left, right = region or (0, field_HW.shape[0], 0, field_HW.shape[1])
    scene_HW = field_HW[top:bottom, left:right]
    return float(np.count_nonzero(scene_HW) / scene_HW.size)


def _holes(depth_HW: npt.NDArray[np.float32]) -> float:
    return float(1 - np.count_nonzero(np.isfinite(depth_HW) & (depth_HW > 0)) / depth_HW.size)


_NO_COUNTS: Counts = np.zeros(BINS_A_DECADE * DECADES, np.int64)


def _depth_counts(depth_HW: npt.NDArray[np.float32]) -> Counts:
    metres = depth_HW[np.isfinite(depth_HW) & (depth_HW > 0)]
    place = np.floor(cv2.log(metres).ravel() * (BINS_A_DECADE / np.log(10)) + BINS_A_DECADE) if metres.size else metres
    return np.bincount(place.clip(0, len(_NO_COUNTS) - 1).astype(np.intp), minlength=len(_NO_COUNTS)).astype(np.int64)


def _rank(frame: FrameMeasures) -> tuple[float, int]:
    assert frame.agreement is not None
    return frame.agreement.rank, frame.row
