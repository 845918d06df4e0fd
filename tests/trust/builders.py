"""Several builders of one target at once: some are killed, some are stopped and go on when all others have ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gfield.build import BuildReport, build_store
from gfield.field import FieldParams
from gfield.frame import UserError
from gfield.manifest import read_manifest
from gfield.spec import StoreSpec
from gfield.store import open_store
from gfield.verify import verify_store
from tests.trust.campaign import Campaign, Wrong
from tests.trust.checks import check_store
from tests.trust.children import Child, ChildDied, in_child
from tests.trust.clusters import cluster
from tests.trust.inputs import Small, small

SHARDS = 8
SECONDS = 60.0
# So long the others wait for one that is stopped, which may hold the lock under which stores get their names.
PATIENCE_S = 2.0
BEFORE = ("nothing", "a store", "an unfinished build")


@dataclass(frozen=True)
class Kit:
    """The input, and the specs of two stores of it that differ in their thresholds alone, with their root hashes.

    Their arrays are not compressed: all shards have one size, so that nothing but their bytes tells them apart.
    """

    small: Small
    specs: tuple[StoreSpec, StoreSpec]
    roots: tuple[str, str]

    def root(self, spec: StoreSpec) -> str:
        return self.roots[self.specs.index(spec)]


@dataclass
class Builder:
    """One of several: what it builds, how, what becomes of it, and its process."""

    spec: StoreSpec
    options: dict[str, Any]
    fate: str
    child: Child
    stopped: Sequence[Child] = ()


def _prepare(folder: Path) -> Kit:
    of = small(folder, SHARDS, 1)
    operators = FieldParams(low=50, high=200), FieldParams(low=20, high=90)
    first, second = (replace(of.spec, codec="raw", operator=operator.to_dict()) for operator in operators)
    in_child(build_store, of.source, folder / "first.zarr", first)
    in_child(build_store, of.source, folder / "second.zarr", second)
    roots = read_manifest(folder / "first.zarr").root, read_manifest(folder / "second.zarr").root
    return Kit(of, (first, second), roots)


def _round(kit: Kit, number: int, rng: np.random.Generator, folder: Path) -> str:
    specs = kit.specs
    mixed, harmed = number % 4 in (1, 3), number % 4 in (2, 3)
    wanted = specs if mixed else [specs[int(rng.integers(2))]]
    target = folder / "stores" / "s.zarr"
    target.parent.mkdir()
    before = str(rng.choice(BEFORE))
    if before != "nothing":
        part = {"part": (1, 2)} if before == "an unfinished build" else {}
        in_child(_build, kit, target, specs[int(rng.integers(2))], part)
    with ExitStack() as stack:
        builders = _started(kit, wanted, harmed, target, rng, folder, stack)
        _let_go(builders, rng)
        ends = [_end(kit, builder, may_be_refused=mixed) for builder in builders]
    if not mixed and "killed" not in ends:
        # A part that replaces a store which the others have finished is the unfinished build that was asked for.
        begun_anew = any(builder.options["overwrite"] and "part" in builder.options for builder in builders)
        _check(target, {kit.root(wanted[0])}, alone=not begun_anew)
    elif "built" in ends:
        _check(target, {*kit.roots}, alone=False)
    # A build of what does not stand there yet: it publishes, and removes what others have left.
    stands = read_manifest(target).root if target.exists() else ""
    last = next(spec for spec in [*wanted, *specs] if kit.root(spec) != stands)
    in_child(_build, kit, target, last, {}, seconds=SECONDS)
    _check(target, {kit.root(last)}, alone=True)
    harm = ", some stopped or killed" if harmed else ""
    return f"{'two stores wanted' if mixed else 'one store wanted'}{harm}, with {before} before"


def _build(kit: Kit, target: Path, spec: StoreSpec, options: dict[str, Any]) -> BuildReport:
    return build_store(kit.small.source, target, spec, **options)


def _started(
    kit: Kit,
    wanted: Sequence[StoreSpec],
    harmed: bool,
    target: Path,
    rng: np.random.Generator,
    folder: Path,
    stack: ExitStack,
) -> list[Builder]:
    """Two to eight builders that begin within a twentieth of a second: whole ones, parts of a job array, a cluster."""
    count = int(rng.integers(2, 9))
    parts = int(rng.integers(2, 4))
    at_work = None
    if rng.random() < 0.2:
        (folder / "cluster").mkdir()
        at_work = stack.enter_context(cluster(folder / "cluster", 2))
    builders = []
    for place in range(count):
        spec = wanted[place % len(wanted)]
        options: dict[str, Any] = {"overwrite": bool(rng.random() < 0.15)}
        way = rng.random()
        if at_work is not None and place == 0:
            options["scheduler"] = at_work.address
        elif place > 1 and way < 0.4:
            options["part"] = int(rng.integers(parts)) + 1, parts
        # The first two, one of each sort, always end by themselves.
        fate = str(rng.choice(["runs", "stopped", "killed"])) if harmed and place > 1 else "runs"
        time.sleep(rng.uniform(0, 0.05) / count)
        builders.append(Builder(spec, options, fate, Child(_build, kit, target, spec, options)))
    if at_work is not None and harmed:
        builders[0].fate, builders[0].stopped = "stopped", at_work.workers[:1]
    return builders


def _let_go(builders: Sequence[Builder], rng: np.random.Generator) -> None:
    """Stop some and kill some, each at a time of its own; let the stopped ones go on once all others have ended."""
    began = time.monotonic()
    harmed = [(rng.uniform(0, 0.25), builder) for builder in builders if builder.fate != "runs"]
    for moment, builder in sorted(harmed, key=lambda each: each[0]):
        time.sleep(max(0, began + moment - time.monotonic()))
        for child in builder.stopped or [builder.child]:
            child.kill(signal.SIGKILL if builder.fate == "killed" else signal.SIGSTOP)
    end = time.monotonic() + PATIENCE_S
    while any(builder.child.running for builder in builders if builder.fate == "runs") and time.monotonic() < end:
        time.sleep(0.002)
    for builder in builders:
        for child in builder.stopped or [builder.child]:
            child.kill(signal.SIGCONT)


def _end(kit: Kit, builder: Builder, *, may_be_refused: bool) -> str:
    """How a builder ended: built, part, killed, or refused."""
    try:
        report: BuildReport = builder.child.result(SECONDS)
    except ChildDied as died:
        if builder.fate != "killed" or died.status != -signal.SIGKILL:
            raise Wrong(f"{builder}: {died}") from died
        return "killed"
    except UserError as error:
        if not may_be_refused:
            raise Wrong(f"{builder}: ended with {error!r}") from error
        return "refused"
    except Exception as error:
        raise Wrong(f"{builder}: ended with {error!r}") from error
    if report.state == "part":
        if "part" not in builder.options:
            raise Wrong(f"{builder}: ended as a part: {report}")
        return "part"
    if report.root != kit.root(builder.spec):
        raise Wrong(f"{builder}: wanted the root {kit.root(builder.spec)}, and says it has made {report.root}")
    return "built"


def _check(target: Path, roots: set[str], *, alone: bool) -> None:
    check_store(target, roots, alone=alone)
    if findings := in_child(_findings, target):
        raise Wrong(f"verify finds: {findings}")


def _findings(target: Path) -> list[str]:
    return [finding.message for finding in verify_store(open_store(target), sample=None).findings]


CAMPAIGNS = [
    Campaign(
        "builders",
        "2 to 8 builders of one target at once: threads, parts of a job array and a cluster, of one store or of two; "
        "some killed, some stopped and let go on when the others have ended",
        "the store is wholly one that was asked for, no file of it is wrong, each builder that is not killed ends with "
        "its store or a refusal, nothing else is left",
        quick=4,
        soak=200,
        prepare=_prepare,
        case=_round,
    )
]
