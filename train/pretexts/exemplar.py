"""Exemplar: every picture of the data is a class of its own, and the network is to tell which one a view shows.

Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks", 2014,
arXiv 1406.6909: random transformations of each picture, and a softmax over all pictures, behind a hidden layer of 512.

A view is a crop, mirrored and changed in colour, one a picture and epoch. The classes are the frames of the run, by
their places in its list, the same in every epoch and on every rank. The hidden layer keeps the classifier small: 513
weights a frame, 62 million for 120,000 of them.

Departures: whole pictures instead of 32 x 32 patches around strong gradients (8,000 to 32,000 classes); no rotation by
up to 20 degrees; colours by brightness, contrast, saturation and hue instead of principal components; no dropout,
whose random numbers a run would have to keep; the run's one SGD with a cosine, where the paper has stairs from 0.01.
Crops of a quarter of the area are its scales of 0.7 to 1.4, whose ratio is a half.

Legend: N pictures, L frames of the run.
"""

from __future__ import annotations

import torch
from torch import nn

from train.device import to_device
from train.encoders import Encoder, pooled_features
from train.pretexts.pretext import Classified, Method, Pretext, Recipe, Setup, classified
from train.random import seeded_layers
from train.stream import Batch

_HIDDEN = 512
RECIPES = {
    "paper": Recipe(
        options={"crop": 0.25, "jitter": 0.4, "jitter_share": 1.0, "grey": 0.0, "blur": 0.0},
        rate=0.015,
    )
}


class ExemplarNet(nn.Module):
    """Encoder and classifier of all frames.

    Parameters
    ----------
    encoder
        Where the run starts.
    frames
        L, the number of classes.
    seed
        Draws the classifier.
    """

    def __init__(self, encoder: Encoder, frames: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with seeded_layers(seed, "head"):
            self.head = nn.Sequential(nn.Linear(encoder.channels[-1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, frames))

    def forward(self, rgb_N3HW: torch.Tensor, frame_N: torch.Tensor) -> Classified:
        """Classify views, ``frame_N`` being the places of their frames."""
        features_NF = pooled_features(self.encoder, rgb_N3HW)
        with torch.autocast(features_NF.device.type, enabled=False):
            return classified(self.head(features_NF), frame_N)


class Exemplar(Pretext):
    """Exemplar classification at work on one run."""

    def __init__(self, setup: Setup) -> None:
        self._sight, self._device = setup.sight, setup.numbers.device
        self.model = ExemplarNet(setup.start(), setup.frames, setup.settings.seed)
        setup.say(f"{setup.frames} classes, one a frame")

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Views and their frames."""
        return self._sight.picture(batch, "view"), to_device(batch.index_N, self._device)

    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The views."""
        return (self._sight.picture(batch, "view"),)


METHOD = Method(arrays=("rgb",), recipes=RECIPES, make=Exemplar)
