"""Gradient-field MoCo: each picture is to find its gradient field among a queue of others.

Shim and Kim, "Learning a Geometric Representation for Data-Efficient Depth Estimation via Gradient Field and
Contrastive Loss", ICRA 2021, arXiv 2011.03207. Query and key are one crop and mirroring of the picture and of its
field, so that edges lie where the objects of the query lie. `train.moco` has the networks and the loss.

Defaults are the paper's and its released code's (SGD 0.015 at either batch, T 0.07, m 0.999, dimension 256, crops of
0.5 to 1, no jitter), except for the queue's length and the head, of which `train.moco` speaks, and the rate's
schedule: a cosine, where the released code has x0.1 every 30 epochs (``--schedule step``).
"""

from __future__ import annotations

import torch

from train.pretexts.momentum import MomentumContrast, with_queue
from train.pretexts.pretext import Method, Recipe, Setup
from train.stream import Batch

RECIPES = {
    "paper": Recipe(
        options={
            "queue": None,
            "temperature": 0.07,
            "momentum": 0.999,
            "dim": 256,
            "head": "mlp",
            "bn_groups": None,
            "own_keys": "masked",
            "field_norm": "max",
            "crop": 0.5,
            "jitter": 0.0,
            "jitter_share": 1.0,
            "grey": 0.0,
            "blur": 0.0,
        },
        rate=0.015,
    )
}


def make(setup: Setup) -> MomentumContrast:
    """Pictures as queries, changed in colour if asked for, and the fields of the same views as keys."""

    def views(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return setup.sight.picture(batch, "query"), setup.sight.field(batch, "query")

    return MomentumContrast(setup, views)


METHOD = Method(arrays=("rgb", "gradient"), recipes=RECIPES, make=make, complete=with_queue)
