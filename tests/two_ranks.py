"""Real processes joined on this machine, and what they compute there; this file is also the script that they run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
SAMPLES, QUEUE = 16, 48
CPU = torch.device("cpu")


def torchrun(what: str, out: Path) -> list[dict[str, Any]]:
    """Run a function of this file in two processes by torchrun; what each returned."""
    launcher = [*(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")]
    run = subprocess.run(
        [*launcher, __file__, what, str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [torch.load(out / f"{what}{rank}.pt", weights_only=True) for rank in range(2)]


def start_two(what: str, out: Path) -> list[subprocess.Popen[str]]:
    """Start the two processes without torchrun, which would end one when the other dies."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, __file__, what, str(out)],
            env=common | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]


class TinyEncoder(nn.Module):
    """The least that `MoCo` takes for an encoder: five maps, and their channels."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.channels = (3, 3, 3, 3, 12)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                *(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
                *(nn.Conv2d(8, 12, 3, 2, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
            )

    def forward(self, x_N3HW: torch.Tensor) -> list[torch.Tensor]:
        return [x_N3HW] * 4 + [self.body(x_N3HW)]


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, fields and the shuffle of one global batch."""
    rng = np.random.default_rng([7, step])
    rgb_B3HW = torch.from_numpy(rng.random((SAMPLES, 3, 19, 23), np.float32))
    field_B3HW = rgb_B3HW.mean(1, keepdim=True).square().expand(-1, 3, -1, -1)
    return rgb_B3HW, field_B3HW, torch.from_numpy(rng.permutation(SAMPLES))


def train_steps(ranks, *, bn_groups: int, micro_batches: int, steps: int = 6) -> dict[str, Any]:
    """A few steps of pre-training, long enough for the queue to fill and wrap; everything that may differ."""
    from train.batchnorm import running_statistics
    from train.moco import MoCo

    moco = MoCo(
        TinyEncoder(),
        TinyEncoder(1),
        dim=8,
        queue_length=QUEUE,
        batch=SAMPLES,
        momentum=0.9,
        temperature=0.2,
        bn_groups=bn_groups,
        ranks=ranks,
        seed=3,
    ).train()
    model = ranks.parallel(moco)
    learning = [value for value in moco.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
    losses, gradients, accuracies = [], [], []
    for step in range(steps):
        rgb_N3HW, field_N3HW = (images[ranks.rank :: ranks.world] for images in batch_of(step)[:2])
        moco.update_keys()
        keys_NC = moco.encode_keys(field_N3HW, batch_of(step)[2], micro_batches)
        optimizer.zero_grad()
        # Frames come again while their keys are in the queue, as they do where an epoch is short.
        frame_N = ((torch.arange(SAMPLES) + 5 * step) % 37)[ranks.rank :: ranks.world]
        outputs = []
        for part in range(micro_batches):
            micro = slice(part, None, micro_batches)
            with model.no_sync() if ranks.world > 1 and part < micro_batches - 1 else nullcontext():
                output = model(rgb_N3HW[micro], keys_NC[micro], frame_N[micro])
                (output.loss / micro_batches).backward()
            outputs.append(torch.stack([output.loss.detach(), output.accuracy]))
        gradients.append(torch.cat([value.grad.flatten() for value in learning]))
        optimizer.step()
        moco.enqueue(keys_NC, frame_N)
        scalars = torch.stack(outputs).mean(0)
        ranks.mean_over_ranks([scalars])
        losses.append(scalars[0])
        accuracies.append(scalars[1])
    own_statistics = torch.cat(running_statistics(moco))
    ranks.mean_over_ranks(running_statistics(moco))
    return {
        "loss": torch.stack(losses),
        "accuracy": torch.stack(accuracies),
        "gradient": torch.stack(gradients),
        "queue": moco.queue_CK,
        "place": torch.stack([moco.queue_filled, moco.queue_next, *moco.queue_frame_K]),
        "weights": torch.cat([value.detach().flatten() for value in moco.parameters()]),
        "own_statistics": own_statistics,
        "statistics": torch.cat(running_statistics(moco)),
    }


def moco(ranks, out: Path) -> dict[str, Any]:
    """Two ranks' share of the divisions into two and into four."""
    return {
        f"groups{groups} micro{micro}": train_steps(ranks, bn_groups=groups, micro_batches=micro)
        for groups, micro in ((1, 1), (2, 1), (1, 2))
    }


def pretext_net(name: str, ranks, bn_groups: int) -> tuple[nn.Module, Any]:
    """A method's network without a queue, and what it is given of a global batch, by step."""
    from train.batchnorm import in_groups, out_of_groups, split_batchnorm
    from train.pretexts.exemplar import ExemplarNet
    from train.pretexts.jigsaw import JigsawNet
    from train.pretexts.rotation import RotationNet
    from train.pretexts.simclr import SimCLR

    encoder = split_batchnorm(TinyEncoder(), bn_groups)
    # Groups are what ranks see, every G-th sample.
    encoder.register_forward_pre_hook(lambda part, images: (in_groups(images[0], bn_groups),))
    encoder.register_forward_hook(lambda part, images, maps: [out_of_groups(x, bn_groups) for x in maps])
    if name == "simclr":
        net: nn.Module = SimCLR(encoder, dim=8, temperature=0.2, ranks=ranks, seed=3)
        return net, lambda step: (batch_of(step)[0], batch_of(step)[1] + 0.1 * batch_of(step)[0])
    if name == "rotation":
        return RotationNet(encoder, 3), lambda step: (batch_of(step)[0][..., :19],)
    if name == "exemplar":
        return ExemplarNet(encoder, 40, 3), lambda step: (batch_of(step)[0], 2 * batch_of(step)[2])

    def puzzles(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        tiles = batch_of(step)[0][:, None, :, :9, :9] ** torch.linspace(0.5, 2, 9)[:, None, None, None]
        return tiles, batch_of(step)[2] % 7

    return JigsawNet(encoder, 7, 3), puzzles


def train_pretext(name: str, ranks, *, bn_groups: int = 1, steps: int = 3) -> dict[str, Any]:
    """A few steps of a method without a queue."""
    from train.batchnorm import running_statistics

    net, inputs = pretext_net(name, ranks, bn_groups)
    model = ranks.parallel(net.train())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    logged, gradients = [], []
    for step in range(steps):
        optimizer.zero_grad()
        output = model(*(tensor[ranks.rank :: ranks.world] for tensor in inputs(step)))
        output.loss.backward()
        gradients.append(torch.cat([value.grad.flatten() for value in net.parameters()]))
        optimizer.step()
        scalars = torch.stack([value.detach() for value in output])
        ranks.mean_over_ranks([scalars])
        logged.append(scalars)
    own_statistics = torch.cat(running_statistics(net))
    ranks.mean_over_ranks(running_statistics(net))
    return {
        "logged": torch.stack(logged),
        "gradient": torch.stack(gradients),
        "weights": torch.cat([value.detach().flatten() for value in net.parameters()]),
        "own_statistics": own_statistics,
        "statistics": torch.cat(running_statistics(net)),
    }


def pretexts(ranks, out: Path) -> dict[str, Any]:
    """Two ranks' share of every method without a queue, and of the exchanges with gradients."""
    values_N = torch.arange(4.0)[ranks.rank :: ranks.world].requires_grad_()
    ranks.gather_with_gradient(values_N).mul(torch.arange(1.0, 5) * (ranks.rank + 1)).sum().backward()
    mean = torch.full((2,), float(ranks.rank), requires_grad=True)
    (ranks.mean_with_gradient(mean) * (ranks.rank + 1)).sum().backward()
    methods = {name: train_pretext(name, ranks) for name in ("simclr", "rotation", "exemplar", "jigsaw")}
    return {**methods, "exchanged": [values_N.grad, mean.grad], "joint": joint_norm(ranks)}


def joint_norm(ranks) -> dict[str, torch.Tensor]:
    """Joint batch-norm on so few values that every one counts."""
    from train.batchnorm import joint_batchnorm

    x_B = torch.from_numpy(np.random.default_rng(2).normal(3, 2, (4, 3, 1, 2)).astype(np.float32))
    norm = joint_batchnorm(nn.BatchNorm2d(3), ranks).train()
    y_N = norm(x_B[ranks.rank :: ranks.world])
    return {"y": y_N.detach(), **norm.state_dict()}


def collectives(ranks, out: Path) -> dict[str, Any]:
    """Every method of `Ranks`, on values that tell the ranks apart."""
    samples_B = torch.arange(10)
    images_B = (samples_B[:, None, None, None] + torch.zeros(10, 3, 2, 2)).contiguous(memory_format=torch.channels_last)
    part = slice(ranks.rank, None, ranks.world)
    means = [torch.tensor([1.0, 2.0]) * (ranks.rank + 1), torch.tensor(float(ranks.rank))]
    ranks.mean_over_ranks(means)
    ranks.mean_over_ranks([])
    return {
        "who": [ranks.rank, ranks.world, ranks.local_rank, str(ranks.device)],
        "int64": ranks.gather_interleaved(samples_B[part]),
        "uint8": ranks.gather_interleaved(samples_B[part].to(torch.uint8)),
        "float16": ranks.gather_interleaved(samples_B[part].half()),
        "images": ranks.gather_interleaved(images_B[part]),
        "mean": means,
        "any": [ranks.any_rank(False), ranks.any_rank(ranks.rank == 1), ranks.any_rank(True)],
        "first": ranks.from_first({"checkpoint": f"of rank {ranks.rank}", "step": 7}),
    }


def dies(ranks, out: Path) -> dict[str, Any]:
    """Rank 1 dies as by kill -9, rank 0 waits for its flag."""
    ranks.any_rank(False)
    if ranks.rank == 1:
        os._exit(9)
    ranks.any_rank(False)
    return {}


def sleeps(ranks, out: Path) -> dict[str, Any]:
    """Rank 1 hangs until rank 0 has given up."""
    ranks.any_rank(False)
    while ranks.rank == 1 and not (out / "told").exists():
        time.sleep(0.05)
    if ranks.rank == 0:
        ranks.gather_interleaved(torch.zeros(2))
    return {}


def main() -> None:
    """``two_ranks.py WHAT OUT``: join, compute, keep what came out."""
    from train.errors import TrainError
    from train.ranks import join, leave

    what, out = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    try:
        ranks = join("cpu", timeout_s=2 if what == "sleeps" else 60)
        torch.save(globals()[what](ranks, out), out / f"{what}{ranks.rank}.pt")
    except TrainError as error:
        sys.exit(f"Error: {error}")
    finally:
        leave()
        leave()


if __name__ == "__main__":
    main()
