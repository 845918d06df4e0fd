"""Depth networks: an encoder, a decoder of FCRN or DenseDepth, and the target space that they are trained in.

A network predicts 1000 / depth in centimetres, that is 10 / metres, so that near depths, which RGB shows best, count
most (Alhashim and Wonka 2018, section 3.2). It does so at half the picture's resolution.

Legend: N pictures, H W pixels, h w half of them, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import nn
from torch.nn import functional

from train.densedepth import DenseDepthDecoder
from train.encoders import Encoder
from train.errors import TrainError
from train.fcrn import FcrnDecoder
from train.random import seeded_layers

_TARGET_M = 10.0  # 1000 / depth in centimetres
_STRIDE = 32  # of the encoders' last map
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PredictsDepth(Protocol):
    """What predicts depth: a `DepthNet`, or whatever is to be compared with one."""

    def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] to depths (N, 1, h, w) float32 in metres."""
        ...


class _Decoder(Protocol):
    out_channels: int

    def __call__(self, maps: Sequence[torch.Tensor]) -> torch.Tensor: ...


_DECODERS = {"fcrn": FcrnDecoder, "densedepth": DenseDepthDecoder}
NETWORKS = tuple(_DECODERS)


class DepthNet(nn.Module):
    """RGB to depth; made by `make_depth_net`.

    Attributes
    ----------
    network
        ``"fcrn"`` or ``"densedepth"``.
    encoder, decoder
        The parts; the decoder ends at stride 2.
    last
        The 3x3 convolution from the decoder to one channel.
    min_depth_m, max_depth_m
        The range of depths in metres that it is trained for and that `predict` gives.
    normalise
        Whether it takes ImageNet's mean and deviation from its input, as encoders trained there want it.
    """

    mean_3HW: torch.Tensor
    std_3HW: torch.Tensor

    def __init__(
        self, network: str, encoder: Encoder, *, min_depth_m: float, max_depth_m: float, normalise: bool
    ) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.encoder = encoder
        self.decoder = _DECODERS[network](encoder.channels)
        self.last = nn.Conv2d(self.decoder.out_channels, 1, 3, padding=1)
        # Training starts at a quarter of the range, where the papers start at zero, which is no depth at all and
        # tens of metres' worth of steps away. It is near the middle of real scenes: 2.5 m of NYU's 10 (median of the
        # frames at hand 2.5 m), 20 m of Make3D's 80 (13.9 m).
        nn.init.constant_(cast(nn.Parameter, self.last.bias), _TARGET_M / (max_depth_m / 4))
        # Constants, not weights: no part of the state dict.
        self.register_buffer("mean_3HW", torch.tensor(_IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std_3HW", torch.tensor(_IMAGENET_STD).reshape(3, 1, 1), persistent=False)

    def forward(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """Predict in target space.

        Parameters
        ----------
        rgb_N3HW
            Pictures of any size, float in [0, 1]. They are continued to multiples of 32 rows and columns at
            the lower and right rim by their last ones.

        Returns
        -------
        Tensor
            (N, 1, h, w), float32 also under autocast: 10 / metres, as it comes, so that losses have gradients
            outside the range of depths too.
        """
        height, width = rgb_N3HW.shape[-2:]
        x = (rgb_N3HW - self.mean_3HW) / self.std_3HW if self.normalise else rgb_N3HW
        below, right = -height % _STRIDE, -width % _STRIDE
        if below or right:
            x = functional.pad(x, (0, right, 0, below), mode="replicate")
        x = cast(_Decoder, self.decoder)(self.encoder(x))
        return self._depth_layer(x)[..., : (height + 1) // 2, : (width + 1) // 2]

    @torch.no_grad()
    def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """Predict depth, in the mode (train or eval) that the network is in.

        Parameters
        ----------
        rgb_N3HW
            As `forward`.

        Returns
        -------
        Tensor
            (N, 1, h, w) float32 metres, from ``min_depth_m`` to ``max_depth_m``.
        """
        return self.to_metres(self(rgb_N3HW))

    def to_target(self, depth_m: torch.Tensor) -> torch.Tensor:
        """Metres to 10 / metres in float32, depth clamped to the range; NaN (no depth) stays NaN."""
        return _TARGET_M / depth_m.float().clamp(self.min_depth_m, self.max_depth_m)

    def to_metres(self, target: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_target`; a target of 0 or below lies beyond every depth, and becomes ``max_depth_m``."""
        return _TARGET_M / target.float().clamp(_TARGET_M / self.max_depth_m, _TARGET_M / self.min_depth_m)

    def _depth_layer(self, x_NChw: torch.Tensor) -> torch.Tensor:
        # bfloat16 has 8 bits: depth would come in steps of 0.4 %. This layer is cheap enough for float32.
        if x_NChw.dtype == self.last.weight.dtype:
            return cast(torch.Tensor, self.last(x_NChw))
        with torch.autocast(x_NChw.device.type, enabled=False):
            return cast(torch.Tensor, self.last(x_NChw.to(self.last.weight.dtype)))


def mirrored_mean(net: PredictsDepth, rgb_N3HW: torch.Tensor) -> torch.Tensor:
    """(N, 1, h, w) float32 metres: the mean of a picture's depths and of its mirror image's, mirrored back."""
    return (net.predict(rgb_N3HW) + net.predict(rgb_N3HW.flip(-1)).flip(-1)) / 2


def make_depth_net(
    network: str,
    encoder: Encoder,
    *,
    min_depth_m: float = 0.1,
    max_depth_m: float = 10.0,
    normalise: bool = False,
    seed: int,
) -> DepthNet:
    """A depth network on an encoder, its decoder drawn from a seed.

    Parameters
    ----------
    network
        ``"fcrn"`` (published on ResNet-50) or ``"densedepth"`` (on DenseNets); either works on every encoder.
    encoder
        The encoder, with the weights to start from. It becomes a part of the network.
    min_depth_m, max_depth_m
        Range of depths in metres.
    normalise
        Whether the input loses ImageNet's mean and deviation first.
    seed
        The run's seed.

    Raises
    ------
    TrainError
        If there is no such network, or no depth in the range.
    """
    if network not in _DECODERS:
        raise TrainError(f"network {network!r} is unknown, wanted {' or '.join(NETWORKS)}")
    if not 0 < min_depth_m < max_depth_m:
        raise TrainError(f"depths from {min_depth_m} to {max_depth_m} m: wanted a rising range above 0")
    with seeded_layers(seed, "decoder"):
        return DepthNet(network, encoder, min_depth_m=min_depth_m, max_depth_m=max_depth_m, normalise=normalise)
