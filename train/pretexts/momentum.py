"""What the two methods with a queue share: `train.moco.MoCo` at work on one run, for any kind of keys.

Legend: N samples of this rank, B of all ranks, C dimension of the vectors, K length of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from train.batchnorm import default_bn_groups
from train.device import to_device
from train.errors import TrainError
from train.moco import MoCo
from train.pretexts.pretext import Pretext, Setup
from train.stream import Batch


class MomentumContrast(Pretext):
    """Queries from pictures, keys from what the method says, and the queue.

    Parameters
    ----------
    setup
        Of the run.
    views
        Query and key images of a batch, both N,3,H,W in [0, 1].
    """

    def __init__(self, setup: Setup, views: Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]) -> None:
        options, settings = setup.options, setup.settings
        self._views, self._setup = views, setup
        self._masked = options["own_keys"] == "masked"
        self._keys_NC = self._frame_N = torch.empty(0)
        queue = options["queue"]
        setup.say(f"queue of {queue} keys, {queue / setup.frames:.2f} of the {setup.frames} frames")
        if queue > setup.frames:
            setup.say("note: the queue is longer than the data, so that it holds several old keys of each frame")
        samples = settings.batch // setup.ranks.world // settings.accumulate
        groups = options["bn_groups"] or default_bn_groups(samples)
        if samples % groups:
            raise TrainError(f"--bn-groups {groups} of {samples} samples at a time, wanted a number that divides them")
        if groups == 1:
            setup.say(
                f"note: {samples} samples at a time share batch-norm's statistics, which may tell queries their keys; "
                "16 or more are split and shuffled"
            )
        self._moco = MoCo(
            setup.start(),
            setup.plain(),
            dim=options["dim"],
            queue_length=queue,
            batch=settings.batch,
            momentum=options["momentum"],
            temperature=options["temperature"],
            head=options["head"],
            bn_groups=groups,
            ranks=setup.ranks,
            seed=settings.seed,
        )
        self.model = self._moco

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Queries, their keys and their frames."""
        numbers = self._setup.numbers
        query_N3HW, key_N3HW = self._views(batch)
        order_B = self._setup.sight.rng("shuffle", batch.step).permutation(self._setup.settings.batch)
        with numbers.autocast():
            self._keys_NC = self._moco.encode_keys(
                numbers.lay_out(key_N3HW), to_device(order_B, numbers.device), self._setup.settings.accumulate
            )
        self._frame_N = to_device(batch.index_N, numbers.device)
        if not self._masked:
            return query_N3HW, self._keys_NC
        return query_N3HW, self._keys_NC, self._frame_N

    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Queries over their keys."""
        return self._views(batch)

    def commit(self, skip: torch.Tensor) -> None:
        """The momentum average, and the new keys into the queue."""
        self._moco.update_keys(skip)
        self._moco.enqueue(self._keys_NC, self._frame_N, skip)

    def more_scalars(self) -> dict[str, torch.Tensor]:
        """How far the queue is filled, and what share of the frames that is."""
        filled = self._moco.queue_filled
        return {"queue_filled": filled, "queue_share": filled / self._setup.frames}


def with_queue(options: Mapping[str, Any], frames: int, batch: int) -> Mapping[str, Any]:
    """The options with a length of the queue, where none is given."""
    length = options["queue"]
    return {**options, "queue": length if length is not None else default_queue_length(frames, batch)}


def default_queue_length(frames: int, batch: int) -> int:
    """The largest multiple of the batch that is at most 65,536 (the paper's K) and leaves room for one batch.

    Parameters
    ----------
    frames
        Frames of an epoch.
    batch
        B, samples of a step over all ranks.

    Raises
    ------
    TrainError
        If the batch is larger than half of the frames.
    """
    length = min(65536, frames - batch) // batch * batch
    if length <= 0:
        raise TrainError(
            f"batch {batch} of {frames} frames leaves no negatives, wanted a batch of {frames // 2} or less"
        )
    return length
