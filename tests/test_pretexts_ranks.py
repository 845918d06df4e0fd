"""Methods without a queue in two processes: they train as one process does."""

from __future__ import annotations

import pytest
import torch

from train.ranks import Ranks

from .two_ranks import CPU, joint_norm, torchrun, train_pretext

ALONE = Ranks(0, 1, 0, CPU)
pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = ("logged", "gradient", "weights", "statistics")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return torchrun("pretexts", tmp_path_factory.mktemp("pretexts"))


def assert_same(ours, wanted):
    for part in PARTS:
        torch.testing.assert_close(ours[part], wanted[part], rtol=1e-4, atol=1e-5, msg=lambda text, at=part: at + text)


# SimCLR's batch-norm is joint; that of the others is each rank's own, which one process has in two groups.
@pytest.mark.parametrize(("method", "groups"), [("simclr", 1), ("rotation", 2), ("exemplar", 2), ("jigsaw", 2)])
def test_one_process_and_two_train_alike(two, method, groups):
    one = train_pretext(method, ALONE, bn_groups=groups)
    for rank in two:
        assert_same(rank[method], one)
    for part in PARTS:
        assert torch.equal(two[0][method][part], two[1][method][part]), part
    joint = torch.equal(two[0][method]["own_statistics"], two[1][method]["own_statistics"])
    assert joint == (method == "simclr")
    with pytest.raises(AssertionError):
        assert_same(one, train_pretext(method, ALONE, bn_groups=3 - groups))


def test_joint_batch_norm_is_that_of_one_process(two):
    one = joint_norm(ALONE)
    for rank in range(2):
        for name, value in one.items():
            torch.testing.assert_close(two[rank]["joint"][name], value[rank::2] if name == "y" else value)


def test_exchanges_pass_gradients(two):
    for rank in range(2):
        gathered, mean = two[rank]["exchanged"]
        # d/dx_i of (1 + 2) * (1 + i) * x_i over both ranks; the mean of both ranks' factors, 1 and 2.
        assert gathered.tolist() == [3 * (1 + i) for i in range(rank, 4, 2)]
        assert mean.tolist() == [1.5, 1.5]
