"""The work of a study, piece by piece: one pre-training, or one cell from fine-tuning to scores.

Both are the plain commands' own functions on ordinary runs, resumed where a kill left them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfield import Store, console
from train.checkpoint import CHECKPOINTS, keep_newest
from train.depth import DepthNet
from train.device import memory_advice, pick_device
from train.errors import TrainError
from train.evaluate import Evaluation, evaluate
from train.files import remove
from train.finetune import finetune
from train.frames import size_of_level
from train.loop import Outcome
from train.pretrain import pretrain
from train.protocols import protocol_named
from train.restore import depth_net_of_run
from train.runs import write_result
from train.session import Say, Settings
from train.study.examples import write_examples
from train.study.folder import StudyFolder, machine
from train.study.pieces import Cell, Plan, Pretraining

KEEP = ("all", "newest", "encoders")
_EXAMPLES = 3  # pictures of a store's test split
_LAST_STEPS = 50  # whose mean loss and accuracy are told: single steps are noisy
_PAUSE_S = 60.0


class StoppedError(Exception):
    """A signal came; what was being done goes on where it was.

    Attributes
    ----------
    signal
        Its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def run_pretraining(link: Pretraining, plan: Plan, folder: StudyFolder, *, keep: str, say: Say) -> None:
    """Train an encoder, or go on training it, and note that it is finished.

    Raises
    ------
    StoppedError
        If a signal stopped it; it has saved.
    TrainError
        As `train.pretrain.pretrain`.
    """
    run = folder.pretraining_run(link)
    options = dict(link.options)
    if link.after is not None:
        options["init"] = str(folder.pretraining_run(link.after))
    settings = settings_of(options, out=run, seed=link.seed, resume=True)
    paths = [plan.stores[name].path for name in link.stores]
    outcome = pretrain(paths, settings, method=link.method, encoder=link.encoder, say=say, **options)
    _go_on_unless_stopped(outcome)
    scalars = last_scalars(run / "log.jsonl")
    seconds = _seconds(outcome, settings, run)
    folder.write_pretrained(
        link,
        {
            "run": str(run.relative_to(folder.path)),
            "steps": outcome.steps,
            "loss": scalars["loss"],
            "accuracy": scalars.get("accuracy"),
            "seconds": seconds,
        },
    )
    _tidy(run, keep, "pretrain")


def run_cell(
    cell: Cell,
    plan: Plan,
    folder: StudyFolder,
    *,
    keep: str,
    say: Say,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fine-tune and score a cell, as far as that has not been done, and note that it is finished.

    Parameters
    ----------
    cell, plan, folder
        What to do, and where.
    keep
        One of `KEEP`.
    say
        Is told what the user should know.
    look
        Called between pictures, to raise `StoppedError` if a signal has come.

    Returns
    -------
    dict
        The cell's scores by protocol, as `train.study.results.Result` has them without the row.

    Raises
    ------
    StoppedError
        If a signal stopped it.
    TrainError
        As `train.finetune.finetune` and `train.evaluate.evaluate`, or if a score is not finite.
    """
    run = folder.cell_run(cell)
    before = folder.cell(cell)
    scores: dict[str, Any] = dict(before["scores"]) if before else {}
    steps, finetune_seconds = _finetune(cell, plan, folder, run, say)
    with memory_advice():
        device = pick_device(str(cell.options["device"]))
        net, meta = depth_net_of_run(run, say)
        net.to(device)
        size_WH = size_of_level(meta["arguments"]["size"])
        store = plan.stores[cell.store]
        examples = _examples(net, store, folder, cell, size_WH, device)
        for name in cell.protocols:
            if name in scores:
                continue
            started = time.monotonic()
            score = _score(net, store, name, size_WH, device, look)
            _check_finite(score)
            write_result(run, f"{name}-{store.path.stem}-{store.spec.fingerprint[:8]}", score.as_dict())
            facts = _facts(cell, folder, score, steps, examples)
            seconds = {"finetune": finetune_seconds, "evaluate": round(time.monotonic() - started, 3)}
            scores[name] = {**facts, "seconds": seconds}
    folder.write_cell(cell, {"machine": machine(), "scores": scores})
    _tidy(run, keep, "finetune")
    return scores


def settings_of(options: dict[str, Any], **more: Any) -> Settings:
    """Take the options that every training has out of ``options``."""
    names = set(Settings.__dataclass_fields__) & set(options)
    return Settings(**{**{name: options.pop(name) for name in sorted(names)}, **more})


def finetune_start(cell: Cell, folder: StudyFolder) -> str:
    """What a cell's encoder starts from, as ``--init`` has it."""
    return str(folder.pretraining_run(cell.pretraining)) if cell.pretraining else cell.method


def cell_labels(cell: Cell) -> float | int:
    """A cell's labels, as `train.finetune.finetune` has them."""
    return cell.share if cell.share is not None else cell.labelled_frames


def last_scalars(log: Path) -> dict[str, float]:
    """Means of what a run logged in its last steps, as far as it is finite."""
    lines = _lines(log)[-_LAST_STEPS:]
    found = {}
    for name in ("loss", "accuracy"):
        values = [line[name] for line in lines if isinstance(line.get(name), int | float)]
        if values:
            found[name] = statistics.fmean(values)
    return found


def training_seconds(log: Path) -> float:
    """Seconds that a run trained, by its log, without the pauses between sessions.

    A step that took over a minute and over 20 times the usual counts as a usual one: the run was not running.
    """
    times = [line["time"] for line in _lines(log)]
    steps_s: list[float] = [after - before for before, after in pairwise(times)]
    if not steps_s:
        return 0.0
    usual = statistics.median(steps_s)
    whole = [usual if step > max(_PAUSE_S, 20 * usual) else step for step in steps_s]
    return float(round(max(0.0, usual + sum(whole)), 3))


def _finetune(cell: Cell, plan: Plan, folder: StudyFolder, run: Path, say: Say) -> tuple[int, float]:
    """Steps, and the seconds that they took."""
    options = dict(cell.options)
    settings = settings_of(options, out=run, seed=cell.seed, resume=True)
    outcome = finetune(
        plan.stores[cell.store].path,
        settings,
        init=finetune_start(cell, folder),
        network=cell.network,
        encoder=cell.encoder,
        labels=cell_labels(cell),
        label_seed=cell.seed,
        say=say,
        **options,
    )
    _go_on_unless_stopped(outcome)
    return outcome.steps, _seconds(outcome, settings, run)


def _seconds(outcome: Outcome, settings: Settings, run: Path) -> float:
    """Seconds of all sessions of a run; the log does not tell when its first step began."""
    at_once = outcome.images == outcome.steps * settings.batch
    return round(outcome.seconds, 3) if at_once else training_seconds(run / "log.jsonl")


def _score(
    net: DepthNet, store: Store, protocol: str, size_WH: tuple[int, int], device: torch.device, look: Callable[[], None]
) -> Evaluation:
    with console.progress(f"evaluate by {protocol}", "pictures") as (start, advance):
        start(len(store.rows("test")))

        def on_frames(count: int) -> None:
            look()
            advance(count)

        return evaluate(net, store, protocol_named(protocol), size_WH=size_WH, device=device, on_frames=on_frames)


def _go_on_unless_stopped(outcome: Outcome) -> None:
    if outcome.signal is not None:
        raise StoppedError(outcome.signal)


def _examples(
    net: DepthNet, store: Store, folder: StudyFolder, cell: Cell, size_WH: tuple[int, int], device: torch.device
) -> list[str]:
    rows = store.rows("test")
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _EXAMPLES).round().astype(int))]
    target = folder.path / "examples" / cell.id
    paths = write_examples(net, store, chosen.tolist(), target, size_WH=size_WH, device=device)
    return [str(path.relative_to(folder.path)) for path in paths]


def _check_finite(score: Evaluation) -> None:
    for name, value in score.metrics.items():
        if not np.isfinite(value):
            raise TrainError(f"{name} by {score.protocol.name} is {value}, wanted a finite number")


def _facts(cell: Cell, folder: StudyFolder, score: Evaluation, steps: int, examples: list[str]) -> dict[str, Any]:
    link = cell.pretraining
    pretrained = folder.pretrained(link) if link else None
    return {
        "cell": cell.id,
        "method": cell.method,
        "network": cell.network,
        "encoder": cell.encoder,
        "labels": cell.labels,
        "share": cell.share,
        "labelled_frames": cell.labelled_frames,
        "seed": cell.seed,
        "store": cell.store,
        "pretrained_on": list(link.chain) if link else [],
        "protocol": score.protocol.name,
        "protocol_version": score.protocol.version,
        "metrics": score.metrics,
        "images": score.images,
        "official": score.official,
        "pretraining": {k: v for k, v in pretrained.items() if k != "format"} if pretrained else None,
        "run": str(folder.cell_run(cell).relative_to(folder.path)),
        "steps": steps,
        "examples": examples,
    }


def _tidy(run: Path, keep: str, command: str) -> None:
    """Give back the disk of checkpoints that nothing will ask for."""
    if keep == "encoders" and command == "finetune":
        remove(run / CHECKPOINTS)
    elif keep != "all":
        keep_newest(run)


def _lines(log: Path) -> list[Mapping[str, Any]]:
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    return [line for line in lines if line["kind"] == "train"]
