"""FCRN's decoder: up-projections from an encoder's last map to half the picture's resolution, without skips.

Laina, Rupprecht, Belagiannis, Tombari and Navab, "Deeper Depth Prediction with Fully Convolutional Residual
Networks", 3DV 2016, section 3.1 and figure 2.

Legend: N pictures, C channels, h w pixels of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class UpProjection(nn.Module):
    """Twice the size, with a residual: unpool, then 5x5-BN-ReLU-3x3-BN beside 5x5-BN, their sum, ReLU.

    Unpooling puts every value at the upper left of 2x2 zeros. A 5x5 convolution of that is a transposed convolution
    of stride 2 with the kernel mirrored, so the weights are the paper's and three quarters of the products, those
    with zeros, are saved. Convolutions have no bias, since batch-norm would take it out again.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.main_5x5 = _unpooled_5x5(channels, out_channels)
        self.main_norm_5x5 = nn.BatchNorm2d(out_channels)
        self.main_3x3 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.main_norm_3x3 = nn.BatchNorm2d(out_channels)
        self.side_5x5 = _unpooled_5x5(channels, out_channels)
        self.side_norm_5x5 = nn.BatchNorm2d(out_channels)

    def forward(self, x_NChw: torch.Tensor) -> torch.Tensor:
        """(N, channels, h, w) to (N, out_channels, 2 h, 2 w)."""
        main = functional.relu(self.main_norm_5x5(self.main_5x5(x_NChw)), inplace=True)
        main = self.main_norm_3x3(self.main_3x3(main))
        side = self.side_norm_5x5(self.side_5x5(x_NChw))
        return functional.relu(main + side, inplace=True)


class FcrnDecoder(nn.Module):
    """From an encoder's last map: 1x1 to half its channels, then four up-projections that halve them each.

    The layer that makes depth of it is `train.depth.DepthNet`'s.

    Parameters
    ----------
    channels
        Channels of the encoder's five maps.

    Attributes
    ----------
    out_channels
        Channels of what `forward` returns.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [channels[-1] // 2**halved for halved in range(1, 6)]
        self.out_channels = widths[-1]
        self.reduce = nn.Conv2d(channels[-1], widths[0], 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(widths[0])
        self.up = nn.Sequential(*map(UpProjection, widths[:-1], widths[1:]))

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """The map at stride 2, from the last of the encoder's maps."""
        up: torch.Tensor = self.up(self.reduce_norm(self.reduce(maps[-1])))
        return up


def _unpooled_5x5(channels: int, out_channels: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(channels, out_channels, 5, stride=2, padding=2, output_padding=1, bias=False)
    # He's rule by hand: torch takes a transposed kernel's fan for that of its backward pass, and three
    # quarters of the taps meet zeros.
    nn.init.normal_(layer.weight, std=(2 / (channels * 25 / 4)) ** 0.5)
    return layer
