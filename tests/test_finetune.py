"""The task of fine-tuning: micro-batches give the gradients of the whole batch, and depth follows its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from train.depth import DepthNet, make_depth_net
from train.device import numerics
from train.encoders import make_encoder
from train.finetune import Finetuning
from train.ranks import Ranks
from train.session import Settings
from train.stream import Batch

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
COUNT, HEIGHT, WIDTH = 4, 64, 96


@pytest.fixture(scope="module")
def net() -> DepthNet:
    """In evaluation mode: batch-norm alone would make a sample depend on its company."""
    return make_depth_net("densedepth", make_encoder("resnet18", 0), seed=0).double().eval()


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Pictures with very different numbers of valid depths, one with none."""
    rng = np.random.default_rng(0)
    rgb_NHWC = rng.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
    depth_NHW = rng.uniform(0.5, 9, (COUNT, HEIGHT, WIDTH)).astype(np.float32)
    depth_NHW[1, 10:] = np.nan
    depth_NHW[2] = np.nan
    arrays = {"rgb": torch.from_numpy(rgb_NHWC), "depth": torch.from_numpy(depth_NHW)}
    return Batch(3, np.arange(COUNT), arrays)


def task_of(net: DepthNet, loss: str, parts: int) -> Finetuning:
    settings = Settings(Path("unused"), batch=COUNT, epochs=1, rate=0.1, accumulate=parts)
    return Finetuning(
        net, loss=loss, gradient_weight=0.0, settings=settings, ranks=Ranks(0, 1, 0, CPU), numbers=numerics(CPU)
    )


def gradients(net: DepthNet, batch: Batch, loss: str, parts: int) -> tuple[float, torch.Tensor]:
    net.zero_grad()
    value = task_of(net, loss, parts).backward(batch)["loss"]
    return float(value), torch.cat([weight.grad.flatten() for weight in net.parameters()])


@pytest.mark.parametrize("loss", ["l1", "densedepth"])
@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_give_the_gradients_of_the_whole_batch(net, batch, loss, parts, monkeypatch):
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda rgb_N3HW: forward(rgb_N3HW.double()))
    whole, wanted = gradients(net, batch, loss, 1)
    value, seen = gradients(net, batch, loss, parts)
    assert whole > 0
    assert wanted.abs().max() > 0
    assert value == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def test_depth_is_mirrored_with_its_picture_and_read_at_half_the_size(net):
    """Pictures whose red says the column and whose depth says it too."""
    column_W = np.arange(WIDTH)
    rgb_NHWC = np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8) + column_W[:, None].astype(np.uint8)
    depth_NHW = np.broadcast_to((1 + column_W / 100).astype(np.float32), (COUNT, HEIGHT, WIDTH)).copy()
    arrays = {"rgb": torch.from_numpy(rgb_NHWC), "depth": torch.from_numpy(depth_NHW)}
    task = task_of(net, "l1", 1)
    mirrored = set()
    for step in range(8):
        rgb_N3HW, depth_N1hw = task.views(Batch(step, np.arange(COUNT), arrays))
        assert depth_N1hw.shape == (COUNT, 1, HEIGHT // 2, WIDTH // 2)
        seen_Nw = (depth_N1hw[:, 0, 0] - 1) * 100
        for rgb_3HW, seen_w in zip(rgb_N3HW, seen_Nw, strict=True):
            column_of_rgb_W = rgb_3HW[0, 0] * 255
            falls = bool(column_of_rgb_W[0] > column_of_rgb_W[-1])
            mirrored.add(falls)
            # Every second column of the stored depth, the left one of two, mirrored with its picture.
            kept_w = torch.arange(0.0, WIDTH, 2)
            torch.testing.assert_close(seen_w, kept_w.flip(0) if falls else kept_w, rtol=0, atol=1e-3)
    assert mirrored == {True, False}
