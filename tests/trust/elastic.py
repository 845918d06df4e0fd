"""The same samples in the same order, wherever frames are kept, whoever reads them, however many ranks there are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gfield import open_store
from gfield.build import build_store
from gfield.codec import CodecName
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.inputs import small_mat
from tests.trust.ranked import pixels_by_zarr, ranked
from tests.trust.training import Ground, ground
from train.frames import Frames
from train.stream import Batch, CacheMode, Stream, epoch_order

_LEVEL = "80x60"
_ARRAYS = ("rgb", "gradient", "depth")
_FRAMES = (9, 6)  # of two stores


@dataclass(frozen=True)
class _Prepared:
    """What training is done on; two stores, and all pixels of the two as zarr reads them."""

    ground: Ground
    stores: tuple[Path, ...]
    pixels: tuple[dict[str, npt.NDArray[Any]], ...]


def _prepare(folder: Path) -> _Prepared:
    shared = ground(folder)
    stores = []
    codecs: tuple[CodecName, ...] = ("lz4", "zstd")
    for number, (frames, codec) in enumerate(zip(_FRAMES, codecs, strict=True)):
        (folder / f"{number}").mkdir()
        source = open_nyuv2(small_mat(folder / f"{number}", frames, seed=number))
        spec = make_spec(source, levels_WH=((80, 60),), codec=codec, frames_per_shard=4)
        in_child(build_store, source, folder / f"{number}.zarr", spec)
        stores.append(folder / f"{number}.zarr")
    pixels = tuple(in_child(pixels_by_zarr, store, _LEVEL, _ARRAYS) for store in stores)
    return _Prepared(shared, tuple(stores), pixels)


def _case(prepared: _Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    if number % 4 == 3:
        return ranked(prepared.ground, rng, folder)
    return in_child(_streamed, prepared, rng)


@dataclass(frozen=True)
class _Order:
    """What any number of ranks together have to see of some frames: places by step, and pixels by place."""

    seed: int
    batch: int
    pixels: dict[str, npt.NDArray[Any]]

    def places(self, step: int) -> list[int]:
        length = len(self.pixels["rgb"])
        epoch, within = divmod(step, length // self.batch)
        return epoch_order(length, self.seed, epoch)[within * self.batch : (within + 1) * self.batch].tolist()


def _streamed(prepared: _Prepared, rng: np.random.Generator) -> str:
    """Go through a few epochs in stretches, each by another number of ranks and threads, with another cache."""
    parts = [rng.permutation(frames)[: rng.integers(3, frames + 1)] for frames in _FRAMES]
    pixels = {
        name: np.concatenate([of[name][rows] for of, rows in zip(prepared.pixels, parts, strict=True)])
        for name in _ARRAYS
    }
    order = _Order(int(rng.integers(1 << 31)), int(rng.choice([1, 2, 4, 6])), pixels)
    stores = [open_store(path) for path in prepared.stores]
    frames = Frames([*zip(stores, parts, strict=True)], {name: f"{_LEVEL}/{name}" for name in _ARRAYS})
    _as_the_store_reads(frames, pixels)
    stop = int(rng.integers(2, 4)) * (len(frames) // order.batch)
    ends = sorted({*rng.integers(1, stop + 1, size=3).tolist(), stop})
    for start, end in zip([0, *ends], ends, strict=False):
        world = int(rng.choice([ranks for ranks in range(1, order.batch + 1) if order.batch % ranks == 0]))
        _stretch(frames, order, range(start, end), stop, world, rng)
    return f"{len(ends)} stretch{'es' if len(ends) > 1 else ''} with other ranks, threads and caches"


def _stretch(frames: Frames, order: _Order, steps: range, stop: int, world: int, rng: np.random.Generator) -> None:
    """Some steps, each rank by itself; the stream was asked for all that are left, as by a run that is killed."""
    # Asked here, in a child: a process that has asked once cannot be forked for CUDA any more.
    cuda = torch.cuda.is_available()
    modes: tuple[CacheMode, ...] = ("auto", "host", "none", "device")[: 4 if cuda else 3]
    cache, threads = modes[rng.integers(len(modes))], int(rng.integers(1, 7))
    told = f"steps {steps.start} to {steps.stop} of rank {{}} of {world}, {threads} threads, cache {cache}"
    device = "cuda" if cache == "device" or (cuda and rng.random() < 0.5) else "cpu"
    for rank in range(world):
        place = {"seed": order.seed, "rank": rank, "world": world}
        with Stream(frames, batch=order.batch // world, **place, device=device, cache=cache, threads=threads) as stream:
            batches = stream.batches(steps.start, stop)
            for step in steps:
                batch = next(batches)
                if rng.random() < 0.2:
                    time.sleep(0.002)  # in which the threads are ahead of us; what we have must not change
                _check(batch, step, order, rank, world, told.format(rank))
            del batches


def _check(batch: Batch, step: int, order: _Order, rank: int, world: int, told: str) -> None:
    places = order.places(step)[rank::world]
    if batch.step != step or batch.index_N.tolist() != places:
        raise Wrong(f"{told}: step {batch.step} has {batch.index_N.tolist()}, wanted {places} in step {step}")
    for name, tensor in batch.arrays.items():
        wanted = order.pixels[name][places]
        seen = tensor.cpu().numpy()
        if seen.dtype != wanted.dtype or not np.array_equal(seen, wanted, equal_nan=name != "rgb"):
            raise Wrong(f"{told}: {name} of step {step} is not what the store has")


def _as_the_store_reads(frames: Frames, pixels: dict[str, npt.NDArray[Any]]) -> None:
    """Frame by frame, by the reader and by zarr."""
    for place in range(len(frames)):
        store, row = frames.locate(place)
        for name, wanted in pixels.items():
            if not np.array_equal(store.read(f"{_LEVEL}/{name}", [row])[0], wanted[place], equal_nan=name != "rgb"):
                raise Wrong(f"{name} of row {row} of {store.path.name}: the reader and zarr differ")


CAMPAIGNS = [
    Campaign(
        "elastic",
        "training that goes on in the middle of an epoch with another cache, other threads and other ranks",
        "every step has the samples of the order that depends on seed and epoch alone, pixel for pixel as zarr reads "
        "them",
        quick=4,
        soak=60,
        prepare=_prepare,
        case=_case,
        seconds=300,
    )
]
