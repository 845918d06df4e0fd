"""Pre-training: from the options of a method to a run. What the methods are is in `train.pretexts`, a file each.

Legend: N samples of this rank, H W rows and columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gfield import Location, Region, Store
from train.device import Numerics
from train.encoders import ENCODERS, Encoder
from train.errors import TrainError
from train.frames import Frames
from train.loop import Outcome, Task
from train.optimizers import make_sgd
from train.pretexts import method_named
from train.pretexts.options import OPTIONS, check_option, flag
from train.pretexts.pretext import Pretext, Recipe, Setup
from train.pretexts.sight import Sight
from train.ranks import Ranks
from train.restore import Say, check_start, start_encoder
from train.session import Settings, common_size, describe, open_stores, rows_of, run_training
from train.sheet import sheet
from train.stream import Batch
from train.views import LARGEST_FIELD

EPOCHS = 200
# Weight decay and momentum of SGD, as in MoCo and the released code.
_WEIGHT_DECAY, _SGD_MOMENTUM = 1e-4, 0.9
# The released code's field ends here, with each picture's strongest edge.
_LARGEST_GRMC = 255.0


class Pretraining:
    """The task of the loop: what all methods do with a batch.

    Parameters
    ----------
    pretext
        The method, its network on the device.
    settings, ranks, numbers
        Of the run.
    """

    def __init__(self, pretext: Pretext, *, settings: Settings, ranks: Ranks, numbers: Numerics) -> None:
        self._pretext, self._settings, self._ranks, self._numbers = pretext, settings, ranks, numbers
        if settings.compiled:
            for part in pretext.model.modules():
                if isinstance(part, Encoder):
                    part.compile()
        self._parallel = ranks.parallel(pretext.model)

    @property
    def model(self) -> torch.nn.Module:
        """The method's network, with all that a checkpoint keeps."""
        return self._pretext.model

    def backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Gradients of one batch, in micro-batches."""
        parts = self._settings.accumulate
        inputs = self._pretext.inputs(batch)
        scalars: dict[str, torch.Tensor] = {}
        for part in range(parts):
            # Ranks exchange gradients once a step, with the last micro-batch.
            last = part == parts - 1
            alone = contextlib.nullcontext() if last else self._ranks.without_exchange(self._parallel)
            with alone, self._numbers.autocast():
                output = self._parallel(*(self._laid_out(tensor[part::parts]) for tensor in inputs))
                (output.loss / parts).backward()
            for name, value in output._asdict().items():
                scalars[name] = scalars.get(name, 0.0) + value.detach() / parts
        self._ranks.mean_over_ranks(list(scalars.values()))
        return {**scalars, **self._pretext.more_scalars()}

    def commit(self, skip: torch.Tensor) -> None:
        """What follows the optimizer's step, unless ``skip`` is 1."""
        self._pretext.commit(skip)

    def pictures(self, batch: Batch) -> dict[str, npt.NDArray[np.uint8]]:
        """The first four samples, as the method shows them."""
        return {"what the network sees": sheet(*self._pretext.shown(batch))}

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._numbers.lay_out(tensor) if tensor.dim() == 4 else tensor


def pretrain(
    stores: Sequence[Location],
    settings: Settings,
    *,
    method: str = "gradient-moco",
    recipe: str | None = None,
    encoder: str = "resnet50",
    size_WH: tuple[int, int] | None = None,
    init: str = "random",
    weights: Path | None = None,
    say: Say,
    **options: Any,
) -> Outcome:
    """Pre-train an encoder on the train and unlabeled frames of stores.

    Parameters
    ----------
    stores
        Folders of stores, whose pictures have one size.
    settings
        Length, batch, rate, device and so on; `default_settings` has the method's own.
    method
        One of `train.pretexts.METHODS`.
    recipe
        Of the method; its first by default.
    encoder, init, weights
        Which encoder, and its start; see `train.restore.start_encoder`.
    size_WH
        Level of the stores, which is also the size of the views; the largest by default.
    say
        Is told what the user should know.
    options
        Of `train.pretexts.options`, as far as the method takes them; by default, and where None, its recipe's.

    Returns
    -------
    Outcome
        How the run ended.

    Raises
    ------
    TrainError
        If the method does not take an option, or its value; see also `train.session.run_training`.
    """
    recipe_name, resolved = resolve_options(method, recipe, options)
    found = method_named(method)
    opened = open_stores(stores)
    _refuse_twice(opened)
    level, (width, height) = common_size(opened, size_WH)
    parts = [(store, rows_of(store, ("train", "unlabeled"))) for store in opened]
    frames = Frames(parts, {name: f"{level}/{name}" for name in found.arrays})
    if not len(frames):
        raise TrainError(f"{', '.join(map(str, stores))}: no frame of split train or unlabeled to train on")
    start = check_start(encoder, init, say, weights=weights)
    resolved = dict(found.complete(resolved, len(frames), settings.batch))
    largest_field = _largest_field(opened) if resolved.get("field_norm") in ("fixed", "log") else LARGEST_FIELD

    def make_task(ranks: Ranks, numbers: Numerics, say: Say) -> tuple[Task, torch.optim.Optimizer]:
        sight = Sight(
            region=_common_region(opened, (width, height)),
            size_HW=(height, width),
            seed=settings.seed,
            batch=settings.batch,
            ranks=ranks,
            options=resolved,
            largest_field=largest_field,
        )
        pretext = found.make(
            Setup(
                start=lambda: start_encoder(encoder, init, weights=weights, seed=settings.seed, say=say),
                plain=lambda: start_encoder(encoder, "random", seed=settings.seed, say=say),
                options=resolved,
                sight=sight,
                frames=len(frames),
                settings=settings,
                ranks=ranks,
                numbers=numbers,
                say=say,
            )
        )
        numbers.place(pretext.model)
        task = Pretraining(pretext, settings=settings, ranks=ranks, numbers=numbers)
        trained = [parameter for parameter in pretext.model.parameters() if parameter.requires_grad]
        return task, make_sgd(trained, settings.rate, momentum=_SGD_MOMENTUM, weight_decay=_WEIGHT_DECAY)

    arguments = {
        **settings.as_dict(),
        "method": method,
        "recipe": recipe_name,
        "encoder": encoder,
        "size": level,
        **start.arguments,
        **resolved,
    }
    meta = {"command": "pretrain", "arguments": arguments, "stores": describe(opened)}
    return run_training(settings, frames, make_task, meta, say)


def resolve_options(method: str, recipe: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The options of a method: its recipe's, and over them those that are given.

    Parameters
    ----------
    method, recipe
        As in `pretrain`.
    options
        By name; None is as good as not given.

    Returns
    -------
    str, dict
        The recipe's name, and a value for every option that the method takes; None where the data decide.

    Raises
    ------
    TrainError
        If there is no such method, recipe or option, the method does not take it, or no method takes such a value.
    """
    name, found = _recipe_of(method, recipe)
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in OPTIONS:
            raise TrainError(f"option {option!r} is unknown, wanted one of {', '.join(OPTIONS)}")
        if option not in found.options:
            taken = ", ".join(map(flag, found.options))
            raise TrainError(f"{flag(option)} {value} with --method {method}, which takes {taken}")
        check_option(option, value)
    return name, {**found.options, **given}


def default_settings(
    method: str, encoder: str, *, recipe: str | None = None, batch: int | None = None
) -> dict[str, Any]:
    """``batch``, ``rate``, ``schedule`` and ``epochs`` of a recipe, as `Settings` has them.

    Parameters
    ----------
    method, encoder, recipe
        As in `pretrain`.
    batch
        The one that is used, if not the recipe's: some rates go with it.

    Raises
    ------
    TrainError
        If there is no such method, recipe or encoder.
    """
    if encoder not in ENCODERS:
        raise TrainError(f"encoder {encoder!r} is unknown, wanted {', '.join(ENCODERS)}")
    _, found = _recipe_of(method, recipe)
    batch = batch if batch is not None else found.batches[encoder]
    return {"batch": batch, "rate": found.rate_of(batch), "schedule": found.schedule, "epochs": EPOCHS}


def _recipe_of(method: str, recipe: str | None) -> tuple[str, Recipe]:
    recipes = method_named(method).recipes
    name = recipe if recipe is not None else next(iter(recipes))
    if name not in recipes:
        raise TrainError(f"--recipe {name} with --method {method}, wanted {' or '.join(recipes)}")
    return name, recipes[name]


def _largest_field(stores: Sequence[Store]) -> float:
    """The largest value that the fields of all stores can have."""
    largest = {_LARGEST_GRMC if store.spec.operator["variant"] == "grmc" else LARGEST_FIELD for store in stores}
    if len(largest) > 1:
        raise TrainError(
            f"{', '.join(str(store.path) for store in stores)}: fields of the exact operator and grmc's together, "
            f"which have no scale in common, wanted --field-norm max or binary"
        )
    return largest.pop()


def _common_region(stores: Sequence[Store], size_WH: tuple[int, int]) -> Region:
    """The part of the pictures that is valid in all stores."""
    width, height = size_WH
    whole = Region(0, height, 0, width)
    regions = [store.spec.level_region(size_WH) or whole for store in stores]
    return Region(
        top=max(region.top for region in regions),
        bottom=min(region.bottom for region in regions),
        left=max(region.left for region in regions),
        right=min(region.right for region in regions),
    )


def _refuse_twice(stores: Sequence[Store]) -> None:
    """A picture that is there twice would be its own negative."""
    seen: dict[str, Store] = {}
    for store in stores:
        first = seen.setdefault(store.manifest.root, store)
        if first is not store:
            raise TrainError(f"{store.path}: the same frames as {first.path}, wanted each store once")
