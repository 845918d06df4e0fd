"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["cosine", "step", "stairs", "constant"]


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step.

    Attributes
    ----------
    name
        ``"cosine"`` falls to zero at ``steps``; ``"step"`` is multiplied by 0.1 every ``decay_steps``
        (the paper's released code: every 30 epochs); ``"stairs"`` is multiplied by 0.1 at 60 % and at 80 % of the
        steps (MoCo v1: at epochs 120 and 160 of 200); ``"constant"`` stays.
    rate
        The rate after the warm-up.
    steps
        Steps of the whole run.
    warmup
        Steps in which the rate rises linearly from near zero.
    decay_steps
        Length of one stair of ``"step"``.
    """

    name: ScheduleName
    rate: float
    steps: int
    warmup: int = 0
    decay_steps: int = 1

    def __call__(self, step: int) -> float:
        """The rate of step ``step``, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        if self.name == "cosine":
            share = (step - self.warmup) / max(1, self.steps - self.warmup)
            return self.rate * 0.5 * (1 + math.cos(math.pi * share))
        if self.name == "step":
            return self.rate * 0.1 ** (step // self.decay_steps)
        if self.name == "stairs":
            return self.rate * 0.1 ** ((5 * step >= 3 * self.steps) + (5 * step >= 4 * self.steps))
        return self.rate
