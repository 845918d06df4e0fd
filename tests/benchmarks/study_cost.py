"""What `train study` costs beside the plain commands that it stands for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from measure import Figure, Line, interleave, ratios, time_command

_STUDY = """name = "Cost of a study"
stores.rooms = "{store}"
[pretrain]
size = "80x60"
steps = {steps}
batch = {batch}
[finetune]
size = "80x60"
steps = {steps}
device = "cpu"
[network.densedepth]
encoder = "resnet18"
[[grid]]
table = "labels"
methods = ["random", "gradient-moco"]
networks = ["densedepth"]
labels = ["10%"]
seeds = [0]
stores = ["rooms"]
protocols = ["nyu-eigen"]
"""


def study_figure(store: Path, folder: Path, *, steps: int, batch: int, rounds: int) -> Figure:
    """A study of one pre-training and two cells, against the five commands a user would type instead.

    Parameters
    ----------
    store
        With levels 640x480 and 80x60.
    folder
        For runs.
    steps, batch, rounds
        Of every training; of the pre-training; how often both are done, in turns.
    """
    train = [Path(sys.executable).with_name("train")]
    study_file = folder / "study.toml"
    study_file.write_text(_STUDY.format(store=store, steps=steps, batch=batch))
    size = ("--encoder", "resnet18", "--size", "80x60", "--steps", str(steps), "--device", "cpu")

    def fresh(name: str) -> Path:
        shutil.rmtree(folder / name, ignore_errors=True)
        return folder / name

    def plain() -> float:
        moco = fresh("moco")
        seconds = time_command([*train, "pretrain", store, "--out", moco, *size, "--batch", str(batch)])
        for start in ("random", moco):
            run = fresh("depth")
            few = ("--labels", "10%")
            seconds += time_command([*train, "finetune", store, "--out", run, "--init", start, *size, *few])
            seconds += time_command([*train, "evaluate", store, run, "--protocol", "nyu-eigen", "--device", "cpu"])
        return seconds

    def study() -> float:
        return time_command([*train, "study", study_file, "--out", fresh("study")])

    times = interleave({"plain": plain, "study": study}, rounds)
    pieces = "1 pre-training and 2 cells"
    return Figure(
        f"A study of {pieces}, {steps} steps each, ResNet-18 at 80x60, on the CPU",
        [
            Line("pretrain, then twice finetune and evaluate", "s", times["plain"]),
            Line("train study, with its report", "s", times["study"]),
            Line("study / plain", "x", ratios(times["study"], times["plain"]), ("<=", 1.03)),
        ],
    )
