"""Pairs a second of the training stream from a store, in a process of its own: ``bucket_io.py STORE EPOCHS``.

Prints those of the first epoch and of the later ones; no frame is kept decoded.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice

from gfield import open_store
from train.frames import Frames
from train.stream import Stream

BATCH = 64


def main() -> None:
    """Stream."""
    store = open_store(sys.argv[1])
    keys = {"rgb": "640x480/rgb", "gradient": "640x480/gradient"}
    stream = Stream(Frames([(store, store.rows())], keys), batch=BATCH, seed=0, cache="none")
    batches, steps = stream.batches(0, 1 << 30), stream.steps_per_epoch
    rates = []
    for _ in range(1 + int(sys.argv[2])):
        started = time.perf_counter()
        pairs = sum(len(batch.arrays["rgb"]) for batch in islice(batches, steps))
        rates.append(pairs / (time.perf_counter() - started))
    later = rates[1:]
    told = {"first": rates[0]} | ({"later": len(later) / sum(1 / rate for rate in later)} if later else {})
    print(json.dumps(told))


if __name__ == "__main__":
    main()
