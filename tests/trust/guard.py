"""Calls that are handed bad files: what they may take, what they may say, and what they may not touch."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gfield.frame import BadFrame, UserError
from tests.trust.campaign import Wrong

SECONDS = 10.0
BYTES = 1 << 30
LETTERS = 2000
# Refused only of text that lies in the file: what is called unprintable may be part of a line, but a line break not.
_OPENED = (
    0x20 | 0x01 | 0x02 | 0x100 | 0x200 | 0x04
)  # IN_OPEN, ACCESS, MODIFY, CREATE, DELETE, ATTRIB of <sys/inotify.h>


def outcome(call: Callable[[], str], folder: Path, *names: str) -> str:
    """What became of a call: what it returned, or ``"refused"`` for a `UserError` in one line with one of the names.

    It may take `SECONDS` and `BYTES` of memory more than the process has, and say nothing on standard output and error.

    Parameters
    ----------
    call
        It opens and reads a bad file, checks what it gets, and tells in a few words what that was.
    folder
        Where what it says may be kept.
    names
        What its message has to have, one of them.

    Raises
    ------
    Wrong
        If it does anything else.
    """
    said = folder / "said"
    began = time.monotonic()
    with _heard(said), limited():
        try:
            told = call()
        except UserError as error:
            told = refused(str(error), *names)
    if (took := time.monotonic() - began) > SECONDS:
        raise Wrong(f"took {took:.0f} s: {told}")
    if text := said.read_bytes():
        raise Wrong(f"says {text[:LETTERS]!r}")
    return told


def refused(message: str, *names: str) -> str:
    """``"refused"``, if a message is one line of a readable length that names the file."""
    if not message.isprintable():
        raise Wrong(f"a message that is no line: {message[:LETTERS]!r}")
    if len(message) > LETTERS:
        raise Wrong(f"a message of {len(message)} letters: {message[:LETTERS]!r}")
    if not any(name in message for name in names):
        raise Wrong(f"a message without {' or '.join(names)}: {message!r}")
    if "crashes its parser" in message:
        return "refused, its parser having crashed alone"
    return "refused"


def bad_frame(frame: BadFrame, *names: str) -> None:
    """Check a frame that could not be read."""
    refused(frame.reason, *names)


@contextmanager
def limited() -> Iterator[None]:
    """`BYTES` of memory more than there are, and no more."""
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * mmap.PAGESIZE
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _heard(said: Path) -> Iterator[None]:
    """What goes to standard output and error, in a file."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(file, number)
        yield
    finally:
        for number, was in kept.items():
            os.dup2(was, number)
            os.close(was)
        os.close(file)


_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def untouched(*paths: Path) -> Iterator[None]:
    """Raise `Wrong` if anybody opens, reads or changes one of these files, or what lies in one of these folders."""
    watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        for path in paths:
            if _libc.inotify_add_watch(watch, os.fsencode(path), _OPENED) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
        yield
        try:
            seen = os.read(watch, 4096)
        except BlockingIOError:
            return
        raise Wrong(f"{', '.join(map(str, paths))}: opened ({seen[:64]!r})")
    finally:
        os.close(watch)
