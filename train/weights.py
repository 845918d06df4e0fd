"""Weights from files into networks: ImageNet's as torchvision publishes them, and checks that say what does not fit."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from blake3 import blake3
from torch import nn

from train.encoders import CLASSIFIERS, ENCODERS
from train.errors import TrainError
from train.state_file import load_plain, why_not_loaded

State = dict[str, torch.Tensor]

# torch.hub's rule: the hexadecimal tail of a file's name is the beginning of its SHA-256.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
# torchvision's DenseNet files are older than the rule that module names have no dots: norm.1 is norm1 today.
_DOTTED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_BATCH_COUNT = ".num_batches_tracked"
_ZIP = b"PK\x03\x04"
# In the metadata of our .safetensors: the `state_digest` of what they hold. The format has no checksum of its own.
DIGEST_KEY = "tensors_blake3"
_WANTED = "wanted a state dict: names with tensors"
_LEVELS = 4  # dicts in dicts that are looked into; an optimizer's state is the deepest that is usual


def imagenet_file(name: str, file: Path | None = None) -> Path:
    """Where `imagenet_weights` reads: ``file``, or else a file in torch's cache.

    Raises
    ------
    TrainError
        If there is none in the cache.
    """
    if name not in ENCODERS:
        raise TrainError(f"encoder {name!r} is unknown, wanted {', '.join(ENCODERS)}")
    return file or _cached(name)


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
    path = imagenet_file(name, file)
    _check_digest(path)
    renamed = {undotted(key): tensor for key, tensor in read_state(path).items()}
    return {key: tensor for key, tensor in renamed.items() if key.partition(".")[0] not in CLASSIFIERS}


def read_state(path: Path) -> State:
    """Read a state dict from a ``.safetensors`` file or one of torch.save, without executing anything of it.

    Where the file has checksums, what is read is what was written: torch.save's zip has them, which torch.load does
    not look at, and so have the ``.safetensors`` that `train.export` writes.

    Raises
    ------
    TrainError
        If the file cannot be read or is damaged, or holds something else than names with tensors.
    """
    state = _content(path)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise TrainError(f"{path}: entry {key!r} is a {type(value).__name__}; {_WANTED}")
    return dict(state)


def read_tensors(path: Path) -> State:
    """Read all tensors of a file as `read_state` does, also from dicts in its dict, their names joined by dots.

    What is no tensor, such as the epoch that was saved with them, is left out.

    Raises
    ------
    TrainError
        If the file cannot be read or is damaged, or holds no tensor.
    """
    found: State = {}
    level: dict[str, object] = {str(key): value for key, value in _content(path).items()}
    for _ in range(_LEVELS):
        found |= {key: value for key, value in level.items() if isinstance(value, torch.Tensor)}
        inner = [(key, value) for key, value in level.items() if isinstance(value, Mapping)]
        level = {f"{key}.{name}": value for key, mapping in inner for name, value in mapping.items()}
    if not found:
        raise TrainError(f"{path}: no tensor in it; {_WANTED}")
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal.

    Raises
    ------
    TrainError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error


def undotted(name: str) -> str:
    """The name that a layer of a DenseNet has today, for names of torchvision's files; others as they are."""
    return _DOTTED_NAME.sub(r"\1\2.", name)


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """BLAKE3 in hexadecimal of names, types, shapes and values, whatever file or device they lie in."""
    digest = blake3()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def unfit(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """What of ``state`` does not do for ``wanted``, in a few words: how many names of each kind, and the first.

    Batch-norm's ``num_batches_tracked`` may be missing, as in files older than it. Names that are not wanted are no
    matter here.

    Returns
    -------
    str
        Empty where all is well.
    """
    missing = [name for name in wanted if name not in state and not name.endswith(_BATCH_COUNT)]
    reshaped = [
        f"{name} {_shape(state[name])} where {_shape(tensor)} is wanted"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    counted = (_counted(missing, "missing"), _counted(reshaped, "of another shape"))
    return "; ".join(part for part in counted if part)


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
    unknown = _counted([key for key in state if key not in own], "unknown")
    wrong = "; ".join(part for part in (unfit(own, state), unknown) if part)
    if wrong:
        raise TrainError(f"{what}: weights of another network: {wrong}")
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
    digest = sha256_of(path)
    if not digest.startswith(told[1]):
        raise TrainError(f"{path}: SHA-256 begins with {digest[: len(told[1])]}, wanted {told[1]} as the name tells")


def _content(path: Path) -> Mapping[Any, Any]:
    """The outermost dict of a file."""
    try:
        if path.suffix == ".safetensors":
            return _safetensors_content(path)
        _check_zip(path)
        content = load_plain(path, "cpu")
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error
    except TrainError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds on damaged or hostile bytes
        raise TrainError(f"{path}: {why_not_loaded(error)}; {_WANTED}") from error
    if not isinstance(content, Mapping):
        raise TrainError(f"{path}: holds a {type(content).__name__}; {_WANTED}")
    return content


def _safetensors_content(path: Path) -> State:
    try:
        from safetensors import safe_open
    except ImportError:
        raise safetensors_missing() from None
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        wanted = (file.metadata() or {}).get(DIGEST_KEY)
    if wanted is not None and (seen := state_digest(state)) != wanted:
        raise TrainError(f"{path}: BLAKE3 of its tensors is {seen}, its metadata tell {wanted[:64]!a}: it is damaged")
    return state


def _check_zip(path: Path) -> None:
    """Look at the CRC-32 of every part of torch.save's zip file, as torch does not.

    Older files are no zip, and torch can be told to write no checksums, which are then all zero.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:  # by which torch tells them, too
            return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip() if any(part.CRC for part in archive.infolist()) else None
    if damaged is not None:
        raise TrainError(f"{path}: {damaged!a} in it does not match its CRC-32: it is damaged")


def _counted(entries: Iterable[str], verdict: str, shown: int = 3) -> str:
    found = list(entries)
    more = ", …" if len(found) > shown else ""
    return f"{len(found)} {verdict} ({', '.join(found[:shown])}{more})" if found else ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
