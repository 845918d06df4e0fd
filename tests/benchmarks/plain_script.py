"""What a competent person writes in an afternoon without this package: one process, h5py, zarr-python.

The operator is the released code's: two Sobel filters of the grey picture in 8 bits, Canny on the colour picture,
the product scaled to 255. Zarr's default codec; with ``--sharded``, whole shards of 32 frames; with ``--same-codec``,
the codec that this package's stores have. Run as ``plain_script.py MAT OUT [--sharded] [--same-codec]``; prints its
own seconds without imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import cv2
import h5py
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

SOBEL_V = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
SOBEL_H = SOBEL_V.T
FRAMES_PER_SHARD = 32


def field_of(rgb: Any) -> Any:
    """The released code's field, 0 to 255, with its overflow in 8 bits."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    v = cv2.filter2D(grey, -1, SOBEL_V)
    h = cv2.filter2D(grey, -1, SOBEL_H)
    edges = np.sqrt(np.square(v) + np.square(h)).astype(np.float64)
    field = edges * cv2.Canny(rgb, 50, 200)
    return (field / max(field.max(), 1) * 255).astype(np.float16)


def compressors(name: str, itemsize: int) -> list[Any]:
    """The codec of this package's default stores, as anybody writes it: LZ4, bits shuffled, a checksum behind."""
    sparse = name.endswith("gradient")
    level, shuffle = (1, "noshuffle") if sparse else (5, "bitshuffle")
    return [BloscCodec(cname="lz4", clevel=level, shuffle=shuffle, typesize=itemsize), Crc32cCodec()]


def frames_of(mat: str) -> Iterator[dict[str, Any]]:
    """All six arrays of every frame."""
    with h5py.File(mat) as file:
        images, depths = file["images"], file["depths"]
        for i in range(len(images)):
            rgb = np.ascontiguousarray(images[i].transpose(2, 1, 0))
            depth = depths[i].T
            small = cv2.resize(rgb, (320, 240), interpolation=cv2.INTER_AREA)
            yield {
                "640x480/rgb": rgb,
                "640x480/gradient": field_of(rgb),
                "640x480/depth": depth,
                "320x240/rgb": small,
                "320x240/gradient": field_of(small),
                "320x240/depth": depth[::2, ::2],
            }


def create(out: str, n: int, first: dict[str, Any], frames_per_shard: int | None, same_codec: bool) -> dict[str, Any]:
    """Arrays of one frame a chunk."""
    root = zarr.open_group(out, mode="w")
    return {
        name: root.create_array(
            name,
            shape=(n, *frame.shape),
            chunks=(1, *frame.shape),
            shards=None if frames_per_shard is None else (frames_per_shard, *frame.shape),
            dtype=frame.dtype,
            compressors=compressors(name, frame.dtype.itemsize) if same_codec else "auto",
        )
        for name, frame in first.items()
    }


def build(mat: str, out: str, sharded: bool, same_codec: bool) -> None:
    """Write frame by frame, or whole shards of 32 frames."""
    with h5py.File(mat) as file:
        n = len(file["images"])
    step = FRAMES_PER_SHARD if sharded else 1
    arrays: dict[str, Any] = {}
    held: list[dict[str, Any]] = []
    for i, frame in enumerate(frames_of(mat)):
        arrays = arrays or create(out, n, frame, step if sharded else None, same_codec)
        held.append(frame)
        if len(held) == step or i == n - 1:
            for name, array in arrays.items():
                array[i + 1 - len(held) : i + 1] = np.stack([frame[name] for frame in held])
            held = []


if __name__ == "__main__":
    started = time.perf_counter()
    build(sys.argv[1], sys.argv[2], "--sharded" in sys.argv[3:], "--same-codec" in sys.argv[3:])
    print(json.dumps({"seconds": time.perf_counter() - started}))
