"""Every operation on a file that a build makes, failed once: by a kill, an error of the disk, a write cut short."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfield.frame import UserError
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import Child, ChildDied, in_child
from tests.trust.scenes import Scene, finish, scenes
from tests.trust.shim import HARMS, KILL, Harm, read_trace, suffer, traced


class Fault(NamedTuple):
    """One case."""

    scene: Scene
    harm: Harm
    number: int


def _prepare(folder: Path) -> list[Fault]:
    """All cases in an order that is always the same: the quick ones, then the others, both well mixed."""
    faults = []
    for place, scene in enumerate(scenes(folder)):
        disk, trace = folder / f"disk-{place}", folder / f"trace-{place}"
        scene.set(disk)
        in_child(traced, disk, trace, scene.build, disk)
        count = Counter(operation.kind for operation in read_trace(trace))
        for harm in HARMS:
            faults += [Fault(scene, harm, number) for number in range(sum(count[kind] for kind in harm.kinds))]
    mixed = [faults[place] for place in np.random.default_rng(0).permutation(len(faults))]
    quick = [fault for fault in mixed if _is_quick(fault)]
    return quick + [fault for fault in mixed if not _is_quick(fault)]


def _quick(faults: list[Fault]) -> int:
    """every operation of a build from nothing, by SIGKILL and by EIO"""
    return sum(map(_is_quick, faults))


def _is_quick(fault: Fault) -> bool:
    """Every operation of a build from nothing, killed or refused."""
    return fault.scene.name == "from nothing" and fault.harm in HARMS[:2]


def _build(fault: Fault, disk: Path) -> None:
    suffer(disk, fault.harm, fault.number)
    fault.scene.build(disk)


def _case(faults: list[Fault], number: int, rng: np.random.Generator, folder: Path) -> str:
    fault, disk = faults[number], folder / "disk"
    fault.scene.set(disk)
    what = f"{fault.harm.name} at {fault.number}, {fault.scene.name}"
    try:
        ended = _ended(fault, Child(_build, fault, disk))
        in_child(_checked, fault.scene, disk, ended)
    except Wrong as wrong:
        raise Wrong(f"{what}: {wrong}") from wrong
    return f"{fault.harm.name}: the build {ended}"


def _ended(fault: Fault, build: Child) -> str:
    """How the disturbed build ended: only by what was done to it, or well."""
    try:
        build.result()
    except ChildDied as death:
        if fault.harm != KILL or death.status != -9:
            raise
        return "was killed"
    except (OSError, UserError) as error:
        if fault.harm.code <= 0 or (isinstance(error, OSError) and error.errno != fault.harm.code):
            raise
        return "said so"
    return "ended well"


def _checked(scene: Scene, disk: Path, ended: str) -> None:
    seen = scene.seen(disk)
    if ended == "ended well" and seen != scene.root:
        raise Wrong("the build ended well, and there is no such store")
    if ended == "said so" and scene.before and not seen:
        raise Wrong("the build failed, and the store from before is gone")
    finish(scene, disk)


CAMPAIGNS = [
    Campaign(
        "faults",
        "an operation on a file fails: SIGKILL, EIO, ENOSPC, EDQUOT, half a write",
        "the build says so, the next one ends in the same bytes and makes nothing again that was recorded",
        quick=_quick,
        soak=len,
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
