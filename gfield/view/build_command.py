"""The `gfield build` that would give a store other fields, put together from what the store says of itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from gfield.field import FieldParams
from gfield.object_path import Location
from gfield.places import is_there
from gfield.spec import OPTIONAL_ARRAYS, level_name
from gfield.store import Store

_INPUTS = {"nyu": "MAT", "make3d": "FOLDER", "images": "FOLDER", "densedepth": "ZIP", "nyu-raw": "FOLDER"}
_LEAVE_OUT = {"densedepth", "images", "make3d"}


class BuildCommand(NamedTuple):
    """A command for the shell, and what is still to be done to it, "" if nothing is."""

    text: str
    note: str


def build_command(store: Store, params: FieldParams, source: Location | None = None) -> BuildCommand:
    """The command that brings a store to other parameters of its operator, with the options it was built with.

    Parameters
    ----------
    store
        The store, whose path is written as it was given.
    params
        The operator's parameters.
    source
        What the store was built from; where it is not given, a file of the name that the store knows, beside the
        store, or that name.
    """
    spec = store.spec
    notes = []
    if source is None:
        source = _beside(store)
        if not _exists(source):
            notes.append(f"{source} stands for what {store.path.name} was built from: put its path there.")
    if spec.kind == "nyu-raw":
        notes.append("Add --every, --max-gap and --exclude-test as they were given then; the store does not know.")
    words = ["gfield", "build", spec.kind, str(source), str(store.path), *_store_options(store, source)]
    return BuildCommand(shlex.join([*words, *field_options(params)]), " ".join(notes))


def field_options(params: FieldParams) -> list[str]:
    """The options of the operator's parameters, those that are not the defaults."""
    plain = FieldParams()
    words = []
    for name in ("low", "high"):
        if (value := getattr(params, name)) != getattr(plain, name):
            words += [f"--{name}", str(value)]
    words += ["--auto"] if params.auto else []
    words += ["--l2-gradient"] if params.l2_gradient else []
    words += ["--field", params.variant] if params.variant != plain.variant else []
    return words


def _exists(place: Location) -> bool:
    return place.exists() if isinstance(place, Path) else is_there(place)


def _beside(store: Store) -> Location:
    """What a store was built from, as far as it knows: a file's name, or that it was a folder."""
    files = store.attributes["source_files"]
    wanted = _INPUTS.get(store.spec.kind, "SOURCE")
    if wanted == "FOLDER" or not files:
        return Path(wanted)
    beside = store.path.parent / files[0]["name"]
    return beside if _exists(beside) else Path(files[0]["name"])


def _store_options(store: Store, source: Location) -> list[str]:
    """The options that have to be as they were, or the build would refuse the store."""
    spec = store.spec
    width, height = spec.size_WH
    words: list[str] = []
    if spec.levels_WH != ((width, height), (width >> 1, height >> 1)):
        words += [word for level_WH in spec.levels_WH for word in ("--level", level_name(level_WH))]
    if spec.codec != "lz4":
        words += ["--codec", spec.codec]
    words += ["--frames-per-shard", str(spec.frames_per_shard)]
    words += [word for name in OPTIONAL_ARRAYS if name in spec.arrays for word in ("--array", name)]
    if spec.kind == "images" and spec.size_WH != (640, 480):
        words += ["--size", level_name(spec.size_WH)]
    if spec.kind in ("nyu", "densedepth") and spec.valid_region is None:
        words.append("--keep-frame")
    if spec.kind == "densedepth":
        words += [word for entry in store.attributes["source_files"][1:2]
                  for word in ("--test", str(source.parent / entry["name"]))]  # fmt: skip
    if spec.kind == "nyu-raw" and "train" in store.splits.tolist():
        words += ["--split", "train"]
    if store.attributes["excluded"] or (spec.kind in _LEAVE_OUT and store.attributes["left_out"]):
        words += ["--on-error", "skip"]
    return words
