"""What a worker of a cluster runs: a build's task, unpacked once, if this process is fit for it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from gfield.cluster.worker_check import Wanted, refuse_unfit

J = TypeVar("J")


def pack(task: Callable[[J, Any], Any], job: J, wanted: Wanted | None) -> bytes:
    """What all tasks of a build share, for `run_packed`.

    Compressed, as a source has the names of all its frames, and Dask warns its user of tasks that are large.
    """
    from distributed.protocol.pickle import dumps

    return zlib.compress(dumps((task, job, wanted)), 1)


def run_packed(item: Any, packed: bytes) -> Any:
    """Run ``task(job, item)``.

    Raises
    ------
    UnfitWorker
        If this process has, or sees, something else than is wanted.
    """
    task, job, wanted = _unpacked(packed)
    if wanted is None:
        return task(job, item)
    refuse_unfit(wanted)
    with wanted.begun(item):
        return task(job, item)


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Any:
    """Once a worker and build: it has the same bytes in its memory as long as it is given tasks."""
    from distributed.protocol.pickle import loads

    return loads(zlib.decompress(packed))
