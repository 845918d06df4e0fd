"""Curves of a metric over the number of labels as SVG: for print and screens, light and dark, and for every eye.

Series differ in lightness and marker as well as in colour (those of Okabe and Ito, darker on white, lighter on black).
A band is the 95 % interval, a thin dashed line the paper's.

Positions are pixels of the drawing, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from train.study.print_tables import number_text
from train.study.statistics import Estimate
from train.study.style import SERIES_COLOURS, svg_style

_FONT, _LINE_H = 13, 17
_TOP, _BOTTOM, _LEFT = 34, 52, 46
_WIDE_LETTER = 0.65  # of a font's size: letters of a bold sans-serif, some are wider than others
_NAMES_SHARE = 0.42  # of the width, at most: the curves need theirs
_MARKER = 4.5
_CENTRED = 'text-anchor="middle"'


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Attributes
    ----------
    name
        What stands at its end.
    colour
        Number of its colour and marker; see `colours_of`.
    points
        Labels (above 0) and the mean over seeds, from few labels to many.
    printed
        The same of the paper, without intervals.
    """

    name: str
    colour: int
    points: Sequence[tuple[float, Estimate]]
    printed: Sequence[tuple[float, float]] = ()

    @property
    def shade(self) -> int:
        """Place of its colour among `SERIES_COLOURS`, of which the first is the baseline's alone."""
        return 1 + (self.colour - 1) % (len(SERIES_COLOURS) - 1) if self.colour else 0


@dataclass(frozen=True)
class _Frame:
    """The plotted area and its scales: x logarithmic, y linear."""

    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]

    def x(self, amount: float) -> float:
        low, high = self.xs
        return self.width * math.log(amount / low) / math.log(high / low)

    def y(self, value: float) -> float:
        low, high = self.ys
        return self.height * (high - min(max(value, low), high)) / (high - low)


def colours_of(rows: Sequence[str], baseline: str | None, first: str | None) -> dict[str, int]:
    """A number for every row, the same in all plots of a study: 0 for the baseline, which is neutral, 1 for ``first``.

    It decides colour and marker. With more rows than colours, colours come again, with other markers.
    """
    others = [row for row in rows if row not in (baseline, first)]
    order = [*((first,) if first in rows and first != baseline else ()), *others]
    numbers = {row: place for place, row in enumerate(order, start=1)}
    return {**numbers, baseline: 0} if baseline in rows and baseline is not None else numbers


def curve_svg(
    series: Sequence[Series],
    ticks: Sequence[tuple[float, str]],
    *,
    title: str,
    metric: str,
    axis: str,
    width: int = 720,
) -> str:
    """Draw curves.

    Parameters
    ----------
    series
        The lines, the first one lowest.
    ticks
        Positions on the x axis and their texts.
    title
        For readers that do not see it.
    metric, axis
        What y and x are.
    width
        Of the drawing in pixels; it should be shown at about that size, for the sake of its letters.

    Returns
    -------
    str
        A complete SVG document, that may also stand inside HTML.
    """
    height = round(min(440, 250 + width / 4))
    names = [one.name for one in series] + (["paper"] if any(one.printed for one in series) else [])
    room = _NAMES_SHARE * width - 30
    right = 30 + max((_text_width(_shortened(name, room)) for name in names), default=0)
    frame = _Frame(width - _LEFT - right, height - _TOP - _BOTTOM, _x_range(series, ticks), _y_range(series))
    parts = [
        f'<rect class="gf-ground" width="{width}" height="{height}"/>',
        f'<text class="gf-ink" x="8" y="20">{escape(metric)}</text>',
        f'<text class="gf-faint" x="{_LEFT + frame.width / 2:.0f}" y="{height - 10}" {_CENTRED}>{escape(axis)}</text>',
        f'<g transform="translate({_LEFT},{_TOP})">',
        *_axes(frame, ticks),
        *(part for one in series for part in _band(frame, one)),
        *(part for one in series for part in _printed(frame, one)),
        *(part for one in series for part in _line(frame, one)),
        *_names(frame, series, room),
        "</g>",
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gf-curve" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" '
        f'font-size="{_FONT}"><title>{escape(title)}</title><style>{svg_style()}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _axes(frame: _Frame, ticks: Sequence[tuple[float, str]]) -> Iterable[str]:
    for value in round_values(*frame.ys):
        y = frame.y(value)
        yield f'<path class="gf-rule" d="M0 {y:.1f}H{frame.width:.1f}"/>'
        yield f'<text class="gf-faint" x="-8" y="{y + 4:.1f}" text-anchor="end">{tick_text(value)}</text>'
    free_from = -math.inf
    for amount, text in sorted(ticks):
        x, half = frame.x(amount), _text_width(text) / 2
        yield f'<path class="gf-rule" d="M{x:.1f} {frame.height:.1f}v5"/>'
        # A text that would run into its neighbour is left out; its mark stays.
        if x - half >= free_from:
            free_from = x + half + 4
            yield f'<text class="gf-faint" x="{x:.1f}" y="{frame.height + 19:.1f}" {_CENTRED}>{escape(text)}</text>'


def _band(frame: _Frame, one: Series) -> Iterable[str]:
    known = [(frame.x(x), e.mean - e.half, e.mean + e.half) for x, e in one.points if e.half is not None]
    if len(known) > 1:
        upper = [f"{x:.1f} {frame.y(high):.1f}" for x, _, high in known]
        lower = [f"{x:.1f} {frame.y(low):.1f}" for x, low, _ in reversed(known)]
        yield f'<path class="gf-band gf-f{one.shade}" d="M{"L".join((*upper, *lower))}Z"/>'
    for x, low, high in known:
        yield f'<path class="gf-s{one.shade}" opacity=".55" d="M{x:.1f} {frame.y(low):.1f}V{frame.y(high):.1f}"/>'


def _printed(frame: _Frame, one: Series) -> Iterable[str]:
    if one.printed:
        path = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in one.printed)
        yield f'<path class="gf-printed gf-s{one.shade}" d="M{path}"/>'


def _line(frame: _Frame, one: Series) -> Iterable[str]:
    places = [(frame.x(x), frame.y(estimate.mean)) for x, estimate in one.points]
    if len(places) > 1:
        yield f'<path class="gf-line gf-s{one.shade}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
    for (x, y), (amount, estimate) in zip(places, one.points, strict=True):
        interval = "" if estimate.half is None else f" ± {number_text(estimate.half)}"
        told = escape(f"{one.name} at {amount:.4g}: {number_text(estimate.mean)}{interval}")
        yield f'<path class="gf-mark gf-f{one.shade}" d="{_marker(x, y, one.colour)}"><title>{told}</title></path>'


def _names(frame: _Frame, series: Sequence[Series], room: float) -> Iterable[str]:
    """Names at the right, at the height of their lines' ends as far as they do not run into each other."""
    ends = [(one.points[-1][0], one.points[-1][1].mean, one.name, one.shade, "gf-name") for one in series if one.points]
    ends += [(*one.printed[-1], "paper", one.shade, "gf-paper") for one in series if one.printed]
    wanted = [frame.y(value) for _, value, *_ in ends]
    name_x = frame.width + 20
    for y, (amount, value, name, colour, kind) in zip(_apart(wanted, frame.height), ends, strict=True):
        x, end_y = frame.x(amount) + _MARKER + 2, frame.y(value)
        if abs(y - end_y) > 3 or x < frame.width:
            leader = f"M{x:.1f} {end_y:.1f}L{name_x - 4:.1f} {y:.1f}"
            yield f'<path class="gf-s{colour}" opacity=".5" fill="none" d="{leader}"/>'
        style = ' font-weight="600"' if kind == "gf-name" else ' font-style="italic"'
        shown = _shortened(name, room)
        whole = f"<title>{escape(name)}</title>" if shown != name else ""
        place = f'x="{name_x:.1f}" y="{y + 4:.1f}"'
        yield f'<text class="{kind} gf-f{colour}"{style} {place}>{escape(shown)}{whole}</text>'


def _apart(wanted: Sequence[float], height: float) -> list[float]:
    """Heights at least one line apart, as near to those wanted as one pass down and one up make them."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    placed = [0.0] * len(wanted)
    for above, place in zip([None, *order], order, strict=False):
        placed[place] = wanted[place] if above is None else max(wanted[place], placed[above] + _LINE_H)
    lowest = max(height, _LINE_H * (len(wanted) - 1.0))
    for place in reversed(order):
        placed[place] = min(placed[place], lowest)
        lowest = placed[place] - _LINE_H
    return placed


def _marker(x: float, y: float, number: int) -> str:
    """Circle, square, triangle or diamond."""
    r = _MARKER
    if number % 4 == 1:
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}Z"
    if number % 4 == 2:
        return f"M{x:.1f} {y - 1.3 * r:.1f}l{1.2 * r:.1f} {2.2 * r:.1f}h{-2.4 * r:.1f}Z"
    if number % 4 == 3:
        d = 1.4 * r
        return f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}Z"
    return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z"


def _x_range(series: Sequence[Series], ticks: Sequence[tuple[float, str]]) -> tuple[float, float]:
    amounts = [amount for amount, _ in ticks] + [x for one in series for x, _ in (*one.points, *one.printed)]
    low, high = min(amounts, default=1.0), max(amounts, default=1.0)
    # One amount alone stands in the middle.
    return (low, high) if low < high else (low / 2, low * 2)


def _y_range(series: Sequence[Series]) -> tuple[float, float]:
    """All means, and of the intervals as much as leaves the means half of the height: those of 2 seeds are huge."""
    means = [e.mean for one in series for _, e in one.points] + [y for one in series for _, y in one.printed]
    if not means:
        return 0.0, 1.0
    low, high = min(means), max(means)
    span = max(high - low, 0.02 * abs(high), 1e-3)
    halves = [(e.mean, e.half) for one in series for _, e in one.points if e.half is not None]
    lowest = min((mean - half for mean, half in halves), default=low)
    highest = max((mean + half for mean, half in halves), default=high)
    return max(min(lowest, low), low - span / 2) - span * 0.04, min(max(highest, high), high + span / 2) + span * 0.04


def round_values(low: float, high: float) -> list[float]:
    """Four to eight round numbers from low to high."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(step for step in (5 * power, 2 * power, power) if (high - low) / step >= 3.5)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.4g}".replace("0.", ".", 1)


def _shortened(name: str, room: float) -> str:
    """A name with both ends and an ellipsis in place of what there is no room for."""
    letters = int(room / (_FONT * _WIDE_LETTER))
    if len(name) <= letters:
        return name
    return f"{name[: letters - letters // 2 - 1].rstrip()}…{name[-(letters // 2) :].lstrip()}"


def _text_width(text: str) -> float:
    return len(text) * _FONT * _WIDE_LETTER
