"""MoCo: each view of a picture is to find another view of it among a queue of others.

v1 is He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, arXiv 1911.05722;
v2 is Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020, arXiv 2003.04297. Both: dimension
128, m 0.999, K 65,536, crops of 0.2 to 1, SGD 0.03 at a batch of 256, weight decay 1e-4, 200 epochs. v1 has a linear
head, T 0.07, jitter of strength 0.4 and stairs of x0.1 at epochs 120 and 160; v2 an MLP, T 0.2, jitter for 4 of 5
views, blur for half of them, and a cosine.

Departures: hues turn by up to 0.1 in v1 too, which has 0.4 there; grey comes after the jitter; the deviation of the
blur goes with the picture's size; and those of `train.moco`.
"""

from __future__ import annotations

import torch

from train.pretexts.momentum import MomentumContrast, with_queue
from train.pretexts.pretext import Method, Recipe, Setup
from train.stream import Batch

_SHARED = {
    "queue": None,
    "momentum": 0.999,
    "dim": 128,
    "bn_groups": None,
    "own_keys": "masked",
    "crop": 0.2,
    "jitter": 0.4,
    "grey": 0.2,
}
RECIPES = {
    "v2": Recipe(
        options={**_SHARED, "temperature": 0.2, "head": "mlp", "jitter_share": 0.8, "blur": 0.5},
        rate=0.03,
        rate_batch=256,
    ),
    "v1": Recipe(
        options={**_SHARED, "temperature": 0.07, "head": "linear", "jitter_share": 1.0, "blur": 0.0},
        rate=0.03,
        rate_batch=256,
        schedule="stairs",
    ),
}


def make(setup: Setup) -> MomentumContrast:
    """Two views of each picture, each with its own crop and colours."""

    def views(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return setup.sight.picture(batch, "query"), setup.sight.picture(batch, "key")

    return MomentumContrast(setup, views)


METHOD = Method(arrays=("rgb",), recipes=RECIPES, make=make, complete=with_queue)
