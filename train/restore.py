"""From a name or a run's folder to a network: random or ImageNet's weights, or those that an earlier run ended with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import load_module_state
from train.depth import DepthNet, make_depth_net
from train.encoders import Encoder, make_encoder
from train.errors import TrainError
from train.runs import read_run
from train.weights import imagenet_weights, load_weights

Say = Callable[[str], None]
# Where the encoder lies in the model of a run, by the run's command.
_PREFIXES = {"pretrain": "encoder_q.", "finetune": "encoder."}


def start_encoder(name: str, init: str, *, weights: Path | None = None, seed: int, say: Say) -> Encoder:
    """An encoder to start from.

    Parameters
    ----------
    name
        One of `train.encoders.ENCODERS`.
    init
        ``"random"``, ``"imagenet"``, or the folder of a run.
    weights
        File of ImageNet's weights, in place of torchvision's cache.
    seed
        Of random weights.
    say
        Is told of a damaged checkpoint that was passed over.

    Raises
    ------
    TrainError
        If the run has another encoder, or the weights cannot be had.
    """
    encoder = make_encoder(name, seed)
    if init == "imagenet":
        load_weights(encoder, imagenet_weights(name, weights), "ImageNet's weights")
    elif init != "random":
        state, _ = encoder_state(Path(init), say)
        load_weights(encoder, state, init)
    return encoder


def check_start(name: str, init: str, say: Say) -> None:
    """Refuse a run with another encoder than the one wanted, before anything is computed.

    Parameters
    ----------
    name, init, say
        As in `start_encoder`.

    Raises
    ------
    TrainError
        If ``init`` names a run that has another encoder, or none.
    """
    if init in ("random", "imagenet"):
        return
    _, seen = encoder_state(Path(init), say)
    if seen != name:
        raise TrainError(f"{init}: its encoder is {seen}, wanted {name} (--encoder)")


def encoder_state(run: Path, say: Say) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of a run's encoder (the query encoder of a pre-training), and its name."""
    meta = read_run(run)
    prefix = _PREFIXES.get(meta["command"])
    if prefix is None:
        raise TrainError(f"{run}: a run of {meta['command']!r}, wanted one of pretrain or finetune")
    state, _ = load_module_state(run, say=say)
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
    arguments = meta["arguments"]
    low, high = arguments["depth_range_m"]
    net = make_depth_net(
        arguments["network"],
        make_encoder(arguments["encoder"], 0),
        min_depth_m=low,
        max_depth_m=high,
        normalise=arguments["normalise"],
        seed=0,
    )
    state, _ = load_module_state(run, say=say)
    load_weights(net, state, str(run))
    return net.eval(), meta
