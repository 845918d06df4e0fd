"""From a name, a run's folder or a file to a network: random weights, ImageNet's, an earlier run's, or a file's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import load_module_state
from train.depth import DepthNet, make_depth_net
from train.encoder_files import EncoderFile, names_file, read_encoder
from train.encoders import Encoder, make_encoder
from train.errors import TrainError
from train.released import RELEASED_DENSEDEPTH, ReleasedDenseDepth
from train.runs import read_run
from train.weights import imagenet_file, imagenet_weights, load_weights, sha256_of, state_digest

Say = Callable[[str], None]
# Where the encoder lies in the model of a run, by the run's command: a pre-training with queries and keys has two.
_PREFIXES = {"pretrain": ("encoder_q.", "encoder."), "finetune": ("encoder.",)}


@dataclass(frozen=True)
class Start:
    """What follows from where an encoder starts.

    Attributes
    ----------
    normalise
        Whether it expects pictures that have lost ImageNet's mean and deviation. A file's is taken to expect [0, 1],
        as the released code's does.
    arguments
        What ``meta.json`` keeps of the start, so that a run is resumed with the same weights alone: ``init``, and of a
        file its SHA-256, of a run the BLAKE3 of its encoder (see `train.weights.state_digest`).
    """

    normalise: bool
    arguments: dict[str, str]


def start_encoder(name: str, init: str, *, weights: Path | None = None, seed: int, say: Say) -> Encoder:
    """An encoder to start from.

    Parameters
    ----------
    name
        One of `train.encoders.ENCODERS`.
    init
        ``"random"``, ``"imagenet"``, the folder of a run, or a file that holds an encoder in torchvision's names; see
        `train.encoder_files`.
    weights
        File of ImageNet's weights, in place of torchvision's cache.
    seed
        Of random weights.
    say
        Is told of a damaged checkpoint that was passed over, and which of a file's names were matched.

    Raises
    ------
    TrainError
        If the run or the file has another encoder, or the weights cannot be had.
    """
    encoder = make_encoder(name, seed)
    if init == "imagenet":
        file = imagenet_file(name, weights)
        load_weights(encoder, imagenet_weights(name, file), str(file))
    elif init != "random" and names_file(init):
        found = _encoder_file(name, init, weights)
        say(found.said)
        load_weights(encoder, found.state, init)
    elif init != "random":
        state, _ = encoder_state(Path(init), say)
        load_weights(encoder, state, init)
        if read_run(Path(init))["command"] == "finetune":
            say(f"{init}: of this depth network the encoder alone is taken, and nothing of its decoder")
    return encoder


def check_start(name: str, init: str, say: Say, *, weights: Path | None = None) -> Start:
    """Refuse what `start_encoder` would refuse, before anything is computed.

    Parameters
    ----------
    name, init, weights, say
        As in `start_encoder`. Names matched are not told here.

    Raises
    ------
    TrainError
        If ``init`` names a run or a file that has another encoder, or none; or ``weights`` are given and not meant.
    """
    if init != "imagenet":
        _refuse_weights(init, weights)
    if init == "random":
        return Start(False, {"init": init})
    if init == "imagenet":
        return Start(True, {"init": init, **({"init_sha256": sha256_of(weights)} if weights else {})})
    if names_file(init):
        return Start(False, {"init": init, "init_sha256": _encoder_file(name, init, weights).sha256})
    if not Path(init).exists():
        raise TrainError(
            f"{init}: no such file or folder, wanted random, imagenet, the folder of a run or a file of weights"
        )
    state, seen = encoder_state(Path(init), say)
    if seen != name:
        raise TrainError(f"{init}: its encoder is {seen}, wanted {name} (--encoder)")
    normalise = bool(read_run(Path(init))["arguments"].get("normalise", False))
    return Start(normalise, {"init": init, "init_blake3": state_digest(state)})


def encoder_state(run: Path, say: Say) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of a run's encoder (the query encoder of a pre-training), and its name."""
    meta = read_run(run)
    prefixes = _PREFIXES.get(meta["command"])
    if prefixes is None:
        raise TrainError(f"{run}: a run of {meta['command']!r}, wanted one of pretrain or finetune")
    state, _ = load_module_state(run, say=say)
    prefix = next((known for known in prefixes if any(name.startswith(known) for name in state)), prefixes[0])
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return part, meta["arguments"]["encoder"]


def encoder_of_run(run: Path, say: Say) -> Encoder:
    """The encoder that a run ended with, in evaluation mode."""
    state, name = encoder_state(run, say)
    encoder = make_encoder(name, 0)
    load_weights(encoder, state, str(run))
    return encoder.eval()


def depth_net_of_run(run: Path, say: Say) -> tuple[DepthNet, dict[str, Any]]:
    """The depth network that a fine-tuning ended with, in evaluation mode, and the run's ``meta.json``.

    Raises
    ------
    TrainError
        If the run is no fine-tuning, or its checkpoints are damaged.
    """
    meta = read_run(run)
    if meta["command"] != "finetune":
        raise TrainError(f"{run}: a run of {meta['command']!r} has no depth network, wanted one of finetune")
    net = _depth_net(meta["arguments"])
    state, _ = load_module_state(run, say=say)
    load_weights(net, state, str(run))
    return net.eval(), meta


def _depth_net(arguments: Mapping[str, Any]) -> DepthNet:
    """The depth network of a run's arguments, without the run's weights."""
    encoder = make_encoder(arguments["encoder"], 0)
    low, high = arguments["depth_range_m"]
    if arguments["network"] == RELEASED_DENSEDEPTH:
        return ReleasedDenseDepth(encoder, min_depth_m=low, max_depth_m=high)
    return make_depth_net(
        arguments["network"],
        encoder,
        min_depth_m=low,
        max_depth_m=high,
        normalise=arguments["normalise"],
        seed=0,
    )


def _refuse_weights(init: str, weights: Path | None) -> None:
    if weights is not None:
        raise TrainError(f"--weights {weights}: for --init imagenet, here the weights are those of --init {init}")


def _encoder_file(name: str, init: str, weights: Path | None) -> EncoderFile:
    _refuse_weights(init, weights)
    return read_encoder(Path(init), name)
