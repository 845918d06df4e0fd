"""Options of `train pretrain` and `train finetune` in a study file: the commands' own, read by the commands themselves.

So a study knows no option of its own: a new option of a command is one of study files, with its default and range.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from train.errors import TrainError
from train.training_commands import finetune, pretrain

_COMMANDS: dict[str, click.Command] = {"pretrain": pretrain, "finetune": finetune}
# What the study decides; everything else may stand in a file.
DECIDED = {
    "pretrain": ("out", "method", "encoder", "seed", "resume", "overwrite"),
    "finetune": ("out", "init", "network", "encoder", "labels", "label_seed", "seed", "resume", "overwrite"),
}
# Where and how something is computed, not what: no part of what makes two trainings the same.
MACHINE = ("cache", "threads", "device", "save_every", "resume", "overwrite", "out")


def check_key(where: str, key: object, known: Collection[str]) -> None:
    """Refuse a key, and name the one that was meant.

    Raises
    ------
    TrainError
        If ``key`` is none of ``known``.
    """
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}?" if near else f"wanted one of {', '.join(known)}"
        raise TrainError(f"{where}: {key!r} is unknown, {meant}")


def option_keys(command: str) -> list[str]:
    """Keys that a study file may have for a command: its long options, with ``_`` for ``-``, such as ``"lr"``."""
    return [key for key in _flags(command) if key not in DECIDED[command]]


def choices(command: str, key: str) -> list[str]:
    """The values that an option of a command can have."""
    kind = _flags(command)[key].type
    assert isinstance(kind, click.Choice), key
    return [str(choice) for choice in kind.choices]


def parse_options(command: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keyword arguments that a command would have from these options, defaults included.

    Parameters
    ----------
    command
        ``"pretrain"`` or ``"finetune"``.
    given
        Values by key, as TOML has them.
    where
        The file and the table, for messages.

    Raises
    ------
    TrainError
        If the command would refuse a value.
    """
    arguments = []
    for key, value in given.items():
        option = _flags(command)[key]
        if option.is_flag and not isinstance(value, bool):
            raise TrainError(f"{where}: {key} is {value!r}, wanted true or false")
        if (isinstance(value, bool) and not option.is_flag) or isinstance(value, dict | list):
            raise TrainError(f"{where}: {key} is {value!r}, wanted one value as on the command line")
        flag = option.opts[0]
        if option.is_flag:
            arguments += [flag] if value else []
        else:
            arguments.append(f"{flag}={value}")
    needed = ["store", "--out=run", *(["--init=random"] if command == "finetune" and "init" not in given else [])]
    try:
        with _COMMANDS[command].make_context(command, [*needed, *arguments]) as context:
            params = dict(context.params)
    except click.ClickException as error:
        raise TrainError(f"{where}: {error.format_message()}") from error
    return {name: value for name, value in params.items() if name not in ("out", "store", "stores")}


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that decide a result, as JSON has them."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    return {name: value for name, value in sorted(plain.items()) if name not in MACHINE}


def _flags(command: str) -> dict[str, click.Option]:
    return {
        param.opts[0].removeprefix("--").replace("-", "_"): param
        for param in _COMMANDS[command].params
        if isinstance(param, click.Option)
    }
