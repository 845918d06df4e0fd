"""A run's folder: who may write into it, what it says of itself, and its results.

    RUN/meta.json       command, arguments, stores with fingerprints, versions
    RUN/log.jsonl       one line a step, and events
    RUN/tensorboard/    the same for TensorBoard, with pictures
    RUN/checkpoints/    see `train.checkpoint`
    RUN/evaluations/    results of `train evaluate`
    RUN/lock            held by the process that trains
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train.errors import TrainError
from train.files import write_atomically

_KIND = "gfield run 1"


@contextmanager
def create_run(
    folder: Path,
    meta: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    may_differ: Collection[str] = (),
) -> Iterator[Path]:
    """Take a folder for a run, for as long as the context lasts.

    Parameters
    ----------
    folder
        The run's folder; made if it is not there.
    meta
        The run's ``command``, ``arguments`` and ``stores``.
    resume
        Whether to go on with a run that is there.
    overwrite
        Whether to remove a run that is there. Nothing but a run is ever removed.
    may_differ
        Arguments that a resumed run need not share with its beginning.

    Raises
    ------
    TrainError
        If the folder holds something else, a run is there and neither flag is given, its arguments are others,
        or another process has it.
    """
    present = folder.is_dir() and any(folder.iterdir())
    if folder.exists() and not folder.is_dir():
        raise TrainError(f"{folder}: a file, wanted a folder for the run")
    if present:
        seen = read_run(folder)
        if resume:
            _check_same(folder, seen, meta, may_differ)
        elif not overwrite:
            raise TrainError(f"{folder}: a run is there; --resume goes on with it, --overwrite replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        if present and not resume:
            for item in folder.iterdir():
                if item.name != "lock":
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        if not present or not resume:
            text = json.dumps({"kind": _KIND, **meta, "versions": versions()}, indent=2, allow_nan=False)
            write_atomically(folder / "meta.json", text.encode())
        yield folder


def read_run(folder: Path) -> dict[str, Any]:
    """The ``meta.json`` of a run.

    Raises
    ------
    TrainError
        If the folder is no run.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except OSError as error:
        reason = "no such folder" if not folder.exists() else "no meta.json in it"
        raise TrainError(f"{folder}: {reason}, wanted the folder of a run") from error
    except ValueError as error:
        raise TrainError(f"{folder / 'meta.json'}: not JSON, wanted the one that a run writes") from error
    if not isinstance(meta, dict) or meta.get("kind") != _KIND:
        raise TrainError(f"{folder / 'meta.json'}: not of a run of this version, wanted kind {_KIND!r}")
    return meta


def write_result(run: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Keep a result in ``RUN/evaluations/NAME.json``; an older one of that name is replaced."""
    folder = run / "evaluations"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    write_atomically(path, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    return path


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    packages = ("gfield", "torch", "torchvision", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _check_same(folder: Path, seen: Mapping[str, Any], wanted: Mapping[str, Any], may_differ: Collection[str]) -> None:
    if seen["command"] != wanted["command"]:
        raise TrainError(f"{folder}: a run of {seen['command']!r}, not of {wanted['command']!r}")
    ours, theirs = json.loads(json.dumps(wanted["arguments"])), seen["arguments"]
    differing = [
        f"{name} was {theirs.get(name)}, now {ours.get(name)}"
        for name in sorted({*ours, *theirs} - set(may_differ))
        if theirs.get(name) != ours.get(name)
    ]
    prints = [[store["fingerprint"] for store in meta["stores"]] for meta in (seen, wanted)]
    if prints[0] != prints[1]:
        differing.append("the stores are others, or were built again with other parameters")
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise TrainError(f"{folder}: cannot go on with other arguments: {'; '.join(differing[:3])}{more}")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise TrainError(f"{folder}: in use by {file.read().strip() or 'another process'}") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
