"""SimCLR: each view of a picture is to find the other view of it among all views of the batch.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, arXiv 2002.05709.
Two views of each of B pictures; the loss NT-Xent (their equation 1) is a softmax over the cosines of a view with the
2 B - 1 others, over a temperature, and its mean over all 2 B views; behind an MLP with one hidden layer.

With several ranks the batch is still one: vectors of all ranks are negatives, with their gradients, and batch-norm
takes its statistics over all ranks (their section 2.2; a rank's own would tell which views belong together). In
micro-batches a view would meet fewer negatives, another loss; ``--accumulate`` is refused.

Defaults: T 0.1, dimension 128, crops of 0.08 to 1, jitter of strength 0.8 (hue 0.2) for 4 of 5 views, grey for 1 in 5,
blur for half. Departures: the run's one SGD with a cosine and weight decay 1e-4, at the rate of MoCo, where the paper
has LARS 0.3 at 256 with 1e-6 and batches up to 8,192; the deviation of the blur goes with the picture's size. With the
batches that fit a card at depth's picture sizes there are few negatives: give it the largest that fits, and try T 0.5,
which was their best at every batch on CIFAR-10 (appendix B.9), where 0.1 gained with the batch.

Legend: N pictures of this rank, B of all ranks, C dimension of the vectors, V = 2 N views, W = 2 B views.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from train.batchnorm import joint_batchnorm
from train.encoders import Encoder, pooled_features
from train.errors import TrainError
from train.pretexts.pretext import Method, Pretext, Recipe, Setup
from train.random import seeded_layers
from train.ranks import Ranks
from train.stream import Batch

RECIPES = {
    "paper": Recipe(
        options={
            "temperature": 0.1,
            "dim": 128,
            "crop": 0.08,
            "jitter": 0.8,
            "jitter_share": 0.8,
            "grey": 0.2,
            "blur": 0.5,
        },
        rate=0.03,
        rate_batch=256,
    )
}


class Contrasted(NamedTuple):
    """What a forward pass gives, float32 scalars; the loss alone has a gradient.

    Attributes
    ----------
    loss
        NT-Xent, the mean over this rank's views.
    accuracy
        Share of views whose partner is more alike than every other view.
    positive, negative
        Mean cosine with the partner, and with the others.
    """

    loss: torch.Tensor
    accuracy: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


class SimCLR(nn.Module):
    """Encoder and head.

    Parameters
    ----------
    encoder
        Where the run starts.
    dim, temperature
        C, and T of the softmax.
    ranks
        The processes of the run; with several, batch-norm becomes joint.
    seed
        Draws the head.
    """

    def __init__(self, encoder: Encoder, *, dim: int, temperature: float, ranks: Ranks, seed: int) -> None:
        super().__init__()
        self.temperature, self.ranks = temperature, ranks
        self.encoder = joint_batchnorm(encoder, ranks)
        features = encoder.channels[-1]
        with seeded_layers(seed, "head"):
            self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))

    def forward(self, first_N3HW: torch.Tensor, second_N3HW: torch.Tensor) -> Contrasted:
        """Contrast two views of each picture with those of all ranks."""
        features_VF = pooled_features(self.encoder, torch.cat([first_N3HW, second_N3HW]))
        with torch.autocast(features_VF.device.type, enabled=False):
            own_VC = functional.normalize(self.head(features_VF), dim=1, eps=1e-6)
            # Either half in global order, so that the partner of view i is view i + B.
            all_WC = torch.cat([self.ranks.gather_with_gradient(half_NC) for half_NC in own_VC.chunk(2)])
            pictures = len(all_WC) // 2
            mine_N = torch.arange(self.ranks.rank, pictures, self.ranks.world, device=own_VC.device)
            return nt_xent(own_VC, all_WC, torch.cat([mine_N, mine_N + pictures]), self.temperature)


def nt_xent(own_VC: torch.Tensor, all_WC: torch.Tensor, place_V: torch.Tensor, temperature: float) -> Contrasted:
    """The loss of some views among all.

    Parameters
    ----------
    own_VC
        Unit vectors, float32.
    all_WC
        Those of all views, the second views of all pictures behind their first ones, in the same order.
    place_V
        int64, where ``own_VC`` are among them.
    temperature
        T of the softmax.
    """
    cosine_VW = own_VC @ all_WC.T
    itself_VW = torch.arange(len(all_WC), device=own_VC.device) == place_V[:, None]
    partner_V = (place_V + len(all_WC) // 2) % len(all_WC)
    logits_VW = cosine_VW.masked_fill(itself_VW, -torch.inf) / temperature
    loss = functional.cross_entropy(logits_VW, partner_V)
    with torch.no_grad():
        accuracy = (logits_VW.argmax(1) == partner_V).float().mean()
        positive_V = cosine_VW.gather(1, partner_V[:, None])[:, 0]
        others = max(1, len(all_WC) - 2)
        negative = (cosine_VW.masked_fill(itself_VW, 0).sum(1) - positive_V).mean() / others
    return Contrasted(loss, accuracy, positive_V.mean(), negative)


class Contrast(Pretext):
    """SimCLR at work on one run."""

    def __init__(self, setup: Setup) -> None:
        parts, batch = setup.settings.accumulate, setup.settings.batch
        if batch < 2:
            raise TrainError(f"--batch {batch} with simclr leaves no negatives, wanted 2 or more")
        if parts > 1:
            raise TrainError(
                f"--accumulate {parts} with simclr, whose negatives are the step's batch, wanted 1; "
                f"a smaller --batch needs less memory"
            )
        self._sight = setup.sight
        self.model = SimCLR(
            setup.start(),
            dim=setup.options["dim"],
            temperature=setup.options["temperature"],
            ranks=setup.ranks,
            seed=setup.settings.seed,
        )

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """First and second views."""
        return self._sight.picture(batch, "first"), self._sight.picture(batch, "second")

    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """First views over second ones."""
        return self.inputs(batch)


METHOD = Method(arrays=("rgb",), recipes=RECIPES, make=Contrast)
