"""What every method is made of: its recipes, its network, and what a batch becomes before the network sees it.

Legend: N samples of this rank, B of all ranks, F features, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from train.device import Numerics
from train.encoders import Encoder
from train.pretexts.sight import Sight
from train.ranks import Ranks
from train.schedule import ScheduleName
from train.session import Say, Settings
from train.stream import Batch

# The released code's batch where its networks are the paper's; the smaller networks take the larger one.
BATCHES: Mapping[str, int] = {"resnet18": 64, "resnet50": 64, "densenet121": 16, "densenet161": 16}


@dataclass(frozen=True)
class Recipe:
    """The defaults of a method, and by their names the options that it takes.

    Attributes
    ----------
    options
        Value of every option of `train.pretexts.options` that the method takes; None where data or machine decide.
    rate, rate_batch
        Learning rate of SGD at this batch, in proportion to other batches; at every batch, where it is None.
    schedule
        How the rate falls; see `train.schedule`.
    batches
        Samples of a step, by encoder.
    """

    options: Mapping[str, Any]
    rate: float
    rate_batch: int | None = None
    schedule: ScheduleName = "cosine"
    batches: Mapping[str, int] = field(default_factory=lambda: BATCHES)

    def rate_of(self, batch: int) -> float:
        """Learning rate at a batch."""
        return self.rate if self.rate_batch is None else self.rate * batch / self.rate_batch


@dataclass(frozen=True)
class Setup:
    """All that a method is made from.

    Attributes
    ----------
    start, plain
        Make the encoder where the run starts, and one with random weights to be overwritten.
    options
        Those of the recipe, with the user's over them.
    sight
        Makes views of a batch.
    frames
        Frames of an epoch.
    settings, ranks, numbers
        Of the run.
    say
        Is told what the user should know.
    """

    start: Callable[[], Encoder]
    plain: Callable[[], Encoder]
    options: Mapping[str, Any]
    sight: Sight
    frames: int
    settings: Settings
    ranks: Ranks
    numbers: Numerics
    say: Say


class Pretext(ABC):
    """One method at work on one run.

    Attributes
    ----------
    model
        All that a checkpoint keeps. Its encoder is ``encoder``, or ``encoder_q`` where there are two. Its forward pass
        takes what `inputs` gives, or a micro-batch of it, and returns a named tuple of float32 scalars: ``loss``,
        the mean over its samples, with a gradient; ``accuracy``, and more to log.
    """

    model: nn.Module

    @abstractmethod
    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Tensors of N samples each; micro-batches are ``[part::parts]`` of all of them."""

    @abstractmethod
    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Rows of pictures in [0, 1] for people to look at, all of one size."""

    def commit(self, skip: torch.Tensor) -> None:
        """What follows the optimizer's step, unless ``skip``, a scalar on the device, is 1; nothing by default."""
        return

    def more_scalars(self) -> dict[str, torch.Tensor]:
        """What to log beside the model's output; nothing by default."""
        return {}


def _as_it_is(options: Mapping[str, Any], frames: int, batch: int) -> Mapping[str, Any]:
    return options


@dataclass(frozen=True)
class Method:
    """A method, as its file hands it out.

    Attributes
    ----------
    arrays
        What it reads of a store: ``"rgb"``, and ``"gradient"`` where it wants fields.
    recipes
        By name; the first is the default.
    make
        Puts it to work; may refuse by TrainError what does not fit together.
    complete
        Fills options that the data decide, from (options, frames, batch), before anything is computed.
    """

    arrays: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    make: Callable[[Setup], Pretext]
    complete: Callable[[Mapping[str, Any], int, int], Mapping[str, Any]] = field(default=_as_it_is)


class Classified(NamedTuple):
    """What a classifying method's forward pass gives: float32 scalars, cross-entropy and share of right answers."""

    loss: torch.Tensor
    accuracy: torch.Tensor


def classified(logits_NC: torch.Tensor, labels_N: torch.Tensor) -> Classified:
    """Cross-entropy and accuracy, the means over the samples.

    Parameters
    ----------
    logits_NC
        float32.
    labels_N
        int64 below C.
    """
    accuracy = (logits_NC.detach().argmax(1) == labels_N).float().mean()
    return Classified(functional.cross_entropy(logits_NC, labels_N), accuracy)
