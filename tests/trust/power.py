"""Power cuts at any moment of a build, by what POSIX lets a disk forget."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import ChildDied, in_child
from tests.trust.disk import Disk, check_film, power_cut, told
from tests.trust.scenes import Scene, finish, scenes
from tests.trust.shim import KILL, Operation, read_trace, suffer, traced

# Where builds are killed: when the first folder has been made, and at these shares of all operations.
_FOLDER_MADE, _KILLS = 1, (0.3, 0.7)


class Film(NamedTuple):
    """A scene, the disk before it, and all that was done there."""

    scene: Scene
    before: Disk
    trace: list[Operation]


def _prepare(folder: Path) -> list[Film]:
    films = []
    for place, scene in enumerate(scenes(folder)):
        whole = _filmed(scene, folder / f"film-{place}")
        kills = [_FOLDER_MADE, *(round(share * len(whole.trace)) for share in _KILLS)]
        films += [whole, *(_filmed(scene, folder / f"film-{place}-{kill}", kill) for kill in kills)]
    return films


def _filmed(scene: Scene, folder: Path, kill: int | None = None) -> Film:
    """A build, or one that is killed and a second one that goes on where it was: on what the first has not forced."""
    disk, trace = folder / "disk", folder / "trace"
    folder.mkdir()
    scene.set(disk)
    before = Disk(disk)
    if kill is not None:
        with suppress(ChildDied):
            in_child(_killed, scene, disk, kill, trace)
    in_child(traced, disk, trace, scene.build, disk)
    film = Film(scene, before, read_trace(trace))
    check_film(before, film.trace, disk)
    return film


def _killed(scene: Scene, disk: Path, number: int, trace: Path) -> None:
    suffer(disk, KILL, number, trace)
    scene.build(disk)


def _case(films: list[Film], number: int, rng: np.random.Generator, folder: Path) -> str:
    scene, before, trace = films[number % len(films)]
    cut = power_cut(before, trace, rng, folder / "disk", worst=number < len(films))
    try:
        return f"{scene.name}: {in_child(_checked, scene, folder / 'disk', cut == len(trace))}"
    except Wrong as wrong:
        raise Wrong(f"{scene.name}, power cut {told(trace, cut)}: {wrong}") from wrong


def _checked(scene: Scene, disk: Path, done: bool) -> str:
    seen = scene.seen(disk)
    if done and seen != scene.root:
        raise Wrong("the build had ended well, and there is no such store")
    finish(scene, disk)
    return {scene.root: "the new store", scene.before: "the store from before", "": "no store yet"}[seen]


CAMPAIGNS = [
    Campaign(
        "power-loss",
        "power is cut during a build: what was not forced to the disk is lost, torn or zeros",
        "a store that opens is whole; the next build ends in the same bytes; a build that had ended well is there",
        quick=50,
        soak=2000,
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
