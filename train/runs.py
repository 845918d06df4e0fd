"""The folder of a run: who owns it while it works, what it was begun with, and the results beside it.

RUN/meta.json       readable: the command, its arguments, the stores with their fingerprints, versions
    log.jsonl       see `train.log`; tensorboard/ shows the same
    checkpoints/    see `train.checkpoint`
    evaluations/    one JSON file a result; export/ holds what `train export` wrote
    lock            locked by the process that trains; the file itself stays
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.arithmetic import arithmetic
from train.errors import TrainError
from train.files import TEMPORARY, make_folders, remove, sync_folder, write_atomically, write_in_turn

_KIND = "gfield run 1"
_META, _LOCK = "meta.json", "lock"
# All that a run holds, in the order in which it is removed: while meta.json is there, the rest is still a run.
_CONTENT = ("log.jsonl", "tensorboard", "checkpoints", "evaluations", "export", _META)
_SHOWN = 3


def check_folder(
    folder: Path,
    meta: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    may_differ: Collection[str] = (),
) -> None:
    """Refuse what `create_run` would refuse, without touching the folder.

    Parameters
    ----------
    folder, meta, resume, overwrite, may_differ
        As in `create_run`.

    Raises
    ------
    TrainError
        As in `create_run`, but for a folder that is in use.
    """
    plain = _plain(folder, meta, resume, overwrite)
    with _disk_errors(folder):
        if _holds_run(folder, resume, overwrite) and resume:
            _check_same(folder, read_run(folder), plain, may_differ)


@contextmanager
def create_run(
    folder: Path,
    meta: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    may_differ: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Begin a run or go on with one, and own its folder for as long as the ``with`` block lasts.

    Parameters
    ----------
    folder
        A new or empty folder, or with ``resume`` or ``overwrite`` that of a run. Where there is none to resume,
        it begins, so that a job that is started again and again can have one command.
    meta
        What it is begun with: ``command``, ``arguments`` by name, ``stores`` (each with its ``path`` and whatever
        tells its content), and more as JSON has it. A resumed run must have the same; only stores may have moved.
    resume, overwrite
        What to do with a run that is there. To overwrite is to remove what runs write, and nothing else.
    may_differ
        Names of arguments that a resumed run need not share with its beginning.

    Yields
    ------
    dict
        The run's ``meta.json``: of its beginning, where it is resumed.

    Raises
    ------
    TrainError
        If the folder is in use, holds something else, or a run and neither flag is given, or one with other
        arguments; or the disk refuses.
    """
    plain = _plain(folder, meta, resume, overwrite)
    with _disk_errors(folder):
        _holds_run(folder, resume, overwrite)
        make_folders(folder)
        lock = _lock(folder)
    try:
        with _disk_errors(folder):
            begun = _begin(folder, plain, resume, overwrite, may_differ)
        yield begun
    finally:
        os.close(lock)


def read_run(folder: Path) -> dict[str, Any]:
    """The ``meta.json`` of a run.

    Raises
    ------
    TrainError
        If the folder is no run.
    """
    try:
        meta = json.loads((folder / _META).read_bytes())
    except OSError as error:
        seen = f"no {_META} in it" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        raise TrainError(f"{folder}: {seen}, wanted the folder of a run") from error
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{folder / _META}: not JSON, wanted what a run writes") from error
    kind = meta.get("kind") if isinstance(meta, dict) else None
    if kind != _KIND:
        raise TrainError(f"{folder / _META}: of kind {kind!r}, wanted {_KIND!r}")
    return dict(meta)


def write_result(run: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Write RUN/evaluations/NAME.json, all or nothing; the run's owner or anybody else may.

    Raises
    ------
    TrainError
        If a value is not finite, or the disk refuses.
    """
    assert name == Path(name).name, name
    path = run / "evaluations" / f"{name}.json"
    try:
        text = json.dumps(result, allow_nan=False, indent=2)
    except ValueError as error:
        raise TrainError(f"{path}: not written, a value is not a finite number: {dict(result)}") from error
    with _disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        sync_folder(run)
        write_in_turn(path, f"{text}\n".encode())
    return path


def _plain(folder: Path, meta: Mapping[str, Any], resume: bool, overwrite: bool) -> dict[str, Any]:
    """What a run is begun with, as it is read back: lists for tuples."""
    if resume and overwrite:
        raise TrainError(f"{folder}: both --resume and --overwrite are given, wanted one of them")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(meta, allow_nan=False))
    except ValueError as error:
        raise TrainError(f"{folder}: nan or infinite in {meta.get('arguments')}, wanted finite numbers") from error
    return plain


def _begin(
    folder: Path, meta: dict[str, Any], resume: bool, overwrite: bool, may_differ: Collection[str]
) -> dict[str, Any]:
    """What is left to do under the lock; the folder may have changed before that."""
    # Also of a save: the next one would remove it, but a run that was killed after its last step saves no more.
    for leftover in [*folder.glob(f"*{TEMPORARY}"), *folder.glob(f"checkpoints/*{TEMPORARY}")]:
        remove(leftover)
    if _holds_run(folder, resume, overwrite):
        if resume:
            begun = read_run(folder)
            _check_same(folder, begun, meta, may_differ)
            return begun
        for name in _CONTENT:
            if os.path.lexists(folder / name):
                remove(folder / name)
    begun = {"kind": _KIND, **meta, **arithmetic()}
    write_atomically(folder / _META, (json.dumps(begun, indent=2) + "\n").encode())
    return begun


def _holds_run(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether a run is there, which the flags allow to go on or to be removed; all else is refused."""
    if not folder.is_dir():
        if folder.exists():
            raise TrainError(f"{folder}: a file, wanted the folder of a run or a new one")
        return False
    names = sorted(path.name for path in folder.iterdir() if path.name != _LOCK and path.suffix != TEMPORARY)
    if not names:
        return False
    strangers = [name for name in names if name not in _CONTENT]
    if _META not in names:
        raise TrainError(f"{folder}: holds {_few(names)} and no run, wanted a new or empty folder")
    read_run(folder)
    if not resume and not overwrite:
        raise TrainError(f"{folder}: holds a run; --resume goes on with it, --overwrite replaces it")
    if overwrite and strangers:
        raise TrainError(f"{folder}: --overwrite would remove {_few(strangers)}, which no run writes; move it first")
    return True


def _lock(folder: Path) -> int:
    """Lock the folder; the system lets go when the descriptor is closed or the process dies."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except BlockingIOError:
        owner = os.read(descriptor, 300).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise TrainError(f"{folder}: in use by {owner}, wanted a folder of its own for every run") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_same(folder: Path, begun: dict[str, Any], meta: dict[str, Any], may_differ: Collection[str]) -> None:
    was, now = _flat(begun, may_differ), _flat(meta, may_differ)
    other = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if other:
        told = "; ".join(f"{name} was {_value(was, name)}, now {_value(now, name)}" for name in other[:_SHOWN])
        more = f"; and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        raise TrainError(f"{folder}: cannot go on with another run's arguments: {told}{more}")


def _flat(meta: dict[str, Any], may_differ: Collection[str]) -> dict[str, Any]:
    """What a resumed run shares with its beginning, by names such as ``batch`` (an argument) and ``store 0``."""
    arguments = {name: value for name, value in meta.get("arguments", {}).items() if name not in may_differ}
    stores = {
        f"store {index}": {name: value for name, value in store.items() if name != "path"}
        for index, store in enumerate(meta.get("stores", []))
    }
    apart = ("kind", "arguments", "stores", *arithmetic())
    rest = {name: value for name, value in meta.items() if name not in apart}
    return {**rest, **arguments, **stores}


def _value(flat: dict[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "not there"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}") from error
