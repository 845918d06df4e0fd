"""MoCo against its definition in NumPy: vectors, loss, queue, and the key encoder."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.encoders import make_encoder
from train.errors import TrainError
from train.moco import HEADS, MoCo
from train.pretexts.momentum import default_queue_length
from train.ranks import Ranks

from .two_ranks import CPU, QUEUE, SAMPLES, TinyEncoder, batch_of

ALONE = Ranks(0, 1, 0, CPU)


def tiny_moco(**changes) -> MoCo:
    options = {"dim": 8, "queue_length": QUEUE, "batch": SAMPLES, "temperature": 0.2, "ranks": ALONE, "seed": 3}
    return MoCo(TinyEncoder(), TinyEncoder(1), **(options | changes)).train()


def unit_rows(rng: np.random.Generator, count: int, dim: int = 8) -> torch.Tensor:
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def step_of(moco: MoCo, step: int, micro_batches: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rgb_N3HW, field_N3HW, permutation = batch_of(step)
    return rgb_N3HW, moco.encode_keys(field_N3HW, permutation, micro_batches)


# Vectors


@pytest.mark.parametrize("head", HEADS)
def test_vectors_are_pooled_over_the_whole_map_and_of_unit_length(head):
    moco = tiny_moco(head=head)
    rgb_N3HW, keys_NC = step_of(moco, 0)
    maps_NFhw = moco.encoder_k(batch_of(0)[1])[-1].detach().numpy()
    x = maps_NFhw.reshape(*maps_NFhw.shape[:2], -1).mean(2)
    weights = [value.detach().numpy() for value in moco.head_k.parameters()]
    if head == "mlp":
        x = np.maximum(x @ weights[0].T + weights[1], 0)
        weights = weights[2:]
    x = x @ weights[0].T + weights[1]
    if head == "grmc":
        x = np.maximum(x, 0)
    wanted = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    np.testing.assert_allclose(keys_NC, wanted, rtol=1e-4, atol=1e-5)
    lengths = keys_NC.norm(dim=1)
    assert ((lengths - 1).abs() < 1e-5)[lengths > 0].all()
    assert moco(rgb_N3HW, keys_NC).loss == 0


def test_a_dead_head_gives_zeros_and_no_nan():
    moco = tiny_moco(head="grmc")
    for head in (moco.head_q, moco.head_k):
        head[0].bias.data.fill_(-100)
    rgb_N3HW, keys_NC = step_of(moco, 0)
    moco.enqueue(keys_NC)
    output = moco(rgb_N3HW, keys_NC)
    output.loss.backward()
    assert not keys_NC.any()
    assert output.loss.item() == pytest.approx(np.log(1 + SAMPLES))
    assert all(value.grad.isfinite().all() for value in moco.encoder_q.parameters())


def test_the_head_comes_from_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again, other = tiny_moco(), tiny_moco(), tiny_moco(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.head_q[0].weight, again.head_q[0].weight)
    assert not torch.equal(first.head_q[0].weight, other.head_q[0].weight)


# The loss


def reference(q_NC, keys_NC, negatives_CK, temperature):
    """InfoNCE, accuracy and mean cosines in float64, one sample after the other."""
    losses, hits = [], []
    for q, key in zip(q_NC, keys_NC, strict=True):
        cosines = np.array([q @ key, *(q @ negatives_CK)])
        powers = np.exp(cosines / temperature)
        losses.append(-np.log(powers[0] / powers.sum()))
        hits.append(all(cosines[0] > negative for negative in cosines[1:]))
    return np.mean(losses), np.mean(hits), np.mean(np.sum(q_NC * keys_NC, 1)), np.mean(q_NC @ negatives_CK)


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_loss_is_infonce_over_the_filled_part_of_the_queue(batches):
    rng = np.random.default_rng(batches)
    moco = tiny_moco()
    for _ in range(batches):
        moco.enqueue(unit_rows(rng, SAMPLES))
    filled = min(QUEUE, batches * SAMPLES)
    rgb_N3HW, keys_NC = step_of(moco, 0)
    q_NC = torch.nn.functional.normalize(moco.head_q(moco.encoder_q(rgb_N3HW)[-1].mean((2, 3))))
    wanted = reference(*(x.detach().double().numpy() for x in (q_NC, keys_NC, moco.queue_CK[:, :filled])), 0.2)
    output = moco(rgb_N3HW, keys_NC)
    assert [value.item() for value in output] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert all(value.dtype == torch.float32 for value in output)
    assert [value.requires_grad for value in output] == [True, False, False, False]


def test_accuracy_counts_positives_above_every_negative():
    moco = tiny_moco()
    rgb_N3HW, _ = batch_of(0)[:2]
    q_NC = torch.nn.functional.normalize(moco.head_q(moco.encoder_q(rgb_N3HW)[-1].mean((2, 3)))).detach()
    # Each query's opposite is unlike it; its negatives, other queries, are more alike.
    keys_NC = torch.where(torch.arange(SAMPLES)[:, None] < 12, q_NC, -q_NC)
    moco.enqueue(unit_rows(np.random.default_rng(0), SAMPLES))
    assert moco(rgb_N3HW, keys_NC).accuracy == 12 / 16


def test_an_empty_queue_gives_no_loss_and_no_gradient():
    moco = tiny_moco()
    output = moco(*step_of(moco, 0))
    output.loss.backward()
    assert [value.item() for value in output[:2]] == [0, 1]
    assert output.negative == 0
    learning = [value for value in moco.parameters() if value.requires_grad]
    assert learning
    assert not any(value.grad.any() for value in learning)


def test_under_autocast_only_the_encoders_leave_float32():
    moco = tiny_moco()
    moco.enqueue(unit_rows(np.random.default_rng(0), SAMPLES))
    with torch.autocast("cpu", torch.bfloat16):
        rgb_N3HW, keys_NC = step_of(moco, 0)
        output = moco(rgb_N3HW, keys_NC)
        map_NFhw = moco.encoder_q(rgb_N3HW)[-1]
    assert map_NFhw.dtype == torch.bfloat16
    assert keys_NC.dtype == output.loss.dtype == torch.float32
    torch.testing.assert_close(keys_NC.norm(dim=1), torch.ones(SAMPLES))
    q_NC = torch.nn.functional.normalize(moco.head_q(map_NFhw.float().mean((2, 3))))
    arrays = (x.detach().double().numpy() for x in (q_NC, keys_NC, moco.queue_CK[:, :SAMPLES]))
    # One bfloat16 in between would show in the third digit.
    assert [value.item() for value in output] == pytest.approx(reference(*arrays, 0.2), rel=1e-5, abs=1e-6)
    output.loss.backward()
    assert all(value.grad.dtype == torch.float32 for value in moco.encoder_q.parameters())


# The queue


def test_the_queue_holds_the_newest_keys_in_order_and_wraps():
    rng = np.random.default_rng(0)
    moco = tiny_moco()
    keys_SNC = [unit_rows(rng, SAMPLES) for _ in range(5)]
    for count, keys_NC in enumerate(keys_SNC, start=1):
        moco.enqueue(keys_NC)
        assert moco.queue_filled == min(QUEUE, count * SAMPLES)
        assert moco.queue_next == count * SAMPLES % QUEUE
    assert torch.equal(moco.queue_CK, torch.cat([keys_SNC[3], keys_SNC[4], keys_SNC[2]]).T)


def test_a_run_continues_from_the_state_dict_bit_for_bit():
    def run(moco, steps):
        for step in steps:
            moco.update_keys()
            rgb_N3HW, keys_NC = step_of(moco, step)
            moco(rgb_N3HW, keys_NC).loss.backward()
            with torch.no_grad():
                for value in moco.parameters():
                    if value.requires_grad:
                        value.sub_(value.grad, alpha=0.1)
                        value.grad = None
            moco.enqueue(keys_NC)
        return moco

    whole = run(tiny_moco(momentum=0.9), range(6))
    file = io.BytesIO()
    torch.save(run(tiny_moco(momentum=0.9), range(4)).state_dict(), file)
    file.seek(0)
    resumed = tiny_moco(momentum=0.9, seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(resumed, range(4, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_state_dict_has_the_parts_by_name():
    names = set(tiny_moco().state_dict())
    assert {name.split(".")[0] for name in names} == {
        *("encoder_q", "encoder_k", "head_q", "head_k"),
        *("queue_CK", "queue_frame_K", "queue_filled", "queue_next"),
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queue_length": 50}, "queue length 50, wanted a multiple of the batch of 16, such as 48"),
        ({"queue_length": 8}, "queue length 8, wanted a multiple of the batch of 16, such as 16"),
        ({"queue_length": 0}, "queue length 0"),
        ({"head": "conv"}, "head 'conv' is unknown, wanted linear, mlp, grmc"),
        ({"dim": 0}, "dim 0, wanted 1 or more"),
        ({"momentum": 1.5}, "momentum 1.5, wanted 0 to 1"),
        ({"temperature": 0.0}, "temperature 0.0, wanted more than 0"),
        ({"batch": 15, "ranks": Ranks(0, 2, 0, CPU)}, "batch 15 on 2 ranks, wanted a multiple"),
        ({"bn_groups": 0}, "groups 0"),
    ],
)
def test_options_out_of_range_are_refused(changes, said):
    with pytest.raises(TrainError, match=said):
        tiny_moco(**changes)


def test_parts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(TrainError, match="16 samples of a rank in 3 micro-batches, wanted a multiple"):
        step_of(tiny_moco(), 0, micro_batches=3)
    with pytest.raises(TrainError, match="16 samples in batch-norm of 3 groups"):
        step_of(tiny_moco(bn_groups=3), 0)


@given(frames=st.integers(1, 200_000), batch=st.integers(1, 4096))
def test_default_queue_is_the_longest_allowed(frames, batch):
    if 2 * batch > frames:
        with pytest.raises(TrainError, match=f"batch {batch} of {frames} frames leaves no negatives, wanted"):
            default_queue_length(frames, batch)
        return
    length = default_queue_length(frames, batch)
    assert length > 0
    assert length % batch == 0
    assert length <= min(65536, frames - batch) < length + batch


@given(data=st.data(), frames=st.integers(1, 20), steps=st.integers(0, 9))
@settings(max_examples=30)
def test_own_keys_in_the_queue_and_no_others_do_not_count(data, frames, steps):
    """Against a list of keys, for frames that repeat more than any epoch would let them."""
    rng = np.random.default_rng(0)
    moco = tiny_moco(batch=4, queue_length=12)
    kept: list[tuple[int, np.ndarray]] = []
    draw = st.lists(st.integers(0, frames - 1), min_size=4, max_size=4)
    for _ in range(steps):
        frame_N, keys_NC = data.draw(draw), unit_rows(rng, 4)
        moco.enqueue(keys_NC, torch.tensor(frame_N))
        kept = [*kept, *zip(frame_N, keys_NC.numpy(), strict=True)][-12:]
    query_N3HW, keys_NC, frame_N = batch_of(0)[0][:4], unit_rows(rng, 4), data.draw(draw)
    output = moco(query_N3HW, keys_NC, torch.tensor(frame_N))
    q_NC = torch.nn.functional.normalize(moco.head_q(moco.encoder_q(query_N3HW)[-1].mean((2, 3)))).detach().numpy()
    losses, hits, negatives = [], [], []
    for q, key, frame in zip(q_NC, keys_NC.numpy(), frame_N, strict=True):
        cosines = [q @ other for number, other in kept if number != frame]
        losses.append(np.log(sum(np.exp(np.array([q @ key, *cosines]) / 0.2))) - q @ key / 0.2)
        hits.append(all(q @ key > cosine for cosine in cosines))
        negatives += cosines
    wanted = [np.mean(losses), np.mean(hits), np.sum(q_NC * keys_NC.numpy()) / 4, np.mean(negatives or [0])]
    assert [value.item() for value in output] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_without_frames_every_key_counts():
    rng = np.random.default_rng(0)
    moco = tiny_moco()
    rgb_N3HW, keys_NC = step_of(moco, 0)
    moco.enqueue(unit_rows(rng, SAMPLES))
    assert (moco.queue_frame_K == -1).all()
    moco.enqueue(unit_rows(rng, SAMPLES), torch.arange(SAMPLES))
    plain, masked = moco(rgb_N3HW, keys_NC), moco(rgb_N3HW, keys_NC, torch.arange(SAMPLES))
    strangers = moco(rgb_N3HW, keys_NC, torch.arange(SAMPLES) + SAMPLES)
    assert plain.loss == strangers.loss
    assert masked.loss < plain.loss


# The key encoder


def test_the_key_encoder_starts_as_a_copy_and_is_never_trained():
    moco = tiny_moco()
    assert not torch.equal(TinyEncoder(0).body[0].weight, TinyEncoder(1).body[0].weight)
    for part_q, part_k in ((moco.encoder_q, moco.encoder_k), (moco.head_q, moco.head_k)):
        state_q, state_k = part_q.state_dict(), part_k.state_dict()
        assert all(torch.equal(value, state_k[name]) for name, value in state_q.items())
        assert all(value.data_ptr() != state_k[name].data_ptr() for name, value in state_q.items())
        assert not any(value.requires_grad for value in part_k.parameters())
        assert all(value.requires_grad for value in part_q.parameters())


def test_update_is_the_momentum_average_of_parameters_alone():
    moco = tiny_moco(momentum=0.9)
    with torch.no_grad():
        for number, value in enumerate(moco.encoder_q.parameters()):
            value.add_(number + 1)
        moco.encoder_q.body[1].running_mean += 5
    before = copy.deepcopy(moco.state_dict())
    moco.update_keys()
    after = moco.state_dict()
    parameters = {name for name, _ in moco.named_parameters()}
    for name, value in after.items():
        wanted = before[name]
        if name in parameters and "_k." in name:
            wanted = 0.9 * wanted + 0.1 * before[name.replace("_k.", "_q.")]
            torch.testing.assert_close(value, wanted)
        else:
            assert torch.equal(value, wanted), name
    assert not torch.equal(after["encoder_k.body.0.weight"], before["encoder_k.body.0.weight"])


def test_each_encoder_has_the_statistics_of_what_it_sees():
    moco = tiny_moco()
    rgb_N3HW, field_N3HW, _ = batch_of(0)
    moco(*step_of(moco, 0))
    for encoder, images in ((moco.encoder_q, rgb_N3HW), (moco.encoder_k, field_N3HW)):
        mean_C = TinyEncoder().body[0](images).mean((0, 2, 3))
        torch.testing.assert_close(encoder.body[1].running_mean, 0.1 * mean_C.detach())


# The shuffle


def test_keys_see_the_statistics_of_another_group():
    moco = tiny_moco(bn_groups=2)
    field_N3HW = batch_of(0)[1]
    in_order, swapped = torch.arange(SAMPLES), torch.arange(SAMPLES).view(-1, 4)[:, [0, 3, 2, 1]].flatten()
    # Queries 0 and 2 share group 0 with each other; swapped, all even ones stay in it. Mixed, 0 meets 1.
    mixed = torch.arange(SAMPLES).view(-1, 4)[:, [0, 2, 1, 3]].flatten()
    with torch.no_grad():
        groups = [moco.encoder_k(field_N3HW[group::2])[-1] for group in range(2)]
    plain_NC = moco.encode_keys(field_N3HW, in_order)
    assert groups[0].shape[0] == 8
    torch.testing.assert_close(moco.encode_keys(field_N3HW, swapped), plain_NC)
    mixed_NC = moco.encode_keys(field_N3HW, mixed)
    assert ((mixed_NC - plain_NC).abs().amax(1) > 1e-4).all()
    # Each mixed group, computed by a batch-norm that sees nothing else.
    whole = tiny_moco(batch=8)
    for group in range(2):
        rows = mixed[group::2]
        wanted = whole.encode_keys(field_N3HW[rows], torch.arange(8))
        torch.testing.assert_close(mixed_NC[rows], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_keys_come_back_in_the_order_of_their_images(groups):
    moco = tiny_moco(bn_groups=groups).eval()  # without the company's influence
    field_N3HW, permutation = batch_of(0)[1:]
    wanted = moco.encode_keys(field_N3HW, torch.arange(SAMPLES))
    torch.testing.assert_close(moco.encode_keys(field_N3HW, permutation, 4), wanted)


def test_a_real_encoder_takes_a_step():
    moco = MoCo(
        *(make_encoder("resnet18", seed=0), make_encoder("resnet18", seed=1)),
        queue_length=8,
        batch=4,
        bn_groups=2,
        head="grmc",
        ranks=ALONE,
        seed=0,
    ).train()
    rgb_N3HW = batch_of(0)[0].repeat(1, 1, 4, 4)[:4, :, :64, :64]
    keys_NC = moco.encode_keys(rgb_N3HW, torch.tensor([2, 0, 3, 1]))
    moco.enqueue(keys_NC)
    moco(rgb_N3HW, keys_NC).loss.backward()
    assert keys_NC.shape == (4, 128)
    assert moco.encoder_q.get_parameter("conv1.weight").grad.isfinite().all()
    assert moco.encoder_q.get_parameter("conv1.weight").grad.any()
