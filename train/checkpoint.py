"""The state of a run on disk: written whole or not at all, and checked byte for byte before it is loaded.

RUN/checkpoints/step-000000123/state.pt      tensors and numbers
                               meta.json     readable: the step, size and hash of state.pt, what the run says of itself

A checkpoint is published by a rename, so a kill leaves the one before it. What a kill does leave behind ends in
``.tmp`` and goes at the next save.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from blake3 import blake3

from train.errors import TrainError
from train.files import TEMPORARY, remove, sync_folder, temporary_name
from train.state_file import DamagedError, first_line, parse_state, plain_state, write_state

CHECKPOINTS = "checkpoints"
_FORMAT = 1
_NAME = re.compile(r"step-(\d{9,18})(\.old)?")
_META_LIMIT = 64 << 20  # bytes; no readable meta.json is larger


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes
    ----------
    path
        Its folder.
    step
        Optimizer steps that were done.
    state
        What was saved; ordered dicts have become plain ones.
    meta
        What the run said of itself.
    """

    path: Path
    step: int
    state: dict[str, Any] = field(repr=False)
    meta: dict[str, Any] = field(repr=False)


def save_checkpoint(run: Path, step: int, state: dict[str, Any], meta: dict[str, Any], keep: int = 2) -> Path:
    """Save the state of a run after ``step`` optimizer steps.

    Checkpoints of later steps go as well as old ones: `load_checkpoint` went past them because they were damaged,
    and this save belongs to what was done since.

    Parameters
    ----------
    run
        Folder of the run. One process saves at a time; the lock of `train.runs` sees to it.
    step
        Optimizer steps done.
    state
        Dicts, lists and tuples of tensors (on any device), numbers, texts and None; see `plain_state`.
    meta
        Values that JSON has.
    keep
        Checkpoints that remain, this one included.

    Returns
    -------
    Path
        Folder of the checkpoint.

    Raises
    ------
    TrainError
        If the disk is full or refuses; the checkpoints from before are then still there.
    TypeError
        If ``state`` or ``meta`` holds something else.
    """
    assert 0 <= step < 10**18, step
    assert keep >= 1, keep
    plain = plain_state(state)
    plain_meta = json.loads(json.dumps(meta, allow_nan=False))
    folder = run / CHECKPOINTS
    try:
        folder.mkdir(exist_ok=True)
        sync_folder(run)
        _remove_leftovers(folder)
        temporary = temporary_name(folder)
        try:
            temporary.mkdir()
            size, digest = write_state(temporary / "state.pt", plain)
            _write_meta(temporary / "meta.json", _Meta(_FORMAT, step, size, digest, plain_meta))
            sync_folder(temporary)
            path = _publish(temporary, folder / f"step-{step:09d}")
        except BaseException:
            _remove_leftovers(folder)
            raise
    except OSError as error:
        reason = error.strerror or error
        raise TrainError(
            f"{folder}: step {step} was not saved: {reason}; what was saved before is still there"
        ) from error
    _remove_others(folder, step, keep)
    return path


def load_checkpoint(run: Path, *, say: Callable[[str], None], device: torch.device | str = "cpu") -> Checkpoint | None:
    """The newest whole checkpoint of a run.

    Parameters
    ----------
    run
        Folder of the run.
    say
        Is told, a line each, which newer checkpoints are damaged, and which one is taken instead.
    device
        Where the tensors go. While they are loaded, the file is in memory beside them.

    Returns
    -------
    Checkpoint or None
        None if the run has no checkpoint yet.

    Raises
    ------
    TrainError
        If it has some, and all are damaged.
    """
    damages = []
    for path in reversed(_checkpoints(run / CHECKPOINTS)):
        try:
            checkpoint = _read(path, device)
        except DamagedError as damage:
            say(f"{path}: damaged: {damage}")
            damages.append(f"{path.name}: {damage}")
            continue
        if damages:
            say(f"{path}: taken instead, with {checkpoint.step} steps done")
        return checkpoint
    if damages:
        raise TrainError(f"{run}: no checkpoint is whole: {'; '.join(damages)}")
    return None


def load_module_state(path: Path, *, say: Callable[[str], None]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The network of a run, to start another one from.

    Parameters
    ----------
    path
        Folder of a run, whose newest whole checkpoint is taken, or of one checkpoint.
    say
        As for `load_checkpoint`.

    Returns
    -------
    state
        What was saved as ``state["model"]``: tensors by name, on the CPU.
    meta
        Of the checkpoint.

    Raises
    ------
    TrainError
        If there is no whole checkpoint, or it holds no network.
    """
    checkpoint = _load_one(path) if _NAME.fullmatch(path.name) else load_checkpoint(path, say=say)
    if checkpoint is None:
        seen = "has no checkpoint yet" if path.is_dir() else "no such folder"
        raise TrainError(f"{path}: {seen}, wanted a run that has saved one, or one of its checkpoints")
    model = checkpoint.state.get("model")
    if not isinstance(model, dict) or not all(isinstance(value, torch.Tensor) for value in model.values()):
        raise TrainError(f"{checkpoint.path}: holds {', '.join(checkpoint.state) or 'nothing'}, wanted a model")
    return model, checkpoint.meta


def keep_newest(run: Path) -> None:
    """Remove the checkpoints of a finished run but the newest."""
    found = _checkpoints(run / CHECKPOINTS)
    if found:
        _remove_others(run / CHECKPOINTS, _step_of(found[-1]), keep=1)


class _Meta(NamedTuple):
    """meta.json without its digest."""

    format: int
    step: int
    size: int
    blake3: str
    meta: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The text with its digest. One content has one text, so that a reader can compare all of it."""
        content = self._asdict()
        digest = blake3(json.dumps(content).encode()).hexdigest()
        return (json.dumps({**content, "digest": digest}, indent=2) + "\n").encode()


def _write_meta(path: Path, meta: _Meta) -> None:
    with path.open("xb") as file:
        file.write(meta.to_bytes())
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> Path:
    """Give a finished checkpoint its name. One of the same step is kept aside, in case we are killed here."""
    aside = path.with_name(f"{path.name}.old")
    if os.path.lexists(path):
        if os.path.lexists(aside):
            remove(aside)
        path.rename(aside)
    temporary.rename(path)
    sync_folder(path.parent)
    return path


def _remove_others(folder: Path, step: int, keep: int) -> None:
    found = _checkpoints(folder)
    kept = [path for path in found if not path.name.endswith(".old") and _step_of(path) <= step][-keep:]
    for path in found:
        if path not in kept:
            with suppress(OSError):  # it is tried again at the next save, and this one is done
                remove(path)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"*{TEMPORARY}"):
        with suppress(OSError):
            remove(leftover)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first; what stepped aside comes before the one of the same step."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: (_step_of(path), not path.name.endswith(".old")))


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


def _load_one(path: Path) -> Checkpoint:
    try:
        return _read(path, "cpu")
    except DamagedError as damage:
        raise TrainError(f"{path}: damaged: {damage}") from damage


def _read(path: Path, device: torch.device | str) -> Checkpoint:
    meta = _read_meta(path)
    if meta.step != _step_of(path):
        raise DamagedError(f"meta.json is of step {meta.step}, wanted {_step_of(path)}")
    data = _read_file(path, "state.pt", meta.size)
    try:
        state = parse_state(data, meta.blake3, device)
    except DamagedError as damage:
        raise DamagedError(f"state.pt: {damage}") from damage
    return Checkpoint(path, meta.step, state, meta.meta)


def _read_meta(path: Path) -> _Meta:
    data = _read_file(path, "meta.json")
    try:
        content = json.loads(data)
        digest = str(content.pop("digest"))
        meta = _Meta(**content)
        whole = meta.to_bytes() == data and [type(value) for value in meta] == [int, int, int, str, dict]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"meta.json is not readable: {first_line(error)}") from error
    if not whole:
        raise DamagedError(f"meta.json does not match its digest {digest[:16]}…")
    if meta.format != _FORMAT:
        raise DamagedError(f"meta.json is of format {meta.format}, wanted {_FORMAT}")
    return meta


def _read_file(path: Path, name: str, size: int | None = None) -> bytes:
    """All bytes of a file of a checkpoint, once its size is found right; no link is followed out of the run."""
    try:
        if path.is_symlink() or (path / name).is_symlink():
            raise DamagedError(f"{name}: a link leads there, wanted a file")
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with open(name, "rb", opener=partial(_open_inside, folder)) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise DamagedError(f"{name} is no file")
                if size is None and status.st_size > _META_LIMIT:
                    raise DamagedError(f"{name} has {status.st_size} bytes, wanted {_META_LIMIT} at most")
                if size is not None and status.st_size != size:
                    raise DamagedError(f"{name} has {status.st_size} bytes, wanted {size}")
                return file.read()
        finally:
            os.close(folder)
    except OSError as error:
        raise DamagedError(f"{name}: {error.strerror}") from error


def _open_inside(folder: int, name: str, flags: int) -> int:
    """Whoever swaps in a link at the last moment gets an error, and a pipe that nobody writes does not hold us."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
