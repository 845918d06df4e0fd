"""The label-efficiency curves of a study: a metric over the number of labels, a line a row."""

from __future__ import annotations

from train.study import paper
from train.study.blocks import Block, labels_text
from train.study.findings import BASELINE, HIGHER_IS_BETTER, METRIC_NAMES, OURS, in_shares
from train.study.plot import Series, colours_of, curve_svg
from train.study.tables import METRIC_HEADS


def label_curve(block: Block, network: str, metric: str = "d1", *, width: int = 720) -> str:
    """Draw the curves of a network as SVG; ``""`` where nothing has been scored.

    Parameters
    ----------
    block
        Of a table of labels.
    network, metric
        Which.
    width
        Of the drawing, in pixels.
    """
    amounts = block.amounts(network)
    colours = colours_of(block.rows, block.row_of(BASELINE), block.row_of(OURS))
    series = []
    for row in block.rows:
        means = [(amounts[text], block.mean(network, row, text, metric)) for text in block.labels if text in amounts]
        points = sorted((amount, mean) for amount, mean in means if mean is not None)
        series.append(Series(row, colours[row], points, _printed(block, network, row, metric)))
    # The paper's method is drawn last, above the others.
    series.sort(key=lambda one: (one.name == block.row_of(OURS), one.name != block.row_of(BASELINE)))
    if not any(one.points for one in series):
        return ""
    ticks = [(amounts[text], labels_text(text).removesuffix(" frames")) for text in block.labels if text in amounts]
    better = "higher" if metric in HIGHER_IS_BETTER else "lower"
    return curve_svg(
        series,
        ticks,
        title=f"{METRIC_NAMES[metric]} of {network} over labels, store {block.store}, protocol {block.protocol}",
        metric=f"{METRIC_HEADS[metric].rstrip(' ↑↓')} ({better} is better)",
        axis="labelled training frames" + (", share of all" if in_shares(block) else ""),
        width=width,
    )


def has_printed(block: Block, network: str, metric: str) -> bool:
    """Whether the paper's curve stands in the plot."""
    return any(_printed(block, network, row, metric) for row in block.rows)


def _printed(block: Block, network: str, row: str, metric: str) -> list[tuple[float, float]]:
    """The paper's curve of a row within the study's shares."""
    if block.protocol not in paper.NYU_PROTOCOLS or network != paper.INFERRED_NETWORK or not in_shares(block):
        return []
    shares = block.amounts(network).values()
    figures = paper.LABELS.get(row, {}).get(metric, {})
    printed = [(share, value) for share, value in figures.items() if min(shares) <= share <= max(shares)]
    # One point is no curve.
    return printed if len(printed) > 1 else []
