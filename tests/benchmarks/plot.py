"""Pictures of a run, drawn from its JSON: ``plot.py [FOLDER] [--docs]``.

``overview.png`` has every ratio, by figure, on a logarithmic axis: the bar ends at the median, the whisker goes from
the least to the largest round, and a tick stands where the ratio should be. ``contenders.png`` has the measured times
and rates of the figures that set several ways side by side. ``--docs`` puts small copies into docs/performance, the
overview with those ratios alone that have a target, and refuses runs that were quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUTPUT = HERE.parents[1] / "build" / "bench"
DOCS = HERE.parents[1] / "docs" / "performance"
# Figures of `contenders.png`, the unit that they are drawn in, and what stands over them.
CONTENDERS = {
    "build": ("s", "Build: seconds, shorter is better"),
    "stream": ("pairs/s", "Stream: pairs a second, longer is better"),
    "operator": ("ms", "Operator: milliseconds a picture, shorter is better"),
}
REACHED, MISSED, PLAIN = "#2a7f9e", "#d9722e", "#a9b4bb"
INK, FAINT = "#2b2f33", "#d8dde0"
_ROW_INCHES, _FONT = 0.27, 8.5

Row = Mapping[str, Any]
Group = tuple[str, list[Row]]


def read_run(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures that are there, in the order of ``names``."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def ratio_groups(run: Mapping[str, Mapping[str, Any]], *, with_target: bool) -> list[Group]:
    """The ratios of every figure that has some, all or only those that have a target."""
    groups = [
        (name, [line for line in kept["lines"] if line["unit"] == "x" and (line["target"] or not with_target)])
        for name, kept in run.items()
    ]
    return [(name, rows) for name, rows in groups if rows]


def contender_groups(run: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """The measured times and rates that stand side by side, by title."""
    return [
        (title, [line for line in run[name]["lines"] if line["unit"] == unit])
        for name, (unit, title) in CONTENDERS.items()
        if name in run
    ]


def colour_of(row: Row) -> str:
    """By whether its target is reached."""
    return {True: REACHED, False: MISSED, None: PLAIN}[row["reached"]]


def draw_ratios(groups: Sequence[Group], path: Path, what: str) -> None:
    """One axis for all ratios, which is why it is logarithmic and its bars begin at 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sum(len(rows) + 1.4 for _, rows in groups)
    figure = Figure(figsize=(10.5, 1.5 + _ROW_INCHES * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    y, places, labels = 0.0, [], []
    values = [one for _, rows in groups for row in rows for one in (*row["values"], 1)]
    left, right = min(values) / 1.25, max(values) * 2.6  # room for the numbers
    for name, members in groups:
        axis.text(
            left, y, f" {name}", fontsize=_FONT + 1.5, fontweight="bold", color=INK, va="center", ha="left", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        axis.axhline(y - 0.7, color=FAINT, linewidth=0.8, zorder=0)
        y += 1
        for row in members:
            _bar(axis, y, row, start=1.0, number=f"{_short(row['median'])}x")
            places.append(y)
            labels.append(row["what"])
            y += 1
        y += 0.4
    axis.axvline(1, color=INK, linewidth=0.9, zorder=1)
    axis.set(xscale="log", xlim=(left, right), ylim=(y - 0.4, -1))
    axis.set_yticks(places, labels, fontsize=_FONT)
    _tidy(axis)
    figure.suptitle(what, fontsize=_FONT + 3, color=INK, x=0.01, ha="left")
    _legend(axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")


def draw_contenders(groups: Sequence[Group], path: Path) -> None:
    """An axis a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [len(rows) + 2.5 for _, rows in groups]
    figure = Figure(figsize=(9, _ROW_INCHES * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, rows) in zip(axes, groups, strict=True):
        least, most = min(min(row["values"]) for row in rows), max(max(row["values"]) for row in rows)
        start = least / 2
        for y, row in enumerate(rows):
            ours = any(word in row["what"] for word in ("ours", "build_store", "gfield"))
            _bar(axis, y, row, start=start, number=_short(row["median"]), colour=REACHED if ours else PLAIN)
        axis.set(xscale="log", xlim=(start, most * 2), ylim=(len(rows) - 0.4, -0.6))
        axis.set_yticks(range(len(rows)), [row["what"] for row in rows], fontsize=_FONT)
        axis.set_title(title, fontsize=_FONT + 2, color=INK, loc="left")
        _tidy(axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _bar(axis: Any, y: float, row: Row, *, start: float, number: str, colour: str | None = None) -> None:
    """A bar from ``start`` to the median, its whisker, its number, and the tick of its target."""
    middle, low, high = row["median"], min(row["values"]), max(row["values"])
    axis.barh(y, middle - start, left=start, height=0.62, color=colour or colour_of(row), zorder=2)
    axis.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=3)
    for end in (low, high):
        axis.plot([end, end], [y - 0.16, y + 0.16], color=INK, linewidth=1.1, zorder=3)
    furthest = max(high, start)
    if row["target"]:
        sign, limit = row["target"]
        axis.plot([limit, limit], [y - 0.36, y + 0.36], color="black", linewidth=2.4, zorder=4)
        number += f"   ({sign} {limit:g})".replace(">=", "≥").replace("<=", "≤")
        furthest = max(furthest, limit)
    axis.annotate(
        number, (furthest, y), (6, 0), textcoords="offset points", va="center", fontsize=_FONT - 0.5, color=INK
    )


def _tidy(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.tick_params(axis="x", labelsize=_FONT, colors=INK)
    axis.grid(axis="x", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)


def _legend(axis: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=REACHED, label="target reached"),
        Patch(color=MISSED, label="target missed"),
        Patch(color=PLAIN, label="no target"),
        Line2D([], [], color="black", linewidth=2.4, marker="|", linestyle="none", markersize=10, label="target"),
        Line2D([], [], color=INK, linewidth=1.1, label="least to largest round"),
    ]
    axis.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, fontsize=_FONT, frameon=False,
        borderaxespad=0.2, columnspacing=1.6, handlelength=1.4,
    )  # fmt: skip


def draw(folder: Path, names: Sequence[str], docs: Path | None = None) -> list[Path]:
    """Draw what there is; the paths of the pictures. Raises ImportError without matplotlib."""
    run = read_run(folder, names)
    drawn: list[Path] = []
    quick = any(kept["quick"] for kept in run.values())
    if docs is not None and quick:
        raise SystemExit(f"{folder}: of a quick run, whose figures mean little; not put into {docs}")
    title = "Ratios of neighbouring runs, median of all rounds" + (" - quick run: these mean little" if quick else "")
    if groups := ratio_groups(run, with_target=docs is not None):
        drawn.append((docs or folder) / "overview.png")
        draw_ratios(groups, drawn[-1], title)
    if groups := contender_groups(run):
        drawn.append((docs or folder) / "contenders.png")
        draw_contenders(groups, drawn[-1])
    return drawn


def main() -> None:
    """The command line."""
    from figures import FIGURES

    parser = argparse.ArgumentParser(prog="tests/benchmarks/plot.py")
    parser.add_argument("folder", type=Path, nargs="?", default=OUTPUT)
    parser.add_argument("--docs", action="store_true", help="into docs/performance, with targets alone")
    options = parser.parse_args()
    for path in draw(options.folder, list(FIGURES), DOCS if options.docs else None):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
