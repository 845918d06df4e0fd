"""The state of a run on disk: written whole or not at all, checked byte for byte before anything looks inside.

RUN/checkpoints/step-000000123/state.pt      tensors and numbers, by `torch.save`
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
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from blake3 import blake3

from train.errors import TrainError
from train.files import TEMPORARY, remove, sync_folder, temporary_name

_FORMAT = 1
_FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{9,18})(\.old)?")
_ZIP = b"PK\x03\x04"
_META_LIMIT = 64 << 20  # bytes; more than any readable meta.json


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
        What was saved, with plain dicts for ordered ones, and tensors where `load_checkpoint` was asked to put them.
    meta
        What the run said of itself.
    """

    path: Path
    step: int
    state: dict[str, Any] = field(repr=False)
    meta: dict[str, Any] = field(repr=False)


class _DamagedError(Exception):
    """Why a folder is no whole checkpoint: the file, what was seen and what was wanted."""


def save_checkpoint(run: Path, step: int, state: dict[str, Any], meta: dict[str, Any], keep: int = 2) -> Path:
    """Save the state of a run after ``step`` optimizer steps.

    Checkpoints of later steps are removed as well as old ones: they are what `load_checkpoint` went past because
    they were damaged, or belong to a continuation that this save has overtaken.

    Parameters
    ----------
    run
        Folder of the run. One process saves at a time; the lock of `train.runs` sees to it.
    step
        Optimizer steps done.
    state
        Dicts, lists and tuples of tensors, numbers, texts and None, as far down as one likes. Tensors may be on any
        device; one that shows a part of a larger storage is saved without the rest.
    meta
        Values that JSON has, for people and for `load_checkpoint`.
    keep
        Checkpoints that remain, this one included.

    Returns
    -------
    Path
        Folder of the checkpoint.

    Raises
    ------
    TrainError
        If the disk is full or does not let itself be written; the checkpoints from before are then still there.
    TypeError
        If the state or ``meta`` holds something else, which `load_checkpoint` would refuse.
    """
    assert 0 <= step < 10**18, step
    assert keep >= 1, keep
    plain = _plain(state, "state")
    text = json.dumps(meta, allow_nan=False)
    folder = run / _FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(f"*{TEMPORARY}"):
            remove(leftover)
        temporary = temporary_name(folder)
        try:
            temporary.mkdir()
            size, digest = _write_state(temporary / "state.pt", plain)
            _write_meta(temporary / "meta.json", step, size, digest, json.loads(text))
            sync_folder(temporary)
            path = _publish(temporary, folder / f"step-{step:09d}")
        except BaseException:
            if temporary.exists():
                remove(temporary)
            raise
        _remove_others(folder, step, keep)
    except OSError as error:
        raise TrainError(
            f"{folder}: the checkpoint of step {step} was not saved: {error.strerror or error}; "
            "those saved before are as they were"
        ) from error
    return path


def load_checkpoint(run: Path, *, say: Callable[[str], None], device: torch.device | str = "cpu") -> Checkpoint | None:
    """The newest whole checkpoint of a run.

    Parameters
    ----------
    run
        Folder of the run.
    say
        Is told, in one line each, which newer checkpoints are damaged, and which one is taken instead.
    device
        Where its tensors go. Until then the file is in memory once more than its tensors.

    Returns
    -------
    Checkpoint or None
        None if the run has no checkpoint yet.

    Raises
    ------
    TrainError
        If it has some, and all are damaged.
    """
    reasons = []
    for path in reversed(_checkpoints(run / _FOLDER)):
        try:
            checkpoint = _read(path, device)
        except _DamagedError as damage:
            say(f"{path}: damaged: {damage}")
            reasons.append(f"{path.name}: {damage}")
            continue
        if reasons:
            say(f"{path}: taken instead, {checkpoint.step} steps are done")
        return checkpoint
    if reasons:
        raise TrainError(f"{run}: every checkpoint is damaged: {'; '.join(reasons)}")
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
    if _NAME.fullmatch(path.name):
        try:
            checkpoint: Checkpoint | None = _read(path, "cpu")
        except _DamagedError as damage:
            raise TrainError(f"{path}: damaged: {damage}") from damage
    else:
        checkpoint = load_checkpoint(path, say=say)
    if checkpoint is None:
        seen = "has no checkpoint yet" if path.is_dir() else "no such folder"
        raise TrainError(f"{path}: {seen}, wanted a run that has saved one, or one of its checkpoints")
    model = checkpoint.state.get("model")
    if not isinstance(model, dict) or not all(isinstance(value, torch.Tensor) for value in model.values()):
        raise TrainError(f"{checkpoint.path}: holds {', '.join(checkpoint.state) or 'nothing'}, wanted a model")
    return model, checkpoint.meta


def _plain(value: Any, place: str) -> Any:
    """The same with nothing but what `torch.load` takes without running code: exact types, no subclasses of them."""
    if isinstance(value, torch.Tensor):
        return _own_storage(value, place)
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{place}: key {key!r} is a {type(key).__name__}, wanted str or int")
        return {key: _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f"{place}[{index}]") for index, item in enumerate(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, wanted tensors, numbers, texts, dicts or lists of them")


def _own_storage(value: torch.Tensor, place: str) -> torch.Tensor:
    """The tensor without a gradient, and without what else lies in its storage: `torch.save` would write all of that."""
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        raise TypeError(f"{place} is a {type(value).__name__} of layout {value.layout}, wanted a plain dense tensor")
    value = value.detach()
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


class _HashingFile:
    """Hashes what `torch.save` writes, from front to end, and keeps the first error for after it.

    An error inside the call would come out as a RuntimeError about positions in a zip file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = blake3()
        self._error: OSError | None = None
        self._size = 0

    def write(self, data: memoryview) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
            self._hash.update(data)
        self._size += data.nbytes
        return data.nbytes

    def flush(self) -> None:
        """`torch.save` calls it last; `finish` is what flushes."""

    def finish(self) -> tuple[int, str]:
        """Force the file to the disk; its size in bytes and BLAKE3."""
        if self._error is not None:
            raise self._error
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._size, self._hash.hexdigest()


def _write_state(path: Path, state: Any) -> tuple[int, str]:
    # Unbuffered large writes, and no second full disk when the file is closed.
    with path.open("xb") as file:
        hashing = _HashingFile(file)
        torch.save(state, hashing)
        return hashing.finish()


def _write_meta(path: Path, step: int, size: int, digest: str, meta: dict[str, Any]) -> None:
    with path.open("xb") as file:
        file.write(_meta_bytes({"format": _FORMAT, "step": step, "size": size, "blake3": digest, "meta": meta}))
        file.flush()
        os.fsync(file.fileno())


def _meta_bytes(content: dict[str, Any]) -> bytes:
    """meta.json: the content and its own digest. One content has one text, so a reader can compare them whole."""
    digest = blake3(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "digest": digest}, indent=2) + "\n").encode()


def _publish(temporary: Path, path: Path) -> Path:
    """Give a finished checkpoint its name. One of the same step steps aside and stays readable until then."""
    aside = path.with_name(f"{path.name}.old")
    if path.exists():
        if aside.exists():
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
            remove(path)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first; what stepped aside for one of the same step comes before that."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: (_step_of(path), not path.name.endswith(".old")))


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


def _read(path: Path, device: torch.device | str) -> Checkpoint:
    """Read and check a checkpoint: `torch.load` sees bytes whose hash is right, from memory that nobody else writes."""
    content = _read_meta(path)
    if content["step"] != _step_of(path):
        raise _DamagedError(f"meta.json is of step {content['step']}, wanted {_step_of(path)}")
    data = _read_file(path, "state.pt", content["size"])
    if len(data) != content["size"]:
        raise _DamagedError(f"state.pt has {len(data)} bytes, wanted {content['size']}")
    digest = blake3(data).hexdigest()
    if digest != content["blake3"]:
        raise _DamagedError(f"state.pt has BLAKE3 {digest[:16]}…, wanted {content['blake3'][:16]}…")
    # Older formats of torch.save, a tar among them, have no business here.
    if not data.startswith(_ZIP):
        raise _DamagedError("state.pt is no file that torch.save wrote")
    try:
        state = torch.load(BytesIO(data), map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Its hash is right, so somebody wrote it on purpose: torch says in many ways that it holds more than weights.
        raise _DamagedError(f"state.pt holds what is not loaded: {_first_line(error)}") from error
    if not isinstance(state, dict):
        raise _DamagedError(f"state.pt holds a {type(state).__name__}, wanted a dict")
    return Checkpoint(path, content["step"], state, content["meta"])


def _read_meta(path: Path) -> dict[str, Any]:
    data = _read_file(path, "meta.json", _META_LIMIT)
    try:
        content = json.loads(data)
        digest = content.pop("digest")
        whole = _meta_bytes(content) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _DamagedError(f"meta.json is not readable: {_first_line(error)}") from error
    if not whole:
        raise _DamagedError(f"meta.json does not match its digest {str(digest)[:16]}…")
    if content.get("format") != _FORMAT:
        raise _DamagedError(f"meta.json is of format {content.get('format')}, wanted {_FORMAT}")
    return dict(content)


def _read_file(path: Path, name: str, limit: int) -> bytes:
    """The bytes of a file of a checkpoint, one more than ``limit`` at most; links are not followed out of the run."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Not to wait for the other end of a pipe that somebody put there.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _DamagedError(f"{name} is no regular file")
            return file.read(limit + 1)
    except OSError as error:
        where = name if (path / name).is_symlink() else f"{name}: {error.strerror}"
        link = " is a link, wanted a file" if (path / name).is_symlink() else ""
        raise _DamagedError(f"{where}{link}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()[:200]
