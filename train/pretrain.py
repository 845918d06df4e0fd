"""Pre-training: momentum contrast of pictures with gradient fields, or with pictures.

Legend: B samples of a step over all ranks, N those of this rank, H W rows and columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gfield import Region, Store
from train.batchnorm import default_bn_groups
from train.colour import coloured, draw_colours
from train.device import Numerics, to_device
from train.errors import TrainError
from train.frames import Frames
from train.loop import Outcome, Task
from train.moco import MoCo, default_queue_length
from train.random import generator
from train.ranks import Ranks
from train.restore import Say, check_start, start_encoder
from train.session import Settings, common_size, describe, open_stores, rows_of, run_training
from train.sheet import sheet
from train.stream import Batch
from train.views import draw_views, field_view, rgb_view

Method = Literal["gradient-moco", "moco"]

# The released code's batch where its networks are the paper's; the smaller networks take the larger one.
BATCHES = {"resnet18": 64, "resnet50": 64, "densenet121": 16, "densenet161": 16}
# Weight decay and momentum of SGD, as in MoCo and the released code.
_WEIGHT_DECAY, _SGD_MOMENTUM = 1e-4, 0.9


class Pretraining:
    """The task of the loop: views, keys, queries, loss.

    Parameters
    ----------
    moco, method
        The networks and the queue, and what the keys are made of.
    region
        Part of the stored pictures in which crops are drawn.
    size_HW
        Rows and columns of a view.
    jitter, grey
        Strength of colour jitter and share of grey pictures among the queries (for ``"moco"``, among the keys too).
    frames
        N of the logged K/N: all that an epoch shows.
    """

    def __init__(
        self,
        moco: MoCo,
        *,
        method: Method,
        region: Region,
        size_HW: tuple[int, int],
        jitter: float,
        grey: float,
        frames: int,
        settings: Settings,
        ranks: Ranks,
        numbers: Numerics,
    ) -> None:
        self._moco, self._method, self._region, self._size_HW = moco, method, region, size_HW
        self._jitter, self._grey, self._frames = jitter, grey, frames
        self._settings, self._ranks, self._numbers = settings, ranks, numbers
        self._keys_NC: torch.Tensor | None = None
        if settings.compiled:
            moco.encoder_q.compile()
            moco.encoder_k.compile()
        self._parallel = ranks.parallel(moco)

    @property
    def model(self) -> torch.nn.Module:
        """Encoders, heads and queue."""
        return self._moco

    def views(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Query and key pictures of a batch, both N,3,H,W in [0, 1]."""
        query_N3HW = self._picture_view(batch, "query")
        if self._method == "moco":
            return query_N3HW, self._picture_view(batch, "key")
        views_N = self._draw_views(batch.step, "query")
        return query_N3HW, field_view(batch.arrays["gradient"], views_N, self._size_HW)

    def backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Gradients of one batch, in micro-batches."""
        parts = self._settings.accumulate
        query_N3HW, key_N3HW = self.views(batch)
        order_B = generator(self._settings.seed, "shuffle", batch.step).permutation(self._settings.batch)
        permutation_B = to_device(order_B, self._numbers.device)
        with self._numbers.autocast():
            keys_NC = self._moco.encode_keys(self._numbers.lay_out(key_N3HW), permutation_B, parts)
        scalars: dict[str, torch.Tensor] = {}
        for part in range(parts):
            # Ranks exchange gradients once a step, with the last micro-batch.
            last = part == parts - 1
            alone = contextlib.nullcontext() if last else self._ranks.without_exchange(self._parallel)
            with alone, self._numbers.autocast():
                output = self._parallel(self._numbers.lay_out(query_N3HW[part::parts]), keys_NC[part::parts])
                (output.loss / parts).backward()
            for name, value in output._asdict().items():
                scalars[name] = scalars.get(name, 0.0) + value.detach() / parts
        self._keys_NC = keys_NC
        if self._ranks.world > 1:
            means = list(scalars.values())
            self._ranks.mean_over_ranks(means)
        filled = self._moco.queue_filled
        return {**scalars, "queue_filled": filled, "queue_share": filled / self._frames}

    def commit(self) -> None:
        """The momentum average, and the new keys into the queue."""
        assert self._keys_NC is not None
        self._moco.update_keys()
        self._moco.enqueue(self._keys_NC)

    def pictures(self, batch: Batch) -> dict[str, npt.NDArray[np.uint8]]:
        """The first four queries over their keys."""
        return {"query over key": sheet(*self.views(batch))}

    def _draw_views(self, step: int, purpose: str) -> Any:
        rng = generator(self._settings.seed, f"{purpose} views", step)
        return draw_views(rng, self._settings.batch, self._region).take(self._mine)

    def _picture_view(self, batch: Batch, purpose: str) -> torch.Tensor:
        view_N3HW = rgb_view(batch.arrays["rgb"], self._draw_views(batch.step, purpose), self._size_HW)
        if not (self._jitter or self._grey):
            return view_N3HW
        rng = generator(self._settings.seed, f"{purpose} colours", batch.step)
        colours_B = draw_colours(rng, self._settings.batch, jitter=self._jitter, grey=self._grey)
        return coloured(view_N3HW, colours_B.take(self._mine))

    @property
    def _mine(self) -> slice:
        """This rank's samples among those of the whole batch."""
        return slice(self._ranks.rank, None, self._ranks.world)


def pretrain(
    stores: Sequence[Path],
    settings: Settings,
    *,
    method: Method = "gradient-moco",
    encoder: str = "resnet50",
    size_WH: tuple[int, int] | None = None,
    init: str = "random",
    weights: Path | None = None,
    queue: int | None = None,
    temperature: float = 0.07,
    momentum: float = 0.999,
    dim: int = 256,
    head: str = "mlp",
    bn_groups: int | None = None,
    jitter: float | None = None,
    say: Say,
) -> Outcome:
    """Pre-train an encoder on the train and unlabeled frames of stores.

    Parameters
    ----------
    stores
        Folders of stores, whose pictures have one size.
    settings
        Length, batch, rate, device and so on.
    method
        ``"gradient-moco"``: keys are gradient fields; ``"moco"``: keys are other views of the pictures.
    encoder, init, weights
        Which encoder, and its start; see `train.restore.start_encoder`.
    size_WH
        Level of the stores, which is also the size of the views; the largest by default.
    queue
        K; by default see `train.moco.default_queue_length`.
    temperature, momentum, dim, head
        Of `train.moco.MoCo`.
    bn_groups
        Batch-norm groups of one rank's micro-batch; by default see `train.batchnorm.default_bn_groups`.
    jitter
        Colour jitter of the queries; by default 0, as in the paper, and 0.4 for ``"moco"``, as in MoCo v1.
    say
        Is told what the user should know.

    Returns
    -------
    Outcome
        How the run ended.
    """
    opened = open_stores(stores)
    level, (width, height) = common_size(opened, size_WH)
    arrays = ("rgb",) if method == "moco" else ("rgb", "gradient")
    parts = [(store, rows_of(store, ("train", "unlabeled"))) for store in opened]
    frames = Frames(parts, {name: f"{level}/{name}" for name in arrays})
    if not len(frames):
        raise TrainError(f"{', '.join(map(str, stores))}: no frame of split train or unlabeled to train on")
    check_start(encoder, init, say)
    queue = queue if queue is not None else default_queue_length(len(frames), settings.batch)
    jitter = jitter if jitter is not None else (0.4 if method == "moco" else 0.0)

    def make_task(ranks: Ranks, numbers: Numerics, say: Say) -> tuple[Task, torch.optim.Optimizer]:
        say(f"queue of {queue} keys, {queue / len(frames):.2f} of the {len(frames)} frames")
        micro = settings.batch // ranks.world // settings.accumulate
        moco = MoCo(
            start_encoder(encoder, init, weights=weights, seed=settings.seed, say=say),
            start_encoder(encoder, "random", seed=settings.seed, say=say),
            dim=dim,
            queue_length=queue,
            batch=settings.batch,
            momentum=momentum,
            temperature=temperature,
            head=head,
            bn_groups=bn_groups or default_bn_groups(micro),
            ranks=ranks,
            seed=settings.seed,
        )
        numbers.place(moco)
        task = Pretraining(
            moco,
            method=method,
            region=_common_region(opened, (width, height)),
            size_HW=(height, width),
            jitter=jitter,
            grey=0.2 if method == "moco" else 0.0,
            frames=len(frames),
            settings=settings,
            ranks=ranks,
            numbers=numbers,
        )
        trained = [parameter for parameter in moco.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, settings.rate, momentum=_SGD_MOMENTUM, weight_decay=_WEIGHT_DECAY)
        return task, optimizer

    arguments = {
        **settings.as_dict(),
        "method": method,
        "encoder": encoder,
        "size": level,
        "init": init,
        "queue": queue,
        "temperature": temperature,
        "momentum": momentum,
        "dim": dim,
        "head": head,
        "bn_groups": bn_groups,
        "jitter": jitter,
    }
    meta = {"command": "pretrain", "arguments": arguments, "stores": describe(opened)}
    return run_training(settings, frames, make_task, meta, say)


def _common_region(stores: Sequence[Store], size_WH: tuple[int, int]) -> Region:
    """The part of the pictures that is valid in all stores."""
    width, height = size_WH
    whole = Region(0, height, 0, width)
    regions = [store.spec.level_region(size_WH) or whole for store in stores]
    return Region(
        top=max(region.top for region in regions),
        bottom=min(region.bottom for region in regions),
        left=max(region.left for region in regions),
        right=min(region.right for region in regions),
    )
