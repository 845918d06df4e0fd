"""Studies that take seconds: a file of a few cells on the small store, and the command in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STUDY = """
name = "Two rows"
[stores]
rooms = "STORE"
[pretrain]
size = "80x60"
steps = 1
batch = 2
device = "cpu"
cache = "none"
threads = 1
[finetune]
size = "80x60"
steps = 2
batch = 2
device = "cpu"
cache = "none"
threads = 1
[network.densedepth]
encoder = "resnet18"
[method.gradient-moco]
temperature = 0.2
[[grid]]
table = "labels"
methods = ["random", "gradient-moco"]
networks = ["densedepth"]
labels = ["50%"]
seeds = [0]
stores = ["rooms"]
protocols = ["nyu-eigen"]
"""


def write_study(folder: Path, store: Path, *changes: tuple[str, str]) -> Path:
    """The study above as FOLDER/study.toml, with some texts in the place of others, each of which is there once."""
    text = STUDY
    for old, new in (("STORE", str(store)), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def scores(out: Path) -> dict[str, Any]:
    """Metrics of every line of a study's results, by row, labels, seed and protocol."""
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()][1:]
    return {f"{x['row']} {x['labels']} {x['seed']} {x['protocol']}": x["metrics"] for x in lines}
