"""Batch-norm in groups against its definition, in NumPy and as one plain batch-norm for each group."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from train.batchnorm import (
    SplitBatchNorm2d,
    default_bn_groups,
    in_groups,
    out_of_groups,
    running_statistics,
    split_batchnorm,
)
from train.encoders import make_encoder
from train.errors import TrainError


def norm_of(channels: int, rng: np.random.Generator) -> nn.BatchNorm2d:
    """A plain batch-norm whose every number is drawn, in float64."""
    norm = nn.BatchNorm2d(channels, momentum=0.3).double()
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        value.data.copy_(torch.from_numpy(rng.uniform(0.5, 2, channels)))
    return norm


def pictures(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(rng.uniform(-3, 3, shape), 2.0))


@given(
    groups=st.integers(1, 5),
    samples=st.integers(1, 3),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 4), st.integers(2, 4)),
    seed=st.integers(0, 99),
)
def test_each_group_has_its_own_statistics_and_the_running_ones_are_their_mean(groups, samples, channels, size, seed):
    rng = np.random.default_rng(seed)
    norm = norm_of(channels, rng)
    mean_C, var_C = norm.running_mean.numpy().copy(), norm.running_var.numpy().copy()
    split = split_batchnorm(norm, groups)
    x_NCHW = pictures(rng, groups * samples, channels, *size)
    y_NCHW = split(x_NCHW).detach().numpy()
    means_GC, variances_GC = [], []
    for group in range(groups):
        block = slice(group * samples, (group + 1) * samples)
        part = x_NCHW.numpy()[block]
        mean, var = part.mean((0, 2, 3), keepdims=True), part.var((0, 2, 3), keepdims=True)
        scale, shift = (value.detach().numpy()[:, None, None] for value in (norm.weight, norm.bias))
        np.testing.assert_allclose(y_NCHW[block], (part - mean) / np.sqrt(var + 1e-5) * scale + shift)
        means_GC.append(mean.ravel())
        variances_GC.append(part.var((0, 2, 3), ddof=1))
    np.testing.assert_allclose(split.running_mean, 0.7 * mean_C + 0.3 * np.mean(means_GC, 0))
    np.testing.assert_allclose(split.running_var, 0.7 * var_C + 0.3 * np.mean(variances_GC, 0))
    assert split.num_batches_tracked == 1


def test_gradients_are_those_of_one_plain_norm_for_each_group():
    rng = np.random.default_rng(0)
    plain = norm_of(3, rng)
    split = split_batchnorm(copy.deepcopy(plain), 4)
    x_NCHW = pictures(rng, 12, 3, 5, 4).requires_grad_()
    weights_NCHW = pictures(rng, 12, 3, 5, 4)
    ours = torch.autograd.grad((split(x_NCHW) * weights_NCHW).sum(), [x_NCHW, split.weight, split.bias])
    blocks = zip(x_NCHW.split(3), weights_NCHW.split(3), strict=True)
    total = sum((plain(x_nCHW) * weights_nCHW).sum() for x_nCHW, weights_nCHW in blocks)
    theirs = torch.autograd.grad(total, [x_NCHW, plain.weight, plain.bias])
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-9)


def test_channels_last_stays_and_computes_the_same():
    rng = np.random.default_rng(1)
    split = split_batchnorm(norm_of(6, rng), 2)
    x_NCHW = pictures(rng, 8, 6, 5, 7)
    wanted = split(x_NCHW)
    assert wanted.is_contiguous()
    ours = split(x_NCHW.contiguous(memory_format=torch.channels_last))
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compiled_it_computes_the_same(layout):
    rng = np.random.default_rng(5)
    eager = split_batchnorm(norm_of(3, rng), 2)
    compiled = copy.deepcopy(eager)
    compiled.compile(backend="aot_eager", fullgraph=True)
    x_NCHW = pictures(rng, 6, 3, 4, 5).contiguous(memory_format=layout)
    inputs = [x_NCHW.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2)]
    outputs = [norm(x) for norm, x in zip((eager, compiled), inputs, strict=True)]
    assert outputs[1].is_contiguous(memory_format=layout)
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-9, atol=1e-9)
    for (name, one), other in zip(eager.state_dict().items(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_groups_are_read_where_they_lie(layout, monkeypatch):
    split = split_batchnorm(nn.BatchNorm2d(3), 2)
    x_NCHW = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    seen = []
    real = nn.functional.batch_norm

    def watched(x, *args, **options):
        assert x.is_contiguous(memory_format=layout)
        seen.append(x.data_ptr())
        return real(x, *args, **options)

    monkeypatch.setattr(nn.functional, "batch_norm", watched)
    split(x_NCHW)
    assert seen == [x_NCHW.data_ptr(), x_NCHW[2:].data_ptr()]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_groups_are_the_parts_of_ranks_and_are_put_back(groups):
    x_NCHW = torch.arange(6 * 2 * 3 * 2.0).view(6, 2, 3, 2).contiguous(memory_format=torch.channels_last)
    dealt_NCHW = in_groups(x_NCHW, groups)
    assert dealt_NCHW.is_contiguous(memory_format=torch.channels_last)
    for group, block_nCHW in enumerate(dealt_NCHW.split(6 // groups)):
        assert torch.equal(block_nCHW, x_NCHW[group::groups])
    assert torch.equal(out_of_groups(dealt_NCHW, groups), x_NCHW)


def test_evaluation_is_plain():
    rng = np.random.default_rng(2)
    plain = norm_of(3, rng).eval()
    split = split_batchnorm(copy.deepcopy(plain), 4)
    assert not split.training
    before = copy.deepcopy(split.state_dict())
    x_NCHW = pictures(rng, 5, 3, 4, 4)  # no multiple of the groups, which evaluation need not be
    assert torch.equal(split(x_NCHW), plain(x_NCHW))
    assert all(torch.equal(value, before[name]) for name, value in split.state_dict().items())


def test_bfloat16_keeps_float32_statistics():
    split = split_batchnorm(nn.BatchNorm2d(3), 2)
    y_NCHW = split(pictures(np.random.default_rng(3), 8, 3, 4, 4).bfloat16())
    assert y_NCHW.dtype == torch.bfloat16
    assert split.running_mean.dtype == split.running_var.dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_network_keeps_its_names_and_tensors(name):
    encoder = make_encoder(name, seed=0)
    before = encoder.state_dict(keep_vars=True)
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in encoder.modules())
    assert split_batchnorm(encoder, 1) is encoder
    assert not any(isinstance(part, SplitBatchNorm2d) for part in encoder.modules())
    assert split_batchnorm(encoder, 2) is encoder
    assert sum(isinstance(part, SplitBatchNorm2d) for part in encoder.modules()) == norms > 10
    after = encoder.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[key] is before[key] for key in before)
    maps = encoder(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert maps[-1].isfinite().all()
    statistics = running_statistics(encoder)
    assert len(statistics) == 2 * norms
    assert statistics[0] is next(buffer for key, buffer in encoder.named_buffers() if "running_mean" in key)


def test_groups_that_do_not_divide_are_refused():
    split = split_batchnorm(nn.BatchNorm2d(3), 4)
    with pytest.raises(TrainError, match="6 samples in batch-norm of 4 groups, wanted a multiple of 4"):
        split(torch.zeros(6, 3, 2, 2))
    with pytest.raises(TrainError, match="groups 0, wanted 1 or more"):
        split_batchnorm(nn.BatchNorm2d(3), 0)


def test_default_groups_are_the_most_that_are_large_enough():
    for batch in range(1, 300):
        allowed = [g for g in range(1, 9) if batch % g == 0 and (g == 1 or batch // g >= 8)]
        assert default_bn_groups(batch) == max(allowed), batch


def test_default_groups_of_usual_batches():
    assert [default_bn_groups(batch) for batch in (8, 15, 16, 32, 64, 256)] == [1, 1, 2, 4, 8, 8]


@given(ranks=st.integers(1, 4), micro=st.integers(1, 4), groups=st.integers(1, 4), samples=st.integers(1, 3))
def test_ranks_micro_batches_and_groups_divide_a_batch_alike(ranks, micro, groups, samples):
    parts = ranks * micro * groups
    batch_B = np.arange(parts * samples)
    divided = {
        tuple(batch_B[rank::ranks][part::micro][group::groups])
        for rank in range(ranks)
        for part in range(micro)
        for group in range(groups)
    }
    assert divided == {tuple(batch_B[part::parts]) for part in range(parts)}
