"""What a sample of a store's frames looks like in numbers, as a ground for those of one frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gfield.pictures import depth_range, is_depth
from gfield.store import Store

NEAREST_M, FARTHEST_M, DEPTH_BINS = 0.1, 1000.0, 320  # 80 a decade
FIELD_BINS = 64
_SAMPLE = 24
_PIXELS = 1 << 21


def field_top(store: Store) -> int:
    """A round number that no strength of the store's fields is above."""
    return 256 if store.spec.operator.get("variant") == "grmc" else 1152


def sample_facts(store: Store, level: str) -> dict[str, Any]:
    """Histograms over up to 24 readable frames of a level, evenly spread, and over every n-th row where they are large.

    Returns
    -------
    dict
        ``frames``; ``depth_counts`` in 320 bins of equal ratio from .1 to 1000 m; ``field_counts`` of what is on
        edges, in 64 equal bins from 0 to `field_top`; ``near`` and ``far``, the ends of the colours of depth over
        the sample, None without depth; ``edges`` and ``holes``, the shares of pixels on edges and without depth.

    Raises
    ------
    StoreError
        A frame of the sample is damaged.
    """
    readable = store.rows()
    rows = readable[np.unique(np.linspace(0, len(readable) - 1, min(_SAMPLE, len(readable))).astype(int))]
    field_NHW = _thinned(store.read(f"{level}/gradient", rows))
    on_edges = field_NHW[field_NHW > 0].astype(np.float32)
    facts: dict[str, Any] = {
        "frames": len(rows),
        "field_counts": np.histogram(on_edges, FIELD_BINS, (0, field_top(store)))[0].tolist(),
        "edges": on_edges.size / max(1, field_NHW.size),
        "near": None,
        "far": None,
    }
    if f"{level}/depth" not in store.arrays:
        return facts
    depth_NHW = _thinned(store.read(f"{level}/depth", rows))
    metres = depth_NHW[is_depth(depth_NHW)]
    ends = (math.log(NEAREST_M), math.log(FARTHEST_M))
    logs = np.log(metres).clip(*ends)
    scale = depth_range(list(depth_NHW))
    return facts | {
        "depth_counts": np.histogram(logs, DEPTH_BINS, ends)[0].tolist(),
        "holes": 1 - metres.size / max(1, depth_NHW.size),
        "near": scale and scale.near,
        "far": scale and scale.far,
    }


def _thinned(frames_NHW: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return frames_NHW[:, :: -(-frames_NHW.size // _PIXELS) or 1]
