"""Random changes of colour, each sample its own, on the device. Pictures only: fields and depths have no colour.

The order is fixed: brightness, contrast, saturation, hue, grey, swap of channels, blur. (torchvision's ``ColorJitter``,
whose single steps the first four are, shuffles them.)

Legend: N samples, H W rows and columns, channels red, green, blue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from train.device import to_device
from train.errors import TrainError
from train.views import Index

Float = npt.NDArray[np.float32]
# SimCLR's and MoCo v2's deviations of the Gaussian: 0.1 to 2 pixels of a picture of 224.
_SIGMAS = (0.1 / 224, 2 / 224)


@dataclass(frozen=True, eq=False)
class Colours:
    """The changes of N samples.

    Attributes
    ----------
    brightness_N, contrast_N, saturation_N
        float32 factors; 1 changes nothing.
    hue_N
        float32 turns of the colour circle; 0 changes nothing.
    grey_N
        bool: whether the luminance takes the place of the colours.
    swap_N3
        int64: which channel each channel becomes.
    blur_N
        float32: deviation of a Gaussian blur, as a share of the picture's shorter side; 0 changes nothing.
    """

    brightness_N: Float
    contrast_N: Float
    saturation_N: Float
    hue_N: Float
    grey_N: npt.NDArray[np.bool_]
    swap_N3: npt.NDArray[np.int64]
    blur_N: Float

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.grey_N)

    def take(self, index: Index) -> Colours:
        """The changes of some samples."""
        return Colours(
            self.brightness_N[index],
            self.contrast_N[index],
            self.saturation_N[index],
            self.hue_N[index],
            self.grey_N[index],
            self.swap_N3[index],
            self.blur_N[index],
        )


def draw_colours(
    rng: np.random.Generator,
    count: int,
    *,
    jitter: float = 0.0,
    jitter_share: float = 1.0,
    grey: float = 0.0,
    swap: float = 0.0,
    blur: float = 0.0,
) -> Colours:
    """Random changes of colour. Each sample uses up the same number of random numbers, whatever the parameters.

    Parameters
    ----------
    rng
        Where the random numbers come from.
    count
        Number of samples.
    jitter
        Brightness, contrast and saturation get factors within 1 - jitter to 1 + jitter, the hue turns by up to
        jitter / 4 either way. MoCo v2 has 0.4 (and 0.1 for the hue).
    jitter_share
        Probability that a sample is jittered at all.
    grey
        Probability of grey.
    swap
        Probability of a random order of the channels, one of six, as in DenseDepth's training.
    blur
        Probability of a Gaussian blur, its deviation uniform in 0.1 to 2 pixels of a picture of 224, as in SimCLR.

    Raises
    ------
    TrainError
        If one of them is outside 0 to 1.
    """
    shares = {"jitter": jitter, "share of jitter": jitter_share, "grey": grey, "swap": swap, "blur": blur}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise TrainError(f"{name} of colours is {value:g}, wanted 0 to 1")
    brightness_N, contrast_N, saturation_N = rng.uniform(1 - jitter, 1 + jitter, (3, count)).astype(np.float32)
    hue_N = rng.uniform(-jitter / 4, jitter / 4, count).astype(np.float32)
    grey_N = rng.random(count) < grey
    same_N3 = np.tile(np.arange(3), (count, 1))
    swapped_N3 = rng.permuted(same_N3, axis=1)
    swap_N3 = np.where(rng.random(count)[:, None] < swap, swapped_N3, same_N3)
    # Drawn last: runs that ask for neither have the numbers of those from before there were blurs.
    jittered_N = rng.random(count) < jitter_share
    blur_N = np.where(rng.random(count) < blur, rng.uniform(*_SIGMAS, count), 0).astype(np.float32)
    for factors_N, neutral in ((brightness_N, 1), (contrast_N, 1), (saturation_N, 1), (hue_N, 0)):
        factors_N[~jittered_N] = neutral
    return Colours(brightness_N, contrast_N, saturation_N, hue_N, grey_N, swap_N3, blur_N)


def coloured(rgb_N3HW: torch.Tensor, colours: Colours) -> torch.Tensor:
    """Change the colours of pictures.

    What a batch does not ask for costs nothing: that is seen on the CPU, without waiting for the device.

    Parameters
    ----------
    rgb_N3HW
        float in [0, 1].
    colours
        One change a picture.

    Returns
    -------
    Tensor
        (N, 3, H, W) float32 in [0, 1].
    """
    rgb_N3HW = rgb_N3HW.float()
    device = rgb_N3HW.device
    if (colours.brightness_N != 1).any():
        rgb_N3HW = (rgb_N3HW * _per_sample(colours.brightness_N, device)).clamp(0, 1)
    if (colours.contrast_N != 1).any():
        mean_N111 = _luminance(rgb_N3HW).mean(dim=(1, 2, 3), keepdim=True)
        rgb_N3HW = _away_from(mean_N111, rgb_N3HW, _per_sample(colours.contrast_N, device))
    if (colours.saturation_N != 1).any():
        rgb_N3HW = _away_from(_luminance(rgb_N3HW), rgb_N3HW, _per_sample(colours.saturation_N, device))
    if (colours.hue_N != 0).any():
        rgb_N3HW = _hue_turned(rgb_N3HW, _per_sample(colours.hue_N, device)[:, 0])
    if colours.grey_N.any():
        rgb_N3HW = torch.where(_per_sample(colours.grey_N, device), _luminance(rgb_N3HW), rgb_N3HW)
    if (colours.swap_N3 != np.arange(3)).any():
        source_N3 = to_device(colours.swap_N3, device)
        rgb_N3HW = rgb_N3HW[torch.arange(len(colours), device=device)[:, None], source_N3]
    if colours.blur_N.any():
        blurred_M = np.flatnonzero(colours.blur_N)
        places_M = to_device(blurred_M, device)
        blurred_M3HW = _blurred(rgb_N3HW[places_M], to_device(colours.blur_N[blurred_M], device))
        rgb_N3HW = rgb_N3HW.index_copy(0, places_M, blurred_M3HW)
    return rgb_N3HW


def _per_sample(values_N: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    return to_device(values_N, device)[:, None, None, None]


def _luminance(rgb_N3HW: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) by ITU-R 601 with torchvision's digits."""
    red, green, blue = (rgb_N3HW[:, channel, None] for channel in range(3))
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _away_from(origin: torch.Tensor, rgb_N3HW: torch.Tensor, factor_N111: torch.Tensor) -> torch.Tensor:
    """The colours, moved to ``factor`` times their distance from ``origin``."""
    return (factor_N111 * rgb_N3HW + (1 - factor_N111) * origin).clamp(0, 1)


def _blurred(rgb_M3HW: torch.Tensor, blur_M: torch.Tensor) -> torch.Tensor:
    """The pictures under Gaussians of their own, rows and columns in turn; the border repeats outwards."""
    samples, channels, height, width = rgb_M3HW.shape
    # Wide enough for every deviation that can be drawn, so that a picture does not depend on its company.
    radius = math.ceil(3 * _SIGMAS[1] * min(height, width))
    offset_k = torch.arange(-radius, radius + 1, device=rgb_M3HW.device)
    sigma_M1 = blur_M[:, None] * min(height, width)
    kernel_Mk = torch.exp(-0.5 * (offset_k / sigma_M1).square())
    kernel_Gk = (kernel_Mk / kernel_Mk.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    # A group a channel of each sample, so that one convolution has all kernels. (Autocast would halve its precision.)
    with torch.autocast(rgb_M3HW.device.type, enabled=False):
        rows = rgb_M3HW.reshape(1, samples * channels, height, width)
        for kernel, padding in (
            (kernel_Gk[:, None, None, :], (radius, radius, 0, 0)),
            (kernel_Gk[:, None, :, None], (0, 0, radius, radius)),
        ):
            rows = functional.conv2d(functional.pad(rows, padding, mode="replicate"), kernel, groups=len(kernel_Gk))
    return rows.view_as(rgb_M3HW).clamp(0, 1)


def _hue_turned(rgb_N3HW: torch.Tensor, turns_N11: torch.Tensor) -> torch.Tensor:
    """The colours with their hue in the HSV hexcone (Smith 1978) turned; value and saturation stay."""
    red, green, blue = rgb_N3HW.unbind(1)
    value, least = rgb_N3HW.amax(dim=1), rgb_N3HW.amin(dim=1)
    chroma = value - least
    safe = torch.where(chroma > 0, chroma, 1)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * turns_N11
    # A channel falls from the value to the least as the hue moves away from it, and stays level between.
    channels = []
    for offset in (5, 3, 1):
        place = torch.remainder(sextant + offset, 6)
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=1).clamp(0, 1)
