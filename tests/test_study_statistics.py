"""Means, intervals, paired differences and the worth of labels, against scipy and against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from train.study.statistics import Estimate, data_efficiency, estimate, paired_difference, t_quantile, verdict

SCORES = st.floats(0.01, 1)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 200])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_students_quantile_is_scipys(freedom, confidence):
    assert t_quantile(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


@given(st.lists(SCORES, min_size=2, max_size=8))
def test_the_interval_is_scipys(values):
    found = estimate(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if found.deviation > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_one_seed_has_no_interval_and_none_has_nothing():
    assert estimate([0.5]) == Estimate(1, 0.5, None, None)
    assert estimate([]) is None


@given(st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=2, max_size=6))
def test_what_is_common_to_a_pair_cancels(triples):
    one = {seed: mine + common for seed, (mine, _, common) in enumerate(triples)}
    other = {seed: theirs + common for seed, (_, theirs, common) in enumerate(triples)}
    # Seeds of one alone are no pairs.
    found = paired_difference({**one, 98: 7.0}, {99: -7.0, **other})
    wanted = estimate([mine - theirs for mine, theirs, _ in triples])
    assert found.n == len(triples)
    assert (found.mean, found.half) == (pytest.approx(wanted.mean, abs=1e-9), pytest.approx(wanted.half, abs=1e-9))


def test_rows_without_a_common_seed_have_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("mean", "half", "higher", "told"),
    [
        (0.03, 0.02, True, "better"),
        (0.03, 0.02, False, "worse"),
        (-0.03, 0.02, True, "worse"),
        (-0.03, 0.02, False, "better"),
        (0.02, 0.03, True, "open"),
        (0.0, 0.0, True, "open"),
        (0.5, None, True, "untested"),
    ],
)
def test_a_difference_counts_outside_its_interval_alone(mean, half, higher, told):
    assert verdict(Estimate(3, mean, half, half), higher_is_better=higher) == told


def first_crossing(curve, score):
    """A slow definition: walk along the curve in small steps of the logarithm."""
    x, y = np.log([x for x, _ in curve]), [y for _, y in curve]
    walk = np.union1d(np.linspace(x[0], x[-1], 20_001), x)
    above = np.flatnonzero(np.interp(walk, x, y) >= score)
    return math.exp(walk[above[0]]) if above.size else None


@given(st.lists(SCORES, min_size=2, max_size=6), SCORES, st.sampled_from([0.01, 0.03, 0.5]))
def test_the_worth_of_labels_is_the_first_crossing(scores, score, amount):
    curve = [(0.01 * 3**place, value) for place, value in enumerate(scores)]
    found = data_efficiency(curve[::-1], amount, score, higher_is_better=True)
    wanted = first_crossing(curve, score)
    if wanted is None:
        assert (found.bound, found.amount) == (">", curve[-1][0])
    else:
        assert found.bound == ("<=" if wanted <= curve[0][0] * 1.0000001 and scores[0] >= score else "")
        assert found.amount == pytest.approx(wanted, rel=1e-3)
    assert found.factor == pytest.approx(found.amount / amount)
    # Lower being better is the same with all signs changed.
    mirrored = data_efficiency([(x, -y) for x, y in curve], amount, -score, higher_is_better=False)
    assert mirrored == found


def test_the_worth_of_labels_in_words():
    curve = [(0.01, 0.4), (0.1, 0.6)]
    assert str(data_efficiency(curve, 0.01, 0.5, higher_is_better=True)) == "x3.2"
    assert str(data_efficiency(curve, 0.01, 0.7, higher_is_better=True)) == ">x10"
    assert str(data_efficiency(curve, 0.01, 0.3, higher_is_better=True)) == "≤x1.0"
    assert data_efficiency([], 0.01, 0.3, higher_is_better=True) is None
