"""Results of a study that never ran: made-up figures by a formula, for tests of what is done with results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.metrics import METRICS
from train.study.results import Header, Result

# What a row adds to d1 at the fewest labels; it fades towards all of them.
GAINS = {"random": 0.0, "moco": 0.03, "gradient-moco": 0.08, "imagenet": 0.12}


def synthetic_grid(table: str = "labels", **changes: Any) -> dict[str, Any]:
    """A grid of a header."""
    return {
        "table": table,
        "methods": ["random", "moco", "gradient-moco"],
        "networks": ["densedepth"],
        "labels": ["1%", "3%", "5%", "10%", "100%"],
        "seeds": [0, 1, 2],
        "stores": ["rooms"],
        "protocols": ["nyu-eigen"],
        **changes,
    }


def synthetic_result(row: str, labels: str = "1%", seed: int = 0, **changes: Any) -> Result:
    """A result whose figures follow from its row, labels and seed."""
    share = float(labels[:-1]) / 100 if labels.endswith("%") else None
    amount = share or int(labels) / 1000
    gain = GAINS.get(row, 0.05) * (1 - math.log10(amount * 100) / 2)
    # Seeds decide the frames, so that most of their effect is common to all rows.
    noise = np.random.default_rng(seed).normal(0, 0.012) + np.random.default_rng([seed, len(row)]).normal(0, 0.005)
    d1 = 0.38 + 0.15 * math.log10(amount * 100) + gain + noise
    metrics = dict.fromkeys(METRICS, 0.123)
    metrics |= {"d1": d1, "d2": d1 + 0.3, "d3": 0.9 + d1 / 10, "abs_rel": 0.6 - d1 / 2, "rms": 2 - d1}
    pretrained = row not in ("random", "imagenet")
    values: dict[str, Any] = {
        "cell": f"{row}-{labels}-{seed}",
        "row": row,
        "method": row,
        "network": "densedepth",
        "encoder": "resnet18",
        "labels": labels,
        "share": share,
        "labelled_frames": round(amount * 1000),
        "seed": seed,
        "store": "rooms",
        "pretrained_on": ["rooms"] if pretrained else [],
        "protocol": "nyu-eigen",
        "protocol_version": 1,
        "metrics": metrics,
        "images": 120,
        "official": False,
        "pretraining": {"run": f"pretrained/{row}", "steps": 2480, "loss": 3.21, "accuracy": 0.47, "seconds": 4031.0}
        if pretrained else None,
        "run": f"runs/{row}-{labels}-{seed}",
        "steps": 400,
        "seconds": {"finetune": 61.0, "evaluate": 4.0},
        "examples": [],
    }  # fmt: skip
    return Result(**{**values, **changes})


def synthetic_study(grids: Sequence[dict[str, Any]], **changes: Any) -> tuple[Header, list[Result]]:
    """A header and the results of all its cells."""
    results = {}
    for grid in grids:
        for network in grid["networks"]:
            for store in grid["stores"]:
                for labels in grid["labels"]:
                    for row in grid["methods"]:
                        for seed in grid["seeds"]:
                            for protocol in grid["protocols"]:
                                cell = f"{row}-{network}-{labels}-{seed}-{store}"
                                results[cell, protocol] = synthetic_result(
                                    row, labels, seed, network=network, store=store, protocol=protocol, cell=cell
                                )
    header = Header("Synthetic rooms", list(grids), "train study x.toml --out x", "a machine of tests, 2 cores",
                    len({cell for cell, _ in results}))  # fmt: skip
    header = Header(**{**header.__dict__, **changes})
    return header, list(results.values())
