"""State dicts as other programs save them: torchvision, and the paper's released code, with that code's own forward.

The released code's names, shapes and order of layers are facts of github.com/dsshim0125/grmc; the slow definitions
here compute what its files are for, from the file's tensors alone.
"""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.nn import functional

State = dict[str, torch.Tensor]


def torchvision_state(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A whole torchvision network's, of random weights; its batch norms are no identities."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision.models.get_model(name, weights=None)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return model.state_dict()


def dotted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names in torchvision's DenseNet files: norm.1 for norm1, and no count of batches."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        parts = [
            f"{part[:-1]}.{part[-1]}" if part in ("norm1", "norm2", "conv1", "conv2") and "denselayer" in key else part
            for part in key.split(".")
        ]
        renamed[".".join(parts)] = value
    return renamed


class Canary:
    """Pickled, it would touch a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def drawn(shape: tuple[int, ...], numbers: torch.Generator) -> torch.Tensor:
    """A weight that neither kills nor blows up what goes through it."""
    fan = max(1, torch.Size(shape[1:]).numel())
    if shape[2:] == (5, 5):
        fan /= 4  # three quarters of what such a kernel meets are zeros
    return torch.randn(shape, generator=numbers) / fan**0.5


def drawn_norm(name: str, channels: int, numbers: torch.Generator) -> State:
    """A batch-norm's tensors, none of them that of an identity."""
    values = {key: 0.5 + torch.rand(channels, generator=numbers) for key in ("weight", "running_var")}
    values |= {key: torch.randn(channels, generator=numbers) / 4 for key in ("bias", "running_mean")}
    values["num_batches_tracked"] = torch.tensor(7)
    return {f"{name}.{key}": value for key, value in values.items()}


def released_fcrn(encoder: str, channels: int) -> State:
    """What the released code saves of FCRN: ``resnet`` names, then conv2, bn2, upSample and conv3 without a bias."""
    numbers = torch.Generator().manual_seed(1)
    state = {key: value for key, value in torchvision_state(encoder).items() if not key.startswith("fc.")}
    width = channels // 2
    state["conv2.weight"] = drawn((width, channels, 1, 1), numbers)
    state |= drawn_norm("bn2", width, numbers)
    for layer in range(1, 5):
        upper, bottom = (f"upSample.layer{layer}.{branch}_branch" for branch in ("upper", "bottom"))
        half = width // 2
        state[f"{upper}.conv1.weight"] = drawn((half, width, 5, 5), numbers)
        state |= drawn_norm(f"{upper}.batchnorm1", half, numbers)
        state[f"{upper}.conv2.weight"] = drawn((half, half, 3, 3), numbers)
        state |= drawn_norm(f"{upper}.batchnorm2", half, numbers)
        state[f"{bottom}.conv.weight"] = drawn((half, width, 5, 5), numbers)
        state |= drawn_norm(f"{bottom}.batchnorm", half, numbers)
        width = half
    state["conv3.weight"] = drawn((1, width, 3, 3), numbers)
    return state


def released_densedepth(encoder: str, channels: tuple[int, ...]) -> State:
    """What the released code saves of DenseDepth: a whole torchvision DenseNet, its classifier too, and the decoder."""
    numbers = torch.Generator().manual_seed(2)
    state = {f"encoder.original_model.{key}": value for key, value in torchvision_state(encoder).items()}
    width = channels[-1] // 2
    state["decoder.conv2.weight"] = drawn((width, channels[-1], 1, 1), numbers)
    state["decoder.conv2.bias"] = drawn((width,), numbers)
    for step, skip in enumerate(reversed(channels[:-1]), start=1):
        half = width // 2
        for name, inputs in (("convA", width + skip), ("convB", half)):
            state[f"decoder.up{step}.{name}.weight"] = drawn((half, inputs, 3, 3), numbers)
            state[f"decoder.up{step}.{name}.bias"] = drawn((half,), numbers)
        width = half
    state["decoder.conv3.weight"] = drawn((1, width, 3, 3), numbers)
    state["decoder.conv3.bias"] = drawn((1,), numbers)
    return state


def released_fcrn_output(state: State, encoder: str, rgb_N3HW: torch.Tensor) -> torch.Tensor:
    """ResNet, 1x1 and batch-norm; four times unpool, two branches, sum, ReLU; 3x3; resized to half the picture."""
    model = torchvision.models.get_model(encoder, weights=None)
    model.fc = nn.Identity()
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    x = rgb_N3HW
    for name, layer in model.eval().named_children():
        x = layer(x) if name not in ("avgpool", "fc") else x
    x = norm(state, "bn2", functional.conv2d(x, state["conv2.weight"]))
    for layer in range(1, 5):
        upper, bottom = (f"upSample.layer{layer}.{branch}_branch" for branch in ("upper", "bottom"))
        unpooled = torch.zeros(x.shape[0], x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
        unpooled[:, :, ::2, ::2] = x
        x1 = functional.conv2d(unpooled, state[f"{upper}.conv1.weight"], padding=2)
        x1 = functional.relu(norm(state, f"{upper}.batchnorm1", x1))
        x1 = norm(state, f"{upper}.batchnorm2", functional.conv2d(x1, state[f"{upper}.conv2.weight"], padding=1))
        x2 = norm(state, f"{bottom}.batchnorm", functional.conv2d(unpooled, state[f"{bottom}.conv.weight"], padding=2))
        x = functional.relu(x1 + x2)
    x = functional.conv2d(x, state["conv3.weight"], padding=1)
    half_HW = (rgb_N3HW.shape[2] // 2, rgb_N3HW.shape[3] // 2)
    return functional.interpolate(x, size=half_HW, mode="bilinear", align_corners=True)


def released_densedepth_output(state: State, encoder: str, rgb_N3HW: torch.Tensor) -> torch.Tensor:
    """All of DenseNet's layers in a list of maps, of which the decoder takes numbers 3, 4, 6, 8 and 11."""
    model = torchvision.models.get_model(encoder, weights=None)
    model.load_state_dict({key: state[f"encoder.original_model.{key}"] for key in model.state_dict()})
    maps = [rgb_N3HW]
    for layer in model.eval().features:
        maps.append(layer(maps[-1]))

    def convolved(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        return functional.conv2d(x, state[f"decoder.{name}.weight"], state[f"decoder.{name}.bias"], padding=padding)

    x = convolved(maps[11], "conv2", 1)
    for step, place in enumerate((8, 6, 4, 3), start=1):
        size_HW = maps[place].shape[-2:]
        x = functional.interpolate(x, size=size_HW, mode="bilinear", align_corners=True)
        x = functional.leaky_relu(convolved(torch.cat([x, maps[place]], 1), f"up{step}.convA", 1), 0.2)
        x = functional.leaky_relu(convolved(x, f"up{step}.convB", 1), 0.2)
    return convolved(x, "conv3", 1)


def norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """Batch-norm as a trained network applies it."""
    mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]
