"""One way of reading shuffled batches of RGB + field, in a process of its own: ``stream_io.py WAY PATH EPOCHS``.

Prints pairs a second over whole epochs, after one epoch that is not counted. Nothing is done with the batches. With a
STORE behind EPOCHS, the epoch that is not counted has to have the store's true values, in another order.
``stream_io.py write FORMAT STORE FOLDER`` prepares what others read.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import stream_peers as peers
import torch
from blake3 import blake3
from stream_peers import BATCH, KEYS, Epoch, Pair

from gfield import open_store
from train.frames import Frames
from train.stream import Stream


def ours(path: Path, cache: Any) -> Epoch:
    """`train.stream.Stream`."""
    store = open_store(path)
    stream = Stream(Frames([(store, store.rows())], KEYS), batch=BATCH, seed=0, cache=cache)
    batches = stream.batches(0, 1 << 30)
    steps = stream.steps_per_epoch
    return lambda epoch: ((batch.arrays["rgb"], batch.arrays["gradient"]) for batch in islice(batches, steps))


def released(path: Path) -> Epoch:
    """The released code's loader."""
    from released_loader import released_loader

    loader = released_loader(path, BATCH)
    return lambda epoch: iter(loader)


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

    def epoch(number: int) -> Iterator[Pair]:
        for source in sources:
            for name, array in source.items():
                np.copyto(target[name], array)
            yield torch.from_numpy(target["rgb"]), torch.from_numpy(target["gradient"])

    return epoch


def rate(epoch: Epoch, epochs: int, store: Path | None) -> float:
    """Pairs a second."""
    if store is None:
        for _ in epoch(0):
            pass
    else:
        check(epoch(0), store)
    started, pairs = time.perf_counter(), 0
    for number in range(1, epochs + 1):
        pairs += sum(len(rgb) for rgb, _ in epoch(number))
    return pairs / (time.perf_counter() - started)


def _digest(rgb_HWC: Any, gradient_HW: Any) -> str:
    hasher = blake3(np.ascontiguousarray(rgb_HWC).reshape(-1).view(np.uint8))
    hasher.update(np.ascontiguousarray(gradient_HW).reshape(-1).view(np.uint8))
    return hasher.hexdigest()


def check(batches: Iterator[Pair], store: Path) -> None:
    """Count an epoch's samples by their content; they have to be the store's, each as often, in another order."""
    true = [_digest(one["rgb"], one["gradient"]) for one in peers.pairs_of(store)]
    seen: list[str] = []
    for rgb, gradient in batches:
        assert (rgb.dtype, gradient.dtype) == (torch.uint8, torch.float16), (rgb.dtype, gradient.dtype)
        assert rgb.shape == (BATCH, 480, 640, 3), rgb.shape
        assert gradient.shape == (BATCH, 480, 640), gradient.shape
        seen += [_digest(*one) for one in zip(rgb.numpy(), gradient.numpy(), strict=True)]
    assert Counter(seen) == Counter(true), f"{len(seen)} samples are not the {len(true)} of the store"
    assert seen != true, "the samples are not shuffled"


WAYS: dict[str, Callable[[Path], Epoch]] = {
    "none": lambda path: ours(path, "none"),
    "host": lambda path: ours(path, "host"),
    "released": released,
    "copy": copy,
    **{
        f"{name}-{workers}": partial(read, workers=workers)
        for name, read in (
            ("litdata", peers.read_litdata),
            ("zarr", peers.read_zarr),
            ("mosaic", peers.read_mosaic),
            ("webdataset", peers.read_webdataset),
            ("huggingface", partial(peers.read_huggingface, how="numpy")),
        )
        for workers in (0, 2)
    },
    "litdata-hand": partial(peers.read_litdata, workers=0, by_hand=True),
    "zarr-hand": partial(peers.read_zarr, workers=0, by_hand=True),
    "mosaic-hand": partial(peers.read_mosaic, workers=0, by_hand=True),
    "webdataset-hand": partial(peers.read_webdataset, workers=0, by_hand=True),
    "arrow-hand": partial(peers.read_huggingface, workers=0, how="arrow"),
}


def write(kind: str, store: Path, folder: Path) -> None:
    """Another format."""
    from released_loader import write_jpegs

    writers: dict[str, Callable[[Path, Path], None]] = {
        "jpegs": write_jpegs,
        "litdata": peers.write_litdata,
        "zarr": peers.write_zarr,
        "mosaic": peers.write_mosaic,
        "webdataset": peers.write_webdataset,
        "huggingface": peers.write_huggingface,
    }
    writers[kind](store, folder)


def main() -> None:
    """The command line."""
    what, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    told: dict[str, Any] = {}
    if what == "write":
        write(rest[0], Path(rest[1]), Path(rest[2]))
    else:
        store = Path(rest[2]) if len(rest) > 2 else None
        told = {"rate": rate(WAYS[what](Path(rest[0])), int(rest[1]), store)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
