"""Files that are written once, from front to back, in large blocks past the system's file cache.

A build writes more than it reads, and reads none of it again. Through the file cache every page of it is found,
copied to, and written to the disk at some later time, which costs more than compressing it did; past the cache the
disk takes it from our own buffer, and the closing fsync has nothing left to wait for. Where a file system cannot do
that (tmpfs, some network ones), the same blocks go through the cache. A block is written while the next one is filled.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

BLOCK_BYTES = 1 << 20
_ALIGNMENT = 4096  # of addresses, offsets and lengths past the cache, for every disk that is common
_DIRECT = getattr(os, "O_DIRECT", 0)
_WRITERS = 8  # threads that wait for the disk, of a whole process


class BlockFile:
    """A new file, appended to; complete, and on the disk, once `finish` returns.

    Parameters
    ----------
    path
        Name of the file, which must not exist.
    durable
        Whether it is to outlive this process. Else it goes through the cache, since it will be read soon, and need
        never reach the disk.

    Raises
    ------
    OSError
        If it cannot be created; from `append` and `finish`, if something of what was appended cannot be written.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._durable = durable
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags | (_DIRECT if durable else 0), 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Some file systems create the file before they refuse the flag.
            path.unlink(missing_ok=True)
            self._file = os.open(path, flags, 0o666)
        self.size = 0
        self._filled = 0
        self._block, self._other_block = _aligned_block(), _aligned_block()
        self._writing: Future[None] | None = None

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end."""
        data = memoryview(data).cast("B")
        self.size += len(data)
        while len(data):
            taken = min(len(data), BLOCK_BYTES - self._filled)
            self._block[self._filled : self._filled + taken] = data[:taken]
            self._filled += taken
            data = data[taken:]
            if self._filled == BLOCK_BYTES:
                self._await_writing()
                self._writing = _writers(os.getpid()).submit(self._write, self._block)
                self._block, self._other_block, self._filled = self._other_block, self._block, 0

    def settle(self) -> None:
        """Let the file have all that was appended until now, as it is if this process dies; appending goes on."""
        self._await_writing()
        if self._filled:
            # Written again when the block is full.
            place = os.lseek(self._file, 0, os.SEEK_CUR)
            self._write(self._padded())
            os.lseek(self._file, place, os.SEEK_SET)

    def finish(self) -> None:
        """Write what is left, force everything to the disk if it is durable, and close."""
        self._await_writing()
        if self._filled:
            self._write(self._padded())
            os.ftruncate(self._file, self.size)
        if self._durable:
            os.fsync(self._file)
        self.close()

    def close(self) -> None:
        """Close the file as it is; harmless to repeat."""
        if self._file < 0:
            return
        # Waited for, since the number of a closed file may soon be another file's. What went wrong has been told, or is
        # of no interest to whoever gives the file up.
        with contextlib.suppress(OSError):
            self._await_writing()
        os.close(self._file)
        self._file = -1

    def _padded(self) -> memoryview:
        """What there is of a block, and zeros: whole pages only may go past the cache. The file is cut in the end."""
        padded = -(-self._filled // _ALIGNMENT) * _ALIGNMENT
        self._block[self._filled : padded] = bytes(padded - self._filled)
        return self._block[:padded]

    def _await_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, rest: memoryview) -> None:
        while len(rest):
            try:
                rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._go_through_cache():
                    raise

    def _go_through_cache(self) -> bool:
        """Stop writing past the cache; whether that was done until now."""
        import fcntl

        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~_DIRECT)
        return bool(flags & _DIRECT)


def _aligned_block() -> memoryview:
    room = np.empty(BLOCK_BYTES + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room.data[start : start + BLOCK_BYTES]


@functools.cache
def _writers(process: int) -> ThreadPoolExecutor:
    """The threads of a process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
