"""What the commands of a study would refuse, found before the first of them has computed for hours.

Every kind of training that is still to be done is begun and stopped before its first step, and every protocol scores
one picture of a prediction that is flat: whatever the commands check, they check here, without a second rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gfield import UserError
from train.device import pick_device
from train.errors import TrainError
from train.evaluate import evaluate
from train.finetune import finetune
from train.frames import level_of, size_of_level
from train.pretrain import pretrain
from train.protocols import protocol_named
from train.study.folder import StudyFolder
from train.study.options import deciding
from train.study.pieces import Cell, Plan, Pretraining, needed_pretrainings
from train.study.study_file import STARTS
from train.study.work import cell_labels, settings_of


def rehearse(plan: Plan, folder: StudyFolder, cells: Sequence[Cell], *, look: Callable[[], None]) -> None:
    """Begin every kind of work that some cells still need, and stop it at once.

    Parameters
    ----------
    plan, folder, cells
        The work.
    look
        Called after each kind; ends the rehearsal by what it raises, as where a signal has come.

    Raises
    ------
    TrainError
        What the first of them that cannot be done has to say, and where it stands in the study.
    """
    cells = [cell for cell in cells if not folder.is_done(cell)]
    seen: set[str] = set()
    for link in needed_pretrainings(cells):
        kind = str((link.method, link.encoder, link.stores, deciding(link.options)))
        if kind not in seen and folder.pretrained(link) is None:
            _begin_pretraining(link, plan, folder)
            look()
        seen.add(kind)
    for cell in cells:
        start = cell.method if cell.method in STARTS else "a run"
        kind = str((start, cell.network, cell.encoder, cell.store, deciding(cell.options)))
        if kind not in seen:
            _begin_finetuning(cell, plan, folder)
            look()
        seen.add(kind)
        for name in cell.protocols:
            if f"{cell.store} {name}" not in seen:
                _score_one(cell, name, plan)
                look()
            seen.add(f"{cell.store} {name}")


def _begin_pretraining(link: Pretraining, plan: Plan, folder: StudyFolder) -> None:
    options = dict(link.options)
    if link.after is not None:
        options["init"] = "random"
    settings = settings_of(options, out=folder.path / "rehearsal", seed=link.seed, rehearse=True)
    stores = [plan.stores[name].path for name in link.stores]
    try:
        pretrain(stores, settings, method=link.method, encoder=link.encoder, say=_say_nothing, **options)
    except UserError as error:
        raise TrainError(f"{plan.study.source}: pre-training {link.title}: {error}") from error


def _begin_finetuning(cell: Cell, plan: Plan, folder: StudyFolder) -> None:
    options = dict(cell.options)
    settings = settings_of(options, out=folder.path / "rehearsal", seed=cell.seed, rehearse=True)
    try:
        finetune(
            plan.stores[cell.store].path,
            settings,
            init=cell.method if cell.method in STARTS else "random",
            network=cell.network,
            encoder=cell.encoder,
            labels=cell_labels(cell),
            label_seed=cell.seed,
            say=_say_nothing,
            **options,
        )
    except UserError as error:
        raise TrainError(f"{plan.study.source}: {cell.title}: {error}") from error


class _Flat:
    """A network that predicts one metre everywhere."""

    def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(rgb_N3HW[:, :1])


def _score_one(cell: Cell, name: str, plan: Plan) -> None:
    store = plan.stores[cell.store]
    size_WH = cell.options["size_WH"] or store.spec.levels_WH[0]
    size_WH = size_of_level(level_of(store, size_WH))
    try:
        evaluate(
            _Flat(),
            store,
            protocol_named(name),
            size_WH=size_WH,
            device=pick_device(str(cell.options["device"])),
            rows=store.rows("test")[:1],
        )
    except UserError as error:
        raise TrainError(f"{plan.study.source}: store {cell.store}: {error}") from error


def _say_nothing(text: str) -> None:
    return None
