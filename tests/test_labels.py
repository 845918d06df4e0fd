"""Label subsets: nested, by seed alone, and of the size that was asked for; and the learning rates of a run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import TrainError
from train.labels import label_subset, parse_labels
from train.schedule import Schedule

ROWS = np.arange(100, 895)


def test_shares_lie_inside_each_other_and_are_in_order():
    subsets = [label_subset(ROWS, share, seed=3) for share in (0.01, 0.03, 0.1, 1.0)]
    assert [len(subset) for subset in subsets] == [8, 24, 80, 795]
    for smaller, larger in pairwise(subsets):
        assert set(smaller) < set(larger)
        assert (np.diff(smaller) > 0).all()


@given(st.integers(1, 795), st.integers(1, 795), st.integers(0, 5))
def test_numbers_lie_inside_each_other(one, other, seed):
    small, large = sorted((one, other))
    assert set(label_subset(ROWS, small, seed)) <= set(label_subset(ROWS, large, seed))
    assert len(label_subset(ROWS, small, seed)) == small


def test_another_seed_gives_other_frames():
    assert set(label_subset(ROWS, 80, 0)) != set(label_subset(ROWS, 80, 1))


@pytest.mark.parametrize(("text", "labels"), [("0.01", 0.01), ("3%", 0.03), ("80", 80), ("all", 1.0), ("1.0", 1.0)])
def test_texts_of_labels(text, labels):
    assert parse_labels(text) == pytest.approx(labels)
    assert type(parse_labels(text)) is type(labels)


@pytest.mark.parametrize("text", ["0", "0.0", "1.5", "-3", "many", "200%", "nan", ""])
def test_wrong_texts_name_what_is_wanted(text):
    with pytest.raises(TrainError, match="wanted a share"):
        parse_labels(text)


def test_more_labels_than_frames_are_refused():
    with pytest.raises(TrainError, match="--labels 796: the train split has 795 frames"):
        label_subset(ROWS, 796, 0)
    with pytest.raises(TrainError, match="no labelled frame"):
        label_subset(ROWS[:0], 1.0, 0)


def test_schedules_follow_their_definitions():
    cosine = Schedule("cosine", 2.0, steps=100, warmup=10)
    assert [cosine(step) for step in (0, 9, 10)] == pytest.approx([0.2, 2.0, 2.0])
    assert cosine(55) == pytest.approx(1.0)
    assert 0 < cosine(99) < 0.001
    stairs = Schedule("step", 1.0, steps=100, decay_steps=30)
    assert [stairs(step) for step in (0, 29, 30, 90)] == pytest.approx([1, 1, 0.1, 0.001])
    moco_v1 = Schedule("stairs", 1.0, steps=200)
    assert [moco_v1(step) for step in (0, 119, 120, 159, 160, 199)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Schedule("constant", 0.3, steps=5)(4) == 0.3
