"""Whether a worker of a cluster is fit for a build: it has the client's versions, and sees the client's files.

All workers are looked at before the first task, and each looks at itself before its own first, since workers may come
at any time. Whatever else goes wrong there, a shard of other versions must not end in the store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from gfield.cluster.errors import UnfitWorker, ended_schedulers_told
from gfield.frame import UserError
from gfield.listing import counted
from gfield.object_path import Location, ObjectPath
from gfield.places import file_size, is_there, remove_file, write_whole
from gfield.software import DECIDING, version_of

# These decide no byte, but Dask promises nothing between versions.
_TOLD = ("python", "dask", "distributed")
_LOOKS = 3


@dataclass(frozen=True)
class Wanted:
    """What a worker must have, see and may write to.

    Attributes
    ----------
    versions
        Packages and their versions.
    inputs
        Files of the input, and their sizes.
    token
        A file or object that is there while the build runs, where tasks write to.
    """

    versions: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[Location, int], ...]
    token: Location

    @contextmanager
    def begun(self, item: Any) -> Iterator[None]:
        """Keep on the disk, while entered, that a task is at work; it stays there if its process dies."""
        path = self._begun(item)
        write_whole(path, b"", durable=False)
        try:
            yield
        finally:
            remove_file(path)

    def forget_begun(self, item: Any) -> bool:
        """Whether a process died at a task, rather than with the task waiting in it; and forget that."""
        path = self._begun(item)
        died = is_there(path)
        remove_file(path)
        return died

    def _begun(self, item: Any) -> Location:
        return self.token.with_name(f"{self.token.name}-{item}")


@contextmanager
def wanted_of(inputs: Sequence[Location], scratch: Location) -> Iterator[Wanted]:
    """What workers must have, of this process and its files. Of many files the first and the last stand for all."""
    token = scratch / f"seen-{uuid4().hex}"
    write_whole(token, b"", durable=False)
    files = dict.fromkeys([inputs[0], inputs[-1]]) if inputs else {}
    try:
        yield Wanted(
            tuple((name, version_of(name)) for name in DECIDING),
            tuple((path.absolute(), file_size(path)) for path in files),
            token.absolute(),
        )
    finally:
        remove_file(token)


def check_cluster(client: Any, wanted: Wanted, on_note: Callable[[str], None]) -> None:
    """Look at all workers of a ``distributed.Client``, and at its scheduler's Dask.

    Raises
    ------
    UnfitWorker
        If one is unfit; names it, and what it has.
    ClusterError
        If the scheduler ends meanwhile.
    """
    check_versions(client, on_note)
    with ended_schedulers_told(OSError):  # no connection
        told = client.run(why_unfit, wanted, on_error="return")
    for address, why in told.items():
        if isinstance(why, str) and why:
            raise UnfitWorker(f"worker {address}: {why}")


def check_versions(client: Any, on_note: Callable[[str], None] = lambda _note: None) -> None:
    """Compare the versions of packages that decide bytes on the workers with those here.

    Dask's own question is asked, which a process answers that has nothing of ours. The scheduler needs nothing.

    Raises
    ------
    UnfitWorker
        If a worker has another version, or none.
    ClusterError
        If the scheduler has ended.
    """
    with ended_schedulers_told(OSError):  # no connection
        told = client.get_versions(check=False, packages=list(DECIDING))
    here: Mapping[str, str | None] = told["client"]["packages"]
    unfit = {
        address: text for address, facts in told["workers"].items() if (text := _differences(here, facts, DECIDING))
    }
    if unfit:
        address, text = next(iter(unfit.items()))
        more = f" (and {counted(len(unfit) - 1, 'worker')} more)" if len(unfit) > 1 else ""
        raise UnfitWorker(
            f"worker {address}{more}: {text}; wanted the same versions, which the store's bytes depend on"
        )
    everyone = {
        "the scheduler": told["scheduler"],
        **{f"worker {name}": facts for name, facts in told["workers"].items()},
    }
    for who, facts in everyone.items():
        if text := _differences(here, facts, _TOLD):
            on_note(f"Warning: {who}: {text}; no byte depends on that, but Dask wants them equal")
            break


def _differences(here: Mapping[str, str | None], facts: Any, packages: Sequence[str]) -> str:
    there = facts.get("packages", {}) if isinstance(facts, dict) else {}
    return _told((name, here.get(name), there.get(name)) for name in packages) if there else ""


def _told(versions: Any) -> str:
    """What differs, of (package, version here, version there); nothing is wanted of what is not here."""
    return ", ".join(
        f"{name} {there} there, {here} here" if there else f"{name} is missing there, {here} here"
        for name, here, there in versions
        if here and here != there
    )


@cache
def why_unfit(wanted: Wanted) -> str:
    """Why this process cannot run tasks of a build; "" if it can."""
    text = _told((name, here, version_of(name)) for name, here in wanted.versions)
    if text:
        return f"{text}; wanted the same versions, which the store's bytes depend on"
    if why := _why_not_written(wanted.token):
        return why
    for path, size in wanted.inputs:
        try:
            seen = file_size(path)
        except OSError as error:
            return f"{path}: {error.strerror}; wanted the input where all workers see it"
        if seen != size:
            return f"{path}: {seen} bytes there, {size} here; wanted the same file"
    return ""


def _why_not_written(token: Location) -> str:
    folder = token.parent
    if isinstance(token, ObjectPath):
        try:
            if is_there(token):
                return ""
        except (OSError, UserError) as error:
            return f"{folder}: {getattr(error, 'strerror', error)}; wanted a bucket that all workers may use"
        return f"does not see {folder}; wanted a bucket that all workers share"
    if not _is_there(token):
        return f"does not see {folder}; wanted a folder that all workers share"
    if not os.access(token.parent, os.W_OK):
        return f"cannot write to {folder}; wanted a folder that all workers may write to"
    return ""


def _is_there(path: Path) -> bool:
    """Whether a file that was just made is seen; network file systems may take a moment."""
    for look in range(_LOOKS):
        if path.exists():
            return True
        if path.parent.is_dir() and look < _LOOKS - 1:
            time.sleep(0.5)
    return False


def refuse_unfit(wanted: Wanted) -> None:
    """Raise `UnfitWorker` if this process, a worker, is unfit."""
    if why := why_unfit(wanted):
        from distributed import get_worker

        raise UnfitWorker(f"worker {get_worker().address}: {why}")
