"""A bucket whose server and network fail: timeouts, 500 and 503, resets, answers cut short, lists without the last."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfield import object_client
from gfield.build import build_store
from gfield.frame import UserError
from gfield.manifest import read_manifest
from gfield.object_path import location
from gfield.objects import listing, put
from gfield.sources.nyuv2 import open_nyuv2
from gfield.store import Store, open_store
from gfield.verify import verify_store
from tests.object_server import (
    Proxy,
    Request,
    make_bucket,
    objects_below,
    proxy_before,
    put_tree,
    settings,
    start_server,
)
from tests.trees import tree
from tests.trust.campaign import Campaign, Wrong
from tests.trust.inputs import Small, small

_PATIENCE_S = 2


@dataclass(frozen=True)
class _Shared:
    """What the cases share: the small input and its store, all its pictures, and the port of a server."""

    small: Small
    port: int


class _Way(NamedTuple):
    """How things go wrong: of all requests a share, or all from one on; of these kinds."""

    name: str
    faults: tuple[str, ...]
    share: float
    outage: bool = False


_OF_READING = ("flip",)  # what TLS keeps from happening, and what checksums see: of stores, not of inputs
_WAYS = (
    _Way("a few answers of 500 and 503", ("500", "503"), 0.1),
    _Way("half of all answers 500 and 503", ("500", "503"), 0.5),
    _Way("resets", ("reset",), 0.2),
    _Way("answers cut off", ("cut",), 0.2),
    _Way("answers that are too short", ("short",), 0.2),
    _Way("silence", ("stall",), 0.03),
    _Way("lists without the last", ("late list",), 0.5),
    _Way("a bit of all that", ("500", "503", "reset", "cut", "short", "late list"), 0.15),
    _Way("an outage", ("500",), 0, outage=True),
    _Way("an outage", ("reset",), 0, outage=True),
)


def _prepare(folder: Path) -> _Shared:
    made = small(folder)
    process, port = start_server()
    atexit.register(process.kill)
    return _Shared(made, port)


def _case(shared: _Shared, number: int, rng: np.random.Generator, folder: Path) -> str:
    act = _ACTS[number % len(_ACTS)]
    way = _WAYS[int(rng.integers(len(_WAYS)))]
    if act in (_read, _read_by_cache) and rng.random() < 0.2:
        way = _Way("flipped bits", _OF_READING, 0.2)
    tempfile.tempdir = str(folder)
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_before(shared.port))
        os.environ.update(settings(proxy.port), GFIELD_PATIENCE=str(_PATIENCE_S))
        object_client.forget()
        place = _Place(shared.small, f"s3://{make_bucket(shared.port)}", folder)
        act(place, prepare=True)
        first = int(rng.integers(60))
        seen = len(proxy.requests)
        proxy.stall_s = 2 * _PATIENCE_S

        def fault(request: Request) -> str:
            if way.outage:
                return way.faults[0] if len(proxy.requests) - seen > first else ""
            return str(rng.choice(way.faults)) if rng.random() < way.share else ""

        proxy.fault = fault
        what = f"{act.__name__.strip('_').replace('_', ' ')}, {way.name}"
        ended = _ended(what, act, place)
        proxy.fault = Proxy.fault
        object_client.forget()
        if wrong := act(place):
            raise Wrong(f"{what}: afterwards, with nothing in its way: {wrong}")
        place.check(what)
    return f"{way.name}: {ended}"


@dataclass(frozen=True)
class _Place:
    """Where a case happens."""

    small: Small
    bucket: str
    folder: Path

    @property
    def store(self) -> str:
        return f"{self.bucket}/out/nyu.zarr"

    def check(self, what: str) -> None:
        """No temporary file may be left, nor anything beside the store."""
        beside = {path.split("/")[0] for path in listing(location(f"{self.bucket}/out"))} - {"nyu.zarr"}
        left = [path.name for path in self.folder.iterdir() if path.name != "cache"]
        if beside or left:
            raise Wrong(f"{what}: left {sorted(beside)} {left}")
        if (seen := objects_below(self.store)) != (wanted := tree(self.small.store)):
            wrong = [path for path in {*seen, *wanted} if seen.get(path) != wanted.get(path)]
            raise Wrong(f"{what}: the store differs in {wrong[:5]}")


def _ended(what: str, act: Callable[..., str], place: _Place) -> str:
    try:
        wrong = act(place)
    except (OSError, UserError) as error:
        said = str(error)
        if "\n" in said.strip() or place.bucket.removeprefix("s3://") not in said:
            raise Wrong(f"{what}: said {said!r}, one line wanted that names the URL") from error
        return "said so"
    if wrong:
        raise Wrong(f"{what}: {wrong}")
    return "ended well"


def _build(place: _Place, prepare: bool = False) -> str:
    if prepare:
        return ""
    return _of_root(place, build_store(place.small.source, place.store, place.small.spec).root)


def _build_from_the_bucket(place: _Place, prepare: bool = False) -> str:
    if prepare:
        for name in (place.small.mat.name, "splits.mat"):
            put(location(f"{place.bucket}/raw/{name}"), place.small.folder / name)
        return ""
    source = open_nyuv2(f"{place.bucket}/raw/{place.small.mat.name}")
    return _of_root(place, build_store(source, place.store, place.small.spec).root)


def _update(place: _Place, prepare: bool = False) -> str:
    if prepare:
        other = replace(place.small.spec, operator={**place.small.spec.operator, "low": 60})
        build_store(place.small.source, place.store, other)
        return ""
    return _build(place)


def _of_root(place: _Place, root: str) -> str:
    seen = read_manifest(location(place.store)).root
    return "" if root == seen == place.small.root else f"root {root}, in the bucket {seen}, wanted {place.small.root}"


def _read(place: _Place, prepare: bool = False, cache: Path | None = None) -> str:
    if prepare:
        put_tree(place.small.store, place.store)
        return ""
    remote, local = open_store(place.store, cache=cache), open_store(place.small.store)
    for key in local.arrays:
        rows = range(len(local))
        if not np.array_equal(remote.read(key, rows), local.read(key, rows), equal_nan=True):
            return f"{key} is not what was stored"
    return "" if remote.names.tolist() == local.names.tolist() else "other names"


def _read_by_cache(place: _Place, prepare: bool = False) -> str:
    return _read(place, prepare, place.folder / "cache")


def _verify(place: _Place, prepare: bool = False) -> str:
    if prepare:
        return _read(place, prepare=True)
    store: Store = open_store(place.store)
    found = verify_store(store, sample=2).findings
    return f"found {found[0].message}" if found else ""


_ACTS = (_build, _build_from_the_bucket, _update, _read, _read_by_cache, _verify)

CAMPAIGNS = [
    Campaign(
        "buckets",
        "an S3 server on loopback times out, answers 500 or 503, resets, cuts answers short, lists late, goes away",
        "what is read is right, or one line says why not; the next build ends in the same bytes, and nothing is left",
        quick=20,
        soak=500,
        prepare=_prepare,
        case=_case,
        seconds=180,
    )
]
