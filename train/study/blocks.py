"""Results as tables see them: those of one layout, store and protocol, by network, row, labels and seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from train.errors import TrainError
from train.labels import parse_labels
from train.protocols import MAKE3D_RANGE_M
from train.study.results import LARGEST, TABLES, Header, Result
from train.study.statistics import Estimate, estimate

_LISTS = ("methods", "networks", "labels", "seeds", "stores", "protocols")
T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """What is planned and what is there of one table on one store by one protocol.

    Attributes
    ----------
    table, store, protocol
        Which.
    networks, rows, labels, seeds
        What is planned, in the study's order; labels from few to many.
    results
        Those that are there.
    """

    table: str
    store: str
    protocol: str
    networks: tuple[str, ...]
    rows: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    results: tuple[Result, ...]

    def of(self, network: str, row: str, labels: str) -> list[Result]:
        """The results of one entry of a table, one a seed."""
        return [r for r in self.results if (r.network, r.row, r.labels) == (network, row, labels)]

    def scores(self, network: str, row: str, labels: str, metric: str) -> dict[int, float]:
        """Finite values of a metric by seed; ``"rms_normalised"`` is ``rms`` as a share of `MAKE3D_RANGE_M`."""
        values = {r.seed: _value(r, metric) for r in self.of(network, row, labels)}
        return {seed: value for seed, value in values.items() if math.isfinite(value)}

    def mean(self, network: str, row: str, labels: str, metric: str) -> Estimate | None:
        """Their mean over seeds; None where nothing is there."""
        return estimate(list(self.scores(network, row, labels, metric).values()))

    def encoder(self, network: str) -> str:
        """Encoder of a network, or ``""`` as long as nothing of it is there."""
        return next((r.encoder for r in self.results if r.network == network), "")

    def method(self, row: str) -> str:
        """What the encoders of a row start from."""
        return next((r.method for r in self.results if r.row == row), row)

    def row_of(self, method: str) -> str | None:
        """The row of a method: the one of its name, or the first that uses it."""
        if method in self.rows:
            return method
        return next((row for row in self.rows if self.method(row) == method), None)

    @property
    def shares_pretrainings(self) -> bool:
        """Whether seeds of one row start from one and the same pre-trained encoder."""
        runs = {(r.row, r.network, r.seed, r.pretraining["run"]) for r in self.results if r.pretraining is not None}
        return len({(row, network, run) for row, network, _, run in runs}) < len(
            {(row, network, seed) for row, network, seed, _ in runs}
        )

    def amounts(self, network: str) -> dict[str, float]:
        """How many labels: shares where all are shares, else the frames of what is there; by the labels' text."""
        shares = {labels: share for labels in self.labels if (share := share_of(labels)) is not None}
        if len(shares) == len(self.labels):
            return shares
        return {r.labels: float(r.labelled_frames) for r in self.results if r.network == network}

    def extent(self) -> str:
        """Images scored, and whether figures may be set beside published ones; for people."""
        counts = sorted({r.images for r in self.results})
        if not counts:
            return "nothing scored yet"
        images = counted(counts[0], "image") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} images"
        official = all(r.official for r in self.results)
        told = f"{images}, the official test split" if official else f"{images}; not comparable with published numbers"
        versions = sorted({r.protocol_version for r in self.results})
        if len(versions) > 1:
            told += f"; the protocol's versions {', '.join(map(str, versions))} are mixed, which is no comparison"
        return told


def blocks_of(header: Header, results: Sequence[Result], source: object) -> list[Block]:
    """All blocks of a study, in the order of its grids.

    Parameters
    ----------
    header, results
        What was planned, and what is there.
    source
        What an error calls them.

    Raises
    ------
    TrainError
        If a grid of the header or a result lacks something, or names a table or labels that are unknown.
    """
    for grid in header.grids:
        _check_grid(grid, source)
    for result in results:
        _check_result(result, source)
    places = Counter(map(_place, results))
    for place, count in places.items():
        if count > 1:
            raise TrainError(f"{source}: {count} results of {', '.join(map(str, place))}, wanted one")
    keys = _unique((g["table"], s, p) for g in header.grids for s in g["stores"] for p in g["protocols"])
    return [_block(header, results, *key) for key in keys]


def share_of(labels: str) -> float | None:
    """Share of all frames, or None for a number of frames."""
    parsed = parse_labels(labels)
    return parsed if isinstance(parsed, float) else None


def labels_text(labels: str) -> str:
    """For people: ``"1 %"`` or ``"24 frames"``."""
    share = share_of(labels)
    return counted(int(labels), "frame") if share is None else f"{share * 100:.6g} %"


def amount_text(labels: str) -> str:
    """For people, as a part of a sentence: ``"1 % of the labels"`` or ``"24 labelled frames"``."""
    share = share_of(labels)
    return counted(int(labels), "labelled frame") if share is None else f"{labels_text(labels)} of the labels"


def counted(count: int, what: str) -> str:
    """A number and its noun, which takes an s unless there is one."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _block(header: Header, results: Sequence[Result], table: str, store: str, protocol: str) -> Block:
    grids = [g for g in header.grids if g["table"] == table and store in g["stores"] and protocol in g["protocols"]]
    mine = (r for r in results if (r.store, r.protocol) == (store, protocol))

    def planned(name: str) -> list[Any]:
        return _unique(chain.from_iterable(grid[name] for grid in grids))

    labels = planned("labels")
    # Shares and numbers of frames have no common order; together they stay in the study's.
    if len({type(parse_labels(text)) for text in labels}) == 1:
        labels.sort(key=parse_labels)
    return Block(
        table=table,
        store=store,
        protocol=protocol,
        networks=tuple(planned("networks")),
        rows=tuple(planned("methods")),
        labels=tuple(labels),
        seeds=tuple(planned("seeds")),
        results=tuple(r for r in mine if any(_holds(grid, r) for grid in grids)),
    )


def _holds(grid: dict[str, Any], r: Result) -> bool:
    return all(value in grid[name] for name, value in zip(_LISTS, _place(r), strict=True))


def _place(r: Result) -> tuple[str, str, str, int, str, str]:
    return r.row, r.network, r.labels, r.seed, r.store, r.protocol


def _check_grid(grid: Any, source: object) -> None:
    if not isinstance(grid, dict) or grid.get("table") not in TABLES:
        raise TrainError(f"{source}: a grid of the header is {grid!r:.80}, wanted one of table {', '.join(TABLES)}")
    for name in _LISTS:
        kind = int if name == "seeds" else str
        values = grid.get(name)
        if not isinstance(values, list) or not values or not all(isinstance(value, kind) for value in values):
            wanted = "numbers" if kind is int else "names"
            raise TrainError(f"{source}: {name} of a grid is {values!r:.80}, wanted a list of {wanted}")
    try:
        for labels in grid["labels"]:
            parse_labels(labels)
    except TrainError as error:
        raise TrainError(f"{source}: a grid's {error}") from error


def _check_result(result: Result, source: object) -> None:
    told: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {"seconds": (result.seconds, ("finetune", "evaluate"))}
    if result.pretraining is not None:
        told["pretraining"] = (result.pretraining, ("run", "steps", "loss", "seconds"))
    for name, (values, keys) in told.items():
        for key in keys:
            if not (isinstance(values.get(key), str) if key == "run" else _is_number(values.get(key))):
                raise TrainError(f"{source}: {key} of {name} of cell {result.cell} is {values.get(key)!r:.80}")
    accuracy = (result.pretraining or {}).get("accuracy")
    if accuracy is not None and not _is_number(accuracy):
        raise TrainError(f"{source}: accuracy of pretraining of cell {result.cell} is {accuracy!r:.80}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _value(result: Result, metric: str) -> float:
    if metric == "rms_normalised":
        return result.metrics.get("rms", math.nan) / MAKE3D_RANGE_M
    return result.metrics.get(metric, math.nan)


def _unique(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
