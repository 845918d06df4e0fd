"""One way of reading shuffled batches of RGB + field, in a process of its own: ``stream_io.py WAY PATH EPOCHS``.

Prints pairs a second over whole epochs, after one epoch that is not counted. Nothing is done with the batches.
``stream_io.py write-litdata STORE FOLDER`` and ``write-jpegs STORE FOLDER`` prepare what others read.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfield import open_store
from train.frames import Frames
from train.stream import Stream

BATCH = 64
KEYS = {"rgb": "640x480/rgb", "gradient": "640x480/gradient"}
Epoch = Callable[[int], Iterator[int]]


def ours(path: Path, cache: Any) -> Epoch:
    """`train.stream.Stream`."""
    store = open_store(path)
    stream = Stream(Frames([(store, store.rows())], KEYS), batch=BATCH, seed=0, cache=cache)
    batches = stream.batches(0, 1 << 30)
    return lambda epoch: (len(batch.index_N) for batch in islice(batches, stream.steps_per_epoch))


def released(path: Path) -> Epoch:
    """The released code's loader."""
    from released_loader import released_loader

    loader = released_loader(path, BATCH)
    return lambda epoch: (len(rgb) for rgb, _ in loader)


def litdata(path: Path, workers: int) -> Epoch:
    """LitData on the same pairs, uncompressed."""
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(path), shuffle=True, drop_last=True)
    loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)
    return lambda epoch: (len(batch["rgb"]) for batch in loader)


def copy(path: Path) -> Epoch:
    """No reading at all: as many bytes as the pairs have, from one place in memory to another, by one thread."""
    store = open_store(path)
    frames = Frames([(store, store.rows())], KEYS)
    batches = len(frames) // BATCH
    sources = [{name: frames.empty(name, BATCH) for name in KEYS} for _ in range(batches)]
    target = {name: frames.empty(name, BATCH) for name in KEYS}
    for arrays in (*sources, target):
        for array in arrays.values():
            array[...] = 1  # memory that was never written is not there

    def epoch(number: int) -> Iterator[int]:
        for source in sources:
            for name, array in source.items():
                np.copyto(target[name], array)
            yield BATCH

    return epoch


def write_litdata(store: Path, folder: Path) -> None:
    """The store's pairs in LitData's own format; `optimize` needs a function that its processes can import."""
    from functools import partial

    from litdata import optimize

    optimize(
        fn=partial(pair, store),
        inputs=list(range(len(open_store(store)))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def pair(store: Path, row: int) -> dict[str, torch.Tensor]:
    """One pair of the store."""
    opened = open_store(store)
    return {name: torch.from_numpy(opened.read(key, [row])[0]) for name, key in KEYS.items()}


def rate(epoch: Epoch, epochs: int) -> float:
    """Pairs a second."""
    sum(epoch(0))
    started = time.perf_counter()
    pairs = sum(sum(epoch(number)) for number in range(1, epochs + 1))
    return pairs / (time.perf_counter() - started)


WAYS: dict[str, Callable[[Path], Epoch]] = {
    "none": lambda path: ours(path, "none"),
    "host": lambda path: ours(path, "host"),
    "released": released,
    "litdata-0": lambda path: litdata(path, 0),
    "litdata-2": lambda path: litdata(path, 2),
    "copy": copy,
}


def main() -> None:
    """The command line."""
    way, path, last = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if way == "write-litdata":
        write_litdata(path, Path(last))
        print("{}")
    elif way == "write-jpegs":
        from released_loader import write_jpegs

        write_jpegs(path, Path(last))
        print("{}")
    else:
        torch.set_num_threads(1)
        print(json.dumps({"rate": rate(WAYS[way](path), int(last))}))


if __name__ == "__main__":
    main()
