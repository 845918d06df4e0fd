"""Where a build's time goes: its stages one by one, by the package's own functions, and the build, on one processor.

``stages.py MAT FOLDER ROUNDS`` prints milliseconds a frame, one value a round. A stage that has no function of its
own is what a longer piece of the work takes more than a shorter one: inflating is reading frames less pread,
turning and checking is the source less reading frames, and the operator is all layers less those without fields.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from gfield.build import build_store
from gfield.frame import BadFrame, Frame
from gfield.inputs import describe_files
from gfield.layers import FrameLayers
from gfield.sources.nyuv2 import NyuV2, open_nyuv2
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from gfield.worker import settle_worker

VARIABLES = ("rgb", "depth")


class Work:
    """The pieces of a build over all frames of a .mat, with the inputs of each ready in memory."""

    def __init__(self, source: NyuV2, spec: StoreSpec, folder: Path) -> None:
        self.source, self.spec, self.folder = source, spec, folder
        self.n = spec.frames
        specs = list(spec.array_specs().values())
        self.codecs = {one.key: one.codec for one in specs}
        self.layers = FrameLayers(spec, specs)
        self.plain_layers = FrameLayers(spec, [one for one in specs if one.name != "gradient"])
        self.frames: list[Frame] = []
        for frame in source.read(0, self.n, frozenset(VARIABLES)):
            assert not isinstance(frame, BadFrame)
            self.frames.append(Frame(frame.index, {name: np.array(one) for name, one in frame.arrays.items()}))
        self.arrays = [
            {key: np.array(values) for key, values in self.layers.of(frame).items()} for frame in self.frames
        ]
        self.encoded: list[dict[str, Any]] = [
            {key: codec.encode(arrays[key]) for key, codec in self.codecs.items()} for arrays in self.arrays
        ]

    def pread(self) -> None:
        """The stored bytes of every frame."""
        for name in VARIABLES:
            one = self.source.sets[name]
            with one.path.open("rb") as file:
                for size, offset in zip(one.sizes.ravel().tolist(), one.offsets.ravel().tolist(), strict=True):
                    os.pread(file.fileno(), size, offset)

    def read_frames(self) -> None:
        """The same, inflated."""
        for name in VARIABLES:
            for _ in self.source.sets[name].read_frames(0, self.n):
                pass

    def read_source(self) -> None:
        """The same, upright and checked."""
        for _ in self.source.read(0, self.n, frozenset(VARIABLES)):
            pass

    def resize(self) -> None:
        """Both levels of RGB and depth."""
        for frame in self.frames:
            self.plain_layers.of(frame)

    def all_layers(self) -> None:
        """The same, and the fields."""
        for frame in self.frames:
            self.layers.of(frame)

    def encode(self) -> None:
        """All six arrays."""
        for arrays in self.arrays:
            for key, codec in self.codecs.items():
                codec.encode(arrays[key])

    def hash_output(self) -> None:
        """BLAKE3 of what is written."""
        hashers = {key: blake3() for key in self.codecs}
        for encoded in self.encoded:
            for key, (payload, crc) in encoded.items():
                hashers[key].update(payload if isinstance(payload, bytes) else payload.data)
                hashers[key].update(crc)

    def hash_input(self) -> None:
        """SHA-256 of the input."""
        describe_files(self.source.inputs())

    def write(self) -> None:
        """The files of every shard, forced to the disk."""
        for first in range(0, self.n, self.spec.frames_per_shard):
            for key in self.codecs:
                with (self.folder / f"{first}-{key.replace('/', '-')}").open("wb") as file:
                    for encoded in self.encoded[first : first + self.spec.frames_per_shard]:
                        file.writelines(encoded[key])
                    file.flush()
                    os.fsync(file.fileno())

    def build(self) -> None:
        """A whole store."""
        target = self.folder / "store.zarr"
        shutil.rmtree(target, ignore_errors=True)
        build_store(self.source, target, self.spec)


def one_round(work: Work) -> dict[str, float]:
    """Milliseconds a frame."""

    def ms(piece: Callable[[], None]) -> float:
        started = time.perf_counter()
        piece()
        return 1000 * (time.perf_counter() - started) / work.n

    pread, frames, source = ms(work.pread), ms(work.read_frames), ms(work.read_source)
    resize, layers = ms(work.resize), ms(work.all_layers)
    stages = {
        "read": pread,
        "inflate": frames - pread,
        "transpose, check of depth": source - frames,
        "resize": resize,
        "operator": layers - resize,
        "encode": ms(work.encode),
        "BLAKE3 of the output": ms(work.hash_output),
        "SHA-256 of the input": ms(work.hash_input),
        "write, with fsync": ms(work.write),
    }
    return {**stages, "sum": sum(stages.values()), "build_store": ms(work.build)}


def measure(mat: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """All rounds, after one that is not counted."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so that the build has one processor, too
    settle_worker()
    folder.mkdir()
    source = open_nyuv2(mat)
    work = Work(source, make_spec(source), folder)
    done = [one_round(work) for _ in range(rounds + 1)][1:]
    return {name: [one[name] for one in done] for name in done[0]}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
