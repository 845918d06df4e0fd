"""Evaluations and studies that are killed or told to stop, and what they give when they are done again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.small_studies import scores, write_study
from tests.trust.campaign import Wrong
from tests.trust.children import in_child
from tests.trust.training import Ground, arguments_of, digest_of, end_of, leftovers, once, run, start, whole_run

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def evaluation(ground: Ground, rng: np.random.Generator, folder: Path) -> str:
    """Interrupt ``train evaluate``; done again, its result is the uninterrupted one's to the byte."""
    whole = _scored(ground)
    out, says = folder / "run", folder / "said"
    shutil.copytree(whole["run"], out, ignore=shutil.ignore_patterns("evaluations"), copy_function=os.link)
    arguments = _evaluate(ground, out)
    number = _SIGNALS[rng.integers(len(_SIGNALS))]
    if number == signal.SIGKILL and rng.random() < 0.5:
        ended = end_of(start(arguments, says, out, die_at=int(rng.integers(1, whole["calls"] + 1))), says)
    else:
        child = start(arguments, says, out)
        time.sleep(rng.uniform(0, whole["seconds"]))
        child.kill(number)
        ended = end_of(child, says)
    if ended.code not in (0, -number, 130):
        raise Wrong(f"{number.name} ended an evaluation with {ended.code}: {ended.said}")
    halves = [path for path in out.glob("evaluations/*.json") if path.read_text() != whole["result"]]
    if halves:
        raise Wrong(f"{number.name} left another result: {halves[0].read_text()}")
    again = run(arguments, says, out)
    if again.code or _result(out) != whole["result"]:
        raise Wrong(f"done again, it ended with {again.code}: {again.said}\n{_result(out)}\nwanted {whole['result']}")
    if leftovers(out):
        raise Wrong(f"left behind: {leftovers(out)}")
    return f"{number.name} {'in' if ended.code else 'after'} an evaluation"


def study(ground: Ground, rng: np.random.Generator, folder: Path) -> str:
    """Interrupt ``train study`` once or twice; gone on with, it has the uninterrupted one's scores and weights."""
    whole = _studied(ground)
    out, says = folder / "out", folder / "said"
    arguments = "study", write_study(folder, ground.store), "--out", out
    count = int(rng.integers(1, 3))
    for _ in range(count):
        number = _SIGNALS[rng.integers(len(_SIGNALS))]
        child = start(arguments, says, out)
        time.sleep(rng.uniform(0, whole["seconds"]))
        child.kill(number)
        ended = end_of(child, says)
        if ended.code not in (0, -number, 130):
            raise Wrong(f"{number.name} ended a study with {ended.code}: {ended.said}")
    again = run(arguments, says, out)
    if again.code:
        raise Wrong(f"the study ended with {again.code}: {again.said}")
    for what, seen in _results(out).items():
        if seen != whole[what]:
            raise Wrong(f"{what} of the study: {seen}, uninterrupted {whole[what]}")
    if leftovers(out):
        raise Wrong(f"left behind: {leftovers(out)}")
    return f"a study interrupted {'once' if count == 1 else 'twice'}"


def _scored(ground: Ground) -> dict[str, Any]:
    """A fine-tuned run, and what an evaluation of it gives if nobody interrupts it."""

    def find_out(folder: Path) -> dict[str, Any]:
        out = folder / "run"
        whole_run((*arguments_of(ground, "fcrn"), "--out", out), folder, out)
        taken = whole_run(_evaluate(ground, out), folder, out)
        return {**taken, "run": str(out), "result": _result(out)}

    return once(ground, "evaluation", find_out)


def _evaluate(ground: Ground, out: Path) -> tuple[Any, ...]:
    return "evaluate", ground.store, out, "--protocol", "nyu-full", "--batch", 1, "--device", "cpu"


def _result(out: Path) -> str:
    (path,) = out.glob("evaluations/*.json")
    return path.read_text()


def _studied(ground: Ground) -> dict[str, Any]:
    """What a study gives if nobody interrupts it."""

    def find_out(folder: Path) -> dict[str, Any]:
        out = folder / "out"
        return {**whole_run(("study", write_study(folder, ground.store), "--out", out), folder, out), **_results(out)}

    return once(ground, "study", find_out)


def _results(out: Path) -> dict[str, Any]:
    runs = sorted(path.parent for folder in ("pretrained", "runs") for path in out.glob(f"{folder}/*/meta.json"))
    return {
        "scores": scores(out),
        "weights": {str(path.relative_to(out)): list(in_child(digest_of, path)) for path in runs},
    }
