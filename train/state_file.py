"""Tensors and numbers in one file: hashed while it is written, and not looked into until its hash is found right."""

from __future__ import annotations

import os
import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from blake3 import blake3

_ZIP = b"PK\x03\x04"


class DamagedError(Exception):
    """Why a file is not what was once written: the file, what was seen and what was wanted, in one line."""


def plain_state(value: Any, place: str = "state") -> Any:
    """A copy of nested values in exact types only, which `torch.load` takes without running code.

    Parameters
    ----------
    value
        Dicts (keys are texts or integers), lists and tuples of tensors, numbers, texts and None, to any depth.
        Ordered dicts become plain ones.
    place
        What it is called in messages.

    Returns
    -------
    Any
        The same with the same tensors, but without gradients. A tensor that shows a part of a larger storage is
        copied, since `torch.save` would write all of that storage.

    Raises
    ------
    TypeError
        If something else is in it, such as NumPy's numbers, naming where.
    """
    if isinstance(value, torch.Tensor):
        return _own_storage(value, place)
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{place}: key {key!r} is a {type(key).__name__}, wanted str or int")
        return {key: plain_state(item, f"{place}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_state(item, f"{place}[{index}]") for index, item in enumerate(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, wanted tensors, numbers, texts, dicts or lists of them")


def write_state(path: Path, state: Any) -> tuple[int, str]:
    """Write what `plain_state` returned into a new file and force it to the disk.

    Returns
    -------
    size, digest
        Bytes of the file, and their BLAKE3 in hexadecimal.

    Raises
    ------
    OSError
        If the disk is full, or another of its reasons.
    """
    with path.open("xb") as file:
        hashing = _HashingFile(file)
        torch.save(state, cast(IO[bytes], hashing))  # it calls write and flush alone
        return hashing.finish()


def parse_state(data: bytes, digest: str, device: torch.device | str) -> dict[str, Any]:
    """Load what `write_state` wrote from bytes that are in memory, where nobody changes them after the check.

    Raises
    ------
    DamagedError
        If the hash is another one, or the bytes hold anything but a dict of what `plain_state` admits.
    """
    seen = blake3(data).hexdigest()
    if seen != digest:
        raise DamagedError(f"BLAKE3 is {seen[:16]}…, wanted {digest[:16]}…")
    # Older formats of torch.save, a tar among them, have no business here.
    if not data.startswith(_ZIP):
        raise DamagedError("is no file of torch.save as it is today")
    try:
        state = load_plain(BytesIO(data), device)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # The hash is right, so it was written so on purpose; torch has many exceptions for that.
        raise DamagedError(why_not_loaded(error)) from error
    if not isinstance(state, dict):
        raise DamagedError(f"holds a {type(state).__name__}, wanted a dict")
    return state


def load_plain(file: Path | BytesIO, device: torch.device | str) -> Any:
    """What `torch.load` takes out of a file without running code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that are refused all the same
        return torch.load(file, map_location=device, weights_only=True)


def why_not_loaded(error: Exception) -> str:
    """What `load_plain` had against a file, in one line.

    torch's messages go on for paragraphs about how to load it all the same, and say at their end what it was.
    """
    text = str(error)
    stopped_by = re.search(r"GLOBAL ([\w.]+) (?:was not|whose module)", text)
    if stopped_by:
        return f"holds a Python object, {stopped_by[1]}, which is not loaded, since that may run code"
    if isinstance(error, LookupError):
        return "not what torch.save writes"  # the bytes were taken for a pickle, and the error's text is one of them
    if "WeightsUnpickler error" in text:
        return "not what torch.save writes of tensors and numbers"
    told = re.sub(r"^\[enforce fail at [^]]*\] \. ", "", first_line(error))
    return told.split(". ")[0].rstrip(".")


def first_line(error: Exception) -> str:
    """The first line of an error's message, not too long a one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _own_storage(value: torch.Tensor, place: str) -> torch.Tensor:
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.is_quantized:
        raise TypeError(f"{place} is a {type(value).__name__} of layout {value.layout}, wanted a plain dense tensor")
    value = value.detach()
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


class _HashingFile:
    """Hashes what `torch.save` writes, front to end, and keeps the first error until `finish`.

    Out of `torch.save` an error would come as a RuntimeError about positions in a zip file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = blake3()
        self._size = 0
        self._error: OSError | None = None

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
        """Part of what `torch.save` asks of a file; `finish` flushes."""

    def finish(self) -> tuple[int, str]:
        if self._error is not None:
            raise self._error
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._size, self._hash.hexdigest()
