"""Rotation: the network is to tell by which of 0, 90, 180 and 270 degrees a picture is turned.

Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018,
arXiv 1803.07728. All four turns of each picture are in one batch (their section 3.1: better than one at random).

Views are square, their sides the shorter side of the run's size, since a turned oblong would give itself away by its
shape. Their crops keep about the share of the picture that 224 of 256 pixels are; there is no change of colour.

Departures: a linear classifier on the pooled map, as in the later studies with ResNets, and the run's one SGD (weight
decay 1e-4), with a cosine; the paper has SGD 0.1 at 128 pictures with 5e-4 and stairs (CIFAR-10), 0.01 at 192 for
AlexNet without batch-norm. The rate is the gradient-field paper's, for the same number of pictures in a step.

Legend: N pictures, s rows and columns of a square view.
"""

from __future__ import annotations

import torch
from torch import nn

from train.encoders import Encoder, pooled_features
from train.pretexts.pretext import BATCHES, Classified, Method, Pretext, Recipe, Setup, classified
from train.random import seeded_layers
from train.stream import Batch

TURNS = 4

RECIPES = {
    "paper": Recipe(
        options={"crop": 0.75, "jitter": 0.0, "jitter_share": 1.0, "grey": 0.0, "blur": 0.0},
        rate=0.015,
        # A sample is encoded four times.
        batches={name: batch // TURNS for name, batch in BATCHES.items()},
    )
}


class RotationNet(nn.Module):
    """Encoder and classifier of four turns.

    Parameters
    ----------
    encoder
        Where the run starts.
    seed
        Draws the classifier.
    """

    def __init__(self, encoder: Encoder, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with seeded_layers(seed, "head"):
            self.head = nn.Linear(encoder.channels[-1], TURNS)

    def forward(self, rgb_N3ss: torch.Tensor) -> Classified:
        """Classify all turns of square pictures."""
        turned_M3ss, label_M = all_turns(rgb_N3ss)
        features_MF = pooled_features(self.encoder, turned_M3ss)
        with torch.autocast(features_MF.device.type, enabled=False):
            return classified(self.head(features_MF), label_M)


def all_turns(rgb_N3ss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each picture turned by 0, 90, 180 and 270 degrees counterclockwise.

    Parameters
    ----------
    rgb_N3ss
        Square pictures.

    Returns
    -------
    Tensor, Tensor
        (4 N, 3, s, s), first all N pictures as they are, then all turned once, and so on, in the memory layout of
        the pictures; (4 N) int64, the number of quarter turns.
    """
    turned_M3ss = torch.cat([rgb_N3ss.rot90(turns, (2, 3)) for turns in range(TURNS)])
    return turned_M3ss, torch.arange(TURNS, device=rgb_N3ss.device).repeat_interleave(len(rgb_N3ss))


class Rotation(Pretext):
    """Rotation prediction at work on one run."""

    def __init__(self, setup: Setup) -> None:
        self._sight = setup.sight
        self._side = min(setup.sight.size_HW)
        self.model = RotationNet(setup.start(), setup.settings.seed)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Square views."""
        return (self._sight.picture(batch, "view", (self._side, self._side)),)

    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The four turns, a row each."""
        turned_M3ss, _ = all_turns(self.inputs(batch)[0])
        return turned_M3ss.chunk(TURNS)


METHOD = Method(arrays=("rgb",), recipes=RECIPES, make=Rotation)
