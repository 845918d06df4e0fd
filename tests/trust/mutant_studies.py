"""Mutants of study files and of what a study's folder keeps: refused in one line, or a study as its file says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tests.small_studies import STUDY
from tests.study_results import synthetic_grid, synthetic_result, synthetic_study
from tests.trust.campaign import Campaign, Wrong
from tests.trust.guard import outcome, refused
from tests.trust.inputs import small
from tests.trust.mutate import mutated, mutated_json, mutated_toml
from train.errors import TrainError
from train.study.folder import StudyFolder
from train.study.pieces import Plan
from train.study.plan import make_plan
from train.study.report import write_report
from train.study.results import write_results
from train.study.study_file import Study, read_study

_MOST_CELLS = 1_000_000
_WORDS = (
    b"[[grid]]",
    b"[method.x]",
    b"\n",
    b'"""',
    b"1e999",
    b"9" * 5000,
    b"0x" + b"F" * 9000,
    b"\0",
    b"[" * 5000,
    b"\xff",
)


@dataclass(frozen=True)
class Prepared:
    """Study files, and the folder of a study that seems to have been done, by what its plan is.

    Attributes
    ----------
    files
        Texts of study files by name.
    plan, folder
        Of the first of them.
    """

    files: Mapping[str, str]
    plan: Plan
    folder: Path


def _prepare(folder: Path) -> Prepared:
    made = small(folder)
    presets = resources.files("train.study") / "presets"
    files = {"small": STUDY.replace("STORE", str(made.store))}
    files |= {name: (presets / f"{name}.toml").read_text() for name in ("paper", "smoke")}
    (folder / "study.toml").write_text(files["small"])
    plan = make_plan(read_study(folder / "study.toml", {}))
    out = StudyFolder(folder / "out")
    out.begin(plan, "train study study.toml --out out")
    for link in plan.pretrainings:
        (out.pretraining_run(link) / "checkpoints").mkdir(parents=True)
        out.write_pretrained(link, {"run": f"pretrained/{link.id}", "steps": 1, "loss": 1.5, "seconds": 2.5})
    for cell in plan.cells:
        (protocol,) = cell.protocols
        kept = asdict(synthetic_result(cell.rows[0], cell.labels, cell=cell.id, method=cell.method))
        kept.pop("row")
        out.write_cell(cell, {"machine": "a machine of tests", "scores": {protocol: kept}})
    out.refresh(plan, "train study study.toml --out out")
    shutil.copy(out.path / "results.jsonl", folder / "results.jsonl")
    grids = [synthetic_grid(labels=["1%", "100%"], seeds=[0, 1]), synthetic_grid("methods", labels=["100%"], seeds=[0])]
    write_results(folder / "results.jsonl", *synthetic_study(grids))
    return Prepared(files, plan, folder)


def _case(prepared: Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    return (_of_a_file, _of_a_file, _of_a_folder, _of_results)[number % 4](prepared, rng, folder)


def _of_a_file(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    names = ["small", "small", *prepared.files]
    text = prepared.files[names[int(rng.integers(len(names)))]]
    others = [other.encode() for other in prepared.files.values()]
    data = mutated_toml(text, rng) if rng.random() < 0.6 else mutated(text.encode(), rng, others=others, words=_WORDS)
    (folder / "s.toml").write_bytes(data)
    return f"study file: {outcome(lambda: _planned(folder / 's.toml'), folder, 's.toml', 'store')}"


def _planned(path: Path) -> str:
    study = read_study(path, {})
    _check(study)
    make_plan(study)
    return "read and planned"


def _check(study: Study) -> None:
    for grid in study.grids:
        lists = {field.name: getattr(grid, field.name) for field in fields(grid) if field.name != "table"}
        for name, values in lists.items():
            kinds = int if name == "seeds" else str
            if not values or len(set(values)) < len(values) or not all(isinstance(value, kinds) for value in values):
                raise Wrong(f"a grid with {name} {values}")
        if np.prod([len(values) for values in lists.values()], dtype=float) > _MOST_CELLS:
            raise Wrong("a grid of over a million cells")


def _of_a_folder(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    """One of the files that say what is done is a mutant."""
    out = folder / "out"
    shutil.copytree(prepared.folder / "out", out)
    files = sorted(file for file in out.rglob("*.json*") if file.is_file())
    file = files[int(rng.integers(len(files)))]
    data = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.6:
        file.write_bytes(mutated_json(json.loads(data), rng))
    else:
        file.write_bytes(mutated(data, rng, others=[other.read_bytes() for other in files], words=_WORDS))
    return f"{file.parent.name}/*.json: {outcome(lambda: _gone_on(prepared.plan, out), folder, file.name)}"


def _gone_on(plan: Plan, out: Path) -> str:
    folder = StudyFolder(out)
    refusals: list[str] = []

    def tried(use: Callable[[], Any]) -> None:
        try:
            use()
        except TrainError as error:
            refusals.append(str(error))

    tried(folder.check)
    for name, place in folder.stores_before().items():
        if not isinstance(name, str) or not isinstance(place, Path):
            raise Wrong(f"a store {name!r} at {place!r}")
    for link in plan.pretrainings:
        facts = folder.pretrained(link)
        if facts is not None and not isinstance(facts["run"], str):
            raise Wrong(f"a pre-training in {facts['run']!r}")
    for cell in plan.cells:
        folder.is_done(cell)
    folder.strangers(plan)
    tried(lambda: folder.refresh(plan, "train study"))
    tried(lambda: write_report(out))
    for message in refusals:
        refused(message, "out")
    return "told" if refusals else "gone on"


def _of_results(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    """One line of the results is a mutant, or any of their bytes."""
    data = (prepared.folder / "results.jsonl").read_bytes()
    lines = data.splitlines()
    at = int(rng.integers(len(lines)))
    if rng.random() < 0.7:
        lines[at] = mutated_json(json.loads(lines[at]), rng)
        data = b"\n".join(lines) + b"\n"
    else:
        data = mutated(data, rng, words=_WORDS)
    (folder / "results.jsonl").write_bytes(data)
    return f"results: {outcome(lambda: _reported(folder), folder, 'results.jsonl')}"


def _reported(folder: Path) -> str:
    for file in write_report(folder):
        file.read_text()
    return "reported"


CAMPAIGNS = [
    Campaign(
        "mutants-study",
        "damaged or crafted study files, and files of a study's folder",
        "a study is planned as its file says, or refused in one line; what is not told whole is not done",
        60, 5000, _prepare, _case, 60,
    ),
]  # fmt: skip
