"""``results.jsonl``: what a study found, one JSON object a line, and all that its report needs.

The first line is the header, the others are results, in the order of the plan and not of time. The same results
are the same bytes, whoever computed them first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from train.errors import TrainError
from train.files import write_in_turn
from train.study import TABLES

__all__ = ["FORMAT", "TABLES", "Header", "Result", "read_line", "read_results", "write_results"]
FORMAT = "gfield study 1"
_NUMBER = (int, float)
# More than any score, and its square is still a number; JSON has others, such as 1e999.
LARGEST = 1e100
T = TypeVar("T", "Header", "Result")


@dataclass(frozen=True)
class Header:
    """What a study is.

    Attributes
    ----------
    name
        Its name, for people.
    grids
        Each with ``table`` (one of `TABLES`), ``methods`` (names of rows), ``networks``, ``labels`` (such as "1%"),
        ``seeds``, ``stores`` and ``protocols``.
    command
        The command that runs it.
    machine
        Processor, card, cores and torch; several machines stand one after the other.
    cells
        How many are planned.
    """

    name: str
    grids: list[dict[str, Any]]
    command: str
    machine: str
    cells: int


@dataclass(frozen=True)
class Result:
    """One cell's score by one protocol, under the name of one row.

    Attributes
    ----------
    cell
        Its id, which names its folder in ``runs``. A cell that stands in two rows has a result for each.
    row, method
        Name of the row, and what the encoder starts from: ``"random"``, ``"imagenet"`` or a method of pre-training.
    network, encoder
        By name.
    labels, share, labelled_frames
        As ``"1%"`` or ``"80"``, as a share in (0, 1] (None for a number of frames), and as the frames used.
    seed
        Of the fine-tuning and of the choice of labelled frames.
    store, pretrained_on
        Names of stores: of the fine-tuning and the score, and of the pre-trainings one after the other ("a+b" is
        both together).
    protocol, protocol_version, metrics, images, official
        As in `train.evaluate.Evaluation`; metrics of length are in metres.
    pretraining
        Of the last pre-training: ``run``, ``steps``, and means over its last steps, ``loss`` and ``accuracy`` (None
        where it has none), and ``seconds``; None if there was none.
    run, steps
        Folder of the fine-tuning, relative to the study's, and its length.
    seconds
        ``finetune`` and ``evaluate``.
    examples
        Pictures, relative to the study's folder.
    """

    cell: str
    row: str
    method: str
    network: str
    encoder: str
    labels: str
    share: float | None
    labelled_frames: int
    seed: int
    store: str
    pretrained_on: list[str]
    protocol: str
    protocol_version: int
    metrics: dict[str, float]
    images: int
    official: bool
    pretraining: dict[str, Any] | None
    run: str
    steps: int
    seconds: dict[str, float]
    examples: list[str]


# What JSON has for each field: bool is no number here.
_KINDS: dict[str, tuple[type, ...]] = {
    "cells": (int,), "labelled_frames": (int,), "seed": (int,), "protocol_version": (int,), "images": (int,),
    "steps": (int,), "share": (*_NUMBER, type(None)), "official": (bool,), "grids": (list,), "pretrained_on": (list,),
    "examples": (list,), "metrics": (dict,), "seconds": (dict,), "pretraining": (dict, type(None)),
}  # fmt: skip


def write_results(path: Path, header: Header, results: Sequence[Result]) -> None:
    """Write a results file, all or nothing.

    Raises
    ------
    TrainError
        If a number is not finite, or the disk refuses.
    """
    lines = [_line("study", asdict(header)), *(_line("result", asdict(result)) for result in results)]
    try:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    except ValueError as error:
        raise TrainError(f"{path}: not written, a value is not a finite number") from error
    try:
        write_in_turn(path, text.encode())
    except OSError as error:
        raise TrainError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_results(path: Path) -> tuple[Header, list[Result]]:
    """Read a results file.

    Raises
    ------
    TrainError
        If there is none, it is of another version, or a line is damaged: names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}, wanted the results of a study") from error
    if not lines:
        raise TrainError(f"{path}: empty, wanted the results of a study")
    header = read_line(path, 1, lines[0], "study", Header)
    return header, [read_line(path, n, line, "result", Result) for n, line in enumerate(lines[1:], start=2)]


def read_line(path: Path, number: int, line: bytes, kind: str, wanted: type[T]) -> T:
    """One line, checked against the fields that it should have.

    Raises
    ------
    TrainError
        If the line is not JSON, of another version or kind, or not those fields.
    """
    where = f"{path}: line {number}"
    try:
        content = json.loads(line, parse_constant=_refuse)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text that can be written
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{where} is damaged: not JSON") from error
    if not isinstance(content, dict):
        raise TrainError(f"{where} is damaged: not an object")
    if content.get("format") != FORMAT:
        raise TrainError(f"{where}: of format {content.get('format')!r}, this version of train reads {FORMAT!r}")
    if content.get("kind") != kind:
        raise TrainError(f"{where} is damaged: of kind {content.get('kind')!r}, wanted {kind!r}")
    values: dict[str, Any] = {name: value for name, value in content.items() if name not in ("format", "kind")}
    names: list[str] = [field.name for field in fields(wanted)]
    for name in (*names, *values):
        if name not in values:
            raise TrainError(f"{where} is damaged: no {name!r}")
        if name not in names:
            raise TrainError(f"{where} is damaged: {name!r} is unknown")
        value, kinds = values[name], _KINDS.get(name, (str,))
        too_large = isinstance(value, _NUMBER) and not abs(value) <= LARGEST
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds) or too_large:
            raise TrainError(f"{where} is damaged: {name} is {value!r:.80}")
    for name, value in values.get("metrics", {}).items():
        if isinstance(value, bool) or not isinstance(value, _NUMBER) or not abs(value) <= LARGEST:
            raise TrainError(f"{where} is damaged: {name} is {value!r:.80}")
    for name in ("pretrained_on", "examples"):
        if not all(isinstance(text, str) for text in values.get(name, [])):
            raise TrainError(f"{where} is damaged: {name} is {values[name]!r:.80}")
    return wanted(**values)


def _line(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "kind": kind, **values}


def _refuse(constant: str) -> float:
    """NaN and infinity, which JSON does not have and Python reads all the same."""
    raise ValueError(constant)
