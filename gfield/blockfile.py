"""Files that are written once, from front to back, in large blocks past the system's file cache.

A build writes more than it reads, and reads none of it again. Through the file cache every page of it is found,
copied to, and written to the disk at some later time, which costs more than compressing it did; past the cache the
disk takes it from our own buffer, and the closing fsync has nothing left to wait for. Where a file system cannot do
that (tmpfs, some network ones), the same blocks go through the cache.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np

BLOCK_BYTES = 1 << 20
_ALIGNMENT = 4096  # of addresses, offsets and lengths past the cache, for every disk that is common
_DIRECT = getattr(os, "O_DIRECT", 0)


class BlockFile:
    """A new file, appended to; complete, and on the disk, once `finish` returns.

    Parameters
    ----------
    path
        Name of the file, which must not exist.

    Raises
    ------
    OSError
        If it cannot be created; from the other methods, if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags | _DIRECT, 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Some file systems create the file before they refuse the flag.
            path.unlink(missing_ok=True)
            self._file = os.open(path, flags, 0o666)
        self.size = 0
        self._filled = 0
        room = np.empty(BLOCK_BYTES + _ALIGNMENT, np.uint8)
        start = -room.ctypes.data % _ALIGNMENT
        self._block = room.data[start : start + BLOCK_BYTES]

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
                self._write(BLOCK_BYTES)
                self._filled = 0

    def finish(self) -> None:
        """Write what is left, force everything to the disk, and close."""
        if self._filled:
            # Whole pages only may go past the cache; the file is cut to its size afterwards.
            padded = -(-self._filled // _ALIGNMENT) * _ALIGNMENT
            self._block[self._filled : padded] = bytes(padded - self._filled)
            self._write(padded)
            os.ftruncate(self._file, self.size)
        os.fsync(self._file)
        self.close()

    def close(self) -> None:
        """Close the file as it is; harmless to repeat."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, length: int) -> None:
        rest = self._block[:length]
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
