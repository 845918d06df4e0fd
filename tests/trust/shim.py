"""The library of shim.c, loaded before the C library: it makes file operations fail, and notes them in a trace.

`LD_PRELOAD` is read when a program starts, so the process that runs a campaign begins anew with it (`preload`); what it
forks has the library too, and arms it for itself.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from tests.trust.campaign import NotHere

_SOURCE = Path(__file__).with_name("shim.c")
_RECORD = struct.Struct("=iiiiqq")
_PRELOAD = "LD_PRELOAD"


class Kind(IntEnum):
    """Sorts of operations, numbered as in shim.c."""

    CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, RMDIR, MARK = range(10)


class Operation(NamedTuple):
    """One line of a trace.

    Attributes
    ----------
    kind
        What was done.
    path, other
        To which name; and the new name, for `Kind.RENAME` and `Kind.LINK`. "" where it was done to an open file.
    inode
        Of the file or folder that was made, or that is open; the number of a `Kind.MARK`.
    offset
        Where a write begins; the size that a file is cut to.
    data
        What was written.
    """

    kind: Kind
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Harm:
    """One way in which an operation fails.

    Attributes
    ----------
    name
        As errno.h has it, or a word.
    code
        A number of errno, or one of shim.c's own.
    kinds
        What can fail so.
    lasting
        Whether all later ones fail too: a disk that is full stays so.
    """

    name: str
    code: int
    kinds: frozenset[Kind]
    lasting: bool = False


_ALL = frozenset(Kind) - {Kind.MARK}
_ALLOCATING = _ALL - {Kind.UNLINK, Kind.RMDIR, Kind.TRUNCATE}
NO_HARM = Harm("none", 0, frozenset())
KILL = Harm("kill", -1, _ALL)
HARMS = (
    KILL,
    Harm("EIO", errno.EIO, _ALL),
    # No room for data, and for names where there were none; a rename finds the room of the name it takes away.
    Harm("ENOSPC", errno.ENOSPC, _ALLOCATING - {Kind.RENAME}, lasting=True),
    Harm("EDQUOT", errno.EDQUOT, _ALLOCATING),
    Harm("short write", -2, frozenset({Kind.WRITE})),
)


def preload() -> None:
    """Begin this process anew with the library, unless it has it.

    Raises
    ------
    NotHere
        Where there is no Linux, or no C compiler.
    """
    before = os.environ.get(_PRELOAD, "")
    if _loaded():
        # It is mapped: neither its file nor the variable is needed any more.
        ours, _, others = before.partition(":")
        shutil.rmtree(Path(ours).parent)
        os.environ.update({_PRELOAD: others})
        return
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        raise NotHere("the library that makes file operations fail wants Linux and a C compiler, cc")
    library = Path(tempfile.mkdtemp(prefix="trust-shim-"), "shim.so")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", library, _SOURCE, "-ldl", "-lpthread"], check=True
    )
    os.execve(sys.executable, sys.orig_argv, {**os.environ, _PRELOAD: f"{library}:{before}"})


def suffer(folder: Path, harm: Harm, number: int, trace: Path | None = None) -> None:
    """Let an operation below a folder come to harm in this process: of those that can so, this one, counted from 0.

    What goes well until then is added to a trace, where one is given.
    """
    kinds = sum(1 << kind for kind in harm.kinds)
    to = -1 if trace is None else os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _library().shim_arm(os.fsencode(folder), kinds, ctypes.c_long(number), harm.code, harm.lasting, to)


def traced(folder: Path, trace: Path, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; all that it does below a folder is added to a trace."""
    suffer(folder, NO_HARM, 0, trace)
    return call(*arguments)


def mark(number: int) -> None:
    """Leave a mark in the trace of this process."""
    _library().shim_mark(ctypes.c_long(number))


def read_trace(path: Path) -> list[Operation]:
    """The operations of a trace, in their order."""
    return [*_operations(path.read_bytes())]


def _operations(data: bytes) -> Iterator[Operation]:
    place = 0
    while place < len(data):
        kind, *sizes, inode, offset = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        pieces = []
        for size in sizes:
            pieces.append(data[place : place + size])
            place += size
        yield Operation(Kind(kind), os.fsdecode(pieces[0]), os.fsdecode(pieces[1]), inode, offset, pieces[2])


def _loaded() -> bool:
    return hasattr(ctypes.CDLL(None), "shim_arm")


@functools.cache
def _library() -> ctypes.CDLL:
    assert _loaded(), "this process was begun without the library; see `preload`"
    return ctypes.CDLL(None)
