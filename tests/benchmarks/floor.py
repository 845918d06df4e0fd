"""The least that a build can cost: its bare stages in tight loops, ``floor.py MAT FOLDER DISTINCT [THREADS]``.

pread of both variables, libdeflate, transposition, cv2.Canny at both levels, the codec on the six arrays, and
writing their bytes to files. Each stage has its inputs ready in memory and runs on as many threads as a build
does, all at the same time, each with its share of the frames. Not in it: resizing, grey, the field's magnitude,
hashes of what is written and read, fsync, the metadata, and whatever holds a build together.

Prints the seconds of every stage and their sum. DISTINCT is the number of frames after which the .mat repeats:
as many are prepared, and used again and again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import deflate
import numpy as np

from gfield.frame import BadFrame
from gfield.layers import FrameLayers
from gfield.levels import area_resize
from gfield.quads import part_of
from gfield.sources.nyuv2 import NyuV2, open_nyuv2
from gfield.spec import ArraySpec, StoreSpec
from gfield.specify import make_spec
from gfield.worker import available_cpus, settle_worker

VARIABLES = ("rgb", "depth")
Stage = Callable[[range], None]


def on_threads(stage: Stage, frames: int, threads: int) -> float:
    """Wall time of a stage whose frames are shared out evenly."""
    shares = [range(frames * k // threads, frames * (k + 1) // threads) for k in range(threads)]
    start = threading.Barrier(threads + 1)

    def work(share: range) -> None:
        start.wait()
        stage(share)

    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started


class Prepared:
    """The input of every stage for the distinct frames, computed beforehand."""

    def __init__(self, source: NyuV2, spec: StoreSpec, distinct: int) -> None:
        self.sets = {name: source.sets[name] for name in VARIABLES}
        self.specs: list[ArraySpec] = list(spec.array_specs().values())
        self.stored: dict[str, list[bytes]] = {name: [] for name in VARIABLES}
        self.inflated: dict[str, list[Any]] = {name: [] for name in VARIABLES}
        self.grey: list[list[Any]] = []
        self.arrays: list[dict[str, Any]] = []
        self.encoded: list[dict[str, Any]] = []
        for name, frames in self.sets.items():
            if frames.why or frames.filters != (1,) or frames.frames_per_chunk != 1:
                raise SystemExit(f"{frames.path}: '{frames.name}' is not gzip with one frame a chunk")
            with frames.path.open("rb") as file:
                places = list(zip(frames.sizes.ravel().tolist(), frames.offsets.ravel().tolist(), strict=True))
                self.stored[name] = [os.pread(file.fileno(), *place) for place in places[:distinct]]
            self.inflated[name] = [np.array(frame) for frame in frames.read_frames(0, distinct)]
        layers = FrameLayers(spec, self.specs)
        for frame in source.read(0, distinct, frozenset(VARIABLES)):
            assert not isinstance(frame, BadFrame)
            arrays = {key: np.array(values) for key, values in layers.of(frame).items()}
            self.arrays.append(arrays)
            self.encoded.append({one.key: one.codec.encode(arrays[one.key]) for one in self.specs})
            self.grey.append(_grey_levels(spec, frame.arrays["rgb"]))

    def __len__(self) -> int:
        return len(self.arrays)


def _grey_levels(spec: StoreSpec, rgb_HWC: Any) -> list[Any]:
    """The part of each level that the operator sees, in grey."""
    grey = []
    for level_WH in spec.levels_WH:
        level_HWC = area_resize(rgb_HWC, np.empty((level_WH[1], level_WH[0], 3), np.uint8))
        grey_HW = cv2.cvtColor(level_HWC, cv2.COLOR_RGB2GRAY)
        region = spec.level_region(level_WH)
        grey.append(grey_HW if region is None else part_of(grey_HW, region))
    return grey


def stages(ready: Prepared, folder: Path, frames_per_shard: int) -> dict[str, Stage]:
    """Every stage by name."""
    n = len(ready)

    def read(frames: range) -> None:
        for one in ready.sets.values():
            sizes, offsets = one.sizes.ravel().tolist(), one.offsets.ravel().tolist()
            with one.path.open("rb") as file:
                for row in frames:
                    os.pread(file.fileno(), sizes[row], offsets[row])

    def inflate(frames: range) -> None:
        for name in VARIABLES:
            wanted = ready.inflated[name][0].nbytes
            for row in frames:
                deflate.zlib_decompress(ready.stored[name][row % n], wanted)

    def transpose(frames: range) -> None:
        rgb_HWC, depth_HW = np.empty((480, 640, 3), np.uint8), np.empty((480, 640), np.float32)
        for row in frames:
            cv2.merge([cv2.transpose(plane_XY) for plane_XY in ready.inflated["rgb"][row % n]], dst=rgb_HWC)
            cv2.transpose(ready.inflated["depth"][row % n], dst=depth_HW)

    def canny(frames: range) -> None:
        edges = [np.empty_like(grey_HW, order="C") for grey_HW in ready.grey[0]]
        for row in frames:
            for grey_HW, edges_HW in zip(ready.grey[row % n], edges, strict=True):
                cv2.Canny(grey_HW, 50, 200, edges=edges_HW)

    def encode(frames: range) -> None:
        for row in frames:
            for spec in ready.specs:
                spec.codec.encode(ready.arrays[row % n][spec.key])

    def write(frames: range) -> None:
        for first in range(frames.start, frames.stop, frames_per_shard):
            for spec in ready.specs:
                with (folder / f"{first}-{spec.key.replace('/', '-')}").open("xb") as file:
                    for row in range(first, min(first + frames_per_shard, frames.stop)):
                        payload, crc = ready.encoded[row % n][spec.key]
                        file.write(payload)
                        file.write(crc)

    return {
        "pread": read,
        "libdeflate": inflate,
        "transpose": transpose,
        "Canny": canny,
        "codec": encode,
        "write": write,
    }


def measure(mat: Path, folder: Path, distinct: int, threads: int) -> dict[str, float]:
    """Seconds by stage."""
    settle_worker()
    source = open_nyuv2(mat)
    spec = make_spec(source)
    ready = Prepared(source, spec, min(distinct, spec.frames))
    folder.mkdir()
    work = stages(ready, folder, spec.frames_per_shard)
    for stage in work.values():
        if stage is not work["write"]:
            stage(range(min(len(ready), 4)))  # first calls load and allocate
    return {name: on_threads(stage, spec.frames, threads) for name, stage in work.items()}


if __name__ == "__main__":
    wanted = int(sys.argv[4]) if len(sys.argv) > 4 else available_cpus()
    by_stage = measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), wanted)
    print(json.dumps({**by_stage, "seconds": sum(by_stage.values())}))
