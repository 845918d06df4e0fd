"""Fine-tuning: depth from single pictures, on all labelled frames of a store or a few of them.

Legend: N samples of this rank, H W rows and columns of the picture, h w half of them, those of the depth.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gfield import Location, Store
from train.colour import coloured, draw_colours
from train.depth import DepthNet, make_depth_net
from train.device import Numerics
from train.errors import TrainError
from train.frames import Frames
from train.labels import label_subset
from train.loop import Outcome, Task
from train.losses import DEPTH_LOSSES
from train.optimizers import make_adam
from train.random import generator
from train.ranks import Ranks
from train.restore import Say, check_start, start_encoder
from train.session import Settings, common_size, describe, open_stores, rows_of, run_training
from train.sheet import sheet
from train.stream import Batch
from train.views import flipped

# Network: encoder of the paper, loss of the released code.
ENCODERS_OF = {"densedepth": "densenet161", "fcrn": "resnet50"}
LOSSES_OF = {"densedepth": "densedepth", "fcrn": "l1"}
# Depth in metres that targets are clamped to: the released code's for NYU; Make3D's laser reaches 80 m.
_NYU_RANGE_M = (0.1, 10.0)
DEPTH_RANGES_M = {"nyu": _NYU_RANGE_M, "densedepth": _NYU_RANGE_M, "nyu-raw": _NYU_RANGE_M, "make3d": (1.0, 80.0)}
# The released code's augmentation: half of the pictures mirrored, half with their channels in another order.
_FLIP, _SWAP = 0.5, 0.5


class Finetuning:
    """The task of the loop: whole pictures, mirrored and recoloured at random, and the loss of their depth."""

    def __init__(
        self,
        net: DepthNet,
        *,
        loss: str,
        gradient_weight: float,
        settings: Settings,
        ranks: Ranks,
        numbers: Numerics,
    ) -> None:
        self._net, self._loss, self._gradient_weight = net, loss, gradient_weight
        self._settings, self._ranks, self._numbers = settings, ranks, numbers
        # The span of the target, from the largest depth, whose target is near 0, to the least.
        self._value_range = float(net.to_target(torch.tensor(net.min_depth_m)))
        if settings.compiled:
            net.compile()
        self._parallel = ranks.parallel(net)

    @property
    def model(self) -> torch.nn.Module:
        """The depth network."""
        return self._net

    def views(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures N,3,H,W in [0, 1] and depths N,1,h,w in metres (NaN where there is none)."""
        seed, step, count = self._settings.seed, batch.step, self._settings.batch
        mine = slice(self._ranks.rank, None, self._ranks.world)
        flip_N = (generator(seed, "flip", step).random(count) < _FLIP)[mine]
        colours_N = draw_colours(generator(seed, "colours", step), count, swap=_SWAP).take(mine)
        rgb_N3HW = batch.arrays["rgb"].permute(0, 3, 1, 2).float().div_(255)
        depth_NHW = batch.arrays["depth"]
        if depth_NHW.shape[1:] == rgb_N3HW.shape[2:]:
            # The store's rule for half a level: nearest neighbour, the lower index on a tie.
            depth_NHW = depth_NHW[:, ::2, ::2]
        return coloured(flipped(rgb_N3HW, flip_N), colours_N), flipped(depth_NHW[:, None], flip_N)

    def backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Gradients of one batch, in micro-batches."""
        parts = self._settings.accumulate
        rgb_N3HW, depth_N1hw = self.views(batch)
        valid_N1hw = torch.isfinite(depth_N1hw)
        target_N1hw = self._net.to_target(depth_N1hw)
        # Micro-batches weigh by their valid pixels, as they do in the loss of the whole batch.
        weights = torch.stack([valid_N1hw[part::parts].sum() for part in range(parts)]).float()
        weights = weights / weights.sum().clamp(min=1)
        loss = torch.zeros((), device=self._numbers.device)
        for part in range(parts):
            # Ranks exchange gradients once a step, with the last micro-batch.
            last = part == parts - 1
            with contextlib.nullcontext() if last else self._ranks.without_exchange(self._parallel):
                with self._numbers.autocast():
                    predicted_n1hw = self._parallel(self._numbers.lay_out(rgb_N3HW[part::parts]))
                part_loss = self._loss_of(predicted_n1hw, target_N1hw[part::parts], valid_N1hw[part::parts])
                (part_loss * weights[part]).backward()  # type: ignore[no-untyped-call]
            loss = loss + part_loss.detach() * weights[part]
        self._ranks.mean_over_ranks([loss])
        return {"loss": loss}

    def commit(self, skip: torch.Tensor) -> None:
        """Nothing follows the optimizer's step."""

    def pictures(self, batch: Batch) -> dict[str, npt.NDArray[np.uint8]]:
        """The first four pictures over their depths, near is bright."""
        rgb_N3HW, depth_N1hw = self.views(batch)
        near_N1hw = torch.nan_to_num(self._net.min_depth_m / depth_N1hw).clamp(0, 1).sqrt()
        grey_N3HW = torch.nn.functional.interpolate(near_N1hw, size=rgb_N3HW.shape[-2:]).expand(-1, 3, -1, -1)
        return {"picture over depth": sheet(rgb_N3HW, grey_N3HW)}

    def _loss_of(self, predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        if self._loss == "densedepth":
            return DEPTH_LOSSES["densedepth"](
                predicted, target, valid, value_range=self._value_range, gradient_weight=self._gradient_weight
            )
        return DEPTH_LOSSES[self._loss](predicted, target, valid)


def finetune(
    store: Location | Store,
    settings: Settings,
    *,
    init: str,
    network: str = "densedepth",
    encoder: str | None = None,
    weights: Path | None = None,
    size_WH: tuple[int, int] | None = None,
    labels: float | int = 1.0,
    label_seed: int = 0,
    loss: str | None = None,
    gradient_weight: float = 0.0,
    say: Say,
) -> Outcome:
    """Train a depth network on the train split of a store.

    Parameters
    ----------
    store
        Folder of a store with depth, or that store as `train.session.open_stores` opens it.
    settings
        Length, batch, rate, device and so on. A batch that the subset of labels cannot fill is an error.
    init, encoder, weights
        Which encoder, and its start; by default the paper's for the network.
    network
        ``"densedepth"`` or ``"fcrn"``.
    size_WH
        Level of the store that the network sees; the largest by default.
    labels, label_seed
        See `train.labels.label_subset`.
    loss
        Name in `train.losses.DEPTH_LOSSES`; by default the released code's for the network.
    gradient_weight
        Weight of the image-gradient term of the ``"densedepth"`` loss.
    say
        Is told what the user should know.

    Raises
    ------
    TrainError
        If the store has no depth or no labelled frame; see also `train.session.run_training`.
    """
    opened = store if isinstance(store, Store) else open_stores([store])[0]
    level, size = common_size([opened], size_WH)
    encoder, loss = encoder or ENCODERS_OF[network], loss or LOSSES_OF[network]
    if "depth" not in opened.spec.arrays:
        raise TrainError(f"{opened.path}: no depth in the store, it has {', '.join(opened.spec.arrays)}")
    rows = rows_of(opened, ("train",))
    if not len(rows):
        raise TrainError(
            f"{opened.path}: no labelled frame, its train split is empty; gfield build --splits FILE sets it"
        )
    rows = label_subset(rows, labels, label_seed)
    frames = Frames([(opened, rows)], {"rgb": f"{level}/rgb", "depth": _depth_key(opened, size)})
    depth_range_m = DEPTH_RANGES_M.get(opened.spec.kind, DEPTH_RANGES_M["nyu"])
    start = check_start(encoder, init, say, weights=weights)

    def make_task(ranks: Ranks, numbers: Numerics, say: Say) -> tuple[Task, torch.optim.Optimizer]:
        net = make_depth_net(
            network,
            start_encoder(encoder, init, weights=weights, seed=settings.seed, say=say),
            min_depth_m=depth_range_m[0],
            max_depth_m=depth_range_m[1],
            normalise=start.normalise,
            seed=settings.seed,
        )
        numbers.place(net)
        task = Finetuning(
            net, loss=loss, gradient_weight=gradient_weight, settings=settings, ranks=ranks, numbers=numbers
        )
        return task, make_adam(net.parameters(), settings.rate)

    arguments = {
        **settings.as_dict(),
        **start.arguments,
        "network": network,
        "encoder": encoder,
        "size": level,
        "labels": labels,
        "label_seed": label_seed,
        "loss": loss,
        "gradient_weight": gradient_weight,
        "depth_range_m": list(depth_range_m),
        "normalise": start.normalise,
    }
    meta = {
        "command": "finetune",
        "arguments": arguments,
        "stores": describe([opened]),
        "labelled_frames": opened.names[rows].tolist(),
    }
    return run_training(settings, frames, make_task, meta, say)


def _depth_key(store: Store, size_WH: tuple[int, int]) -> str:
    """Depth at half the size where the store has that level, else at the picture's own size."""
    half = f"{size_WH[0] // 2}x{size_WH[1] // 2}"
    return f"{half if half in store.levels else f'{size_WH[0]}x{size_WH[1]}'}/depth"


def default_batch(store: Store, labels: float | int) -> int:
    """The released code's batch of 8, or all labelled frames where these are fewer."""
    rows = rows_of(store, ("train",))
    return max(1, min(8, len(label_subset(rows, labels, 0)) if len(rows) else 8))
