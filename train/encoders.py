"""Encoders: torchvision's ResNets and DenseNets without their classifiers, as maps at five strides.

Legend: N pictures, H W pixels, h w pixels of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import nn
from torch.nn import functional

from train.errors import TrainError
from train.random import seeded_layers

# The layers up to each of the five maps. A stage ends where the stride is about to double, after the last ReLU
# at its stride; DenseNet's norm5 has its ReLU in torchvision's forward, not among the layers.
_RESNET_STAGES = (("conv1", "bn1", "relu"), ("maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",))
_DENSENET_STAGES = (
    ("conv0", "norm0", "relu0"),
    ("pool0",),
    ("denseblock1", "transition1"),
    ("denseblock2", "transition2"),
    ("denseblock3", "transition3", "denseblock4", "norm5"),
)


@dataclass(frozen=True)
class _Design:
    """How torchvision builds one, and the channels of its five maps."""

    build: Callable[[], nn.Module]
    stages: tuple[tuple[str, ...], ...]
    channels: tuple[int, int, int, int, int]


_DESIGNS = {
    "resnet18": _Design(torchvision.models.resnet18, _RESNET_STAGES, (64, 64, 128, 256, 512)),
    "resnet50": _Design(torchvision.models.resnet50, _RESNET_STAGES, (64, 256, 512, 1024, 2048)),
    "densenet121": _Design(torchvision.models.densenet121, _DENSENET_STAGES, (64, 64, 128, 256, 1024)),
    "densenet161": _Design(torchvision.models.densenet161, _DENSENET_STAGES, (96, 96, 192, 384, 2208)),
}
ENCODERS = tuple(_DESIGNS)
# torchvision's classifiers, and the pooling before them; no part of an encoder.
CLASSIFIERS = ("fc", "classifier")
_DROPPED = (*CLASSIFIERS, "avgpool")


class Encoder(nn.Module):
    """A torchvision network from the picture to the maps that its classifier would pool; made by `make_encoder`.

    The state dict has torchvision's names, without the classifier's. Since those of DenseNet begin with
    ``features``, that name is a submodule there; the feature dimension is ``channels[-1]``.

    Attributes
    ----------
    name
        One of `ENCODERS`.
    channels
        Channels of the maps at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        design = _DESIGNS[name]
        self.name = name
        self.channels = design.channels
        self._stages = design.stages
        self._dense = name.startswith("densenet")
        for layer_name, layer in design.build().named_children():
            if layer_name not in _DROPPED:
                self.add_module(layer_name, layer)

    def forward(self, x_N3HW: torch.Tensor) -> list[torch.Tensor]:
        """The five maps.

        Parameters
        ----------
        x_N3HW
            Pictures, float, of any size.

        Returns
        -------
        list of Tensor
            (N, channels, h, w) at strides 2 to 32, h and w rounded up (DenseNet: from stride 8 on, down), each after
            its ReLU or pooling; the last one is what torchvision's classifier pools.
        """
        layers = self.get_submodule("features") if self._dense else self
        maps = []
        x = x_N3HW
        for stage in self._stages:
            for name in stage:
                x = getattr(layers, name)(x)
            maps.append(x)
        if self._dense:
            maps[-1] = functional.relu(maps[-1], inplace=True)
        return maps


def pooled_features(encoder: nn.Module, images_N3HW: torch.Tensor) -> torch.Tensor:
    """The mean of an encoder's last map over all of its places, (N, features) float32, also under autocast."""
    last_NFhw: torch.Tensor = encoder(images_N3HW)[-1]
    return last_NFhw.float().mean((2, 3))


def make_encoder(name: str, seed: int) -> Encoder:
    """An encoder with random weights, as torchvision initialises it.

    Parameters
    ----------
    name
        One of `ENCODERS`.
    seed
        The run's seed; the same seed gives the same weights, whatever else draws random numbers.

    Raises
    ------
    TrainError
        If there is no encoder of that name.
    """
    if name not in _DESIGNS:
        raise TrainError(f"encoder {name!r} is unknown, wanted {', '.join(ENCODERS)}")
    with seeded_layers(seed, "encoder"):
        return Encoder(name)
