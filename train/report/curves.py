"""Curves over the steps of runs as SVG inside a page: the mean of every stretch of steps, and how far they spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple, TypeAlias

import numpy as np

from train.report.read import Curve
from train.study.plot import round_values, tick_text
from train.study.style import SERIES_COLOURS

_STRETCHES = 160
_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 30
COLOURS = len(SERIES_COLOURS) - 1

_At: TypeAlias = Callable[[float, float], str]


class Line(NamedTuple):
    """A curve in stretches of steps.

    Attributes
    ----------
    steps, means
        The middle of every stretch, and the mean there.
    lows, highs
        A tenth of its values are below the one, and a tenth above the other.
    """

    steps: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def in_stretches(curve: Curve, first: int, last: int) -> Line:
    """A curve by stretches of equal length, at most 160 from the first to the last step."""
    steps, values = np.array(curve.steps, float), np.array(curve.values, float)
    length = max(1.0, (last - first + 1) / _STRETCHES)
    place = ((steps - first) // length).astype(int)
    found = [(steps[place == at], values[place == at]) for at in np.unique(place).tolist()]
    return Line(
        [float(one.mean()) for one, _ in found],
        [float(all_.mean()) for _, all_ in found],
        [float(np.quantile(all_, 0.1)) for _, all_ in found],
        [float(np.quantile(all_, 0.9)) for _, all_ in found],
    )


def step_curves(curves: Sequence[tuple[int, str, Curve]], *, told: str) -> str:
    """Draw curves of one kind of number.

    Parameters
    ----------
    curves
        A run's number, which decides its colour, its name and its curve; none of them empty.
    told
        What they are, for those who do not see them.
    """
    first = min(min(curve.steps) for _, _, curve in curves)
    last = max(max(curve.steps) for _, _, curve in curves)
    lines = [(number, name, in_stretches(curve, first, last)) for number, name, curve in curves]
    low, high = _extent([line for _, _, line in lines])
    plot_W, plot_H = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(step: float, value: float) -> str:
        x = plot_W * (step - first) / max(1, last - first)
        return f"{x:.1f} {plot_H * (high - min(max(value, low), high)) / (high - low):.1f}"

    parts: list[str] = []
    for value in round_values(low, high):
        y = plot_H * (high - value) / (high - low)
        parts.append(f'<path class="gf-rule" d="M0 {y:.1f}H{plot_W}"/>')
        parts.append(f'<text class="gf-faint" x="-6" y="{y + 4:.1f}" text-anchor="end">{tick_text(value)}</text>')
    for step, anchor in ((first, "start"), (last, "end")):
        x = 0 if step == first else plot_W
        parts.append(f'<text class="gf-faint" x="{x}" y="{plot_H + 18}" text-anchor="{anchor}">{step + 1:,}</text>')
    parts.append(f'<text class="gf-faint" x="{plot_W / 2}" y="{plot_H + 18}" text-anchor="middle">step</text>')
    parts += (_band(number, line, at) for number, _, line in lines if len(line.steps) > 1)
    parts += (part for number, name, line in lines for part in _line(number, name, line, at))
    ends = "; ".join(f"{name} ends at {line.means[-1]:.4g}" for _, name, line in lines)
    return (
        f'<svg class="gf-steps" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{told}. {ends}")}">'
        f'<g transform="translate({_LEFT},{_TOP})">{"".join(parts)}</g></svg>'
    )


def shade_of(number: int) -> int:
    """Place of a run's colour among `train.study.style.SERIES_COLOURS`."""
    return 1 + number % COLOURS


def dashes_of(number: int) -> str:
    """How a run's line is broken, once colours come again."""
    broken = number // COLOURS
    return f' stroke-dasharray="{6 / broken:.1f} 3"' if broken else ""


def _extent(lines: Sequence[Line]) -> tuple[float, float]:
    """All means, and of the spread as much as leaves the means half of the height."""
    means = [value for line in lines for value in line.means]
    low, high = min(means), max(means)
    span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-12)
    lows = min(value for line in lines for value in line.lows)
    highs = max(value for line in lines for value in line.highs)
    return max(min(low, lows), low - span / 2) - span * 0.04, min(max(high, highs), high + span / 2) + span * 0.04


def _band(number: int, line: Line, at: _At) -> str:
    upper = [at(step, value) for step, value in zip(line.steps, line.highs, strict=True)]
    lower = [at(step, value) for step, value in zip(line.steps, line.lows, strict=True)]
    return f'<path class="gf-band gf-f{shade_of(number)}" d="M{"L".join([*upper, *reversed(lower)])}Z"/>'


def _line(number: int, name: str, line: Line, at: _At) -> Iterable[str]:
    places = [at(step, value) for step, value in zip(line.steps, line.means, strict=True)]
    title = f"<title>{escape(name)}</title>"
    if len(places) > 1:
        kind = f"gf-line gf-s{shade_of(number)}"
        yield f'<path class="{kind}"{dashes_of(number)} d="M{"L".join(places)}">{title}</path>'
    else:
        x, y = places[0].split()
        yield f'<circle class="gf-f{shade_of(number)}" cx="{x}" cy="{y}" r="4">{title}</circle>'
