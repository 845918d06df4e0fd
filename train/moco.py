"""Momentum contrast between pictures and gradient fields: one file, one paper.

The query is a colour picture, its key the gradient field of the same view (Shim and Kim 2021, arXiv 2011.03207);
everything else is MoCo (He et al. 2020, arXiv 1911.05722, algorithm 1). With pictures as keys it is MoCo itself.

    keys_NC = moco.encode_keys(fields, permutation)     # k, without gradient
    moco(pictures, keys_NC, frame_N).loss.backward()    # q, and the loss; by DDP where there are ranks
    optimizer.step()
    moco.update_keys()                                  # theta_k <- m theta_k + (1 - m) theta_q
    moco.enqueue(keys_NC, frame_N)                      # after the backward pass, which still needs the old queue

The last two take a number on the device that says whether they are to change anything, so that nobody has to wait for
the step's gradients to know.

Departures from MoCo, and why:

- The queue starts empty instead of with random unit vectors, and its empty columns do not count. Random columns are
  negatives that no picture gave, far from all keys, and the first steps would learn to tell noise from pictures.
  The first step has no negative at all: its loss and its gradients are exactly zero.
- The key encoder keeps batch-norm statistics of its own. They run over fields while the query's run over pictures, and
  copying those (as a momentum average of all buffers does) would describe other inputs. In training they do nothing:
  both encoders normalise by the batch.
- Pooling, heads, and all behind them are computed in float32, also under autocast.

- A query's own frame is none of its negatives. Its key of the epoch before may still be in the queue (with a queue
  nearly as long as the data, for half of the samples), and would push it away from another view of its own frame, the
  very thing that it is to be near. The queue keeps the number of each key's frame, and such keys do not count, however
  long the queue is. MoCo lets them count: on ImageNet, twenty queues long, one sample in 800 meets its own.

Legend: N samples of this rank, B of all ranks, C dimension of the vectors, K length of the queue, F features,
h w rows and columns of the last map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from train.batchnorm import in_groups, out_of_groups, split_batchnorm
from train.encoders import pooled_features
from train.errors import TrainError
from train.random import seeded_layers
from train.ranks import Ranks

if TYPE_CHECKING:
    from train.encoders import Encoder


def _linear(features: int, dim: int) -> nn.Module:
    return nn.Linear(features, dim)


def _mlp(features: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


def _grmc(features: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, dim), nn.ReLU())


# MoCo v1's, MoCo v2's, and that of the gradient-field paper's released code.
HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": _linear, "mlp": _mlp, "grmc": _grmc}


class MoCoOutput(NamedTuple):
    """What one forward pass gives, all float32 scalars; the loss alone has a gradient.

    Attributes
    ----------
    loss
        InfoNCE, the mean over the samples.
    accuracy
        Share of samples whose positive is more alike than every negative (1 while there is none).
    positive, negative
        Mean cosine with the positive, and with the negatives (0 while there is none).
    """

    loss: torch.Tensor
    accuracy: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


class MoCo(nn.Module):
    """Query and key encoder with heads, and the queue of keys.

    The state dict holds all that training needs: ``encoder_q``, ``head_q``, ``encoder_k``, ``head_k`` and the queue.
    All ranks hold the same queue, bit for bit, and each its own batch-norm statistics: `Ranks.parallel` leaves both
    alone, where `DistributedDataParallel` by itself would send them with each forward.

    Parameters
    ----------
    encoder_q, encoder_k
        Two encoders of one kind; the second becomes an exact copy of the first. With ``bn_groups`` above 1 both get
        split batch-norm.
    dim
        C, dimension of the vectors.
    queue_length
        K, a multiple of the batch.
    batch
        B, samples of a step, over all ranks and micro-batches.
    momentum
        m of the key encoder's average.
    temperature
        T of the softmax.
    head
        One of `HEADS`.
    bn_groups
        Batch-norm groups within one rank's micro-batch; see `train.batchnorm`. With one group, one micro-batch and
        one rank the shuffle does nothing, and batch-norm leaks.
    ranks
        The processes of the run.
    seed
        Draws the head; the global random state stays as it is.

    Attributes
    ----------
    queue_CK : float32
        Unit columns, in global order of the batches, zero where still empty. (A ``grmc`` head may give a vector of
        zeros, which stays zero.)
    queue_frame_K : int64
        The frame of each key; -1 where there is no key, or its frame was not told.
    queue_filled, queue_next : int64
        Number of columns filled, and the one to be written next; on the device, so that no step waits for it.

    Raises
    ------
    TrainError
        If an option is outside its range, K is no multiple of the batch, or the ranks do not divide the batch.
    """

    queue_CK: torch.Tensor
    queue_frame_K: torch.Tensor
    queue_filled: torch.Tensor
    queue_next: torch.Tensor

    def __init__(
        self,
        encoder_q: Encoder,
        encoder_k: Encoder,
        *,
        dim: int = 128,
        queue_length: int,
        batch: int,
        momentum: float = 0.999,
        temperature: float = 0.07,
        head: str = "mlp",
        bn_groups: int = 1,
        ranks: Ranks,
        seed: int,
    ) -> None:
        super().__init__()
        _check(dim, queue_length, batch, momentum, temperature, head, ranks)
        self.momentum = momentum
        self.temperature = temperature
        self.batch = batch
        self.ranks = ranks
        self.bn_groups = bn_groups
        self.encoder_q = split_batchnorm(encoder_q, bn_groups)
        self.encoder_k = split_batchnorm(encoder_k, bn_groups)
        with seeded_layers(seed, "head"):
            self.head_q = HEADS[head](encoder_q.channels[-1], dim)
            self.head_k = HEADS[head](encoder_k.channels[-1], dim)
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        self.head_k.load_state_dict(self.head_q.state_dict())
        for part in (self.encoder_k, self.head_k):
            part.requires_grad_(False)
        self.register_buffer("queue_CK", torch.zeros(dim, queue_length))
        self.register_buffer("queue_frame_K", torch.full((queue_length,), -1))
        self.register_buffer("queue_filled", torch.tensor(0))
        self.register_buffer("queue_next", torch.tensor(0))

    def forward(
        self, query_N3HW: torch.Tensor, keys_NC: torch.Tensor, frame_N: torch.Tensor | None = None
    ) -> MoCoOutput:
        """Contrast queries with their keys and the queue.

        Parameters
        ----------
        query_N3HW
            Pictures in [0, 1], this rank's, or a micro-batch of them.
        keys_NC
            The same samples' keys from `encode_keys`.
        frame_N
            int64 from 0, the samples' frames: keys of a sample's own frame do not count. Without it, all keys do.
        """
        q_NC = self._vectors(self.encoder_q, self.head_q, query_N3HW)  # N C
        with torch.autocast(q_NC.device.type, enabled=False):
            positive_N1 = (q_NC * keys_NC).sum(1, keepdim=True)  # N 1
            negative_NK = q_NC @ self.queue_CK  # N K
            empty_K = torch.arange(negative_NK.shape[1], device=q_NC.device) >= self.queue_filled  # K
            out_NK = empty_K.expand_as(negative_NK)  # N K
            if frame_N is not None:
                out_NK = out_NK | (self.queue_frame_K == frame_N[:, None])
            logits = torch.cat([positive_N1, negative_NK.masked_fill(out_NK, -torch.inf)], 1)  # N 1+K
            logits = logits / self.temperature
            labels_N = torch.zeros(len(logits), dtype=torch.long, device=logits.device)  # N: the first is the positive
            loss = functional.cross_entropy(logits, labels_N)
        with torch.no_grad():
            accuracy = (logits[:, 0] > logits[:, 1:].amax(1)).float().mean()
            negative = negative_NK.masked_fill(out_NK, 0).sum() / (~out_NK).sum().clamp(min=1)
        return MoCoOutput(loss, accuracy, positive_N1.detach().mean(), negative)

    @torch.no_grad()
    def encode_keys(
        self, images_N3HW: torch.Tensor, permutation_B: torch.Tensor, micro_batches: int = 1
    ) -> torch.Tensor:
        """The keys of this rank's samples, computed in the company of others (shuffling BN).

        All ranks' images are put into the order of the permutation, dealt out to ranks, micro-batches and batch-norm
        groups, and the vectors are put back. Any division of the batch into as many parts gives the same keys.

        Parameters
        ----------
        images_N3HW
            Gradient fields in [0, 1], repeated to 3 channels, of this rank's part of the batch.
        permutation_B
            Permutation of the global batch, int64, the same on all ranks, on the images' device.
        micro_batches
            Parts to compute one after the other.

        Returns
        -------
        Tensor
            Unit vectors, float32, in the order of ``images_N3HW``.

        Raises
        ------
        TrainError
            If the micro-batches do not divide the samples.
        """
        ranks, samples = self.ranks, len(images_N3HW)
        if samples % micro_batches:
            raise TrainError(f"{samples} samples of a rank in {micro_batches} micro-batches, wanted a multiple")
        assert len(permutation_B) == samples * ranks.world == self.batch
        images_B3HW = ranks.gather_interleaved(images_N3HW)  # B 3 H W
        mine_N = permutation_B[ranks.rank :: ranks.world]  # N
        shuffled_NC = torch.empty(samples, len(self.queue_CK), device=images_N3HW.device)  # N C
        for part in range(micro_batches):
            images_n3HW = images_B3HW[mine_N[part::micro_batches]]
            shuffled_NC[part::micro_batches] = self._vectors(self.encoder_k, self.head_k, images_n3HW)
        shuffled_BC = ranks.gather_interleaved(shuffled_NC)  # B C
        keys_BC = torch.empty_like(shuffled_BC)
        keys_BC[permutation_B] = shuffled_BC  # B C, as they came
        return keys_BC[ranks.rank :: ranks.world].contiguous()  # N C

    @torch.no_grad()
    def update_keys(self, skip: torch.Tensor | None = None) -> None:
        """Move the key encoder's parameters towards the query's: theta_k <- m theta_k + (1 - m) theta_q.

        Parameters only: the batch-norm statistics of the two describe different inputs.

        Parameters
        ----------
        skip
            float32 scalar on the device: where it is 1, nothing changes. By default it is 0.
        """
        for part_q, part_k in ((self.encoder_q, self.encoder_k), (self.head_q, self.head_k)):
            values_k: list[torch.Tensor] = list(part_k.parameters())
            values_q: list[torch.Tensor] = list(part_q.parameters())
            # SGD on the distance of the two with a rate of 1 - m: the one kernel that leaves out its work at a word
            # from the device. (A weight of 0 would not do: 0 times infinity is not 0.)
            torch._fused_sgd_(
                values_k,
                torch._foreach_sub(values_k, values_q),
                [],
                weight_decay=0.0,
                momentum=0.0,
                lr=1 - self.momentum,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,
                found_inf=skip,
            )

    @torch.no_grad()
    def enqueue(
        self, keys_NC: torch.Tensor, frame_N: torch.Tensor | None = None, skip: torch.Tensor | None = None
    ) -> None:
        """Write the keys of all ranks over the oldest columns, in global order; once a step, after backward.

        Parameters
        ----------
        keys_NC
            This rank's keys, from `encode_keys`.
        frame_N
            int64, their frames; -1 by default.
        skip
            As in `update_keys`.
        """
        frame_N = frame_N if frame_N is not None else torch.full((len(keys_NC),), -1, device=keys_NC.device)
        keys_BC, frame_B = self.ranks.gather_interleaved(keys_NC), self.ranks.gather_interleaved(frame_N)
        assert len(keys_BC) == self.batch, f"{len(keys_BC)} keys, wanted the whole batch of {self.batch}"
        K = self.queue_CK.shape[1]
        keys_CB, added = keys_BC.T, torch.full_like(self.queue_next, self.batch)
        columns_B = self.queue_next + torch.arange(self.batch, device=keys_BC.device)
        if skip is not None:
            # What is there is written again.
            keys_CB = torch.where(skip > 0, self.queue_CK.index_select(1, columns_B), keys_CB)
            frame_B = torch.where(skip > 0, self.queue_frame_K.index_select(0, columns_B), frame_B)
            added = torch.where(skip > 0, 0, added)
        self.queue_CK.index_copy_(1, columns_B, keys_CB)
        self.queue_frame_K.index_copy_(0, columns_B, frame_B)
        self.queue_next.add_(added).remainder_(K)
        self.queue_filled.add_(added).clamp_(max=K)

    def _vectors(self, encoder: nn.Module, head: nn.Module, images_N3HW: torch.Tensor) -> torch.Tensor:
        """Unit vectors of images (N, C), each with the batch-norm statistics of its group."""
        features_NF = pooled_features(encoder, in_groups(images_N3HW, self.bn_groups))  # N F, over the whole map
        with torch.autocast(features_NF.device.type, enabled=False):
            vectors_NC: torch.Tensor = head(out_of_groups(features_NF, self.bn_groups))  # N C
            # The guard is far below any real length, and far above where a gradient would overflow.
            return functional.normalize(vectors_NC, dim=1, eps=1e-6)


def _check(
    dim: int, queue_length: int, batch: int, momentum: float, temperature: float, head: str, ranks: Ranks
) -> None:
    if head not in HEADS:
        raise TrainError(f"head {head!r} is unknown, wanted {', '.join(HEADS)}")
    if dim < 1:
        raise TrainError(f"dim {dim}, wanted 1 or more")
    if not 0 <= momentum <= 1:
        raise TrainError(f"momentum {momentum}, wanted 0 to 1")
    if not temperature > 0:
        raise TrainError(f"temperature {temperature}, wanted more than 0")
    if batch < 1 or batch % ranks.world:
        raise TrainError(f"batch {batch} on {ranks.world} ranks, wanted a multiple")
    if queue_length < batch or queue_length % batch:
        near = max(1, queue_length // batch) * batch
        raise TrainError(f"queue length {queue_length}, wanted a multiple of the batch of {batch}, such as {near}")
