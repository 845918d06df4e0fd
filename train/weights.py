"""Weights from files into networks: ImageNet's as torchvision publishes them, and checks that say what does not fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
import torchvision
from torch import nn

from train.encoders import CLASSIFIERS, ENCODERS
from train.errors import TrainError

State = dict[str, torch.Tensor]

# torch.hub's rule: the hexadecimal tail of a file's name is the beginning of its SHA-256.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
# torchvision's DenseNet files are older than the rule that module names have no dots: norm.1 is norm1 today.
_DOTTED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")


def imagenet_weights(name: str, file: Path | None = None) -> State:
    """The weights of an encoder trained to classify ImageNet, without the classifier; nothing is downloaded.

    Without a file it is torchvision's ``IMAGENET1K_V1``, the training that the depth papers start from, as
    ``torchvision.models`` would have left it in torch's cache.

    Parameters
    ----------
    name
        One of `ENCODERS`.
    file
        A state dict in torchvision's names, as ``.pth`` or ``.safetensors``.

    Returns
    -------
    dict
        State dict for `load_weights` into an encoder.

    Raises
    ------
    TrainError
        If there is no such file, its content does not have the SHA-256 that its name tells, or it is no state dict.
    """
    if name not in ENCODERS:
        raise TrainError(f"encoder {name!r} is unknown, wanted {', '.join(ENCODERS)}")
    path = file or _cached(name)
    _check_digest(path)
    state = read_state(path)
    renamed = {_DOTTED_NAME.sub(r"\1\2.", key): tensor for key, tensor in state.items()}
    return {key: tensor for key, tensor in renamed.items() if key.partition(".")[0] not in CLASSIFIERS}


def read_state(path: Path) -> State:
    """Read a state dict from a ``.safetensors`` file or one of torch.save, without executing anything of it.

    Raises
    ------
    TrainError
        If the file cannot be read, or holds something else than names with tensors.
    """
    wanted = "wanted a state dict: names with tensors"
    try:
        if path.suffix == ".safetensors":
            return _safetensors_reader()(str(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error
    except TrainError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds on damaged or hostile bytes
        raise TrainError(f"{path}: {_first_sentence(error)}; {wanted}") from error
    if not isinstance(state, Mapping):
        raise TrainError(f"{path}: holds a {type(state).__name__}; {wanted}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise TrainError(f"{path}: entry {key!r} is a {type(value).__name__}; {wanted}")
    return dict(state)


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Load a state dict into a module of the same names and shapes; the module is untouched where they differ.

    Batch-norm's ``num_batches_tracked`` may be missing, as in files older than it; the module keeps its own then.

    Parameters
    ----------
    module
        Where the weights go.
    state
        The weights.
    what
        What is loaded from where, for the message.

    Raises
    ------
    TrainError
        If a name is missing, unknown or of another shape: how many of each, and the first of them.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith(".num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    reshaped = [
        f"{key} {_shape(state[key])} where {_shape(tensor)} is wanted"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if missing or unknown or reshaped:
        counted = (_counted(missing, "missing"), _counted(unknown, "unknown"), _counted(reshaped, "of another shape"))
        raise TrainError(f"{what}: weights of another network: {'; '.join(part for part in counted if part)}")
    module.load_state_dict({**own, **state}, strict=True)


def safetensors_missing() -> TrainError:
    """The error of every path that needs safetensors, where it is not installed."""
    return TrainError("safetensors is not installed, wanted for .safetensors files: pip install safetensors")


def _cached(name: str) -> Path:
    url: str = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[-1]
    if not path.is_file():
        raise TrainError(
            f"no ImageNet weights of {name}: {path.name} is not in {folder}; put there {url}, or name a file"
        )
    return path


def _check_digest(path: Path) -> None:
    told = _DIGEST_IN_NAME.search(path.name)
    if told is None:
        return
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error
    if not digest.startswith(told[1]):
        raise TrainError(f"{path}: SHA-256 begins with {digest[: len(told[1])]}, wanted {told[1]} as the name tells")


def _safetensors_reader() -> Callable[[str], State]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise safetensors_missing() from None
    return load_file


def _first_sentence(error: Exception) -> str:
    # torch's messages go on for paragraphs about how to load the file all the same.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")


def _counted(entries: Iterable[str], verdict: str, shown: int = 3) -> str:
    found = list(entries)
    more = ", …" if len(found) > shown else ""
    return f"{len(found)} {verdict} ({', '.join(found[:shown])}{more})" if found else ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
