"""A store through everything that its users do to it, in any order, against a model of what it must then be.

A case tells the same story again, but for where exactly a kill meets a build.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path

import cv2
import numpy as np
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from gfield.manifest import MANIFEST_PATH, StoreError, read_manifest
from gfield.plan import plan_build
from gfield.repair import repair_store
from gfield.staging import BuildError
from gfield.store import open_store
from gfield.verify import verify_store
from tests.trust.campaign import Campaign, Wrong
from tests.trust.model import CHOICES, FRAMES, KINDS, Choice, Model
from tests.trust.store_state import RARELY, StoreState, Story, step

QUICK, QUICK_STEPS, SOAK, STEPS = 40, 20, 500, 100
_ALIVE_S = 0.06  # a build takes about so long
_ROWS = st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=5)
_OTHER_HIGH = {120: 200, 200: 120}
_PARTS = st.sampled_from([None, None, (1, 2), (2, 2)])


class StoreMachine(StoreState):
    """The rules: what may happen to the store."""

    @rule(data=st.data(), part=_PARTS, overwrite=RARELY)
    @step
    def build(self, data: st.DataObject, part: tuple[int, int] | None, overwrite: bool) -> str:
        return self._build(self.chosen(data), overwrite, part)

    def _build(self, choice: Choice, overwrite: bool, part: tuple[int, int] | None) -> str:
        foretold = self.foretold(choice, overwrite)
        try:
            report = self.start(choice, overwrite, part).result()
        except (BuildError, StoreError) as error:
            seen = "refused" if isinstance(error, BuildError) else "missing"
            return self.as_foretold(foretold, seen, choice)
        if report.state == "part" and part is not None:
            return self.as_foretold(foretold, "built", choice) + ", in part"
        self.as_foretold(foretold, report.state, choice)
        if report.state == "built":
            self.is_now(choice, overwrite)
        return f"{report.state} {choice}"

    @rule(data=st.data(), overwrite=RARELY, share=st.integers(0, 100))
    @step
    def kill(self, data: st.DataObject, overwrite: bool, share: int) -> str:
        choice = self.chosen(data)
        foretold = self.foretold(choice, overwrite)
        child = self.start(choice, overwrite, None)
        time.sleep(_ALIVE_S * share / 100)
        child.kill()
        child.wait()
        try:
            root = read_manifest(self.target).root
        except StoreError:
            if self.target.exists() and any(self.target.iterdir()):
                if not self.no_manifest:
                    raise
                return f"{choice}: the store is as damaged as it was"
            if foretold != "built" and self.now is not None:
                raise Wrong("the store is gone, and nothing was to be built") from None
            if self.now is not None and choice not in self.unfinished():
                raise Wrong("the store is gone, and what was built is gone as well") from None
            self.is_gone()
            return f"{choice}: no store yet"
        if foretold == "built" and root == self.built(choice).root and (choice != self.now or overwrite):
            if self.now == choice and self.differing(choice) == self.damaged and not self.no_manifest:
                return f"{choice}: too early"
            self.is_now(choice, overwrite)
            return f"{choice}: too late, it is built"
        assert self.now is not None
        if root != self.built(self.now).root:
            raise Wrong(f"root {root} is neither that of {self.now} nor that of {choice}")
        return f"{choice}: the store is as it was"

    @rule(data=st.data(), overwrite=RARELY)
    @step
    def plan(self, data: st.DataObject, overwrite: bool) -> str:
        choice = self.chosen(data)
        foretold = self.foretold(choice, overwrite)
        try:
            plan = plan_build(self.model.source(choice), self.target, self.model.spec(choice), overwrite=overwrite)
        except BuildError:
            return self.as_foretold(foretold, "refused", choice)
        if foretold == "refused":
            raise Wrong(f"{choice} can be planned, and not built")
        if foretold in ("unchanged", "missing") and plan.to_write:
            raise Wrong(f"{plan.to_write} are to be written, and nothing is to be built")
        return f"{choice}: {len(plan.to_write)} arrays"

    @precondition(lambda self: self.now is not None)
    @rule(where=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "delete", "append", "swap"]))
    @step
    def damage(self, where: int, how: str) -> str:
        assert self.now is not None
        files = sorted({*self.built(self.now).files} - {MANIFEST_PATH})
        if self.no_manifest:
            files.remove("zarr.json")  # by one of the two a build must know the store
        if how == "swap":
            files = [path for path in files if "/rgb/c/" in path]
        path = self.target / files[where % len(files)]
        if how == "swap":
            other = self.target / files[(where + 1) % len(files)]
            if not (path.exists() and other.exists()):
                return "nothing to swap"
            path.rename(self.folder / "aside")
            other.rename(path)
            (self.folder / "aside").rename(other)
        elif path.exists():
            _harm(path, how, where)
        self.damaged = self.differing(self.now)
        self.ever_damaged |= self.damaged
        return f"{path.relative_to(self.target)}"

    @precondition(lambda self: self.now is not None and "zarr.json" not in self.damaged)
    @rule(where=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "delete"]), really=RARELY)
    @step
    def damage_manifest(self, where: int, how: str, really: bool) -> str:
        if not really or not (self.target / MANIFEST_PATH).exists():
            return "not this time"
        _harm(self.target / MANIFEST_PATH, how, where)
        self.no_manifest = True
        return "done"

    @precondition(lambda self: self.now is not None)
    @rule()
    @step
    def verify(self) -> str:
        if self.refuses_to_open():
            return "does not open"
        named = {finding.path for finding in verify_store(open_store(self.target), sample=None).findings}
        if named != self.damaged:
            raise Wrong(f"verify names {sorted(named)}, and {sorted(self.damaged)} are damaged")
        return f"{len(named)} files"

    @precondition(lambda self: self.now is not None)
    @rule()
    @step
    def repair(self) -> str:
        assert self.now is not None
        if self.refuses_to_open():
            return "does not open"
        store = open_store(self.target)
        report = repair_store(store, verify_store(store, sample=0).findings, self.model.source(self.now))
        if {*report.restored} != self.damaged or report.different:
            raise Wrong(f"repair restored {report.restored}, different {report.different}, wanted {self.damaged}")
        self.damaged = set()
        self.check()
        return f"{len(report.restored)} files"

    @precondition(lambda self: self.now is not None)
    @rule(which=st.integers(0, 10**6), rows=_ROWS, threads=st.sampled_from([1, 3]))
    @step
    def read(self, which: int, rows: list[int], threads: int) -> str:
        assert self.now is not None
        if self.refuses_to_open():
            return "does not open"
        return self.read_of(open_store(self.target), self.now, which, rows, self.damaged, threads=threads)

    @precondition(lambda self: self.now is not None)
    @rule()
    @step
    def hold(self) -> str:
        assert self.now is not None
        if self.refuses_to_open():
            return "does not open"
        self.held = open_store(self.target), self.now
        return f"{self.now}"

    @precondition(lambda self: self.held is not None)
    @rule(which=st.integers(0, 10**6), rows=_ROWS)
    @step
    def read_held(self, which: int, rows: list[int]) -> str:
        return self._read_held(which, rows)

    @precondition(lambda self: self.now is not None)
    @rule(which=st.integers(0, 10**6), rows=_ROWS)
    @step
    def build_while_held(self, which: int, rows: list[int]) -> str:
        assert self.now is not None
        if self.refuses_to_open():
            return "does not open"
        self.held = open_store(self.target), self.now
        told = self._build(self.now._replace(high=_OTHER_HIGH[self.now.high]), False, None)
        return f"{told}, {self._read_held(which, rows)}"

    def _read_held(self, which: int, rows: list[int]) -> str:
        assert self.held is not None
        store, choice = self.held
        others = self.no_manifest or self.now != choice
        return self.read_of(store, choice, which, rows, self.ever_damaged, may_refuse=others) + f" of {choice}"

    @precondition(lambda self: self.now is not None)
    @rule(column=st.sampled_from(["name", "split", "scene"]))
    @step
    def text(self, column: str) -> str:
        assert self.now is not None
        if self.refuses_to_open():
            return "does not open"
        try:
            seen = open_store(self.target).text(column).tolist()
        except StoreError:
            if not {f"{column}/zarr.json", f"{column}/c/0"} & self.damaged:
                raise
            return "refused"
        if seen != self.model.text(self.now, column):
            raise Wrong(f"{column} is read as {seen}")
        return "right"


def _harm(path: Path, how: str, where: int) -> None:
    """What happens to files in place, so that it happens under every name they have; and what does not."""
    data = bytearray(path.read_bytes())
    if how == "delete" or not data:
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: where % len(data)])
    elif how == "append":
        path.write_bytes(data + b"\0" * (1 + where % 9))
    else:
        data[where % len(data)] ^= 1 << where % 8
        path.write_bytes(data)


def prepare(folder: Path) -> dict[str, Model]:
    """Inputs of both kinds."""
    # Builds are forked from here, and OpenCV's threads are not: a fork would wait for them.
    cv2.setNumThreads(0)
    models = {}
    for kind in KINDS:
        (folder / kind).mkdir()
        models[kind] = Model(kind, folder / kind)
        models[kind].write()
    return models


def tell(models: dict[str, Model], number: int, rng: np.random.Generator, folder: Path) -> str:
    """One case: a story of 20 steps, or of 100 beyond the quick tier."""
    kind = "nyu" if number % 4 == 3 else "images"
    this = Story(models[kind], folder)
    machine = type("Story", (StoreMachine,), {"story": this, "choices": st.sampled_from(CHOICES[kind])})
    steps = QUICK_STEPS if number < QUICK else STEPS
    once = settings(
        max_examples=1,
        stateful_step_count=steps,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    try:
        run_state_machine_as_test(seed(int(rng.integers(2**32)))(machine), settings=once)
    except BaseException as error:
        raise Wrong(this.failure or "".join(traceback.format_exception(error))) from error
    return f"{kind}: {steps} steps"


CAMPAIGNS = [
    Campaign(
        "states",
        "builds whole and in parts, kills, other parameters, damage, repairs and reads, in any order; "
        "some through a store that was opened long before",
        "after every step the store is what the model says, file by file, and no frame or text is read wrong",
        quick=QUICK,
        soak=QUICK + SOAK,
        prepare=prepare,
        case=tell,
    )
]
