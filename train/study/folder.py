"""The folder of a study, shared by all processes that work on it.

OUT/study.json      what it was begun with
    pretrained/ID/  runs of `train pretrain`; ID.json beside one says that it is finished, and what it cost
    runs/ID/        runs of `train finetune`, each with its scores in evaluations/
    cells/ID.json   a finished cell: written last, so what is there is whole
    examples/       pictures of predictions
    claims/         locks of what is being worked on; see `train.study.claim`
    results.jsonl   all finished cells of the plan; see `train.study.results`
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gfield import Location, location
from train.errors import TrainError
from train.files import TEMPORARY, make_folders, write_in_turn
from train.study.claim import waited_for
from train.study.pieces import Cell, Plan, Pretraining
from train.study.results import FORMAT, Header, Result, read_line, write_results

_FOLDERS = ("pretrained", "runs", "cells", "examples", "claims")


@dataclass(frozen=True)
class StudyFolder:
    """Where a study keeps what it does; all methods may be called by any number of processes at once.

    Attributes
    ----------
    path
        The folder.
    """

    path: Path

    def begin(self, plan: Plan, command: str) -> None:
        """Make the folder, or take over the one that is there.

        Raises
        ------
        TrainError
            If it holds something else, or a study of another version; or the disk refuses.
        """
        self.check()
        content = {
            "format": FORMAT,
            "kind": "plan",
            "name": plan.study.name,
            "command": command,
            "stores": {
                name: {"path": str(store.path.resolve()), "fingerprint": store.spec.fingerprint}
                for name, store in plan.stores.items()
            },
            "grids": [asdict(grid) for grid in plan.grids],
            "pretrained": [link.id for link in plan.pretrainings],
            "cells": [cell.id for cell in plan.cells],
        }
        try:
            for name in _FOLDERS:
                make_folders(self.path / name)
            write_in_turn(self.path / "study.json", (json.dumps(content, indent=2) + "\n").encode())
        except OSError as error:
            raise TrainError(f"{self.path}: {error.strerror or error}") from error

    def check(self) -> None:
        """Refuse a folder that is not a study's, without touching it.

        Raises
        ------
        TrainError
            If it holds something else, or a study of another version.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise TrainError(f"{self.path}: a file, wanted a new folder or that of a study")
        file = self.path / "study.json"
        names = sorted(path.name for path in self.path.iterdir() if path.suffix != TEMPORARY)
        if not file.exists():
            if not set(names) <= set(_FOLDERS):  # a kill may have come before study.json
                raise TrainError(
                    f"{self.path}: holds {', '.join(names[:3])} and no study, wanted a new or empty folder"
                )
            return
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise TrainError(f"{file}: damaged, wanted what `train study` writes") from error
        seen = content.get("format") if isinstance(content, dict) else None
        if seen != FORMAT:
            raise TrainError(f"{file}: of format {seen!r}, this version of train goes on with {FORMAT!r}")

    def stores_before(self) -> dict[str, Location]:
        """Where the stores were that the study was begun or gone on with last, by name."""
        try:
            stores = json.loads((self.path / "study.json").read_bytes())["stores"]
            return {str(name): location(store["path"]) for name, store in stores.items()}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return {}

    def pretraining_run(self, link: Pretraining) -> Path:
        """Folder of its run."""
        return self.path / "pretrained" / link.id

    def cell_run(self, cell: Cell) -> Path:
        """Folder of its run."""
        return self.path / "runs" / cell.id

    def claim_path(self, item: Cell | Pretraining) -> Path:
        """The lock of whoever works on it."""
        return self.path / "claims" / f"{item.id}.lock"

    def pretrained(self, link: Pretraining) -> dict[str, Any] | None:
        """What a finished pre-training was; None if it is not finished."""
        content = _read(self.path / "pretrained" / f"{link.id}.json")
        if content is None or not (self.pretraining_run(link) / "checkpoints").is_dir():
            return None
        kinds = {"run": str, "steps": int, "loss": int | float, "seconds": int | float}
        return content if all(isinstance(content.get(key), kind) for key, kind in kinds.items()) else None

    def write_pretrained(self, link: Pretraining, facts: Mapping[str, Any]) -> None:
        """Note that a pre-training is finished."""
        self._write(self.path / "pretrained" / f"{link.id}.json", facts)

    def cell(self, cell: Cell) -> dict[str, Any] | None:
        """What a finished cell was, without the names of its rows; None if there is nothing, or nothing whole."""
        content = _read(self.path / "cells" / f"{cell.id}.json")
        if content is None or not isinstance(content.get("machine"), str):
            return None
        scores = content.get("scores")
        return content if isinstance(scores, dict) and all(isinstance(one, dict) for one in scores.values()) else None

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell has a score by each of its protocols."""
        content = self.cell(cell)
        return content is not None and set(cell.protocols) <= set(content["scores"])

    def write_cell(self, cell: Cell, facts: Mapping[str, Any]) -> None:
        """Note that a cell is finished."""
        self._write(self.path / "cells" / f"{cell.id}.json", facts)

    def strangers(self, plan: Plan) -> list[str]:
        """Ids of finished cells that the plan has not."""
        planned = {cell.id for cell in plan.cells}
        return sorted(path.stem for path in (self.path / "cells").glob("*.json") if path.stem not in planned)

    def refresh(self, plan: Plan, command: str) -> Path:
        """Write ``results.jsonl`` anew from all finished cells of the plan; a line a row and protocol.

        Raises
        ------
        TrainError
            If a cell's file is of another version or damaged, or the disk refuses.
        """
        path = self.path / "results.jsonl"
        # One after the other: who read the cells first must not write last.
        with waited_for(self.path / "claims" / "results.lock"):
            found = [(cell, content) for cell in plan.cells if (content := self.cell(cell)) is not None]
            machines = dict.fromkeys(str(content["machine"]) for _, content in found)
            header = Header(
                name=plan.study.name,
                grids=[asdict(grid) for grid in plan.grids],
                command=command,
                machine="; ".join(machines) or machine(),
                cells=len(plan.cells),
            )
            results = [result for cell, content in found for result in self._results(cell, content)]
            write_results(path, header, results)
        return path

    def _results(self, cell: Cell, content: Mapping[str, Any]) -> list[Result]:
        file = self.path / "cells" / f"{cell.id}.json"
        found = []
        for row in cell.rows:
            for protocol in cell.protocols:
                if protocol in content["scores"]:
                    line = {"format": FORMAT, "kind": "result", "row": row, **content["scores"][protocol]}
                    found.append(read_line(file, 1, json.dumps(line).encode(), "result", Result))
        return found

    def _write(self, path: Path, facts: Mapping[str, Any]) -> None:
        content = {"format": FORMAT, **facts}
        try:
            text = json.dumps(content, allow_nan=False, indent=2)
        except ValueError as error:
            raise TrainError(f"{path}: not written, a value is not a finite number") from error
        try:
            write_in_turn(path, f"{text}\n".encode())
        except OSError as error:
            raise TrainError(f"{path}: cannot be written: {error.strerror or error}") from error


def machine() -> str:
    """This machine for readers of results: processor, cores, card and torch; no names of hosts or people."""
    import torch

    parts = [f"{_processor()}, {os.cpu_count()} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, Any] | None:
    """A file that says that work is finished; what cannot be read, or is of another version, says nothing."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def count_done(folder: StudyFolder, cells: Sequence[Cell]) -> int:
    """How many of some cells are finished."""
    return sum(folder.is_done(cell) for cell in cells)
