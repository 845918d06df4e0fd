"""Histograms as SVG inside a page, whose style sheet gives them their colours; positions are pixels, y down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from gfield.pictures import DEPTH_COLOURS, DepthRange, ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 6, 24, 34
_LETTER_W = 6.6
COLOURS = 4

CSS = """
svg.chart{display:block;width:100%;height:auto;max-width:720px;margin-top:.5rem}
svg.small{max-width:22rem}
.chart text{fill:var(--faint);font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.chart .name{font-weight:600}
.chart .axis{stroke:var(--rule)}
.chart .mark{stroke:var(--ink);stroke-dasharray:3 3}
.chart .bar{fill:var(--s0)}
.chart .area{stroke:none;opacity:.14}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round}
.f0{fill:var(--s0)}.f1{fill:var(--s1)}.f2{fill:var(--s2)}.f3{fill:var(--s3)}
.l0{stroke:var(--s0)}.l1{stroke:var(--s1)}.l2{stroke:var(--s2)}.l3{stroke:var(--s3)}
.chart text.f0{fill:var(--s0)}.chart text.f1{fill:var(--s1)}.chart text.f2{fill:var(--s2)}.chart text.f3{fill:var(--s3)}
:root{--s0:#0061a8;--s1:#b84a00;--s2:#00775a;--s3:#8f3f77}
@media screen and (prefers-color-scheme:dark){:root{--s0:#5cb8f2;--s1:#f0a04a;--s2:#35c99c;--s3:#e59ccb}}
"""


def share_histogram(values: Sequence[float], *, told: str, low: float = 0.0, mark: float | None = None) -> str:
    """How many frames have which share, in bars of 1 / 40 of the axis.

    Parameters
    ----------
    values
        Shares, at least one.
    told
        What they are, for those who do not see the chart.
    low
        Where the axis begins, 0 or a multiple of -0.25. From 0 it ends at the first of 0.02, 0.05, 0.1, 0.2, 0.5 and 1
        that none is above, else at 1.
    mark
        Where a dashed line stands.
    """
    high = next((end for end in (0.02, 0.05, 0.1, 0.2, 0.5) if low == 0 and max(values) <= end), 1.0)
    bars = 40
    counts, _ = np.histogram(np.clip(values, low, high), bins=bars, range=(low, high))
    width, height = 340, 180
    plot_W, plot_H = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    most = int(counts.max())
    bar_W = plot_W / bars
    parts = [*_frame(plot_W, plot_H), *_y_axis(plot_H, float(most), f"{most:,}")]
    for place, count in enumerate(counts.tolist()):
        if count:
            bar_H = max(1.5, plot_H * count / most)
            at = f'x="{place * bar_W + 0.5:.1f}" y="{plot_H - bar_H:.1f}" width="{bar_W - 1:.1f}" height="{bar_H:.1f}"'
            ends = [low + (high - low) * (place + end) / bars for end in (0, 1)]
            parts.append(f'<rect class="bar" {at}><title>{ends[0]:.3g} to {ends[1]:.3g}: {count:,}</title></rect>')
    if mark is not None:
        x = plot_W * (mark - low) / (high - low)
        parts.append(f'<path class="mark" d="M{x:.1f} 0V{plot_H}"/>')
    steps = 4 if low == 0 else round((high - low) * 4)
    for share in np.linspace(low, high, steps + 1).tolist():
        text = f"{share * 100:.3g}%" if low == 0 else f"{share:g}"
        parts += _x_tick(plot_W * (share - low) / (high - low), plot_W, plot_H, text)
    parts.append(f'<text x="{-_LEFT}" y="-12">frames</text>')
    return _svg(parts, (width, height), f"{told}: {_spread(values)}", "chart small")


def depth_histogram(
    depths: Mapping[str, npt.NDArray[np.int64]], edges_m: npt.NDArray[np.float64], *, width: int
) -> str:
    """Shares of pixels by depth on a logarithmic axis, a line a split.

    Parameters
    ----------
    depths
        Pixels by bin.
    edges_m
        Ends of the bins, one more than there are.
    width
        Of the drawing.
    """
    height = 250
    plot_W, plot_H = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    whole = sum(depths.values(), np.zeros(len(edges_m) - 1, np.int64))
    first, last = (int(end) for end in np.flatnonzero(whole)[[0, -1]])
    edges_m = edges_m[first : last + 2]
    shares = {split: counts[first : last + 1] / max(1, counts.sum()) for split, counts in depths.items()}
    most = max(float(share.max()) for share in shares.values())
    span = math.log(edges_m[-1] / edges_m[0])
    x_of = [plot_W * math.log(edge / edges_m[0]) / span for edge in edges_m]
    parts = [*_frame(plot_W, plot_H), *_y_axis(plot_H, most, f"{most * 100:.2g}%")]
    for number, share in enumerate(shares.values()):
        steps = [
            f"{x:.1f} {plot_H * (1 - s / most):.1f}"
            for place, s in enumerate(share.tolist())
            for x in x_of[place : place + 2]
        ]
        line = "L".join(steps)
        shade = number % COLOURS
        parts.append(f'<path class="area f{shade}" d="M{x_of[0]:.1f} {plot_H}L{line}L{x_of[-1]:.1f} {plot_H}Z"/>')
        parts.append(f'<path class="line l{shade}" d="M{line}"/>')
    free_from = -math.inf
    for metres in ticks(DepthRange(float(edges_m[0]), float(edges_m[-1]))):
        x, text = plot_W * math.log(metres / edges_m[0]) / span, f"{metres:g} m"
        if x - len(text) * _LETTER_W / 2 >= free_from:
            free_from = x + len(text) * _LETTER_W / 2 + 6
            parts += _x_tick(x, plot_W, plot_H, text)
    parts += [f'<text x="{-_LEFT}" y="-12">pixels</text>', *_legend(list(shares), plot_W)]
    told = "Depth of pixels by split. " + "; ".join(
        f"{split}: most at {edges_m[int(share.argmax())]:.2g} to {edges_m[int(share.argmax()) + 1]:.2g} m"
        for split, share in shares.items()
    )
    return _svg(parts, (width, height), told)


def depth_scale(scale: DepthRange) -> str:
    """The colours of a depth scale with its ticks in metres."""
    width, height = 300, 34
    stops = "".join(
        f'<stop offset="{place / 16:.4f}" stop-color="#{"".join(f"{part:02x}" for part in colour)}"/>'
        for place, colour in enumerate(DEPTH_COLOURS[np.linspace(0, 255, 17).round().astype(int)].tolist())
    )
    parts = [
        f'<defs><linearGradient id="depths">{stops}</linearGradient></defs>',
        f'<rect width="{width}" height="12" fill="url(#depths)"/>',
    ]
    marks = ticks(scale)
    free_from = -math.inf
    for metres, place in zip(marks, scale.place(np.array(marks, np.float32)).tolist(), strict=True):
        text = f"{metres:g} m"
        half = len(text) * _LETTER_W / 2
        if place * width - half >= free_from:
            free_from = place * width + half + 6
            parts += _x_tick(place * width, width, 12, text)
    told = f"Depth from {scale.near:.2g} m, bright, to {scale.far:.2g} m, dark"
    return (
        f'<svg class="chart scale" viewBox="0 0 {width} {height}" role="img" aria-label="{told}">{"".join(parts)}</svg>'
    )


def _svg(parts: Iterable[str], size_WH: tuple[int, int], told: str, kind: str = "chart") -> str:
    width, height = size_WH
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told)}">'
        f'<g transform="translate({_LEFT},{_TOP})">{"".join(parts)}</g></svg>'
    )


def _frame(plot_W: float, plot_H: float) -> Iterable[str]:
    yield f'<path class="axis" d="M0 0H{plot_W}M0 {plot_H / 2}H{plot_W}M0 {plot_H}H{plot_W}"/>'


def _y_axis(plot_H: float, most: float, text: str) -> Iterable[str]:
    if most:
        yield f'<text x="-5" y="4" text-anchor="end">{text}</text>'
    yield f'<text x="-5" y="{plot_H + 4}" text-anchor="end">0</text>'


def _x_tick(x: float, plot_W: float, plot_H: float, text: str) -> Iterable[str]:
    half = len(text) * _LETTER_W / 2
    anchor = "start" if x < half else "end" if x > plot_W - half else "middle"
    at = {"start": 0.0, "end": plot_W, "middle": x}[anchor]
    yield f'<path class="axis" d="M{x:.1f} {plot_H}v5"/>'
    yield f'<text x="{at:.1f}" y="{plot_H + 18}" text-anchor="{anchor}">{text}</text>'


def _legend(names: Sequence[str], plot_W: float) -> Iterable[str]:
    """Names at the right, above the plot, each in its line's colour."""
    x = plot_W
    for number, name in reversed(list(enumerate(names))):
        yield f'<text class="name f{number % COLOURS}" x="{x:.1f}" y="-12" text-anchor="end">{escape(name)}</text>'
        x -= len(name) * _LETTER_W * 1.1 + 14


def _spread(values: Sequence[float]) -> str:
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"median {middle:.3g}, 90 of 100 frames between {low:.3g} and {high:.3g}"
