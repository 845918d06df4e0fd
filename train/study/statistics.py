"""What a few seeds can tell: means with intervals, paired differences, and how many labels a start is worth.

Intervals are Student's, two-sided, at 95 %. They stand for the choice of seeds alone: of labelled frames, of the
decoder's first weights and of the order of training. They say nothing about other data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "open", "untested"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes
    ----------
    n
        Number of seeds.
    mean
        Their mean.
    deviation
        Their sample deviation (n - 1); None for one seed.
    half
        Half the width of the 95 % interval of the mean; None for one seed, which has no interval.
    """

    n: int
    mean: float
    deviation: float | None
    half: float | None


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean, deviation and interval; None where there is no value."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, deviation, t_quantile(n - 1) * deviation / math.sqrt(n))


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> Estimate | None:
    """``values`` minus ``others`` over the seeds that both have; None if they share none.

    A seed decides which frames are labelled, so that the two of a pair have seen the same ones: what is hard about
    that choice cancels.

    Parameters
    ----------
    values, others
        Score by seed.
    """
    return estimate([values[seed] - others[seed] for seed in values if seed in others])


def verdict(difference: Estimate, *, higher_is_better: bool) -> Verdict:
    """Whether a difference lies outside its interval: ``"open"`` if not, ``"untested"`` for one seed."""
    if difference.half is None:
        return "untested"
    if abs(difference.mean) <= difference.half:
        return "open"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


@dataclass(frozen=True)
class Efficiency:
    """How many times as many labels the baseline needs for the same score.

    Attributes
    ----------
    amount
        Labels (share or frames) at which the baseline's curve reaches the score.
    factor
        That, divided by the labels of the other.
    bound
        ``""`` where the curve passes the score; ``">"`` if it never does, and the factor is of its last point;
        ``"<="`` if its first point lies at or above it already.
    """

    amount: float
    factor: float
    bound: Literal["", ">", "<="]

    def __str__(self) -> str:
        """As ``x3.2`` or ``>x10``."""
        digits = 1 if self.factor < 10 else 0
        return f"{'≤' if self.bound == '<=' else self.bound}x{self.factor:.{digits}f}"


def data_efficiency(
    curve: Sequence[tuple[float, float]], amount: float, score: float, *, higher_is_better: bool
) -> Efficiency | None:
    """Where a baseline's curve first reaches a score, interpolated linearly in the logarithm of the labels.

    The first crossing counts, which is the one that speaks least for the other method.

    Parameters
    ----------
    curve
        Labels (share or frames, above 0) and mean score of the baseline, in any order.
    amount, score
        Labels and mean score of the other method.
    higher_is_better
        Of the metric.

    Returns
    -------
    Efficiency or None
        None if the curve has no point.
    """
    sign = 1 if higher_is_better else -1
    points = sorted((x, sign * y) for x, y in curve)
    target = sign * score
    if not points:
        return None
    if points[0][1] >= target:
        return Efficiency(points[0][0], points[0][0] / amount, "<=")
    for (x0, y0), (x1, y1) in pairwise(points):
        if y0 < target <= y1:
            x = x0 * (x1 / x0) ** ((target - y0) / (y1 - y0))
            return Efficiency(x, x / amount, "")
    return Efficiency(points[-1][0], points[-1][0] / amount, ">")


@functools.cache
def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Student's t that a variable of so many degrees of freedom stays within, on both sides, with a confidence.

    Parameters
    ----------
    freedom
        Degrees of freedom, at least 1.
    confidence
        In (0, 1).
    """
    assert freedom >= 1
    assert 0 < confidence < 1
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    # Halving goes on until the two are neighbours among floats.
    while low < (middle := (low + high) / 2) < high:
        if _within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def _within(t: float, freedom: int) -> float:
    """Probability of |T| <= t, by the finite series of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cos2 * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
