"""The options of `train pretrain` that belong to methods, and the sections of its help. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from train.pretexts import METHODS
from train.pretexts.options import FIELD_NORMS, HEADS, MOST_PERMUTATIONS, OWN_KEYS

F = TypeVar("F", bound=Callable[..., Any])

METHOD_HELP = "\b\nMethods, and what the network has to find out:\n" + "\n".join(
    f"  {name:<14} {finds_out}" for name, finds_out in METHODS.items()
)
SECTIONS = {
    "What is learnt": ("method", "recipe", "encoder", "init", "weights", "size_WH"),
    "How long and how fast": ("epochs", "steps", "batch", "rate", "schedule", "warmup", "seed"),
    "Views of pictures": ("crop", "jitter", "jitter_share", "grey", "blur", "field_norm"),
    "Contrast": ("queue", "own_keys", "temperature", "momentum", "dim", "head", "bn_groups"),
    "Jigsaw": ("permutations",),
    "The run": ("out", "resume", "overwrite", "save_every"),
    "The machine": ("device", "precision", "accumulate", "compiled", "cache", "threads"),
}
_share = click.FloatRange(0, 1)


class MethodName(click.Choice[str]):
    """A method's name; the two starts that studies compare them with are no methods, and point to their command."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in ("random", "imagenet"):
            self.fail(f"{value!r} needs no pre-training: train finetune STORE --init {value} --out RUN", param, ctx)
        return super().convert(value, param, ctx)


_OPTIONS = (
    click.option("--method", type=MethodName(list(METHODS)), default="gradient-moco", show_default=True),
    click.option("--recipe", metavar="NAME", help="Of moco: v2 or v1, as published.  [v2]"),
    click.option("--crop", type=click.FloatRange(0, 1, min_open=True), metavar="AREA",
                 help="Least share of the picture in a view.  [.5; others .08 to .75]"),
    click.option("--jitter", type=_share, metavar="STRENGTH", help="Of colours, not of fields.  [by method: 0 to .8]"),
    click.option("--jitter-share", type=_share, metavar="SHARE", help="Of views that are jittered.  [by method]"),
    click.option("--grey", type=_share, metavar="SHARE", help="Of views without colours.  [by method: 0 to .3]"),
    click.option("--blur", type=_share, metavar="SHARE", help="Of views that are blurred.  [0; moco v2 and simclr .5]"),
    click.option("--field-norm", type=click.Choice(FIELD_NORMS),
                 help="Fields as shares of the picture's strongest edge or of a fixed value, as logarithms, or as "
                 "edges alone.  [max]"),
    click.option("--queue", type=click.IntRange(1), metavar="KEYS", help="[the most that fit the data, at most 65536]"),
    click.option("--own-keys", type=click.Choice(OWN_KEYS),
                 help="A frame's own key of the epoch before, among its negatives.  [masked]"),
    click.option("--temperature", type=float, help="[gradient-moco .07; moco .2 or .07; simclr .1]"),
    click.option("--momentum", type=float, help="Of the key encoder's average.  [.999]"),
    click.option("--dim", type=click.IntRange(1), help="Of the vectors.  [gradient-moco 256; else 128]"),
    click.option("--head", type=click.Choice(HEADS), help="[mlp; moco v1 linear]"),
    click.option("--bn-groups", type=click.IntRange(1), help="Of a micro-batch.  [8 samples or more each]"),
    click.option("--permutations", type=click.IntRange(2, MOST_PERMUTATIONS), help="Orders of tiles.  [100]"),
)  # fmt: skip


def method_options(function: F) -> F:
    """Add the options of all methods; those left out are None, and come from the method's recipe."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function
