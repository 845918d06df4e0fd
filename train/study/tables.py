"""The tables of a study in the paper's layouts, each entry beside the paper's own where it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from train.protocols import MAKE3D_RANGE_M
from train.study import paper
from train.study.blocks import Block, amount_text, labels_text, share_of
from train.study.statistics import Estimate

# As the paper heads its columns; the arrow says where better lies.
METRIC_HEADS: Mapping[str, str] = {
    "d1": "δ < 1.25 ↑", "d2": "δ < 1.25² ↑", "d3": "δ < 1.25³ ↑", "abs_rel": "rel ↓", "sq_rel": "sq rel, m ↓",
    "rms": "rms, m ↓", "rms_log": "rms log ↓", "log10": "log10 ↓", "silog": "silog ↓", "rms_normalised": "rms / 80 m ↓",
}  # fmt: skip
TITLES = {
    "methods": "Ways to start the encoder",
    "labels": "Few labels",
    "make3d": "Another data set: Make3D",
    "defects": "What is wrong in the released code, and what it costs",
}
HERE, PAPER = "here", "paper"
NONE = "\N{EN DASH}"
ONE_PRETRAINING = (
    "A pre-trained row starts all its seeds from one pre-trained encoder, while random draws first weights anew for "
    "each seed: the interval of a pre-trained row holds nothing of how one pre-training differs from the next."
)
_INTERVAL = "± is half the 95 % interval of the mean over seeds (Student's t); where it is missing there is one seed."
_MISSING = f"{NONE} was not run, or not yet; the paper has no figure there."
_PAPER = f"paper: {paper.CITATION}; no seeds or deviations are given there."
_MAKE3D_METRICS = ("abs_rel", "rms_normalised", "log10", "rms")


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    heads
        What it is of, one text a head of the table.
    source
        `HERE` or `PAPER`.
    figures
        One a column: a mean over seeds, a figure as printed, or None where there is none.
    """

    heads: tuple[str, ...]
    source: str
    figures: tuple[Estimate | float | None, ...]

    def seeds(self) -> str:
        """How many seeds its figures are of: ``"3"``, ``"2-3"``, or nothing."""
        counts = sorted({figure.n for figure in self.figures if isinstance(figure, Estimate)})
        return "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else ""


@dataclass(frozen=True)
class Table:
    """A table, to be printed by `train.study.print_tables`.

    Attributes
    ----------
    layout
        ``"methods"``, ``"labels"`` and so on.
    title, extent
        What it shows, and of how many images on which store by which protocol.
    heads, columns
        Heads of the columns with words and of those with figures, for people.
    keys
        The latter's names for programs: metrics or labels.
    lines, notes
        What it says, and what one has to know to read it.
    """

    layout: str
    title: str
    extent: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def tables_of(block: Block) -> list[Table]:
    """The tables of a block: one a number of labels, or one a network for those of all numbers."""
    if block.table == "labels":
        return [_labels_table(block, network) for network in block.networks]
    layout = _make3d_table if block.table == "make3d" else _methods_table
    return [layout(block, labels) for labels in block.labels]


def _methods_table(block: Block, labels: str) -> Table:
    """Network x start; rows of the paper that are not in the study stand there all the same, without figures."""
    metrics = paper.METHODS_METRICS
    beside = block.table == "methods" and block.protocol in paper.NYU_PROTOCOLS and share_of(labels) == 1
    lines: list[Line] = []
    for network in block.networks:
        printed = paper.METHODS.get(network, {}) if beside else {}
        for row in (*block.rows, *(row for row in printed if row not in block.rows)):
            heads = (_network_text(block, network), row)
            lines.append(Line(heads, HERE, tuple(block.mean(network, row, labels, metric) for metric in metrics)))
            if row in printed:
                lines.append(Line(heads, PAPER, tuple(printed[row].values())))
    notes = [*_how_read(block), _MISSING]
    if beside:
        encoders = ", ".join(f"{network} on {encoder}" for network, encoder in paper.ENCODERS.items())
        notes.append(f"{_PAPER} It has {encoders}; NYU Depth v2, 654 images.")
    return Table(
        block.table,
        f"{TITLES[block.table]}, {amount_text(labels)}",
        _extent(block),
        ("network", "start"),
        tuple(METRIC_HEADS[metric] for metric in metrics),
        metrics,
        tuple(lines),
        tuple(notes),
    )


def _labels_table(block: Block, network: str) -> Table:
    """Metric x start, over shares of the labels."""
    beside = block.protocol in paper.NYU_PROTOCOLS and network == paper.INFERRED_NETWORK
    labels = list(block.labels)
    if beside and all(share_of(text) is not None for text in labels):
        known = {share_of(text) for text in labels}
        labels += [f"{share:.0%}" for share in paper.LABELS_SHARES if share not in known]
        labels.sort(key=lambda text: share_of(text) or 0.0)
    lines: list[Line] = []
    for metric in paper.LABELS_METRICS:
        for row in block.rows:
            heads = (METRIC_HEADS[metric], row)
            lines.append(Line(heads, HERE, tuple(block.mean(network, row, text, metric) for text in labels)))
            printed = paper.LABELS.get(row, {}).get(metric, {}) if beside else {}
            figures = tuple(printed.get(share_of(text) or 0.0) for text in labels)
            if any(figure is not None for figure in figures):
                lines.append(Line(heads, PAPER, figures))
    notes = [*_how_read(block), "The same seed is the same labelled frames in every row.", _MISSING]
    if beside:
        notes.append(f"{_PAPER} Its network here is not told, {network} is inferred; 100 % is from its other table.")
    return Table(
        "labels",
        f"{TITLES['labels']}: {_network_text(block, network)}",
        _extent(block),
        ("metric", "start"),
        tuple(map(labels_text, labels)),
        tuple(labels),
        tuple(lines),
        tuple(notes),
    )


def _make3d_table(block: Block, labels: str) -> Table:
    """Start and data of the pre-training; rms both as a share of 80 m, for the paper's, and in metres."""
    lines: list[Line] = []
    for network in block.networks:
        printed = dict(paper.MAKE3D) if network == paper.INFERRED_NETWORK and share_of(labels) == 1 else {}
        for row in block.rows:
            there = block.of(network, row, labels)
            on = there[0].pretrained_on if there else []
            heads = (_network_text(block, network), row, " → ".join(on) or NONE)
            lines.append(Line(heads, HERE, tuple(block.mean(network, row, labels, m) for m in _MAKE3D_METRICS)))
            key = paper.make3d_data(block.method(row), on, block.store) if there else None
            if key in printed:
                lines.append(_printed_make3d(heads, printed.pop(key)))
        for (method, data), figures in printed.items():
            lines.append(
                _printed_make3d((_network_text(block, network), method, data.replace("->", " → ") or NONE), figures)
            )
    range_m = f"{MAKE3D_RANGE_M:g} m"
    notes = (
        *_how_read(block),
        _MISSING,
        f"{_PAPER} N is NYU Depth v2, M is Make3D, N → M one after the other; which network is not told.",
        f"The paper's rms is normalised, it does not say how. Ours is divided by {range_m}, the end of the laser's "
        "range: that makes its .190 into 15.2 m, which is plausible, and no more than that.",
    )
    return Table(
        "make3d",
        f"{TITLES['make3d']}, {amount_text(labels)}",
        _extent(block),
        ("network", "start", "pre-trained on"),
        tuple(METRIC_HEADS[metric] for metric in _MAKE3D_METRICS),
        _MAKE3D_METRICS,
        tuple(lines),
        notes,
    )


def _how_read(block: Block) -> list[str]:
    return [_INTERVAL, *([ONE_PRETRAINING] if block.shares_pretrainings else [])]


def _printed_make3d(heads: tuple[str, ...], figures: Mapping[str, float]) -> Line:
    return Line(heads, PAPER, tuple(figures.get(metric) for metric in _MAKE3D_METRICS))


def _network_text(block: Block, network: str) -> str:
    return ", ".join(filter(None, (network, block.encoder(network))))


def _extent(block: Block) -> str:
    return f"store {block.store}, protocol {block.protocol}, {block.extent()}"


def merged(lines: Sequence[Line]) -> Iterator[tuple[tuple[str, ...], Line]]:
    """Lines with the heads to print: what repeats the line above is left empty."""
    above: tuple[str, ...] = ()
    for line in lines:
        same = 0
        while same < len(above) and above[same] == line.heads[same]:
            same += 1
        yield ("",) * same + line.heads[same:], line
        above = line.heads
