"""The options of methods: their names, and which values they may have. Which method takes which, its recipe says.

Loads nothing heavy: the command line and studies check values by it before they begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

HEADS = ("mlp", "linear", "grmc")
FIELD_NORMS = ("max", "fixed", "log", "binary")
OWN_KEYS = ("masked", "kept")
MOST_PERMUTATIONS = 1512

_Rule = tuple[Callable[[Any], bool], str]


def _share() -> _Rule:
    return lambda value: 0 <= value <= 1, "0 to 1"


def _whole(most: int | None = None, least: int = 1) -> _Rule:
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    return lambda value: value == int(value) and least <= value <= (most or value), wanted


def _one_of(names: tuple[str, ...]) -> _Rule:
    return lambda value: value in names, ", ".join(names)


OPTIONS: Mapping[str, _Rule] = {
    "queue": _whole(),
    "temperature": (lambda value: 0 < value < math.inf, "more than 0"),
    "momentum": _share(),
    "dim": _whole(),
    "head": _one_of(HEADS),
    "bn_groups": _whole(),
    "own_keys": _one_of(OWN_KEYS),
    "field_norm": _one_of(FIELD_NORMS),
    "permutations": _whole(MOST_PERMUTATIONS, least=2),
    "crop": (lambda value: 0 < value <= 1, "more than 0, at most 1"),
    "jitter": _share(),
    "jitter_share": _share(),
    "grey": _share(),
    "blur": _share(),
}


def check_option(name: str, value: Any) -> None:
    """Refuse a value that no method could take.

    Raises
    ------
    TrainError
        Naming the option, the value and what is wanted.
    """
    allowed, wanted = OPTIONS[name]
    try:
        fits = allowed(value) and not isinstance(value, bool)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        from train.errors import TrainError

        raise TrainError(f"{flag(name)} {value}, wanted {wanted}")


def flag(name: str) -> str:
    """An option as the command line has it."""
    return f"--{name.replace('_', '-')}"
