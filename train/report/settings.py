"""What runs were begun with: settings that differ between them, and those that all share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.read import Run

# Where a run's files go, and what a start that is repeated may say: no part of what was trained.
_NO_SETTING = ("out", "resume", "overwrite", "rehearse")
NONE = "\N{EM DASH}"


def settings_of(run: Run) -> dict[str, str]:
    """Everything that a run was begun with, by name, as text."""
    meta = run.meta
    found = {"command": run.command}
    found |= {name: _text(value) for name, value in run.arguments.items() if name not in _NO_SETTING}
    for number, store in enumerate(_objects(meta.get("stores"))):
        found[f"store {number}" if number else "store"] = _text(store.get("path"))
        found[f"store {number} fingerprint" if number else "store fingerprint"] = _text(store.get("fingerprint"))
    labelled = meta.get("labelled_frames")
    if isinstance(labelled, list):
        found["labelled frames"] = str(len(labelled))
    for name, value in meta.items():
        if name == "versions" and isinstance(value, dict):
            found |= {f"version of {package}": _text(version) for package, version in value.items()}
        elif name not in ("kind", "command", "arguments", "stores", "labelled_frames"):
            found[name.replace("_", " ")] = _text(value)
    return found


def compared(runs: Sequence[Run]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of names and texts, a text a run: first the settings that differ, then those that all share.

    A run that has no such setting has a dash.
    """
    settings = [settings_of(run) for run in runs]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [[name, *(one.get(name, NONE) for one in settings)] for name in names]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    return differ, [row for row in rows if len(set(row[1:])) == 1]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """A value as one reads it: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
