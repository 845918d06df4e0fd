"""One build by this package, as a program calls it: ``package_build.py MAT STORE [WORKERS] [CODEC]``.

Prints the seconds from opening the input to the finished store, without imports. Without WORKERS, or with 0, threads of
this process build; with WORKERS processes, also the seconds of the task phase are told, from the first frame that a
worker asks for to the last shard that is done.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gfield.cluster.dispatch  # noqa: F401
from gfield.build import build_store
from gfield.files import temporary_name
from gfield.frame import BadFrame, Frame
from gfield.sources.nyuv2 import NyuV2, open_nyuv2
from gfield.specify import make_spec


@dataclass(frozen=True, eq=False)
class Clocked(NyuV2):
    """The same source, which leaves a file in ``log`` for each range of frames that it is asked for."""

    log: Path = Path()

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """As `NyuV2.read`."""
        # The monotonic clock is one for all processes of a machine.
        temporary_name(self.log).write_text(repr(time.monotonic()))
        yield from super().read(start, stop, arrays)


def build(mat: Path, store: Path, workers: int, codec: Any) -> dict[str, float]:
    """Build, and tell how long it took."""
    started = time.perf_counter()
    source = open_nyuv2(mat)
    spec = make_spec(source, codec=codec)
    if not workers:
        build_store(source, store, spec)
        return {"seconds": time.perf_counter() - started}
    with tempfile.TemporaryDirectory() as log:
        values = {field.name: getattr(source, field.name) for field in fields(NyuV2)}
        done = [0.0]
        build_store(
            Clocked(**values, log=Path(log)),
            store,
            spec,
            workers=workers,
            on_frames=lambda _frames: done.append(time.monotonic()),
        )
        seconds = time.perf_counter() - started
        first = min(float(file.read_text()) for file in Path(log).iterdir())
        return {"seconds": seconds, "tasks": max(done) - first}


if __name__ == "__main__":
    count, name = [*sys.argv[3:], *("0", "lz4")[len(sys.argv) - 3 :]]
    print(json.dumps(build(Path(sys.argv[1]), Path(sys.argv[2]), int(count), name)))
