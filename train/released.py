"""The released code's depth networks, computed as there, and where their weights lie in its files.

The code released with gradient-field contrast (github.com/dsshim0125/grmc, MIT) saves state dicts of two networks:
``densedepth_161.pth`` and ``fcrn_50.pth``. Both are given pictures in [0, 1] of 640x480 and predict 1000 / depth in
centimetres at half of that size, as ours do.

FCRN is ours with other names. Its unpooling and 5x5 convolution are one transposed convolution here, with the kernel
turned by half a turn. Its last layer has no bias, so that ours is 0. It resizes its output to 320x240, which changes
nothing for pictures of 640x480 and is left out for others.

DenseDepth has the layers of ours and computes otherwise in three places, so that it has a class of its own,
`ReleasedDenseDepth`: the decoder starts from the last dense block, before ``norm5`` and its ReLU; its 1x1 convolution
pads the map with a ring of zeros, of which its bias remains; and up-sampling aligns corners.

Depth is 10 / output in metres, clipped to 0.1-10 m. An output below 0 is 10 m here and 0.1 m there.

Legend: N pictures, H W pixels, h w half of them, rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch.nn import functional

from train.densedepth import DenseDepthDecoder, UpStep
from train.depth import DepthNet, make_depth_net
from train.encoder_files import FoundEncoder, check_numbers
from train.encoders import Encoder, make_encoder
from train.errors import TrainError
from train.weights import State, unfit

RELEASED_DENSEDEPTH = "densedepth-grmc"
# Depth in metres that the released code clamps to, in training and evaluation.
RANGE_M = (0.1, 10.0)

_SLOPE = 0.2  # of LeakyReLU below 0
_SKIPS = ("relu0", "pool0", "transition1", "transition2")
# What only such a network has in its names.
_MARKS = {RELEASED_DENSEDEPTH: "decoder.up1.conv", "fcrn": "upSample.layer"}
_UP_PROJECTION = {
    "main_5x5": "upper_branch.conv1",
    "main_norm_5x5": "upper_branch.batchnorm1",
    "main_3x3": "upper_branch.conv2",
    "main_norm_3x3": "upper_branch.batchnorm2",
    "side_5x5": "bottom_branch.conv",
    "side_norm_5x5": "bottom_branch.batchnorm",
}
_TURNED = (".main_5x5.weight", ".side_5x5.weight")


class ReleasedDenseDepth(DepthNet):
    """DenseDepth as the released code computes it; the module's text has what is different.

    For prediction: in training, distributed ranks would wait for gradients of ``norm5``, which it leaves out.

    Parameters
    ----------
    encoder
        A DenseNet. It becomes a part of the network.
    min_depth_m, max_depth_m
        Range of the depths that `predict` gives, in metres.

    Raises
    ------
    TrainError
        If the encoder is another one.
    """

    def __init__(self, encoder: Encoder, *, min_depth_m: float, max_depth_m: float) -> None:
        if not encoder.name.startswith("densenet"):
            raise TrainError(f"encoder {encoder.name} in the released code's DenseDepth, wanted a DenseNet")
        super().__init__("densedepth", encoder, min_depth_m=min_depth_m, max_depth_m=max_depth_m, normalise=False)
        self.network = RELEASED_DENSEDEPTH

    def forward(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """Predict in target space.

        Parameters
        ----------
        rgb_N3HW
            Pictures, float in [0, 1], of 32 rows and columns or more.

        Returns
        -------
        Tensor
            (N, 1, h, w) float32: 10 / metres, as it comes.
        """
        decoder = cast(DenseDepthDecoder, self.decoder)
        x, skips = rgb_N3HW, []
        for name, layer in self.encoder.get_submodule("features").named_children():
            if name != "norm5":
                x = layer(x)
            if name in _SKIPS:
                skips.append(x)
        x = functional.conv2d(x, decoder.reduce.weight, decoder.reduce.bias, padding=1)
        for step, skip in zip(decoder.up, reversed(skips), strict=True):
            x = _stepped_up(cast(UpStep, step), x, skip)
        return self._depth_layer(x)


def _stepped_up(step: UpStep, x_NChw: torch.Tensor, skip_NChw: torch.Tensor) -> torch.Tensor:
    up = functional.interpolate(x_NChw, size=skip_NChw.shape[-2:], mode="bilinear", align_corners=True)
    x = functional.leaky_relu(step.conv_a(torch.cat((up, skip_NChw), dim=1)), _SLOPE)
    return functional.leaky_relu(step.conv_b(x), _SLOPE)


def released_network(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Which depth network a file's names are of: ``"densedepth-grmc"``, ``"fcrn"``, or None for none of them."""
    return next((network for network, mark in _MARKS.items() if any(mark in name for name in tensors)), None)


def released_depth_net(tensors: State, network: str, found: FoundEncoder, what: str) -> tuple[DepthNet, set[str]]:
    """A depth network with the weights of one of the released code's files, in evaluation mode.

    Parameters
    ----------
    tensors
        All of the file.
    network
        Of `released_network`.
    found
        The encoder in it.
    what
        What the file is called in messages.

    Returns
    -------
    DepthNet, set of str
        The network, and the file's names that it has.

    Raises
    ------
    TrainError
        If a weight of the decoder is missing, of another shape, or no number.
    """
    encoder = make_encoder(found.name, 0)
    low, high = RANGE_M
    net: DepthNet
    if network == RELEASED_DENSEDEPTH:
        net = ReleasedDenseDepth(encoder, min_depth_m=low, max_depth_m=high)
    else:
        net = make_depth_net(network, encoder, min_depth_m=low, max_depth_m=high, seed=0)
    own = net.state_dict()
    base = next(name.partition(_MARKS[network])[0] for name in tensors if _MARKS[network] in name)
    theirs = {f"{base}{there}": key for key, there in _released_names(own, network).items()}
    wanted = {name: _turned(key, own[key]) for name, key in theirs.items()}
    given = {name: tensors[name] for name in theirs if name in tensors}
    wrong = unfit(wanted, given)
    if wrong:
        raise TrainError(f"{what}: no whole {network} of the released code: {wrong}")
    check_numbers(given, what)
    state = {f"encoder.{key}": tensor for key, tensor in found.state.items()}
    state |= {theirs[name]: _turned(theirs[name], tensor) for name, tensor in given.items()}
    if "last.bias" not in state:
        state["last.bias"] = torch.zeros(1)
    net.load_state_dict({**own, **state}, strict=True)
    return net.eval(), {*found.used, *given}


def _released_names(own: Mapping[str, torch.Tensor], network: str) -> dict[str, str]:
    """The released code's name of every weight of ours outside of the encoder; it has no bias at FCRN's end."""
    if network == RELEASED_DENSEDEPTH:
        modules = {"decoder.reduce": "decoder.conv2", "last": "decoder.conv3"}
        modules |= {f"decoder.up.{i}.conv_{k}": f"decoder.up{i + 1}.conv{k.upper()}" for i in range(4) for k in "ab"}
    else:
        modules = {"decoder.reduce": "conv2", "decoder.reduce_norm": "bn2", "last": "conv3"}
        for i in range(4):
            modules |= {f"decoder.up.{i}.{k}": f"upSample.layer{i + 1}.{v}" for k, v in _UP_PROJECTION.items()}
    names = {}
    for key in own:
        module, _, leaf = key.rpartition(".")
        if module in modules and not (network == "fcrn" and key == "last.bias"):
            names[key] = f"{modules[module]}.{leaf}"
    return names


def _turned(key: str, weight: torch.Tensor) -> torch.Tensor:
    """A convolution's kernel as that of the transposed one that does the same after unpooling, or the way back."""
    return weight.transpose(0, 1).flip(2, 3) if key.endswith(_TURNED) else weight
