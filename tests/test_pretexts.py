"""What makes each method that method, on networks and pictures small enough to check by hand."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield import Region
from train.device import numerics
from train.encoders import make_encoder
from train.errors import TrainError
from train.moco import HEADS
from train.pretexts import METHODS, method_named, options
from train.pretexts.exemplar import ExemplarNet
from train.pretexts.jigsaw import JigsawNet, cut_tiles, normalised
from train.pretexts.permutations import permutation_set
from train.pretexts.pretext import Setup, classified
from train.pretexts.rotation import RotationNet, all_turns
from train.pretexts.sight import Sight
from train.pretexts.simclr import SimCLR, nt_xent
from train.pretrain import default_settings, resolve_options
from train.random import generator
from train.ranks import Ranks
from train.session import Settings
from train.stream import Batch
from train.views import draw_views, field_view

from .two_ranks import CPU, TinyEncoder

ALONE = Ranks(0, 1, 0, CPU)
pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(count=4, height=12, width=12, seed=0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 3, height, width), np.float32))


def made(method, count, size_HW, given):
    """A method at work, on a small encoder."""
    _, resolved = resolve_options(method, None, given)
    region = Region(0, size_HW[0], 0, size_HW[1])
    run = Settings(Path("unused"), batch=count, epochs=1, rate=0.1)
    sight = Sight(region=region, size_HW=size_HW, seed=0, batch=count, ranks=ALONE, options=resolved)
    encoder = functools.partial(make_encoder, "resnet18", 0)
    return method_named(method).make(
        Setup(encoder, encoder, resolved, sight, 20, run, ALONE, numerics(CPU), lambda text: None)
    )


def parts_agree(net, inputs, parts=2):
    """Losses and gradients of micro-batches are those of the whole batch, batch-norm's statistics apart."""
    whole = net.eval()(*inputs)
    whole.loss.backward()
    wanted = [value.grad.clone() for value in net.parameters()]
    net.zero_grad()
    losses = []
    for part in range(parts):
        output = net(*(tensor[part::parts] for tensor in inputs))
        (output.loss / parts).backward()
        losses.append(output.loss.item())
    assert np.mean(losses) == pytest.approx(whole.loss.item(), rel=1e-5)
    for value, gradient in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=1e-4, atol=1e-6)
        assert gradient.isfinite().all()
    assert any(gradient.any() for gradient in wanted)


# What methods take


def test_every_method_is_there_with_recipes_whose_options_exist():
    for name in METHODS:
        method = method_named(name)
        for recipe in method.recipes.values():
            assert set(recipe.options) <= set(options.OPTIONS)
            for option, value in recipe.options.items():
                if value is not None:
                    options.check_option(option, value)
    with pytest.raises(TrainError, match="method 'mocov4' is unknown, wanted gradient-moco, moco, simclr, rotation"):
        method_named("mocov4")
    assert set(options.HEADS) == set(HEADS)


def test_options_come_from_the_recipe_and_given_ones_win():
    name, resolved = resolve_options("moco", None, {"temperature": 0.5, "queue": None})
    assert name == "v2"
    assert (resolved["temperature"], resolved["head"], resolved["queue"]) == (0.5, "mlp", None)
    name, resolved = resolve_options("moco", "v1", {})
    assert (name, resolved["temperature"], resolved["head"], resolved["blur"]) == ("v1", 0.07, "linear", 0)


@pytest.mark.parametrize(
    ("method", "recipe", "given", "said"),
    [
        ("rotation", None, {"queue": 64}, "--queue 64 with --method rotation, which takes --crop, --jitter,"),
        ("moco", None, {"field_norm": "log"}, "--field-norm log with --method moco, which takes"),
        ("gradient-moco", None, {"permutations": 10}, "--permutations 10 with --method gradient-moco"),
        ("moco", "v3", {}, "--recipe v3 with --method moco, wanted v2 or v1"),
        ("rotation", "v1", {}, "--recipe v1 with --method rotation, wanted paper"),
        ("rotation", None, {"queu": 1}, "option 'queu' is unknown, wanted one of queue"),
        ("simclr", None, {"temperature": 0}, "--temperature 0, wanted more than 0"),
        ("simclr", None, {"temperature": "warm"}, "--temperature warm, wanted more than 0"),
        ("simclr", None, {"temperature": math.nan}, "--temperature nan, wanted more than 0"),
        ("simclr", None, {"dim": 1.5}, "--dim 1.5, wanted 1 or more"),
        ("rotation", None, {"crop": 0}, "--crop 0, wanted more than 0, at most 1"),
        ("rotation", None, {"grey": True}, "--grey True, wanted 0 to 1"),
        ("jigsaw", None, {"permutations": 1513}, "--permutations 1513, wanted 2 to 1512"),
        ("gradient-moco", None, {"field_norm": "sum"}, "--field-norm sum, wanted max, fixed, log, binary"),
    ],
)
def test_what_a_method_does_not_take_is_refused(method, recipe, given, said):
    with pytest.raises(TrainError) as caught:
        resolve_options(method, recipe, given)
    assert said in str(caught.value)


def test_settings_are_the_recipes():
    assert default_settings("gradient-moco", "densenet161") == {
        "batch": 16, "rate": 0.015, "schedule": "cosine", "epochs": 200,
    }  # fmt: skip
    v1 = default_settings("moco", "resnet50", recipe="v1", batch=256)
    assert (v1["batch"], v1["rate"], v1["schedule"]) == (256, 0.03, "stairs")
    assert default_settings("moco", "resnet50")["rate"] == pytest.approx(0.0075)
    assert default_settings("rotation", "resnet18")["batch"] == 16
    with pytest.raises(TrainError, match="encoder 'vgg' is unknown"):
        default_settings("moco", "vgg")


# Rotation


def test_turns_are_numpys_and_each_picture_has_all_four():
    rgb_N3ss = pictures(5)
    turned, labels = all_turns(rgb_N3ss)
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    for place, (picture, label) in enumerate(zip(turned, labels, strict=True)):
        wanted = np.rot90(rgb_N3ss[place % 5].numpy(), int(label), axes=(1, 2))
        assert np.array_equal(picture.numpy(), wanted)
    # 90 degrees counterclockwise: what was at the right end of the top row is at its left end.
    assert torch.equal(turned[5][:, 0, 0], rgb_N3ss[0][:, 0, -1])


def test_a_rotation_network_classifies_turns():
    net = RotationNet(TinyEncoder(), seed=0)
    parts_agree(net, (pictures(4),))
    # A head that knows: where it reads the label off the features, it is always right.
    logits = torch.eye(4)[all_turns(pictures(2))[1]] * 9
    assert classified(logits, all_turns(pictures(2))[1]).accuracy == 1
    assert net(pictures(4)).loss.item() == pytest.approx(math.log(4), rel=0.2)


# Exemplar


def test_exemplar_classes_are_frames():
    net = ExemplarNet(TinyEncoder(), frames=7, seed=0)
    assert net.head[-1].out_features == 7
    frame_N = torch.tensor([6, 0, 3, 3])
    parts_agree(net, (pictures(4), frame_N))
    logits = net.head(net.encoder(pictures(4))[-1].mean((2, 3))).detach().double().numpy()
    wanted = np.mean([np.log(np.exp(row).sum()) - row[frame] for row, frame in zip(logits, frame_N, strict=True)])
    output = net(pictures(4), frame_N)
    assert output.loss.item() == pytest.approx(wanted, rel=1e-5)
    assert output.accuracy == np.mean(logits.argmax(1) == frame_N.numpy())


def test_exemplar_labels_are_the_places_of_frames_at_every_step():
    exemplar = made("exemplar", 4, (24, 32), {})
    assert exemplar.model.head[-1].out_features == 20
    rgb_NHWC = torch.zeros(4, 24, 32, 3, dtype=torch.uint8)
    for step, frames in enumerate(([3, 19, 0, 7], [19, 3, 5, 1])):
        view_N3HW, label_N = exemplar.inputs(Batch(step, np.array(frames), {"rgb": rgb_NHWC}))
        assert label_N.tolist() == frames
        assert view_N3HW.shape == (4, 3, 24, 32)


# Jigsaw


def distances(permutation_PT: np.ndarray) -> np.ndarray:
    return np.array([np.sum(one != other) for one, other in itertools.combinations(permutation_PT, 2)])


@pytest.mark.parametrize(("count", "least"), [(2, 9), (9, 9), (10, 8), (72, 8), (73, 7), (100, 7), (504, 7), (505, 6)])
def test_permutations_are_distinct_and_as_far_apart_as_so_many_can_be(count, least):
    permutation_PT = permutation_set(count)
    assert permutation_PT.shape == (count, 9)
    assert (np.sort(permutation_PT, axis=1) == np.arange(9)).all()
    seen = distances(permutation_PT[: 110 if count > 200 else None])
    assert seen.min() >= least
    # More than 9! / d! of them cannot be d + 1 apart: one more place, and there are too many.
    assert least == 9 or count > math.factorial(9) // math.factorial(least)
    assert permutation_PT[0].tolist() == list(range(9))
    assert np.array_equal(permutation_set(count), permutation_PT), "always the same ones"


def test_the_largest_set_is_six_apart():
    permutation_PT = permutation_set(1512)
    unequal_PP = (permutation_PT[:, None] != permutation_PT[None]).sum(2)
    np.fill_diagonal(unequal_PP, 9)
    assert unequal_PP.min() == 6


@pytest.mark.parametrize("points", [3, 4])
def test_no_set_beats_the_bound_that_the_docstring_gives(points):
    """By brute force: the largest sets of permutations of few points, for every distance."""
    everything = [np.array(one) for one in itertools.permutations(range(points))]
    for distance in range(3, points + 1):
        near = [{j for j, other in enumerate(everything) if np.sum(one != other) >= distance} for one in everything]

        def largest(size, allowed, near=near):
            return max([size, *(largest(size + 1, {k for k in near[j] & allowed if k > j}) for j in allowed)])

        # Any set can be moved so that it holds the identity.
        assert largest(1, near[0]) <= math.factorial(points) // math.factorial(distance - 1)


def test_tiles_put_back_give_the_picture():
    rgb_N3HW = pictures(2, 12, 15)
    tile = np.arange(9)
    top_NT, left_NT = (torch.from_numpy(np.stack([start] * 2)) for start in (tile // 3 * 4, tile % 3 * 5))
    tiles = cut_tiles(rgb_N3HW, top_NT, left_NT, (4, 5))
    assert tiles.shape == (2, 9, 3, 4, 5)
    rows = [torch.cat([tiles[:, 3 * row + column] for column in range(3)], -1) for row in range(3)]
    assert torch.equal(torch.cat(rows, -2), rgb_N3HW)
    left_NT[1, 4] += 2
    assert torch.equal(cut_tiles(rgb_N3HW, top_NT, left_NT, (4, 5))[1, 4], rgb_N3HW[1, :, 4:8, 7:12])


def test_a_tile_tells_nothing_of_its_brightness_and_contrast():
    tiles = pictures(2, 6, 45).view(2, 3, 6, 9, 5).permute(0, 3, 1, 2, 4)
    seen = normalised(tiles)
    torch.testing.assert_close(seen.mean((3, 4)), torch.full((2, 9, 3), 0.5))
    torch.testing.assert_close(seen.var((3, 4), correction=0).sqrt(), torch.full((2, 9, 3), 0.25))
    torch.testing.assert_close(normalised(0.2 + 0.3 * tiles), seen, rtol=1e-3, atol=1e-4)
    assert (normalised(torch.full((1, 9, 3, 4, 4), 0.3)) - 0.5).abs().max() < 1e-3


def test_a_jigsaw_network_knows_the_order_of_its_tiles():
    net = JigsawNet(TinyEncoder(), 5, seed=0).eval()
    tiles = pictures(4 * 9, 8, 8).view(4, 9, 3, 8, 8)
    label_N = torch.tensor([0, 4, 2, 2])
    parts_agree(net, (tiles, label_N))
    features = [net.tile_head(net.encoder(tiles[:, place])[-1].mean((2, 3))) for place in range(9)]
    wanted = classified(net.head(torch.cat(features, 1)), label_N)
    torch.testing.assert_close(net(tiles, label_N).loss, wanted.loss)
    mixed = tiles[:, torch.randperm(9, generator=torch.Generator().manual_seed(0))]
    assert (net(mixed, label_N).loss - wanted.loss).abs() > 1e-4


def test_a_puzzle_is_what_its_label_says():
    height, width, count = 45, 60, 6
    cell_HW = np.arange(height)[:, None] // 15 * 3 + np.arange(width) // 20
    rgb_NHWC = torch.from_numpy(np.tile(cell_HW[None, ..., None] * 20, (count, 1, 1, 3)).astype(np.uint8))
    mirrored = np.arange(9) // 3 * 3 + 2 - np.arange(9) % 3
    jigsaw = made("jigsaw", count, (height, width), {"crop": 1.0, "grey": 0.0, "permutations": 100})
    labels = set()
    for step in range(3):
        tiles, label_N = jigsaw._mixed(Batch(step, np.arange(count), {"rgb": rgb_NHWC}))
        assert tiles.shape == (count, 9, 3, 12, 17)
        for tile_T, label in zip(tiles.mean((2, 3, 4)) * 255 / 20, label_N, strict=True):
            # A view is nearly the whole picture, or its mirror image, and a tile lies inside one cell.
            wanted = permutation_set(100)[label]
            seen = tile_T.round().long().numpy()
            torch.testing.assert_close(tile_T, tile_T.round(), rtol=0, atol=0.2)
            assert np.array_equal(seen, wanted) or np.array_equal(seen, mirrored[wanted])
        labels.update(label_N.tolist())
        assert torch.equal(jigsaw.inputs(Batch(step, np.arange(count), {"rgb": rgb_NHWC}))[1], label_N)
    assert len(labels) > 10


# SimCLR


def slow_nt_xent(first_BC, second_BC, temperature):
    """The paper's equation 1, one pair after the other."""
    views = [*first_BC, *second_BC]
    count = len(first_BC)
    losses = []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = [torch.exp(views[i] @ views[k] / temperature) for k in range(2 * count) if k != i]
        losses.append(-torch.log(torch.exp(views[i] @ views[j] / temperature) / sum(others)))
    return sum(losses) / len(losses)


@given(count=st.integers(2, 6), temperature=st.floats(0.1, 2), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_nt_xent_is_the_papers_equation_with_its_gradients(count, temperature, seed):
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(2 * count, 5)))
    vectors = torch.nn.functional.normalize(vectors).requires_grad_()
    wanted = slow_nt_xent(vectors[:count], vectors[count:], temperature)
    (wanted_gradient,) = torch.autograd.grad(wanted, vectors)
    output = nt_xent(vectors, vectors, torch.arange(2 * count), temperature)
    (gradient,) = torch.autograd.grad(output.loss, vectors)
    torch.testing.assert_close(output.loss, wanted)
    torch.testing.assert_close(gradient, wanted_gradient)
    cosine = (vectors @ vectors.T).detach().numpy()
    partner = (np.arange(2 * count) + count) % (2 * count)
    apart = [[k for k in range(2 * count) if k not in (i, partner[i])] for i in range(2 * count)]
    hits = [cosine[i, partner[i]] > max(cosine[i, apart[i]]) for i in range(2 * count)]
    assert output.accuracy.item() == pytest.approx(np.mean(hits))
    assert output.positive.item() == pytest.approx(np.mean([cosine[i, partner[i]] for i in range(2 * count)]))
    assert output.negative.item() == pytest.approx(np.mean([cosine[i, apart[i]] for i in range(2 * count)]))


def test_simclr_contrasts_unit_vectors_of_two_views():
    net = SimCLR(TinyEncoder(), dim=4, temperature=0.5, ranks=ALONE, seed=0).eval()
    first, second = pictures(3), pictures(3, seed=1)
    vectors = [torch.nn.functional.normalize(net.head(net.encoder(x)[-1].mean((2, 3)))) for x in (first, second)]
    torch.testing.assert_close(net(first, second).loss, slow_nt_xent(*vectors, 0.5))
    assert net(first, first).positive.item() == pytest.approx(1)


# What they see


def test_views_are_the_runs_whatever_the_ranks():
    rgb_NHWC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), np.uint8))
    field_NHW = torch.from_numpy(np.random.default_rng(1).uniform(0, 900, (4, 30, 40)).astype(np.float16))
    given = {"crop": 0.2, "jitter": 0.4, "jitter_share": 0.8, "grey": 0.2, "blur": 0.5, "field_norm": "log"}

    def sight(ranks):
        region = Region(1, 29, 1, 39)
        return Sight(region=region, size_HW=(24, 32), seed=0, batch=4, ranks=ranks, options=given)

    whole = Batch(5, np.arange(4), {"rgb": rgb_NHWC, "gradient": field_NHW})
    for rank in range(2):
        mine = slice(rank, None, 2)
        part = Batch(5, np.arange(4)[mine], {"rgb": rgb_NHWC[mine], "gradient": field_NHW[mine]})
        ours, alone = sight(Ranks(rank, 2, rank, CPU)), sight(ALONE)
        torch.testing.assert_close(ours.picture(part, "query"), alone.picture(whole, "query")[mine])
        torch.testing.assert_close(ours.field(part, "query"), alone.field(whole, "query")[mine])
        views = draw_views(generator(0, "query views", 5), 4, Region(1, 29, 1, 39), scale=(0.2, 1)).take(mine)
        assert torch.equal(ours.field(part, "query"), field_view(field_NHW[mine], views, (24, 32), norm="log"))
        assert torch.equal(ours.mine(np.arange(4), CPU), torch.arange(4)[mine])
    assert not torch.equal(sight(ALONE).picture(whole, "query"), sight(ALONE).picture(whole, "key"))
    assert sight(ALONE).picture(whole, "query", (9, 9)).shape == (4, 3, 9, 9)
