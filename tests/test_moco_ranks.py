"""MoCo against itself: one batch divided into groups, micro-batches and processes gives the same training."""

from __future__ import annotations

import pytest
import torch

from train.ranks import Ranks

from .two_ranks import CPU, torchrun, train_steps

ALONE = Ranks(0, 1, 0, CPU)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return torchrun("moco", tmp_path_factory.mktemp("moco"))


@pytest.fixture(scope="module")
def one():
    return {
        (groups, micro): train_steps(ALONE, bn_groups=groups, micro_batches=micro)
        for groups, micro in ((1, 1), (2, 1), (1, 2), (4, 1), (2, 2))
    }


def assert_same(ours, wanted, *, statistics):
    names = ["loss", "accuracy", "gradient", "queue", "place", "weights", *(["statistics"] if statistics else [])]
    for name in names:
        torch.testing.assert_close(ours[name], wanted[name], rtol=1e-4, atol=1e-5, msg=lambda text, at=name: at + text)


@pytest.mark.parametrize(
    ("alone", "ranks"),
    [
        ((2, 1), "groups1 micro1"),  # one device with split-BN, two ranks with plain BN
        ((1, 2), "groups1 micro1"),
        ((4, 1), "groups2 micro1"),
        ((4, 1), "groups1 micro2"),
        ((2, 2), "groups1 micro2"),
    ],
)
def test_one_process_and_two_train_alike(one, two, alone, ranks):
    # Running statistics move with every micro-batch, and which groups share one depends on the division.
    statistics = alone[1] == 1 and ranks.endswith("micro1")
    for result in two:
        assert_same(result[ranks], one[alone], statistics=statistics)


def test_accumulation_trains_like_groups(one):
    assert_same(one[1, 2], one[2, 1], statistics=False)
    assert_same(one[2, 2], one[4, 1], statistics=False)


def test_other_groups_train_otherwise(one):
    with pytest.raises(AssertionError):
        assert_same(one[1, 1], one[2, 1], statistics=False)
    with pytest.raises(AssertionError):
        assert_same(one[2, 1], one[4, 1], statistics=False)
    assert (one[2, 1]["loss"][1:] > 0.1).all()


def test_both_ranks_hold_the_same_bits(two):
    for name in two[0]:
        first, second = two[0][name], two[1][name]
        for part in ("queue", "place", "weights", "gradient", "statistics"):
            assert torch.equal(first[part], second[part]), part
        assert not torch.equal(first["own_statistics"], second["own_statistics"])
