"""Parse foreign files in processes that may crash: a bad file then costs itself, and not the build.

Libraries in C decode JPEG, PNG and HDF5, and a crafted or damaged file may crash them or have them ask for all memory.
So they are called in `gfield.confined`, one process for each thread that needs one at the same time, which lives on for
the next call: a call costs a tenth of a millisecond, the first one what it takes to start Python and load the library.
Requests and answers are lines of JSON through pipes, pictures lie in memory that both processes see. Nothing that comes
back is executed, unpickled or taken for larger than it is.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

# NumPy is imported in functions, and with it InputError: `start` is to be early, and it takes as long as the process.
if TYPE_CHECKING:
    import numpy.typing as npt

SECONDS = 10
SHARED_BYTES = 1 << 30
_LINE_BYTES = 1 << 28
_MAPPED_STEP = 1 << 24
_PLAIN = "biuf"
# Signals that a file earns its parser. Of others, such as the kernel's when memory is short, it is not guilty.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}


class Answer(NamedTuple):
    """What a call gave: plain values as JSON has them, and arrays, which are the caller's own."""

    value: Any
    arrays: list[npt.NDArray[Any]]


class _Died(Exception):
    """The process ended in the middle of a call; its exit status, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def call(name: str, what: str, arguments: Mapping[str, Any], data: bytes = b"") -> Answer:
    """Call a function of `gfield.confined.CALLS`.

    Parameters
    ----------
    name
        Of the function.
    what
        The file, or member of an archive, as errors name it.
    arguments
        Values that JSON has.
    data
        Bytes that the function is to parse, at most `SHARED_BYTES` with what it makes of them.

    Raises
    ------
    InputError
        The function refuses the file, takes over `SECONDS` of processor time or over a gibibyte of memory for it, or
        crashes on it, twice.
    OSError
        The process cannot be started, or somebody kills it, twice.
    """
    from gfield.errors import InputError

    try:
        answer = _called(name, what, arguments, data)
    except _Died as first:
        if first.status == -signal.SIGXCPU:
            raise _explained(first.status, what) from first
        # Perhaps of what an earlier file has done to it, or of want of memory: a new one is asked again.
        try:
            answer = _called(name, what, arguments, data, new=True)
        except _Died as died:
            raise _explained(died.status, what) from died
    if isinstance(answer, str):
        raise InputError(answer)
    return answer


def start(*modules: str) -> None:
    """Start a process beside what the caller does next, and have it load these modules of `gfield.confined`."""
    if not _idle:
        _idle.append(_Process(modules))


def _explained(status: int, what: str) -> Exception:
    from gfield.errors import InputError

    if status == -signal.SIGXCPU:
        return InputError(f"{what}: takes more than {SECONDS} s to parse; a file that is parsed at once wanted")
    if -status in _FAULTS:
        return InputError(f"{what}: crashes its parser ({signal.Signals(-status).name}); an undamaged file wanted")
    how = signal.Signals(-status).name if status < 0 else f"status {status}; `python -m gfield.confined` says why"
    return OSError(errno.EIO, f"the process that parses it ended by {how}", what)


_idle: list[_Process] = []


def _called(name: str, what: str, arguments: Mapping[str, Any], data: bytes, *, new: bool = False) -> Answer | str:
    """What a process answers, or why it refuses the file; a process with which nothing goes wrong is kept."""
    try:
        process = _Process() if new else _taken()
    except OSError as error:
        raise OSError(error.errno, f"no process to parse it: {error.strerror or error}", what) from error
    try:
        answer = process.call(name, what, arguments, data)
    except BaseException:
        process.end()
        raise
    _idle.append(process)
    return answer


def _taken() -> _Process:
    while _idle:
        process = _idle.pop()
        if process.access == _access():
            return process
        process.end()
    return _Process()


def _access() -> dict[str, str]:
    """What of the environment opens buckets: a process that was started with another one is of no use."""
    return {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "SSL_"))}


class _Process:
    """One process of `gfield.confined`, and the memory that is shared with it."""

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self._memory = _shared_memory()
        self._size = os.fstat(self._memory).st_size
        self._mapped = mmap.mmap(self._memory, min(self._size, _MAPPED_STEP))
        # One thread each, since a build has its own; and the places that this process imports from.
        path = os.pathsep.join(part or "." for part in sys.path)
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TOKIO_WORKER_THREADS"), "1")
        environment = os.environ | threads | {"PYTHONPATH": path}
        self.access = _access()
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "gfield.confined", str(self._memory), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._memory,),
            env=environment,
            process_group=0,  # so that a terminal's Ctrl-C is this process's business
        )

    def call(self, name: str, what: str, arguments: Mapping[str, Any], data: bytes) -> Answer | str:
        """What the process answers, or why it refuses the file; `_Died` where it ends instead."""
        if len(data) > self._size:
            return f"{what}: {len(data)} bytes; at most {self._size} wanted"
        self._map(len(data))
        self._mapped[: len(data)] = data
        request = {
            "call": name, "what": what, "arguments": arguments, "bytes": len(data), "seconds": SECONDS,
            "folder": _working_folder(),
        }  # fmt: skip
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline(_LINE_BYTES)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise _Died(self.end())
        try:
            return self._answer(json.loads(line), what)
        except (ValueError, KeyError, TypeError) as error:  # whatever it is, it is none of our answers
            raise _Died(self.end()) from error

    def _answer(self, answer: Any, what: str) -> Answer | str:
        if "refused" in answer:
            return str(answer["refused"])
        if "failed" in answer:
            raise RuntimeError(f"{what}: {answer['failed']}")
        return Answer(answer["value"], [self._array(*entry) for entry in answer["arrays"]])

    def _array(self, kind: str, shape: list[int], offset: int) -> npt.NDArray[Any]:
        """A copy: what is shared may change."""
        import numpy as np

        dtype = np.dtype(kind)
        count = prod(shape)
        if dtype.kind not in _PLAIN or min([0, offset, *shape]) < 0 or offset + count * dtype.itemsize > self._size:
            raise ValueError(f"an array of {kind} {shape} at byte {offset}")
        self._map(offset + count * dtype.itemsize)
        return np.frombuffer(self._mapped, dtype, count, offset).reshape(shape).copy()

    def _map(self, length: int) -> None:
        if length > len(self._mapped):
            self._mapped.close()
            self._mapped = mmap.mmap(self._memory, min(self._size, -(-length // _MAPPED_STEP) * _MAPPED_STEP))

    def end(self) -> int:
        """End the process, if it has not ended; its exit status."""
        self.let_go()
        self._child.kill()
        return self._child.wait()

    def let_go(self) -> None:
        """Close what is shared with the process, which thereupon ends by itself."""
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        with suppress(OSError):
            os.close(self._memory)

    def disown(self) -> None:
        """Forget the process in a fork of the one that started it."""
        self.let_go()
        self._child.returncode = 0


def _working_folder() -> str | None:
    """Where relative paths of this process begin by now, which may be elsewhere than when the other one started."""
    try:
        return os.getcwd()
    except OSError:
        return None  # it has been removed, and no relative path leads anywhere


def _shared_memory() -> int:
    """A file in memory that nobody can make shorter under our eyes, where the system has such; its descriptor."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)  # which counts for files in memory too
    size = SHARED_BYTES if limit == resource.RLIM_INFINITY else min(SHARED_BYTES, limit)
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            os.truncate(file.fileno(), size)
            return os.dup(file.fileno())
    memory = os.memfd_create("gfield", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(memory, size)  # pages are there once they are written
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return memory


def _each_idle(act: Callable[[_Process], object]) -> None:
    while _idle:
        act(_idle.pop())


atexit.register(_each_idle, _Process.end)
os.register_at_fork(after_in_child=lambda: _each_idle(_Process.disown))
