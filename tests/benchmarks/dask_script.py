"""The plain script through Dask: ``dask_script.py MAT OUT`` makes the same arrays by ``map_blocks`` and ``to_zarr``.

The operator is the plain script's, the codec is that of this package's stores. A Dask chunk is a whole shard of at
most 32 frames: where chunks cut through shards, two threads write one file and frames are lost without a word, so
that is asserted. All shards are equally long, as `to_zarr` would otherwise make one chunk of everything. The threaded
scheduler runs on all cores; h5py's lock lets one thread at a time read. Prints its own seconds without imports.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import cv2
import dask
import dask.array as da
import h5py
import numpy as np
import zarr
from plain_script import FRAMES_PER_SHARD, compressors, field_of


def upright(images_NCXY: Any) -> Any:
    """(N, 3, 640, 480) as the .mat has it to (N, 480, 640, 3)."""
    return np.ascontiguousarray(images_NCXY.transpose(0, 3, 2, 1))


def halved(rgb_NHWC: Any) -> Any:
    """Area averages of two by two pixels."""
    height, width = rgb_NHWC.shape[1:3]
    return np.stack([cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for rgb in rgb_NHWC])


def fields(rgb_NHWC: Any) -> Any:
    """(N, H, W) float16."""
    return np.stack([field_of(rgb_HWC) for rgb_HWC in rgb_NHWC])


def shard_length(frames: int) -> int:
    """The largest divisor of the number of frames that is no longer than the plain script's shards."""
    return max(step for step in range(1, FRAMES_PER_SHARD + 1) if frames % step == 0)


def layers_of(file: h5py.File, step: int) -> dict[str, Any]:
    """All six arrays, lazily, ``step`` frames a chunk."""
    images = da.from_array(file["images"], chunks=(step, -1, -1, -1))
    depth = da.from_array(file["depths"], chunks=(step, -1, -1)).transpose(0, 2, 1)
    rgb = images.map_blocks(upright, dtype=np.uint8, chunks=(images.chunks[0], 480, 640, 3))
    small = rgb.map_blocks(halved, dtype=np.uint8, chunks=(images.chunks[0], 240, 320, 3))
    return {
        "640x480/rgb": rgb,
        "640x480/gradient": rgb.map_blocks(fields, dtype=np.float16, drop_axis=3),
        "640x480/depth": depth,
        "320x240/rgb": small,
        "320x240/gradient": small.map_blocks(fields, dtype=np.float16, drop_axis=3),
        "320x240/depth": depth[:, ::2, ::2],
    }


def build(mat: str, out: str) -> None:
    """Write all arrays in one pass, so that every picture is read once."""
    root = zarr.open_group(out, mode="w")
    with h5py.File(mat) as file:
        step, writes = shard_length(len(file["images"])), []
        for name, layer in layers_of(file, step).items():
            array = root.create_array(
                name,
                shape=layer.shape,
                chunks=(1, *layer.shape[1:]),
                shards=(step, *layer.shape[1:]),
                dtype=layer.dtype,
                compressors=compressors(name, layer.dtype.itemsize),
            )
            assert layer.chunksize == array.shards, f"chunks of {layer.chunksize}, shards of {array.shards}"
            assert layer.shape[0] % step == 0
            writes.append(da.to_zarr(layer, array, compute=False))
        dask.compute(*writes, scheduler="threads")


if __name__ == "__main__":
    cv2.setNumThreads(1)  # Dask's threads fill the cores
    started = time.perf_counter()
    build(sys.argv[1], sys.argv[2])
    print(json.dumps({"seconds": time.perf_counter() - started}))
