"""Random colours of pictures, batched on the device. Only queries get them: a field or a depth has no colour.

Operations come in this order: brightness, contrast, saturation, hue, grey, order of channels. Factors follow
torchvision's ColorJitter; every result is held in [0, 1].

Legend: N samples, H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# ITU-R 601-2 luma, as in torchvision.
_LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Colours:
    """Parameters of N samples; neutral are factors of 1, a hue of 0, no grey, and the order 0, 1, 2."""

    brightness_N: npt.NDArray[np.float32]
    contrast_N: npt.NDArray[np.float32]
    saturation_N: npt.NDArray[np.float32]
    hue_N: npt.NDArray[np.float32]
    grey_N: npt.NDArray[np.bool_]
    order_N3: npt.NDArray[np.int64]

    def take(self, chosen: slice) -> Colours:
        """The parameters of some samples."""
        return Colours(**{name: values[chosen] for name, values in vars(self).items()})


def draw_colours(
    rng: np.random.Generator, count: int, *, jitter: float = 0.0, grey: float = 0.0, swap: float = 0.0
) -> Colours:
    """Draw colours.

    Parameters
    ----------
    rng, count
        Source of the numbers, and how many samples.
    jitter
        Brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter; the hue turns by up to a
        quarter of jitter, in full turns (0.4 is MoCo's ColorJitter(0.4, 0.4, 0.4, 0.1)).
    grey
        Probability of a grey picture.
    swap
        Probability of a random order of channels, which may be the old one.
    """
    factors_3N = rng.uniform(max(0.0, 1 - jitter), 1 + jitter, (3, count)).astype(np.float32)
    hue_N = rng.uniform(-jitter / 4, jitter / 4, count).astype(np.float32)
    grey_N, swap_N = rng.random(count) < grey, rng.random(count) < swap
    order_N3 = rng.random((count, 3)).argsort(1)
    order_N3 = np.where(swap_N[:, None], order_N3, np.arange(3))
    return Colours(factors_3N[0], factors_3N[1], factors_3N[2], hue_N, grey_N, order_N3)


def coloured(rgb_N3HW: torch.Tensor, colours_N: Colours) -> torch.Tensor:
    """Pictures in other colours.

    Parameters
    ----------
    rgb_N3HW
        float32 in [0, 1].
    colours_N
        One set of parameters a sample; what is neutral for all of them costs nothing.

    Returns
    -------
    Tensor
        float32 N,3,H,W in [0, 1].
    """
    if (colours_N.brightness_N != 1).any():
        rgb_N3HW = (rgb_N3HW * _each(colours_N.brightness_N, rgb_N3HW)).clamp(0, 1)
    if (colours_N.contrast_N != 1).any():
        mean_N111 = _luma(rgb_N3HW).mean((2, 3), keepdim=True)
        rgb_N3HW = _blend(rgb_N3HW, mean_N111, colours_N.contrast_N)
    if (colours_N.saturation_N != 1).any():
        rgb_N3HW = _blend(rgb_N3HW, _luma(rgb_N3HW), colours_N.saturation_N)
    if (colours_N.hue_N != 0).any():
        rgb_N3HW = _turn_hue(rgb_N3HW, _each(colours_N.hue_N, rgb_N3HW))
    if colours_N.grey_N.any():
        rgb_N3HW = torch.where(_each(colours_N.grey_N, rgb_N3HW), _luma(rgb_N3HW), rgb_N3HW)
    if (colours_N.order_N3 != np.arange(3)).any():
        order_N3 = torch.from_numpy(np.ascontiguousarray(colours_N.order_N3)).to(rgb_N3HW.device, non_blocking=True)
        rgb_N3HW = rgb_N3HW.gather(1, order_N3[:, :, None, None].expand_as(rgb_N3HW))
    return rgb_N3HW


def _each(values_N: npt.NDArray[Any], like_N3HW: torch.Tensor) -> torch.Tensor:
    """Values as N,1,1,1 on the pictures' device."""
    tensor = torch.from_numpy(np.ascontiguousarray(values_N)).to(like_N3HW.device, non_blocking=True)
    return tensor.reshape(-1, 1, 1, 1)


def _luma(rgb_N3HW: torch.Tensor) -> torch.Tensor:
    r, g, b = rgb_N3HW.unbind(1)
    return (_LUMA[0] * r + _LUMA[1] * g + _LUMA[2] * b)[:, None]


def _blend(rgb_N3HW: torch.Tensor, other: torch.Tensor, factor_N: npt.NDArray[np.float32]) -> torch.Tensor:
    """``factor`` of the picture and 1 - ``factor`` of the other."""
    factor_N111 = _each(factor_N, rgb_N3HW)
    return (factor_N111 * rgb_N3HW + (1 - factor_N111) * other).clamp(0, 1)


def _turn_hue(rgb_N3HW: torch.Tensor, turn_N111: torch.Tensor) -> torch.Tensor:
    """Turn the hue by a share of the full circle, keeping value and saturation of the HSV cone."""
    value, least = rgb_N3HW.amax(1, keepdim=True), rgb_N3HW.amin(1, keepdim=True)
    chroma = value - least
    safe = torch.where(chroma > 0, chroma, 1)
    r, g, b = (channel[:, None] for channel in rgb_N3HW.unbind(1))
    sixth = torch.where(
        value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    hue = sixth + 6 * turn_N111
    # Each channel is a trapezium over the hue, a third of a turn apart.
    distance = torch.cat([(offset + hue) % 6 for offset in (5, 3, 1)], 1)
    return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)
