"""What goes wrong with a cluster, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from gfield.errors import UserError


class ClusterError(UserError):
    """There is no cluster at the address, or it cannot run the tasks."""


class UnfitWorker(ClusterError):
    """A worker has other versions than the client, or does not see its files; the message names both."""


@contextmanager
def ended_schedulers_told(*signs: type[Exception]) -> Iterator[None]:
    """Say in a line that the scheduler has ended, wherever in the block that shows.

    Parameters
    ----------
    signs
        What shows it besides Dask's own errors.

    Raises
    ------
    ClusterError
        In place of what Dask raises then.
    """
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError

    try:
        yield
    except (CancelledError, ClosedClientError, CommClosedError, *signs) as error:
        raise ClusterError(
            "the Dask scheduler has ended, or cancelled the tasks; what is done is kept, run the same command to go on"
        ) from error
