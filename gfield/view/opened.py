"""The store that pages show: which one a page was loaded from, whether that is still there, and which frames it has."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gfield.manifest import MANIFEST_PATH, StoreError, read_manifest
from gfield.object_path import Location
from gfield.places import Stamp, file_stamp
from gfield.store import Store, open_store

Rows = npt.NDArray[np.intp]
_KEPT_CHOICES = 16


class Gone(StoreError):
    """The store that a page was loaded from is not there any more; the message is one line."""


class Choice(NamedTuple):
    """Which frames to list: of one split, and with these texts in their scene and name; "" is all."""

    split: str = ""
    scene: str = ""
    name: str = ""


class Opened:
    """One store as it was when a page was loaded from it.

    Attributes
    ----------
    store
        The store.
    root
        Its root hash, by which a page tells which store it shows.
    excluded
        Why a frame could not be read, by its row.
    rows
        The rows of a `Choice`, rising; the last ones are kept.

    Raises
    ------
    StoreError
        As `open_store`, or a text column is damaged.
    """

    def __init__(self, path: Location) -> None:
        self.store: Store = open_store(path)
        self.root = self.store.manifest.root
        # All of them now, while the files are still this store's.
        _ = self.store.names, self.store.splits, self.store.scenes
        self.excluded: dict[int, str] = {entry["frame"]: entry["reason"] for entry in self.store.attributes["excluded"]}
        self.rows = functools.lru_cache(_KEPT_CHOICES)(self._rows)
        self._folded: dict[str, Any] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def splits(self) -> dict[str, int]:
        """The number of frames of each split."""
        return dict(sorted(Counter(self.store.splits.tolist()).items()))

    @functools.cached_property
    def _scenes(self) -> tuple[npt.NDArray[np.str_], Rows]:
        """The scenes in order, and which of them each frame has."""
        texts = self.store.scenes.tolist()
        scenes = sorted(set(texts))
        places = {scene: place for place, scene in enumerate(scenes)}
        return np.array(scenes, dtype=str), np.array([places[text] for text in texts], dtype=np.intp)

    def scenes(self, split: str, text: str) -> list[tuple[str, int]]:
        """The scenes of a split that have a text in their names, and the number of frames of each."""
        scenes_S, scene_N = self._scenes
        counts_S = np.bincount(scene_N[self.rows(Choice(split))], minlength=len(scenes_S))
        found = (counts_S > 0) & (scenes_S != "") & self._having("scene", scenes_S, text)
        return [(str(scenes_S[place]), int(counts_S[place])) for place in np.flatnonzero(found)]

    def _rows(self, choice: Choice) -> Rows:
        chosen_N = np.ones(len(self.store), np.bool_)
        if choice.split:
            chosen_N &= self.store.splits == choice.split
        if choice.scene:
            scenes_S, scene_N = self._scenes
            exact_S = scenes_S == choice.scene
            chosen_N &= (exact_S if exact_S.any() else self._having("scene", scenes_S, choice.scene))[scene_N]
        if choice.name:
            chosen_N &= self._having("name", self.store.names, choice.name)
        return np.flatnonzero(chosen_N)

    def _having(self, column: str, texts: npt.NDArray[np.str_], text: str) -> npt.NDArray[np.bool_]:
        """Which texts have another one in them, in large or small letters."""
        with self._lock:
            if column not in self._folded:
                self._folded[column] = np.strings.lower(texts)
        found: npt.NDArray[np.bool_] = np.strings.find(self._folded[column], text.lower()) >= 0
        return found


class Shown:
    """The store at a path; a page that is loaded gets what is there, and may then ask for that alone.

    Parameters
    ----------
    path
        The store's folder.

    Raises
    ------
    StoreError
        If it is no finished store.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._opened = Opened(path)
        self._same: set[Stamp | None] = {self._opened.store.stamp}

    def now(self) -> Opened:
        """The store that is there now.

        Raises
        ------
        StoreError
            If there is none any more.
        """
        with self._lock:
            if not self._is_there():
                self._opened = Opened(self.path)
                self._same = {self._opened.store.stamp}
            return self._opened

    def of_page(self, root: str) -> Opened:
        """The store that a page was loaded from.

        Raises
        ------
        Gone
            If another one has taken its place, or there is none any more.
        """
        with self._lock:
            try:
                same = self._is_there() and self._opened.root == root
            except StoreError as error:
                raise Gone(str(error)) from error
            if not same:
                raise Gone(f"{self.path}: it has been built anew since this page was opened; reload the page")
            return self._opened

    def _is_there(self) -> bool:
        """Whether the open store is the one at the path. A build that changed nothing leaves it so."""
        stamp = file_stamp(self.path / MANIFEST_PATH)
        if stamp in self._same and stamp is not None:
            return True
        if read_manifest(self.path).root != self._opened.root:
            return False
        self._same.add(stamp)
        return True
