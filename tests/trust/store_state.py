"""A store and what is known of it: the half of `tests.trust.states` that foretells, and that compares."""

from __future__ import annotations

import functools
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from gfield.build import build_store
from gfield.manifest import MANIFEST_PATH, StoreError
from gfield.store import Store, open_store
from tests.trust.campaign import Wrong
from tests.trust.children import Child
from tests.trust.model import CHOICES, Built, Choice, Model, files_of

RARELY = st.sampled_from([False, False, False, True])


@dataclass
class Story:
    """What one case is about, and what came of it."""

    model: Model
    folder: Path
    began: bool = False
    failure: str = ""


def step(function: Callable[..., str]) -> Callable[..., None]:
    """A rule that is noted with what came of it."""

    @functools.wraps(function)
    def noted(self: StoreState, **drawn: Any) -> None:
        if not self.story.began:  # Hypothesis begins with the simplest story, which is the same in every case
            self.story.began = True
            reject()
        told = ", ".join(f"{name}={value}" for name, value in drawn.items())
        self.steps.append(f"{function.__name__}({told})")
        try:
            self.steps[-1] += f": {function(self, **drawn)}"
        except BaseException:
            if not self.story.failure:  # Hypothesis tries again, and a kill is never the same twice
                self.story.failure = "\n".join([*self.steps, traceback.format_exc()])
            raise

    return noted


class StoreState(RuleBasedStateMachine):
    """A store that is built, killed, changed, damaged, repaired and read.

    Attributes
    ----------
    now
        The parameters of the store that must be there; None where there is none.
    damaged
        Paths of its files that are damaged, and by nobody but `damage`.
    ever_damaged
        Those that have ever been.
    no_manifest
        Whether the manifest is among them, so that nothing can be read.
    held
        A store that was opened at some time, and what its parameters were.
    """

    story: ClassVar[Story]
    choices: ClassVar[st.SearchStrategy[Choice]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = self.story.folder / "stores"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.target, self.model = self.folder / "s.zarr", self.story.model
        self.now: Choice | None = None
        self.damaged: set[str] = set()
        self.ever_damaged: set[str] = set()
        self.no_manifest = False
        self.held: tuple[Store, Choice] | None = None
        self.steps: list[str] = []

    def chosen(self, data: st.DataObject) -> Choice:
        """Any parameters; more often than not such that the store that is there can be brought to them."""
        choice = data.draw(self.choices)
        if self.now is None or data.draw(RARELY):
            return choice
        return choice._replace(
            codec=self.now.codec,
            levels=max(choice.levels, self.now.levels),
            label=choice.label or self.now.label,
        )

    def start(self, choice: Choice, overwrite: bool, part: tuple[int, int] | None) -> Child:
        build = functools.partial(build_store, overwrite=overwrite, part=part)
        return Child(build, self.model.source(choice), self.target, self.model.spec(choice))

    def foretold(self, choice: Choice, overwrite: bool) -> str:
        """What a build must come to: built, unchanged, refused, or missing where a file of a finished store is."""
        if self.no_manifest and not overwrite:
            return "refused"
        if self.now is not None and not overwrite:
            if self.now.cannot_become(choice):
                return "refused"
            if self.now == choice:
                files = self.built(choice).files
                sizes = [(self.target / path, len(files[path])) for path in self.damaged]
                whole = all(path.exists() and path.stat().st_size == size for path, size in sizes)
                return "unchanged" if whole else "missing"
        if not overwrite and any(other.cannot_become(choice) for other in self.unfinished() - {choice}):
            return "refused"
        return "built"

    def as_foretold(self, foretold: str, seen: str, choice: Choice) -> str:
        if seen != foretold:
            raise Wrong(f"the build of {choice} is {seen}, wanted {foretold}")
        if self.now is not None and seen != "built":
            self.check()
        return f"{seen} {choice}"

    def is_now(self, choice: Choice, overwrite: bool) -> None:
        """A build has published a store: nothing of it may be wrong but what was taken over, and told by its size."""
        files = self.built(choice).files
        kept = set() if overwrite or self.now is None else self.damaged
        self.now, self.no_manifest = choice, False
        differing = self.differing(choice)
        if not differing <= kept or any((self.target / p).stat().st_size != len(files[p]) for p in differing):
            raise Wrong(f"built, and {sorted(differing)} are wrong, of which {sorted(kept)} were damaged before")
        self.damaged = differing
        if self.unfinished():
            raise Wrong(f"built, and {[path.name for path in self.folder.iterdir()]} are still there")

    def is_gone(self) -> None:
        self.now, self.damaged, self.no_manifest = None, set(), False

    def check(self) -> None:
        """Nothing but what is known to be damaged differs from an uninterrupted build's files."""
        assert self.now is not None
        if (differing := self.differing(self.now)) != self.damaged:
            raise Wrong(f"{sorted(differing)} differ from an uninterrupted build's, known are {sorted(self.damaged)}")

    def differing(self, choice: Choice) -> set[str]:
        files, wanted = files_of(self.target), self.built(choice).files
        differing = {path for path in {*files, *wanted} if files.get(path) != wanted.get(path)}
        return differing - ({MANIFEST_PATH} if self.no_manifest else set())

    def built(self, choice: Choice) -> Built:
        return self.model.built(choice, self.story.folder)

    def unfinished(self) -> set[Choice]:
        """The choices whose unfinished builds are there, by what their folders are called."""
        names = {path.parent.name for path in self.folder.glob("s.zarr.building-*/spec.json")}
        return {choice for choice, name in _folder_names(self.model).items() if name in names}

    def read_of(
        self,
        store: Store,
        choice: Choice,
        which: int,
        rows: list[int],
        damaged: set[str],
        *,
        threads: int = 1,
        may_refuse: bool = False,
    ) -> str:
        """Read rows of an array of a store, which has these parameters and may be damaged."""
        key = [*store.arrays][which % len(store.arrays)]
        array = store.arrays[key]
        harmed = {array.shard_path(row // store.spec.frames_per_shard) for row in rows} & damaged
        try:
            seen = store.read(key, rows, threads=threads)
        except StoreError:
            if not (harmed or may_refuse):
                raise
            return "refused"
        wanted = self.model.array(choice, key)
        if seen.dtype == wanted.dtype and seen.tobytes() == wanted[rows].tobytes():
            return "right"
        # Of a shard in another's place each frame is whole. That it is not the frame asked for, verify tells.
        if harmed and all((frame == wanted).all((1, 2, 3)).any() for frame in seen):
            return "another shard's"
        raise Wrong(f"{key} is read with wrong values, silently; damaged are {harmed}")

    def refuses_to_open(self) -> bool:
        if not self.no_manifest:
            return False
        try:
            open_store(self.target)
        except StoreError:
            return True
        raise Wrong("the manifest is damaged, and the store opens")


_NAMES: dict[str, dict[Choice, str]] = {}


def _folder_names(model: Model) -> dict[Choice, str]:
    if model.kind not in _NAMES:
        _NAMES[model.kind] = {
            choice: f"s.zarr.building-{model.spec(choice).fingerprint[:12]}" for choice in CHOICES[model.kind]
        }
    return _NAMES[model.kind]
