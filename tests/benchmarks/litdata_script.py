"""The same six arrays by LitData: ``litdata_script.py MAT OUT [WORKERS]``, ``optimize`` with two processes by default.

The operator is the plain script's; arrays are stored raw, in chunks of 64 MB, which is how LitData stores arrays.
Prints its own seconds without imports of this process; those of its workers are part of what it does.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import torch
from litdata import optimize
from plain_script import field_of


@functools.cache
def opened(mat: str) -> h5py.File:
    """One open file a process."""
    return h5py.File(mat)


def sample(mat: str, row: int) -> dict[str, Any]:
    """The row and all six arrays of a frame."""
    file = opened(mat)
    rgb = np.ascontiguousarray(file["images"][row].transpose(2, 1, 0))
    depth = np.ascontiguousarray(file["depths"][row].T)
    small = cv2.resize(rgb, (320, 240), interpolation=cv2.INTER_AREA)
    arrays: dict[str, Any] = {
        "640x480/rgb": rgb,
        "640x480/gradient": field_of(rgb),
        "640x480/depth": depth,
        "320x240/rgb": small,
        "320x240/gradient": field_of(small),
        "320x240/depth": np.ascontiguousarray(depth[::2, ::2]),
    }
    return {"row": row} | {name: torch.from_numpy(array) for name, array in arrays.items()}


def build(mat: str, out: Path, workers: int) -> None:
    """Write all frames."""
    with h5py.File(mat) as file:
        frames = len(file["images"])
    optimize(
        fn=functools.partial(sample, mat),
        inputs=list(range(frames)),
        output_dir=str(out),
        chunk_bytes="64MB",
        num_workers=workers,
        verbose=False,
    )


if __name__ == "__main__":
    cv2.setNumThreads(1)  # its two processes fill two cores
    started = time.perf_counter()
    build(sys.argv[1], Path(sys.argv[2]), int((*sys.argv[3:], "2")[0]))
    print(json.dumps({"seconds": time.perf_counter() - started}))
