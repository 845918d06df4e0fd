"""All ratios of a run in one picture, drawn from the JSON of its figures: ``overview.py FOLDER PICTURE``.

A row is a ratio: a dot at the median, a bar from the least to the largest of its rounds, and a tick where the target
stands: > at least so much, < at most. Green is reached, red is not, grey has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ORDER = (
    "build",
    "workers",
    "linear",
    "rerun",
    "memory",
    "many",
    "operator",
    "stream",
    "open",
    "start",
    "step",
    "study",
)
GREEN, RED, GREY, INK = "#1a7f4b", "#c0392b", "#7f8c8d", "#2c3e50"
ROW_INCHES = 0.27


class Row(NamedTuple):
    """One ratio: its figure, its words, its rounds, and its target as sign and limit, or None."""

    figure: str
    what: str
    values: Sequence[float]
    median: float
    target: tuple[str, float] | None
    reached: bool | None


def rows_of(folder: Path) -> list[Row]:
    """The ratios of all figures of a run, in the order of the run; figures that are not there are left out."""
    rows = []
    for name in ORDER:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        for line in json.loads(path.read_text())["lines"]:
            if line["unit"] == "x" and min(line["values"]) > 0:
                target = None if line["target"] is None else (line["target"][0], float(line["target"][1]))
                rows.append(Row(name, line["what"], line["values"], line["median"], target, line["reached"]))
    return rows


def draw(rows: Sequence[Row], picture: Path) -> None:
    """Write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 1.1 + ROW_INCHES * len(rows)), dpi=110, layout="constrained")
    for place, row in enumerate(rows):
        colour = {None: GREY, True: GREEN, False: RED}[row.reached]
        axes.plot([min(row.values), max(row.values)], [place, place], color=colour, lw=3, alpha=0.45)
        axes.plot(row.median, place, "o", color=colour, ms=6, zorder=3)
        axes.annotate(
            f"{row.median:.2f}x",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )
        if row.target is not None and row.target[1] > 0:
            marker = {">=": "$\\rangle$", "<=": "$\\langle$"}[row.target[0]]
            axes.plot(row.target[1], place, marker=marker, color=INK, ms=7, zorder=4)
        if place and rows[place - 1].figure != row.figure:
            axes.axhline(place - 0.5, color="#dddddd", lw=1)
    axes.axvline(1, color="#bbbbbb", lw=1, ls=":")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row.figure}:  {row.what}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.grid(axis="x", color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    words = "Ratios of neighbouring runs: median, least to largest; > at least and < at most mark what is wanted"
    figure.suptitle(words, x=0.01, ha="left", fontsize=10, color=INK)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
    plt.close(figure)


def draw_overview(folder: Path, picture: Path) -> str:
    """Draw all that is in a folder; returns one line of what was done."""
    rows = rows_of(folder)
    if not rows:
        return f"no ratio in {folder}: nothing to draw"
    try:
        draw(rows, picture)
    except ImportError:
        return "no picture: matplotlib is not installed, see the extra [bench]"
    return f"{len(rows)} ratios drawn in {picture}"


def main(arguments: Sequence[Any]) -> None:
    """The command line."""
    print(draw_overview(Path(arguments[0]), Path(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
