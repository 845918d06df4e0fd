"""Processes that are forked to be killed, from one that has loaded everything and has started no thread."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class ChildDied(Exception):
    """A child ended without an answer: the signal that ended it, as a negative number, or its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the process ended by {signal.Signals(-status).name if status < 0 else f'status {status}'}")
        self.status = status


class Child:
    """One forked process that calls a function, in a process group of its own.

    Parameters
    ----------
    call
        What it calls. Its result is pickled; an exception it raises is raised by `result`.
    arguments
        Of the call.
    says
        Where its standard output and error go; nowhere by default.
    """

    def __init__(self, call: Callable[..., Any], *arguments: Any, says: Path | None = None) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _run(call, arguments, write, says)
        os.close(write)
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)
        self._status: int | None = None

    def kill(self, number: int = signal.SIGKILL, *, group: bool = False) -> None:
        """Send a signal to the process, or to it and all that it has started."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def wait(self, seconds: float = 60) -> int:
        """Its exit status, negative for a signal; killed, with its group, when the time is over."""
        end = time.monotonic() + seconds
        while self.running and time.monotonic() < end:
            time.sleep(0.002)
        if self.running:
            self.kill(group=True)
            raise TimeoutError(f"a process did not end within {seconds:g} s")
        assert self._status is not None
        return self._status

    def result(self, seconds: float = 60) -> Any:
        """What the call returned.

        Raises
        ------
        ChildDied
            If it ended without an answer.
        Exception
            What the call raised.
        """
        with os.fdopen(self._read, "rb") as answers:
            os.set_blocking(answers.fileno(), False)
            data, end = b"", time.monotonic() + seconds
            while (running := self.running) or True:
                piece = answers.read()
                data += piece or b""
                if not running:
                    break
                if time.monotonic() > end:
                    self.kill(group=True)
                    raise TimeoutError(f"a process did not end within {seconds:g} s")
                time.sleep(0.002)
        if not data:
            raise ChildDied(self.wait())
        fine, value = pickle.loads(data)
        if fine:
            return value
        raise value


def in_child(call: Callable[..., Any], *arguments: Any, seconds: float = 60) -> Any:
    """What a call returns in a forked process; raises what it raises there, or `ChildDied`."""
    return Child(call, *arguments).result(seconds)


def drop_powers() -> None:
    """Give up root's powers for good, of which one is to read what is forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def _run(call: Callable[..., Any], arguments: tuple[Any, ...], write: int, says: Path | None) -> None:
    """The child's whole life; it never returns into the parent's code."""
    status = 1
    try:
        # Lest it outlive a case that is late and killed: its group is its own.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, 0)
        target = os.open(says or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        try:
            answer = pickle.dumps((True, call(*arguments)))
            status = 0
        except BaseException as error:
            traceback.print_exc()
            answer = _pickled(error)
        sys.stdout.flush()
        sys.stderr.flush()
        with open(write, "wb") as answers:
            answers.write(answer)
    finally:
        os._exit(status)


def _pickled(error: BaseException) -> bytes:
    """An exception that may not pickle, or not load again, as one that does."""
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer
