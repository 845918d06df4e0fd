"""Checksums, chunks and copies by compiled code, where a C compiler was there and the processor is one that it knows.

`gfield._chunks` (``native/chunks.c``) does without Python's lock, and in a half to a quarter of the time, what
google-crc32c, Blosc and NumPy define: it checks and decodes raw chunks and LZ4's. Whatever it does not know, or finds
damaged, it leaves to them, and without it they do everything.
"""

from __future__ import annotations

import threading
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

try:
    from gfield import _chunks
except ImportError:  # no compiler, another processor, or a checkout that was never installed
    COMPILED = False
else:
    COMPILED = True

# Twice Blosc's largest block at the levels of our codecs.
_BLOCK_BYTES = 1 << 20
# Frames that are written in one go, and are more than this, are not in the fastest caches when they are read.
_CACHES_BYTES = 1 << 20


class _Work(threading.local):
    """A thread's memory for one block whose bits are still shuffled."""

    def __init__(self) -> None:
        self.bytes = np.empty(_BLOCK_BYTES, np.uint8)


_work = _Work()


def crc32c(data: bytes | npt.NDArray[np.uint8]) -> int:
    """CRC-32C of contiguous bytes."""
    if COMPILED:
        return _chunks.crc32c(data)
    return int(google_crc32c.value(data))


def past_caches(out_N: npt.NDArray[np.generic]) -> bool:
    """Whether frames are so many that what is written to them had better go past the processor's caches."""
    return len(out_N) > 1 and out_N.nbytes >= _CACHES_BYTES


def try_decode(
    stored: npt.NDArray[np.uint8], out: npt.NDArray[np.generic], *, compressed: bool, past_caches: bool
) -> bool:
    """Check and decode a stored chunk, if it is whole and of a kind that is known here.

    Parameters
    ----------
    stored
        The chunk with its checksum behind it.
    out
        C-contiguous array of the chunk's size.
    compressed
        Whether the values are compressed by Blosc, or lie there as they are.
    past_caches
        Whether ``out`` is written past the processor's caches.

    Returns
    -------
    bool
        False where the chunk was not decoded; what ``out`` then holds says nothing.

    Raises
    ------
    OSError
        If the stored bytes cannot be had, since their file has been cut short, or its disk fails.
    """
    return COMPILED and _chunks.decode(stored, out, _work.bytes, compressed, past_caches)


def fetch(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Stored bytes for the libraries to read.

    They are copied out of the mapped file, since code that is not ours would end the process by SIGBUS where the file
    has been cut short, or its disk fails. Where nothing is compiled they are as they were.

    Raises
    ------
    OSError
        If they cannot be had.
    """
    if not COMPILED:
        return stored
    fetched = np.empty_like(stored)
    _chunks.fetch(stored, fetched)
    return fetched


def take_frames(
    frames_L: npt.NDArray[np.generic], places_N: npt.NDArray[np.integer[Any]], out_N: npt.NDArray[np.generic]
) -> None:
    """Set ``out_N`` to ``frames_L[places_N]``, without Python's lock.

    Parameters
    ----------
    frames_L, out_N
        C-contiguous arrays of frames of the same shape and type, L and N of them.
    places_N
        Which frames, 0 to L - 1.
    """
    if COMPILED and places_N.dtype == np.int64 and past_caches(out_N):
        _chunks.take(frames_L, np.ascontiguousarray(places_N), out_N, frames_L[:1].nbytes)
    else:
        # Any other mode than "raise" lets NumPy write to `out` itself instead of to a copy of it.
        np.take(frames_L, places_N, axis=0, out=out_N, mode="clip")
