"""The released code's pre-training step, written again from its facts, to be timed beside ours.

MoCo with two float32 encoders in plain memory layout; a head of one linear layer and a ReLU behind an average pool
over the last map; a queue of 65,536 columns; the momentum average as a loop over the parameters; SGD 0.015 with
momentum 0.9 and weight decay 1e-4; one set of batch-norm statistics; torch's default numerics. The place in the queue
is a number of the host's, as in MoCo's own code, for which it waits in every step.

Its loader is left out: pictures and fields lie on the device as its transforms would leave them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torchvision
from torch import nn
from torch.nn import functional

DIM, QUEUE, MOMENTUM, TEMPERATURE = 256, 65536, 0.999, 0.07


class _Branch(nn.Module):
    """An encoder, the pool over its last map, and the head."""

    def __init__(self, encoder: str, size_HW: tuple[int, int]) -> None:
        super().__init__()
        whole = getattr(torchvision.models, encoder)()
        if encoder.startswith("resnet"):
            features, layers = whole.fc.in_features, list(whole.children())[:-2]
        else:
            features, layers = whole.classifier.in_features, [*whole.features.children(), nn.ReLU(inplace=True)]
        self.encoder = nn.Sequential(*layers)
        with torch.no_grad():
            last_1Fhw = self.encoder.eval()(torch.zeros(1, 3, *size_HW))
        self.encoder.train()
        # All of the last map: 15 x 20 of it at 640x480, where the released code's pool leaves out five columns.
        self.pool = nn.AvgPool2d((last_1Fhw.shape[2], last_1Fhw.shape[3]))
        self.head = nn.Sequential(nn.Linear(features, DIM), nn.ReLU())

    def forward(self, images_N3HW: torch.Tensor) -> torch.Tensor:
        """Unit vectors, N x 256."""
        return functional.normalize(self.head(self.pool(self.encoder(images_N3HW)).flatten(1)), dim=1)


class ReleasedStep:
    """Both branches, the queue and the optimizer; a call is one step on constant pictures and fields.

    Parameters
    ----------
    encoder
        torchvision's name of it.
    batch, size_HW
        Samples of a step, and rows and columns of their pictures.
    device
        Where everything is.
    """

    def __init__(self, encoder: str, batch: int, size_HW: tuple[int, int], device: torch.device) -> None:
        self._query, self._key = (_Branch(encoder, size_HW).to(device) for _ in range(2))
        self._key.load_state_dict(self._query.state_dict())
        self._key.requires_grad_(False)
        self._queue_CK = functional.normalize(torch.randn(DIM, QUEUE, device=device), dim=0)
        self._pointer = torch.zeros(1, dtype=torch.long, device=device)
        self._optimizer = torch.optim.SGD(self._query.parameters(), 0.015, momentum=0.9, weight_decay=1e-4)
        # The query's numbers reach from 0 to 1 there, the key's to 255.
        self._rgb_N3HW = torch.rand(batch, 3, *size_HW, device=device)
        self._field_N3HW = 255 * torch.rand(batch, 3, *size_HW, device=device)

    def __call__(self) -> None:
        """One step."""
        with released_numerics():
            loss = self._loss()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    def _loss(self) -> torch.Tensor:
        q_NC = self._query(self._rgb_N3HW)
        with torch.no_grad():
            for parameter_q, parameter_k in zip(self._query.parameters(), self._key.parameters(), strict=True):
                parameter_k.data = parameter_k.data * MOMENTUM + parameter_q.data * (1 - MOMENTUM)
            k_NC = self._key(self._field_N3HW)
        positive_N1 = torch.einsum("nc,nc->n", q_NC, k_NC)[:, None]
        negative_NK = torch.einsum("nc,ck->nk", q_NC, self._queue_CK.clone().detach())
        logits = torch.cat([positive_N1, negative_NK], dim=1) / TEMPERATURE
        labels_N = torch.zeros(len(logits), dtype=torch.long).to(logits.device)
        with torch.no_grad():
            start = int(self._pointer)
            self._queue_CK[:, start : start + len(k_NC)] = k_NC.T
            self._pointer[0] = (start + len(k_NC)) % QUEUE
        return functional.cross_entropy(logits, labels_N)


@contextlib.contextmanager
def released_numerics() -> Iterator[None]:
    """torch's defaults, which a run of ours has changed: TF32 in convolutions, and no search for the fastest kernel."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):
        yield
