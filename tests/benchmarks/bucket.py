"""Building and streaming from a bucket against the disk.

Without ``--bucket`` the server is moto's, on loopback: a Python process that has one of the machine's cores to itself
while it answers, and copies the whole object for each range of it that is asked for. So its own share is told too: what
plain puts of the same bytes take. ``--bucket s3://NAME`` measures a server that runs already, with the credentials and
the endpoint of the environment; what is written goes below ``gfield-benchmark/`` and is removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import HERE, Figure, Line, interleave, ratios, run_script, tell
from plan import Plan, build_by_command

from gfield.object_path import location
from gfield.objects import listing, put, remove, side_by_side

sys.path.insert(0, str(HERE.parents[1]))
from tests.object_server import make_bucket, settings, start_server

EPOCHS = 2


@contextmanager
def server(given: str) -> Iterator[str]:
    """The URL to write below: of the bucket that is given, or of a new server, whose environment is ours meanwhile."""
    if given:
        url = f"{given.rstrip('/')}/gfield-benchmark"
        emptied(url)
        try:
            yield url
        finally:
            emptied(url)
        return
    process, port = start_server()
    before = dict(os.environ)
    os.environ.update(settings(port))
    try:
        yield f"s3://{make_bucket(port)}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.kill()
        process.wait()


def bucket_figure(plan: Plan) -> Figure:
    """Measure."""
    mat, rounds = plan.mat(plan.frames), min(3, plan.rounds)
    levels = ("--level", "640x480", "--level", "320x240")
    with server(plan.bucket) as url:
        tell("putting the input")
        put(location(f"{url}/raw/{mat.name}"), mat)

        def to_bucket(source: Path | str) -> float:
            emptied(f"{url}/store.zarr")
            return build_by_command(source, f"{url}/store.zarr", *levels)  # type: ignore[arg-type]

        def bare() -> float:
            store = plan.folder / "store.zarr"
            emptied(f"{url}/bare")
            files = [path for path in store.rglob("*") if path.is_file()]
            started = time.perf_counter()
            for _ in side_by_side(lambda path: put(location(f"{url}/bare/{path.relative_to(store)}"), path), files):
                pass
            return time.perf_counter() - started

        times = interleave(
            {
                "on the disk": lambda: build_by_command(mat, plan.fresh("store.zarr"), *levels),
                "into the bucket": lambda: to_bucket(mat),
                "from bucket to bucket": lambda: to_bucket(f"{url}/raw/{mat.name}"),
                "bare puts": bare,
            },
            rounds,
        )
        streams = _streams(plan, url, rounds)
    disk, into, both, puts = times.values()
    local, first, kept, ranges = streams.values()
    plan.fresh("store.zarr")
    return Figure(
        f"A bucket of {(plan.bucket and 'the server at hand') or 'moto, on loopback'}, {plan.frames} frames",
        [
            Line("build on the disk", "s", disk),
            Line("build into the bucket", "s", into),
            Line("build from bucket to bucket", "s", both),
            Line("plain puts of the same files, computing nothing", "s", puts),
            Line("into the bucket / on the disk", "x", ratios(into, disk), ("<=", 1.4)),
            Line("into the bucket / on the disk and the plain puts", "x",
                 ratios(into, [a + b for a, b in zip(disk, puts, strict=True)])),
            Line("stream from the disk", "pairs/s", local),
            Line("stream from the bucket, shards kept (GFIELD_CACHE)", "pairs/s", kept),
            Line("the same, its first epoch, which fetches them", "pairs/s", first),
            Line("stream from the bucket by ranges, nothing kept", "pairs/s", ranges),
            Line("disk / bucket with shards kept", "x", ratios(local, kept), ("<=", 2.0)),
            Line("disk / bucket, first epoch", "x", ratios(local, first)),
            Line("disk / bucket by ranges", "x", ratios(local, ranges)),
        ],
    )  # fmt: skip


def _streams(plan: Plan, url: str, rounds: int) -> dict[str, list[float]]:
    """Pairs a second of `train.stream.Stream` with no cache of decoded frames."""

    def rate(place: str | Path, what: str, epochs: int = EPOCHS, **environment: str) -> float:
        saved = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            return float(run_script("bucket_io.py", str(place), str(epochs))[what])
        finally:
            for name, value in saved.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    cache = plan.folder / "shards"

    def first_epoch() -> float:
        subprocess.run(["rm", "-rf", str(cache)], check=True)
        return rate(f"{url}/store.zarr", "first", 0, GFIELD_CACHE=str(cache))

    return interleave(
        {
            "stream, disk": lambda: rate(plan.folder / "store.zarr", "later"),
            "stream, bucket, first epoch": first_epoch,
            "stream, bucket, kept": lambda: rate(f"{url}/store.zarr", "later", GFIELD_CACHE=str(cache)),
            "stream, bucket, ranges": lambda: rate(f"{url}/store.zarr", "first", 0),
        },
        rounds,
    )


def emptied(url: str) -> None:
    """Remove what is below a prefix."""
    place = location(url)
    remove([place / path for path in listing(place)])
