"""What is done with a finished store, timed in a fresh process without its imports: ``touch.py WHAT STORE``.

WHAT is ``open``, ``read one frame`` (opened before), ``verify``, ``verify --all``, ``first batch`` or ``first batch,
default``: from `open_store` to the first batch of 64 out of a shuffled stream of RGB and field at 640x480, without a
cache or with the one that the stream chooses.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from gfield.store import open_store
from gfield.verify import verify_store

BATCH = 64
KEYS = {"rgb": "640x480/rgb", "gradient": "640x480/gradient"}


def first_batch(path: Path, default: bool) -> float:
    """Seconds; the imports are done before."""
    from train.frames import Frames
    from train.stream import Stream

    started = time.perf_counter()
    store = open_store(path)
    frames = Frames([(store, store.rows())], KEYS)
    batch = min(BATCH, len(frames))
    stream = Stream(frames, batch=batch, seed=0) if default else Stream(frames, batch=batch, seed=0, cache="none")
    with stream:
        first = next(iter(stream.batches(0, 1)))
        seconds = time.perf_counter() - started
        assert first.arrays["rgb"].shape == (batch, 480, 640, 3)
    return seconds


def touch(what: str, path: Path) -> float:
    """Seconds."""
    if what.startswith("first batch"):
        return first_batch(path, default=what.endswith("default"))
    store = open_store(path) if what != "open" else None
    started = time.perf_counter()
    if store is None:
        open_store(path)
    elif what == "read one frame":
        store.read("640x480/rgb", [len(store) // 2])
    else:
        report = verify_store(store, sample=None if what == "verify --all" else 32)
        assert not report.findings
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps({"seconds": touch(sys.argv[1], Path(sys.argv[2]))}))
