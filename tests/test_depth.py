"""Depth networks: the published definitions, shapes at every size, the target space, and how they compute."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from train.densedepth import DenseDepthDecoder, UpStep
from train.depth import NETWORKS, DepthNet, make_depth_net
from train.encoders import ENCODERS, make_encoder
from train.errors import TrainError
from train.fcrn import FcrnDecoder, UpProjection

PUBLISHED = [("fcrn", "resnet50"), ("densedepth", "densenet161")]


pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@functools.cache
def shapes_only(network: str, encoder: str) -> DepthNet:
    with torch.device("meta"):
        return make_depth_net(network, make_encoder(encoder, 0), seed=0).eval()


def small_net(network: str, **options) -> DepthNet:
    return make_depth_net(network, make_encoder("resnet18", 0), seed=0, **options)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Number of parameters, counted by hand -------------------------------------------------------------------------------


def test_fcrn_on_resnet50_has_the_published_number_of_parameters():
    # Laina et al. 2016, section 4.1: 63.6 million. ResNet-50 without its classifier has 23,508,032.
    wanted = 23_508_032 + 2048 * 1024 + 2 * 1024
    for channels in (1024, 512, 256, 128):
        out = channels // 2
        wanted += 2 * (25 * channels * out) + 9 * out * out + 3 * 2 * out
    wanted += 9 * 64 + 1
    net = shapes_only("fcrn", "resnet50")
    assert count(net) == wanted
    assert round(count(net) / 1e6, 1) == 63.6


def test_densedepth_on_densenet161_has_the_parameters_of_its_table():
    # Half width: 1104, 552, 276, 138, 69 channels; the skips have 384, 192, 96, 96.
    wanted = 26_472_000 + 2208 * 1104 + 1104
    for channels, skip in ((1104, 384), (552, 192), (276, 96), (138, 96)):
        out = channels // 2
        wanted += 9 * (channels + skip) * out + out + 9 * out * out + out
    wanted += 9 * 69 + 1
    assert count(shapes_only("densedepth", "densenet161")) == wanted


# Shapes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "encoder"), PUBLISHED)
@pytest.mark.parametrize("size_HW", [(480, 640), (240, 320), (640, 480), (228, 305), (465, 623)])
def test_output_is_half_the_size(network, encoder, size_HW):
    out = shapes_only(network, encoder)(torch.zeros(2, 3, *size_HW, device="meta"))
    assert out.shape == (2, 1, (size_HW[0] + 1) // 2, (size_HW[1] + 1) // 2)


@given(
    network=st.sampled_from(NETWORKS), encoder=st.sampled_from(ENCODERS), size_HW=st.tuples(*[st.integers(1, 130)] * 2)
)
@settings(max_examples=25)
def test_either_network_works_on_any_encoder_at_any_size(network, encoder, size_HW):
    out = shapes_only(network, encoder)(torch.zeros(1, 3, *size_HW, device="meta"))
    assert out.shape == (1, 1, (size_HW[0] + 1) // 2, (size_HW[1] + 1) // 2)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_picture_is_continued_by_its_last_rows_and_columns(network):
    net = small_net(network).eval()
    rgb_N3HW = pictures(1, 3, 50, 75)
    rows, columns = np.minimum(np.arange(64), 49), np.minimum(np.arange(96), 74)
    with torch.no_grad():
        whole = net(rgb_N3HW[:, :, rows][:, :, :, columns])
        assert torch.equal(net(rgb_N3HW), whole[:, :, :25, :38])


# Parts ---------------------------------------------------------------------------------------------------------------


def unpooled_convolution(x_NChw: np.ndarray, kernel_OC55: np.ndarray) -> np.ndarray:
    """The paper's words: each value at the upper left of 2x2 zeros, then a 5x5 convolution."""
    N, C, h, w = x_NChw.shape
    padded = np.zeros((N, C, 2 * h + 4, 2 * w + 4))
    padded[:, :, 2 : 2 * h + 2 : 2, 2 : 2 * w + 2 : 2] = x_NChw
    out = np.zeros((N, len(kernel_OC55), 2 * h, 2 * w))
    for y in range(5):
        for x in range(5):
            window = padded[:, :, y : y + 2 * h, x : x + 2 * w]
            out += np.einsum("nchw,oc->nohw", window, kernel_OC55[:, :, y, x])
    return out


@given(sizes=st.tuples(*[st.integers(1, 5)] * 4), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_up_projection_is_the_papers(sizes, seed):
    channels, out, height, width = sizes
    torch.manual_seed(seed)
    layer = UpProjection(channels, out).double()
    x = torch.randn(2, channels, height, width, dtype=torch.float64)

    def unpooled(transposed):
        # A transposed convolution's kernel is (in, out, y, x) and mirrored.
        kernel = transposed.weight.detach().flip(2, 3).transpose(0, 1)
        return torch.from_numpy(unpooled_convolution(x.numpy(), kernel.numpy()))

    def norm(x_NChw):
        mean = x_NChw.mean((0, 2, 3), keepdim=True)
        return (x_NChw - mean) / (x_NChw.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    main = norm(functional.conv2d(norm(unpooled(layer.main_5x5)).relu(), layer.main_3x3.weight, padding=1))
    wanted = (main + norm(unpooled(layer.side_5x5))).relu()
    torch.testing.assert_close(layer(x), wanted, rtol=1e-7, atol=1e-7)


def test_the_weights_of_an_up_projection_keep_the_variance():
    torch.manual_seed(0)
    layer = UpProjection(256, 128)
    x = torch.randn(2, 256, 16, 16).relu()
    # He's rule: the variance that comes out is twice the second moment that goes in, which ReLU has halved.
    with torch.no_grad():
        assert float(layer.main_5x5(x)[..., 2:-2, 2:-2].var()) == pytest.approx(1, abs=0.1)


def test_fcrn_reads_the_last_map_alone():
    decoder = FcrnDecoder((4, 8, 8, 16, 64)).eval()
    maps = [pictures(1, c, 64 // 2**k, 64 // 2**k) for k, c in enumerate((4, 8, 8, 16, 64))]
    others = [torch.full_like(map_NChw, torch.nan) for map_NChw in maps[:-1]]
    assert torch.equal(decoder(maps), decoder([*others, maps[-1]]))


def test_densedepth_joins_every_map_at_its_own_size():
    decoder = DenseDepthDecoder((4, 8, 8, 16, 64)).eval()
    maps = [pictures(1, c, 64 // 2**k, 64 // 2**k).requires_grad_() for k, c in enumerate((4, 8, 8, 16, 64))]
    out = decoder(maps)
    assert out.shape == (1, decoder.out_channels, 64, 64)
    out[0, 0, 32, 32].backward()
    for stride, map_NChw in zip((1, 2, 4, 8, 16), maps, strict=True):
        touched = map_NChw.grad.abs().sum((0, 1)).nonzero() * stride
        assert len(touched)
        assert (touched - 32).abs().max() <= 5 * stride, "what is joined lies at the same place of the picture"


def test_up_steps_double_at_pixel_centres():
    step = UpStep(1, 1, 2)
    with torch.no_grad():
        step.conv_a.weight.zero_()
        step.conv_a.weight[0, 0, 1, 1] = 1
        step.conv_b.weight.zero_()
        step.conv_b.weight[0, 0, 1, 1] = 1
        for bias in (step.conv_a.bias, step.conv_b.bias):
            bias.zero_()
    ramp = torch.arange(8.0).expand(1, 1, 4, 8) + 1
    out = step(ramp, torch.zeros(1, 1, 8, 16))[0, 0, 3, 1:-1]
    torch.testing.assert_close(out, torch.arange(1, 15) / 2 + 0.75)


# Numbers -------------------------------------------------------------------------------------------------------------


@given(depth_m=st.floats(0.1, 10))
def test_the_target_is_1000_by_centimetres_and_back(depth_m):
    net = shapes_only("fcrn", "resnet18")
    target = net.to_target(torch.tensor([depth_m], dtype=torch.float64))
    assert target.dtype == torch.float32
    assert float(target) == pytest.approx(1000 / (100 * depth_m), rel=1e-6)
    assert float(net.to_metres(target)) == pytest.approx(depth_m, rel=1e-6)


def test_depths_and_predictions_outside_the_range_are_clamped():
    net = small_net("fcrn", min_depth_m=0.5, max_depth_m=80)
    target = net.to_target(torch.tensor([0.0, 0.1, 100.0, torch.nan]))
    assert target[:3].tolist() == [20, 20, 0.125]
    assert target[3].isnan()
    metres = net.to_metres(torch.tensor([-3.0, 0.0, 0.01, 20.0, 1e9, torch.inf]))
    assert metres.tolist() == [80, 80, 80, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("max_depth_m", [10, 80])
def test_the_first_prediction_is_near_a_quarter_of_the_range(network, max_depth_m):
    metres = small_net(network, max_depth_m=max_depth_m).predict(pictures(2, 3, 96, 128))
    assert float(metres.median()) == pytest.approx(max_depth_m / 4, rel=0.3)
    assert metres.dtype == torch.float32
    assert not metres.requires_grad


def test_the_loss_sees_predictions_outside_the_range():
    net = small_net("densedepth")
    with torch.no_grad():
        net.last.bias.fill_(-5)
    out = net(pictures(1, 3, 64, 64))
    assert float(out.detach().max()) < 0
    out.sum().backward()
    assert float(net.last.bias.grad) == 32 * 32


def test_normalising_takes_imagenets_mean_and_deviation():
    plain, normal = small_net("densedepth").eval(), small_net("densedepth", normalise=True).eval()
    assert {key.split(".")[0] for key in normal.state_dict()} == {"encoder", "decoder", "last"}
    rgb_N3HW = pictures(1, 3, 64, 64)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = ((rgb_N3HW.permute(0, 2, 3, 1) - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(normal(rgb_N3HW), plain(by_hand))
        assert not torch.allclose(normal(rgb_N3HW), plain(rgb_N3HW))


def test_the_decoder_depends_on_the_seed_and_the_encoder_on_its_own():
    first, second = small_net("fcrn").state_dict(), small_net("fcrn").state_dict()
    other = make_depth_net("fcrn", make_encoder("resnet18", 0), seed=1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    changed = {key.split(".")[0] for key in first if not torch.equal(first[key], other[key])}
    assert changed == {"decoder", "last"}


# How they compute ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_bfloat16_and_channels_last_give_nearly_the_same_in_float32(network):
    net = small_net(network)
    rgb_N3HW = pictures(2, 3, 64, 96)
    plain = net(rgb_N3HW)
    net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(rgb_N3HW.contiguous(memory_format=torch.channels_last))
    assert out.dtype == torch.float32
    # Only what led to the last layer was rounded: finer values than bfloat16 has must show.
    assert not torch.equal(out, out.bfloat16().float())
    torch.testing.assert_close(out, plain, rtol=0.05, atol=0.3)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in net.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_two_backward_passes_are_bit_equal(network):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        passes = []
        for _ in range(2):
            net = small_net(network)
            net(pictures(2, 3, 96, 128)).square().sum().backward()
            passes.append([parameter.grad for parameter in net.parameters()])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*passes, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("network", "encoder"), [("fcrn", "resnet18"), ("densedepth", "densenet121")])
def test_a_whole_network_is_one_graph(network, encoder):
    net = make_depth_net(network, make_encoder(encoder, 0), seed=0)
    rgb_N3HW = pictures(2, 3, 50, 75)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(rgb_N3HW), net(rgb_N3HW), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(rgb_N3HW).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "unet"}, r"^network 'unet' is unknown, wanted fcrn or densedepth$"),
        ({"min_depth_m": 0.0}, r"^depths from 0\.0 to 10\.0 m: wanted a rising range above 0$"),
        ({"min_depth_m": 5.0, "max_depth_m": 5.0}, r"wanted a rising range above 0"),
        ({"max_depth_m": float("nan")}, r"wanted a rising range above 0"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(TrainError, match=message):
        make_depth_net(**{"network": "fcrn", **options}, encoder=make_encoder("resnet18", 0), seed=0)
