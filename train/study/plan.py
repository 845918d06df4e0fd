"""From a study to the work that it is: pre-trainings, and cells that are fine-tuned and scored.

Work is named by what decides its result: a readable name and the first digits of a hash of all options, of the
stores' fingerprints and of the encoder that it starts from. What has another name is other work, so finished cells
are kept through any change of the file and never taken for something else; what two grids share is done once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield import Store
from train.errors import TrainError
from train.finetune import ENCODERS_OF
from train.labels import label_subset, parse_labels
from train.pretexts.options import OPTIONS
from train.pretrain import default_settings, resolve_options
from train.session import common_size, open_stores, rows_of
from train.study.options import deciding, parse_options
from train.study.pieces import Cell, Plan, Pretraining
from train.study.study_file import STARTS, Chain, Grid, Row, Study

FINETUNE_BATCH = 8  # the released code's; all labelled frames where these are fewer


def make_plan(study: Study, machine: Mapping[str, Any] | None = None, tables: Sequence[str] = ()) -> Plan:
    """The work of a study, checked as far as its stores tell.

    Parameters
    ----------
    study
        The study.
    machine
        Options such as ``device`` and ``precision`` that win over the file's, for pre-training and fine-tuning.
    tables
        Which ones are asked for, all where empty; the plan has the others too, but no notes on them.

    Raises
    ------
    TrainError
        If no grid that is asked for has its stores, a store lacks a level, depth, labelled or test frames, or there are
        fewer labelled frames than asked for.
    StoreError
        If a store is not whole.
    """
    grids = [grid for grid in study.grids if not _missing(study, grid)]
    notes = [
        f"grid {number} ({grid.table}) is left out: no --store {' and no --store '.join(_missing(study, grid))}"
        for number, grid in enumerate(study.grids, start=1)
        if _missing(study, grid) and _asked(grid.table, tables)
    ]
    asked = [grid for grid in study.grids if _asked(grid.table, tables)]
    if not asked:
        has = ", ".join(dict.fromkeys(grid.table for grid in study.grids))
        raise TrainError(f"--grid {tables[0]}: {study.source} has no such grid, wanted one of {has}")
    if not any(grid in grids for grid in asked):
        missing = dict.fromkeys(name for grid in asked for name in _missing(study, grid))
        wanted = " ".join(f"--store {name}=PATH" for name in missing)
        raise TrainError(f"{study.source}: no grid{_of(tables)} has its stores, wanted {wanted}")
    names = sorted({name for grid in grids for name in _used_stores(study, grid)})
    paths = {name: study.stores[name] for name in names}
    stores = dict(zip(names, open_stores([path for path in paths.values() if path is not None]), strict=True))
    planner = _Planner(study, stores, machine or {})
    cells: dict[str, Cell] = {}
    for grid in grids:
        for cell in planner.cells_of(grid):
            cells[cell.id] = _joined(cells[cell.id], cell) if cell.id in cells else cell
    told = [cell for cell in cells.values() if any(_asked(table, tables) for table in cell.tables)]
    notes += _too_few(stores, told) + _same_frames(told)
    return Plan(study, stores, grids, list(cells.values()), notes)


def _asked(table: str, tables: Sequence[str]) -> bool:
    return not tables or table in tables


def _of(tables: Sequence[str]) -> str:
    return f" of {' and '.join(tables)}" if tables else ""


@dataclass(frozen=True)
class _Planner:
    study: Study
    stores: Mapping[str, Store]
    machine: Mapping[str, Any]

    def cells_of(self, grid: Grid) -> Iterator[Cell]:
        for store in grid.stores:
            for network in grid.networks:
                for seed in grid.seeds:
                    for labels in grid.labels:
                        for row in grid.methods:
                            yield self.cell(grid, self.study.rows[row], network, labels, seed, store)

    def cell(self, grid: Grid, row: Row, network: str, labels: str, seed: int, store: str) -> Cell:
        study, opened = self.study, self.stores[store]
        settings = dict(study.networks.get(network, {}))
        encoder = str(settings.pop("encoder", ENCODERS_OF[network]))
        given = {**study.finetune, **settings, **self.machine}
        if row.method != "imagenet":
            given.pop("weights", None)
        options = parse_options("finetune", given, f"{study.source}: [finetune]")
        for decided in ("init", "network", "encoder", "labels", "label_seed", "seed"):
            options.pop(decided)
        share = parse_labels(labels)
        try:
            frames = self._labelled_frames(opened, share, options["size_WH"])
        except TrainError as error:
            raise TrainError(f"{study.source}: [[grid]] {grid.table}: {error}") from error
        options["batch"] = min(options["batch"] or FINETUNE_BATCH, frames)
        pretraining = None if row.method in STARTS else self._pretrained(row, encoder, seed, store)
        start = pretraining.id if pretraining else _with_content(row.method, options)
        chain = pretraining.chain if pretraining else ()
        facts = [deciding({**options, "weights": None}), start, network, encoder, labels, seed, opened.spec.fingerprint]
        apart = () if chain in ((), (store,)) else ("on", *chain)
        frames_text = f"{labels[:-1]}pct" if labels.endswith("%") else f"{labels}frames"
        return Cell(
            id=_id([row.method, *apart, network, store, frames_text, f"seed{seed}"], facts),
            rows=(row.name,),
            method=row.method,
            network=network,
            encoder=encoder,
            store=store,
            seed=seed,
            labels=labels,
            share=share if isinstance(share, float) else None,
            labelled_frames=frames,
            options=options,
            pretraining=pretraining,
            protocols=tuple(grid.protocols),
            tables=(grid.table,),
        )

    def _labelled_frames(self, store: Store, share: float | int, size_WH: tuple[int, int] | None) -> int:
        common_size([store], size_WH)
        if "depth" not in store.spec.arrays:
            raise TrainError(f"{store.path}: no depth in the store, it has {', '.join(store.spec.arrays)}")
        if not len(rows_of(store, ("test",))):
            raise TrainError(f"{store.path}: no frame of split test to score")
        rows = rows_of(store, ("train",))
        if not len(rows):
            raise TrainError(f"{store.path}: no labelled frame, its train split is empty")
        return len(label_subset(rows, share, 0))

    def _pretrained(self, row: Row, encoder: str, seed: int, store: str) -> Pretraining:
        chain: Chain = row.on or ((store,),)
        study = self.study
        name = f"{study.source}: [method.{row.name}]" if row.options else f"{study.source}: [pretrain]"
        link: Pretraining | None = None
        done: tuple[str, ...] = ()
        for names in chain:
            given = {**study.pretrain, **row.options, **self.machine}
            if link is not None:
                given = {key: value for key, value in given.items() if key not in ("init", "weights")}
            options = _resolved(row.method, encoder, parse_options("pretrain", given, name), name)
            done = (*done, "+".join(names))
            link = self._link(row.method, encoder, seed if study.pretrain_seeds == "each" else 0, names, done, options,
                              link)  # fmt: skip
        assert link is not None
        return link

    def _link(
        self,
        method: str,
        encoder: str,
        seed: int,
        names: tuple[str, ...],
        chain: tuple[str, ...],
        options: dict[str, Any],
        after: Pretraining | None,
    ) -> Pretraining:
        opened = [self.stores[name] for name in names]
        common_size(opened, options["size_WH"])
        frames = sum(len(rows_of(store, ("train", "unlabeled"))) for store in opened)
        if not frames:
            raise TrainError(f"{' and '.join(str(store.path) for store in opened)}: no frame to pre-train on")
        start = after.id if after else _with_content(options["init"], options)
        fingerprints = [store.spec.fingerprint for store in opened]
        facts = [deciding({**options, "init": None, "weights": None}), start, method, encoder, seed, fingerprints]
        apart = [f"seed{seed}"] if self.study.pretrain_seeds == "each" else []
        return Pretraining(
            id=_id([method, encoder, *chain, *apart], facts),
            method=method,
            encoder=encoder,
            seed=seed,
            stores=names,
            chain=chain,
            options=options,
            frames=frames,
            after=after,
        )


def _resolved(method: str, encoder: str, options: dict[str, Any], where: str) -> dict[str, Any]:
    """Options with the method's recipe in the place of those that are left out."""
    shared = {name: value for name, value in options.items() if name not in OPTIONS}
    for decided in ("method", "encoder", "seed"):
        shared.pop(decided)
    try:
        own = {name: value for name, value in options.items() if name in OPTIONS}
        recipe, resolved = resolve_options(method, shared["recipe"], own)
        defaults = default_settings(method, encoder, recipe=recipe, batch=shared["batch"])
    except TrainError as error:
        raise TrainError(f"{where}: {error}") from error
    shared.update({name: value for name, value in defaults.items() if shared[name] is None})
    return {**shared, **resolved, "recipe": recipe}


def _joined(one: Cell, other: Cell) -> Cell:
    return replace(
        one,
        rows=_once(one.rows + other.rows),
        protocols=_once(one.protocols + other.protocols),
        tables=_once(one.tables + other.tables),
    )


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _used_stores(study: Study, grid: Grid) -> list[str]:
    chains = [study.rows[row].on or () for row in grid.methods]
    return [*grid.stores, *(name for chain in chains for link in chain for name in link)]


def _missing(study: Study, grid: Grid) -> list[str]:
    return [name for name in dict.fromkeys(_used_stores(study, grid)) if study.stores[name] is None]


def _too_few(stores: Mapping[str, Store], cells: Sequence[Cell]) -> list[str]:
    """A note for every share that is less than one frame of its store, where one is taken all the same."""
    known = dict.fromkeys((cell.store, cell.labels, cell.share) for cell in cells if cell.share is not None)
    notes = []
    for name, labels, share in known:
        frames = len(rows_of(stores[name], ("train",)))
        if share * frames < 0.5:
            notes.append(f"{name}: {labels} of {frames} frames is less than one, 1 labelled frame is taken")
    return notes


def _same_frames(cells: Sequence[Cell]) -> list[str]:
    """A note for every two shares of a store that round to the same frames."""
    seen: dict[tuple[str, int], dict[str, None]] = {}
    for cell in cells:
        seen.setdefault((cell.store, cell.labelled_frames), {})[cell.labels] = None
    return [
        f"{store}: {' and '.join(labels)} are the same {frames} labelled frame{'s' if frames > 1 else ''}"
        for (store, frames), labels in seen.items()
        if len(labels) > 1
    ]


def _id(parts: Sequence[str], facts: Any) -> str:
    digest = blake3(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in parts), digest])


def _with_content(start: str, options: Mapping[str, Any]) -> list[str]:
    """Where an encoder starts, with the content of the file that it comes from."""
    if start == "imagenet":
        return [start, _content(str(options["weights"])) if options["weights"] else "torchvision"]
    return [start] if start in STARTS else [Path(start).name, _content(start)]


@cache
def _content(path: str) -> str:
    """Digest of a file, or of the newest checkpoint's description where it is the folder of a run."""
    try:
        file = max(Path(path).glob("checkpoints/*/meta.json"), default=Path(path))
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise TrainError(
            f"{path}: {error.strerror or error}, wanted a file of weights or the folder of a run"
        ) from error
