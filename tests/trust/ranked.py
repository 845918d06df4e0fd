"""Training by one process and by two in turns, killed in between: what every step saw, and what it came to."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from tests.trust.campaign import Wrong
from tests.trust.children import Child, in_child
from tests.trust.training import (
    STEPS,
    Ground,
    arguments_of,
    await_steps,
    end_of,
    leftovers,
    logged_steps,
    once,
    result_of,
    start,
)
from train.stream import Batch, Stream, epoch_order

_TRAIN_FRAMES = 6
_BATCH = 2
_ARRAYS = {"fcrn": ("rgb", "depth"), "simclr": ("rgb",), "gradient-moco": ("rgb", "gradient")}


def pixels_by_zarr(store: Path, level: str, arrays: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """All frames of some arrays of a store, without any code of ours."""
    import zarr

    return {name: np.asarray(zarr.open_array(store / level / name, mode="r")[:]) for name in arrays}


def ranked(ground: Ground, rng: np.random.Generator, folder: Path) -> str:
    """Train in a few stretches, by one rank or two each, until the run has ended."""
    name = str(rng.choice([*_ARRAYS]))
    worlds = [2, *rng.integers(1, 3, size=2).tolist()][:: int(rng.choice([1, -1]))]
    if rng.random() < 0.3:
        worlds = [2, 2, 2]
    out, seen = folder / "run", folder / "seen"
    for stretch, world in enumerate(worlds):
        last = stretch == len(worlds) - 1
        children = _start(ground, name, world, rng, out, seen)
        if not last:
            _interrupt(children, out, rng)
        ended = [end_of(child, says) for child, says in children]
        if last and [one.code for one in ended] != [0] * world:
            raise Wrong(f"{world} ranks ended with {ended}")
    _saw_the_order(ground, name, seen)
    if leftovers(out) or logged_steps(out) != STEPS:
        raise Wrong(f"{logged_steps(out)} steps are logged, left behind: {leftovers(out)}")
    if worlds == [2, 2, 2]:
        got, wanted = result_of(out), _two_ranks(ground, name)
        if any(got[what] != wanted[what] for what in got):
            raise Wrong(f"two ranks, killed twice, end as {got}, uninterrupted as {wanted}")
        return "two ranks, interrupted twice, with the weights of two that were not"
    return f"ranks {', '.join(map(str, worlds))} in turns"


def _start(
    ground: Ground, name: str, world: int, rng: np.random.Generator, out: Path, seen: Path
) -> list[tuple[Child, Path]]:
    cache, threads = rng.choice(["auto", "host", "none"]), rng.integers(1, 4)
    # Ranks average their statistics when they save, and means are rounded: all save as often.
    free = "--save-every", 1, "--cache", cache, "--threads", threads
    arguments = (*arguments_of(ground, name), "--out", out, "--resume", *free)
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": _free_port()}
    children = []
    for rank in range(world):
        says = out.with_name(f"said-{rank}")
        place = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
        children.append((start(arguments, says, out, before=_Place(place, seen)), says))
    return children


def _interrupt(children: list[tuple[Child, Path]], out: Path, rng: np.random.Generator) -> None:
    """Kill all ranks or one of them, or tell one of them to stop, after a step that was logged."""
    await_steps(children[0][0], out, logged_steps(out) + int(rng.integers(1, 3)))
    how = rng.integers(3)
    number = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)[how]
    for child, _ in children if how == 0 else [children[rng.integers(len(children))]]:
        child.kill(number)


class _Place:
    """What a process is told before it trains: its place among the ranks, and where to note what it sees."""

    def __init__(self, environment: dict[str, str], seen: Path) -> None:
        self._environment, self._seen = environment, seen

    def __call__(self) -> None:
        os.environ.update(self._environment)
        batches = Stream.batches

        def noted(stream: Stream, first: int, stop: int) -> Iterator[Batch]:
            for batch in batches(stream, first, stop):
                self._note(batch)
                yield batch

        Stream.batches = noted  # type: ignore[method-assign]

    def _note(self, batch: Batch) -> None:
        names = sorted(batch.arrays)
        samples = [_digest(batch.arrays[name][place].numpy() for name in names) for place in range(len(batch.index_N))]
        rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        line = [batch.step, int(rank), int(world), batch.index_N.tolist(), samples]
        with self._seen.open("ab", buffering=0) as file:  # in one piece, whoever else writes
            file.write(json.dumps(line).encode() + b"\n")


def _digest(arrays: Iterator[npt.NDArray[Any]]) -> str:
    digest = blake3()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _saw_the_order(ground: Ground, name: str, seen: Path) -> None:
    """Every step was seen by all ranks of some stretch, and whoever saw a step saw his part of what it has to have."""
    pixels = in_child(pixels_by_zarr, ground.store, "80x60", _ARRAYS[name])
    digests = [_digest(pixels[array][row] for array in sorted(pixels)) for row in range(_TRAIN_FRAMES)]
    there: dict[tuple[int, int], set[int]] = {}
    for step, rank, world, places, samples in map(json.loads, seen.read_bytes().splitlines()):
        epoch, within = divmod(step, _TRAIN_FRAMES // _BATCH)
        order = epoch_order(_TRAIN_FRAMES, 0, epoch)[within * _BATCH : (within + 1) * _BATCH].tolist()
        if places != order[rank::world]:
            raise Wrong(f"step {step} of rank {rank} of {world} had {places} of {order}")
        if samples != [digests[place] for place in places]:
            raise Wrong(f"step {step} of rank {rank} of {world} had other pixels than zarr reads at {places}")
        there.setdefault((step, world), set()).add(rank)
    whole = {step for (step, world), ranks in there.items() if len(ranks) == world}
    if whole != set(range(STEPS)):
        raise Wrong(f"of {STEPS} steps all ranks saw {sorted(whole)}")


def _two_ranks(ground: Ground, name: str) -> dict[str, Any]:
    """What two ranks end as that nobody interrupts."""

    def find_out(folder: Path) -> dict[str, Any]:
        children = _start(ground, name, 2, np.random.default_rng(0), folder / "run", folder / "seen")
        ended = [end_of(child, says) for child, says in children]
        if any(one.code for one in ended):
            raise Wrong(f"two ranks ended with {ended}")
        return result_of(folder / "run")

    return once(ground, f"two-ranks-{name}", find_out)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
