"""Why shards are written and read by code of this package: the same shards by TensorStore and by zarr-python.

One array of RGB at 640x480, the default codec with its checksum: a whole shard written, and single frames read in
random order into an array of the caller's, on one thread each.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr

from gfield.codec import Codec, codec_for
from gfield.frame import BadFrame
from gfield.shard import Shard, ShardWriter
from gfield.sources.nyuv2 import open_nyuv2


class ArrayOnDisk:
    """A Zarr array of whole shards on disk, and the three ways to its frames."""

    def __init__(self, folder: Path, rgb_NHWC: Any) -> None:
        self.rgb_NHWC = rgb_NHWC
        self.path = folder / "io.zarr"
        self.codec: Codec = codec_for("rgb", "lz4", 1)
        self.shard = self.path / "c" / "0" / "0" / "0" / "0"

    def create(self) -> Any:
        """The array's metadata, and nothing else."""
        shutil.rmtree(self.path, ignore_errors=True)
        frame = self.rgb_NHWC.shape[1:]
        return zarr.create_array(
            self.path,
            shape=self.rgb_NHWC.shape,
            chunks=(1, *frame),
            shards=self.rgb_NHWC.shape,
            dtype="u1",
            compressors=self.codec.metadata()[1:],
            fill_value=0,
        )

    def tensorstore(self) -> Any:
        """The array as TensorStore opens it, on one thread."""
        context = {"data_copy_concurrency": {"limit": 1}, "cache_pool": {"total_bytes_limit": 0}}
        kvstore = {"driver": "file", "path": str(self.path), "file_io_concurrency": {"limit": 1}}
        return tensorstore.open({"driver": "zarr3", "kvstore": kvstore, "context": context}).result()

    def write_ours(self) -> None:
        """Frame by frame, with fsync."""
        self.shard.parent.mkdir(parents=True)
        writer = ShardWriter(self.shard, len(self.rgb_NHWC), self.codec)
        for frame in self.rgb_NHWC:
            writer.append(frame)
        writer.finish()


def store_io(mat: Path, folder: Path, frames: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a frame, one value a round, by what was done."""
    source = open_nyuv2(mat)
    read = source.read(0, frames, frozenset({"rgb"}))
    array = ArrayOnDisk(folder, np.stack([np.array(f.arrays["rgb"]) for f in read if not isinstance(f, BadFrame)]))
    order = np.random.default_rng(0).permutation(frames).tolist()
    out_HWC = np.empty_like(array.rgb_NHWC[0])
    times: dict[str, list[float]] = {}

    def clock(name: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - started) / frames)

    def copy_each(opened: Any, take: Callable[[Any], Any]) -> None:
        for row in order:
            out_HWC[...] = take(opened[row])

    for _ in range(rounds):
        opened = array.create()
        clock("write, zarr-python", lambda opened=opened: opened.__setitem__(..., array.rgb_NHWC))
        array.create()
        written = array.tensorstore()
        clock("write, TensorStore", lambda written=written: written.write(array.rgb_NHWC).result())
        array.create()
        clock("write, this package", array.write_ours)

        plain, tensors = zarr.open_array(array.path, mode="r"), array.tensorstore()
        clock("read, zarr-python", lambda plain=plain: copy_each(plain, lambda frame: frame))
        clock("read, TensorStore", lambda tensors=tensors: copy_each(tensors, lambda frame: frame.read().result()))
        with Shard(array.shard, frames, array.codec) as shard:
            clock("read, this package", lambda shard=shard: [shard.read(row, out_HWC) for row in order])
        np.testing.assert_array_equal(out_HWC, array.rgb_NHWC[order[-1]])
    shutil.rmtree(array.path)
    return times
