"""Where a build's tasks run: on threads of this process by default, or on one of the clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Where:
    """What `gfield.build.build_store` was told of the place.

    Attributes
    ----------
    workers
        Local processes, or, with ``cluster``, jobs to ask for.
    scheduler
        Address of a Dask cluster that exists.
    cluster
        ``"slurm"``: jobs of SLURM.
    report
        HTML file for Dask's performance report.
    """

    workers: int | None = None
    scheduler: str | None = None
    cluster: Literal["slurm"] | None = None
    report: Path | None = None

    @property
    def in_process(self) -> bool:
        """Whether threads of this process do the work."""
        return self.workers is None and self.scheduler is None and self.cluster is None


@contextmanager
def open_cluster(where: Where, on_note: Callable[[str], None]) -> Iterator[Any]:
    """A ``distributed.Client`` of the cluster, whose block the report is about.

    Raises
    ------
    ClusterError
        If it cannot be reached or started.
    """
    from gfield.cluster.errors import ended_schedulers_told
    from gfield.cluster.opening import existing_cluster, local_cluster, reported, tell_dashboard
    from gfield.cluster.slurm import slurm_cluster

    if where.scheduler is not None:
        opened = existing_cluster(where.scheduler)
    elif where.cluster is not None:
        opened = slurm_cluster(where.workers or 1, on_note)
    else:
        opened = local_cluster(where.workers or 1)
    with opened as client, ended_schedulers_told():
        tell_dashboard(client, on_note)
        with reported(client, where.report, on_note):
            yield client
