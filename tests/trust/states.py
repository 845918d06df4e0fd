"""A store through everything that its users do to it, in any order, against a model of what it must then be."""

from __future__ import annotations

import functools
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gfield.build import build_store
from gfield.manifest import MANIFEST_PATH, StoreError, read_manifest
from gfield.plan import plan_build
from gfield.repair import repair_store
from gfield.staging import BuildError
from gfield.store import open_store
from gfield.verify import verify_store
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import Child
from tests.trust.model import CHOICES, FRAMES, KINDS, Choice, Model, files_of

QUICK, QUICK_STEPS, SOAK, STEPS = 40, 20, 500, 100
_ALIVE_S = 0.06  # a build takes about so long
_PARTS = st.sampled_from([None, None, (1, 2), (2, 2)])
_RARELY = st.sampled_from([False, False, False, True])


@dataclass
class _Rest:
    """What one case is about, and what came of it."""

    model: Model
    folder: Path
    began: bool = False
    failure: str = ""


def _step(function: Callable[..., str]) -> Callable[..., None]:
    """A rule that is noted with what came of it."""

    @functools.wraps(function)
    def noted(self: StoreMachine, **drawn: Any) -> None:
        if not self.rest.began:  # Hypothesis begins with the simplest story, which is the same in every case
            self.rest.began = True
            reject()
        told = ", ".join(f"{name}={value}" for name, value in drawn.items())
        self.steps.append(f"{function.__name__}({told})")
        try:
            self.steps[-1] += f": {function(self, **drawn)}"
        except BaseException:
            if not self.rest.failure:  # Hypothesis tries again, and a kill is never the same twice
                self.rest.failure = "\n".join([*self.steps, traceback.format_exc()])
            raise

    return noted


class StoreMachine(RuleBasedStateMachine):
    """A store that is built, killed, changed, damaged, repaired and read.

    Attributes
    ----------
    now
        The parameters of the store that must be there; None where there is none.
    damaged
        Paths of its files that are damaged, and by nobody but `damage`.
    no_manifest
        Whether the manifest is among them, so that nothing can be read.
    """

    rest: ClassVar[_Rest]
    choices: ClassVar[st.SearchStrategy[Choice]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = self.rest.folder / "stores"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.target, self.model = self.folder / "s.zarr", self.rest.model
        self.now: Choice | None = None
        self.damaged: set[str] = set()
        self.no_manifest = False
        self.steps: list[str] = []

    @rule(data=st.data(), part=_PARTS, overwrite=_RARELY)
    @_step
    def build(self, data: st.DataObject, part: tuple[int, int] | None, overwrite: bool) -> str:
        choice = self._chosen(data)
        foretold = self._foretold(choice, overwrite)
        try:
            report = self._start(choice, overwrite, part).result()
        except (BuildError, StoreError) as error:
            seen = "refused" if isinstance(error, BuildError) else "missing"
            return self._as_foretold(foretold, seen, choice)
        if report.state == "part" and part is not None:
            return self._as_foretold(foretold, "built", choice) + ", in part"
        self._as_foretold(foretold, report.state, choice)
        if report.state == "built":
            self._is_now(choice, overwrite)
        return f"{report.state} {choice}"

    @rule(data=st.data(), overwrite=_RARELY, share=st.integers(0, 100))
    @_step
    def kill(self, data: st.DataObject, overwrite: bool, share: int) -> str:
        choice = self._chosen(data)
        foretold = self._foretold(choice, overwrite)
        child = self._start(choice, overwrite, None)
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
            if self.now is not None and choice not in self._unfinished():
                raise Wrong("the store is gone, and what was built is gone as well") from None
            self._is_gone()
            return f"{choice}: no store yet"
        if foretold == "built" and root == self._built(choice).root and (choice != self.now or overwrite):
            if self.now == choice and self._differing(choice) == self.damaged and not self.no_manifest:
                return f"{choice}: too early"
            self._is_now(choice, overwrite)
            return f"{choice}: too late, it is built"
        assert self.now is not None
        if root != self._built(self.now).root:
            raise Wrong(f"root {root} is neither that of {self.now} nor that of {choice}")
        return f"{choice}: the store is as it was"

    @rule(data=st.data(), overwrite=_RARELY)
    @_step
    def plan(self, data: st.DataObject, overwrite: bool) -> str:
        choice = self._chosen(data)
        foretold = self._foretold(choice, overwrite)
        try:
            plan = plan_build(self.model.source(choice), self.target, self.model.spec(choice), overwrite=overwrite)
        except BuildError:
            return self._as_foretold(foretold, "refused", choice)
        if foretold == "refused":
            raise Wrong(f"{choice} can be planned, and not built")
        if foretold in ("unchanged", "missing") and plan.to_write:
            raise Wrong(f"{plan.to_write} are to be written, and nothing is to be built")
        return f"{choice}: {len(plan.to_write)} arrays"

    @precondition(lambda self: self.now is not None)
    @rule(where=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "delete", "append", "swap"]))
    @_step
    def damage(self, where: int, how: str) -> str:
        assert self.now is not None
        files = sorted({*self._built(self.now).files} - {MANIFEST_PATH})
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
        self.damaged = self._differing(self.now)
        return f"{path.relative_to(self.target)}"

    @precondition(lambda self: self.now is not None and "zarr.json" not in self.damaged)
    @rule(where=st.integers(0, 10**6), how=st.sampled_from(["flip", "cut", "delete"]), really=_RARELY)
    @_step
    def damage_manifest(self, where: int, how: str, really: bool) -> str:
        if not really or not (self.target / MANIFEST_PATH).exists():
            return "not this time"
        _harm(self.target / MANIFEST_PATH, how, where)
        self.no_manifest = True
        return "done"

    @precondition(lambda self: self.now is not None)
    @rule()
    @_step
    def verify(self) -> str:
        if self._refuses_to_open():
            return "does not open"
        named = {finding.path for finding in verify_store(open_store(self.target), sample=None).findings}
        if named != self.damaged:
            raise Wrong(f"verify names {sorted(named)}, and {sorted(self.damaged)} are damaged")
        return f"{len(named)} files"

    @precondition(lambda self: self.now is not None)
    @rule()
    @_step
    def repair(self) -> str:
        assert self.now is not None
        if self._refuses_to_open():
            return "does not open"
        store = open_store(self.target)
        report = repair_store(store, verify_store(store, sample=0).findings, self.model.source(self.now))
        if {*report.restored} != self.damaged or report.different:
            raise Wrong(f"repair restored {report.restored}, different {report.different}, wanted {self.damaged}")
        self.damaged = set()
        self._check()
        return f"{len(report.restored)} files"

    @precondition(lambda self: self.now is not None)
    @rule(
        which=st.integers(0, 10**6),
        rows=st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=5),
        threads=st.sampled_from([1, 3]),
    )
    @_step
    def read(self, which: int, rows: list[int], threads: int) -> str:
        assert self.now is not None
        if self._refuses_to_open():
            return "does not open"
        store = open_store(self.target)
        key = [*store.arrays][which % len(store.arrays)]
        array = store.arrays[key]
        damaged = {array.shard_path(row // store.spec.frames_per_shard) for row in rows} & self.damaged
        try:
            seen = store.read(key, rows, threads=threads)
        except StoreError:
            if not damaged:
                raise
            return "refused"
        wanted = self.model.array(self.now, key)[rows]
        if seen.dtype == wanted.dtype and seen.tobytes() == wanted.tobytes():
            return "right"
        # Of a shard in another's place each frame is whole. That it is not the frame asked for, verify tells.
        if damaged and all((frame == self.model.array(self.now, key)).all((1, 2, 3)).any() for frame in seen):
            return "another shard's"
        raise Wrong(f"{key} is read with wrong values, silently; damaged are {damaged}")

    @precondition(lambda self: self.now is not None)
    @rule(column=st.sampled_from(["name", "split", "scene"]))
    @_step
    def text(self, column: str) -> str:
        assert self.now is not None
        if self._refuses_to_open():
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

    def _chosen(self, data: st.DataObject) -> Choice:
        """Any parameters; more often than not such that the store that is there can be brought to them."""
        choice = data.draw(self.choices)
        if self.now is None or data.draw(_RARELY):
            return choice
        return choice._replace(
            codec=self.now.codec,
            levels=max(choice.levels, self.now.levels),
            label=choice.label or self.now.label,
        )

    def _start(self, choice: Choice, overwrite: bool, part: tuple[int, int] | None) -> Child:
        build = functools.partial(build_store, overwrite=overwrite, part=part)
        return Child(build, self.model.source(choice), self.target, self.model.spec(choice))

    def _foretold(self, choice: Choice, overwrite: bool) -> str:
        """What a build must come to: built, unchanged, refused, or missing where a file of a finished store is."""
        if self.no_manifest and not overwrite:
            return "refused"
        if self.now is not None and not overwrite:
            if self.now.cannot_become(choice):
                return "refused"
            if self.now == choice:
                files = self._built(choice).files
                sizes = [(self.target / path, len(files[path])) for path in self.damaged]
                whole = all(path.exists() and path.stat().st_size == size for path, size in sizes)
                return "unchanged" if whole else "missing"
        if not overwrite and any(other.cannot_become(choice) for other in self._unfinished() - {choice}):
            return "refused"
        return "built"

    def _as_foretold(self, foretold: str, seen: str, choice: Choice) -> str:
        if seen != foretold:
            raise Wrong(f"the build of {choice} is {seen}, wanted {foretold}")
        if self.now is not None and seen != "built":
            self._check()
        return f"{seen} {choice}"

    def _is_now(self, choice: Choice, overwrite: bool) -> None:
        """A build has published a store: nothing of it may be wrong but what was taken over, and told by its size."""
        files = self._built(choice).files
        kept = set() if overwrite or self.now is None else self.damaged
        self.now, self.no_manifest = choice, False
        differing = self._differing(choice)
        if not differing <= kept or any((self.target / p).stat().st_size != len(files[p]) for p in differing):
            raise Wrong(f"built, and {sorted(differing)} are wrong, of which {sorted(kept)} were damaged before")
        self.damaged = differing
        if self._unfinished():
            raise Wrong(f"built, and {[path.name for path in self.folder.iterdir()]} are still there")

    def _is_gone(self) -> None:
        self.now, self.damaged, self.no_manifest = None, set(), False

    def _check(self) -> None:
        """Nothing but what is known to be damaged differs from an uninterrupted build's files."""
        assert self.now is not None
        if (differing := self._differing(self.now)) != self.damaged:
            raise Wrong(f"{sorted(differing)} differ from an uninterrupted build's, known are {sorted(self.damaged)}")

    def _differing(self, choice: Choice) -> set[str]:
        files, wanted = files_of(self.target), self._built(choice).files
        differing = {path for path in {*files, *wanted} if files.get(path) != wanted.get(path)}
        return differing - ({MANIFEST_PATH} if self.no_manifest else set())

    def _built(self, choice: Choice) -> Any:
        return self.model.built(choice, self.rest.folder)

    def _unfinished(self) -> set[Choice]:
        """The choices whose unfinished builds are there, by what their folders are called."""
        names = {path.parent.name for path in self.folder.glob("s.zarr.building-*/spec.json")}
        return {choice for choice, name in self._folder_names().items() if name in names}

    def _folder_names(self) -> dict[Choice, str]:
        return _folder_names(self.model)

    def _refuses_to_open(self) -> bool:
        if not self.no_manifest:
            return False
        try:
            open_store(self.target)
        except StoreError:
            return True
        raise Wrong("the manifest is damaged, and the store opens")


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


_NAMES: dict[str, dict[Choice, str]] = {}


def _folder_names(model: Model) -> dict[Choice, str]:
    if model.kind not in _NAMES:
        _NAMES[model.kind] = {
            choice: f"s.zarr.building-{model.spec(choice).fingerprint[:12]}" for choice in CHOICES[model.kind]
        }
    return _NAMES[model.kind]


def prepare(folder: Path) -> dict[str, Model]:
    """Inputs of both kinds."""
    models = {}
    for kind in KINDS:
        (folder / kind).mkdir()
        models[kind] = Model(kind, folder / kind)
        models[kind].write()
    return models


def story(models: dict[str, Model], number: int, rng: np.random.Generator, folder: Path) -> str:
    """One case: a story of 20 steps, or of 100 beyond the quick tier."""
    kind = "nyu" if number % 4 == 3 else "images"
    rest = _Rest(models[kind], folder)
    machine = type("Story", (StoreMachine,), {"rest": rest, "choices": st.sampled_from(CHOICES[kind])})
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
        raise Wrong(rest.failure or "".join(traceback.format_exception(error))) from error
    return f"{kind}: {steps} steps"


CAMPAIGNS = [
    Campaign(
        "states",
        "builds whole and in parts, kills, other parameters, damage, repairs and reads, in any order",
        "after every step the store is what the model says, file by file, and no frame or text is read wrong",
        quick=QUICK,
        soak=QUICK + SOAK,
        prepare=prepare,
        case=story,
    )
]
