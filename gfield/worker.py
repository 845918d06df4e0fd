"""Settings of a process that computes frames, the same on a laptop's threads and on a cluster's workers."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

import cv2

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 256 << 20


def available_cpus() -> int:
    """Processors that this process may use; fewer than the machine has in a container or a job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def settle_worker() -> None:
    """Make this process fit to run tasks side by side; harmless to repeat.

    OpenCV would start a thread a core inside every task: tasks are what runs side by side here, so it gets one.
    It ignores OMP_NUM_THREADS, and a cluster's worker is not ours to start, so it is done here.

    Dask's worker processes return every freed megabyte to the system at once (MALLOC_TRIM_THRESHOLD_ 65536),
    and get it back page by page: 2,300 page faults and 9 ms a frame, most of the work itself. A build's memory
    is flat, so it is kept instead.
    """
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; musl has none
        if mallopt is not None:
            mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
            mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
