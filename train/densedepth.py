"""DenseDepth's decoder: bilinear steps up from an encoder's last map, joined by the earlier maps.

Alhashim and Wonka, "High Quality Monocular Depth Estimation via Transfer Learning", arXiv 1812.11941, table 5;
at half width, as the code that was published with it and gradient-field contrast's (ICRA 2021) have it.

Legend: N pictures, C channels, h w pixels of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_SLOPE = 0.2  # of LeakyReLU below 0


class UpStep(nn.Module):
    """Up to the size of a skip, joined with it, then two 3x3 convolutions with LeakyReLU 0.2 each.

    Up-sampling is bilinear at pixel centres (``align_corners=False``), which is the same doubling at every place
    and every size. The PyTorch ports align corners, which stretches a map of h rows by (2 h - 1) / (h - 1): 2.14 at 8
    rows, 2.01 at 120, so that what is learnt at one size would lie elsewhere at another.
    """

    def __init__(self, channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(channels + skip_channels, out_channels, 3, padding=1)
        self.conv_b = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x_NChw: torch.Tensor, skip_NChw: torch.Tensor) -> torch.Tensor:
        """(N, channels, h, w) and (N, skip_channels, 2 h, 2 w) to (N, out_channels, 2 h, 2 w)."""
        up = functional.interpolate(x_NChw, size=skip_NChw.shape[-2:], mode="bilinear", align_corners=False)
        x = functional.leaky_relu(self.conv_a(torch.cat((up, skip_NChw), dim=1)), _SLOPE, inplace=True)
        return functional.leaky_relu(self.conv_b(x), _SLOPE, inplace=True)


class DenseDepthDecoder(nn.Module):
    """From an encoder's five maps: 1x1, then four steps up that halve the channels each.

    The layer that makes depth of it is `train.depth.DepthNet`'s.

    Parameters
    ----------
    channels
        Channels of the encoder's five maps; the first four are the skips, deepest first.
    width
        Channels after the 1x1 convolution, as a share of the last map's.

    Attributes
    ----------
    out_channels
        Channels of what `forward` returns.
    """

    def __init__(self, channels: Sequence[int], width: float = 0.5) -> None:
        super().__init__()
        widths = [int(channels[-1] * width) // 2**halved for halved in range(5)]
        self.out_channels = widths[-1]
        self.reduce = nn.Conv2d(channels[-1], widths[0], 1)
        skips = reversed(channels[:-1])
        self.up = nn.ModuleList(map(UpStep, widths[:-1], skips, widths[1:]))

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """The map at stride 2."""
        *skips, deepest = maps
        x: torch.Tensor = self.reduce(deepest)
        for step, skip in zip(self.up, reversed(skips), strict=True):
            x = step(x, skip)
        return x
