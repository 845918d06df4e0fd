"""What the folder of a run tells, whether it is finished, interrupted or damaged: settings, log and scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from train.errors import TrainError
from train.files import read_file
from train.runs import read_run

_LARGEST_LOG = 1 << 30
_APART = ("step", "time", "kind")


class Curve(NamedTuple):
    """One number of a log over its steps, those that were finite."""

    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Score:
    """What `train evaluate` has left.

    Attributes
    ----------
    protocol, version, text
        How it was scored.
    metrics
        By name; None where there was no pixel.
    images, official_images
        How many were scored, and how many the protocol's own test split has.
    store, fingerprint
        Where the pictures lay, and what they were.
    per_image
        Lists by name, one entry an image; ``"name"`` has the images' names.
    """

    protocol: str
    version: int
    text: str
    metrics: Mapping[str, float | None]
    images: int
    official_images: int
    store: str
    fingerprint: str
    per_image: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Run:
    """A run, as far as it can be read.

    Attributes
    ----------
    name
        What the page calls it: as much of its path as tells it from the others.
    folder
        Where it is.
    meta
        Its ``meta.json``.
    curves
        By kind (``"train"``, ``"eval"``) and name.
    steps
        Steps that the log has.
    seconds_per_step
        The median; None for fewer than two steps.
    events
        What the log says in words, with its step.
    scores
        In the order of their files' names.
    notes
        What could not be read, in sentences.
    """

    name: str
    folder: Path
    meta: Mapping[str, Any]
    curves: Mapping[tuple[str, str], Curve]
    steps: int
    seconds_per_step: float | None
    events: Sequence[tuple[int, str]]
    scores: Sequence[Score]
    notes: Sequence[str]

    @property
    def command(self) -> str:
        """``"pretrain"`` or ``"finetune"``."""
        return str(self.meta.get("command"))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was begun with, by name."""
        found = self.meta.get("arguments")
        return found if isinstance(found, dict) else {}

    @property
    def planned(self) -> int | None:
        """Steps that it is to have, as far as its ``meta.json`` tells."""
        steps, epochs, batch = (self.arguments.get(name) for name in ("steps", "epochs", "batch"))
        labelled = self.meta.get("labelled_frames")
        if isinstance(steps, int):
            return steps
        if isinstance(epochs, int) and isinstance(batch, int) and batch > 0 and isinstance(labelled, list):
            return epochs * (len(labelled) // batch)
        return None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs.

    Raises
    ------
    TrainError
        If a folder is no run, or given twice. Damage of its log or scores is among its `Run.notes`.
    """
    paths = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise TrainError(f"{folder}: given twice, wanted every run once")
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of their paths, as many as tell them apart."""
    deepest = max(len(path.parts) for path in paths)
    for parts in range(1, deepest):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(folder: Path, name: str) -> Run:
    meta = read_run(folder)
    notes: list[str] = []
    lines = list(_log_lines(folder / "log.jsonl", notes))
    if not lines and not notes:
        notes.append("an imported run, which has no log" if meta.get("imported") else "the log has no step yet")
    train = [line for line in lines if line["kind"] == "train"]
    gaps = [after["time"] - before["time"] for before, after in pairwise(train) if _are_numbers(before, after)]
    return Run(
        name=name,
        folder=folder,
        meta=meta,
        curves=_curves(lines),
        steps=max((line["step"] + 1 for line in train), default=0),
        seconds_per_step=median(gaps) if gaps else None,
        events=[(line["step"], str(line.get("text"))) for line in lines if line["kind"] == "event"],
        scores=list(_scores(folder / "evaluations", notes)),
        notes=notes,
    )


def _log_lines(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    try:
        data = read_file(path, _LARGEST_LOG)
    except FileNotFoundError:
        notes.append("no log.jsonl")
        return
    except OSError as error:
        notes.append(f"log.jsonl: {error.strerror or error}")
        return
    torn = 0
    for text in data.splitlines():
        line = _object(text)
        if line is None or type(line.get("step")) is not int or not isinstance(line.get("kind"), str):
            torn += 1
        else:
            yield line
    if torn:
        notes.append(f"log.jsonl: {torn} line{'s' if torn > 1 else ''} that cannot be read, left out")


def _curves(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Curve]:
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for line in lines:
        if line["kind"] == "event":
            continue
        for name, value in line.items():
            if name not in _APART and _is_finite(value):
                steps, values = found.setdefault((line["kind"], name), ([], []))
                steps.append(line["step"])
                values.append(float(value))
    return {key: Curve(steps, values) for key, (steps, values) in found.items()}


def _scores(folder: Path, notes: list[str]) -> Iterator[Score]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield _score(_object(read_file(path)))
        except (OSError, KeyError, TypeError, ValueError):
            notes.append(f"evaluations/{path.name}: cannot be read, wanted what train evaluate writes")


def _score(content: dict[str, Any] | None) -> Score:
    if content is None:
        raise ValueError("no object")
    protocol, store, per_image = content["protocol"], content["store"], content["per_image"]
    metrics = {str(name): None if value is None else float(value) for name, value in content["metrics"].items()}
    if len({len(values) for values in per_image.values()}) != 1:
        raise ValueError("lists of several lengths")
    return Score(
        str(protocol["name"]), int(protocol["version"]), str(protocol["text"]), metrics, int(content["images"]),
        int(content["official_images"]), str(store["path"]), str(store["fingerprint"]), per_image,
    )  # fmt: skip


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return _is_finite(before.get("time")) and _is_finite(after.get("time"))
