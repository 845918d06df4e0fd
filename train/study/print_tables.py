"""Tables as Markdown for people and as CSV for programs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence

from train.study.results import Result
from train.study.statistics import Estimate
from train.study.tables import NONE, Table, merged

MINUS = "\N{MINUS SIGN}"
# What would end a cell or be taken for markup.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#&~])")


def number_text(value: float, *, signed: bool = False) -> str:
    """Three decimals without a leading zero, as the paper prints; fewer from 10 up."""
    decimals = 3 if abs(value) < 9.9995 else 2 if abs(value) < 99.995 else 1
    text = f"{abs(value):.{decimals}f}".removeprefix("0")
    sign = "" if not float(text) else MINUS if value < 0 else "+" if signed else ""
    return sign + text


def figure_text(figure: Estimate | float | None, *, signed: bool = False) -> str:
    """``".743 ± .012"``, ``".743"`` without an interval, or a dash where there is nothing."""
    if figure is None:
        return NONE
    if not isinstance(figure, Estimate):
        return number_text(figure, signed=signed)
    text = number_text(figure.mean, signed=signed)
    return text if figure.half is None else f"{text} ± {number_text(figure.half)}"


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown: heading, extent, table, notes."""
    heads = [*table.heads, "", *table.columns, "seeds"]
    rows = [
        [*line_heads, line.source, *map(figure_text, line.figures), line.seeds() or NONE]
        for line_heads, line in merged(table.lines)
    ]
    align = ["---"] * (len(table.heads) + 1) + ["---:"] * (len(table.columns) + 1)
    body = "\n".join(_markdown_row(row) for row in rows)
    notes = "\n".join(f"- {plain_markdown(note)}" for note in table.notes)
    return (
        f"### {plain_markdown(table.title)}\n\n{plain_markdown(table.extent)}\n\n"
        f"{_markdown_row(heads)}\n| {' | '.join(align)} |\n{body}\n\n{notes}\n"
    )


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def csv_tables(tables: Sequence[Table]) -> str:
    """Tables of one layout under one head, figures in full; a half interval and the seeds beside every mean."""
    heads = list(dict.fromkeys(head for table in tables for head in table.heads))
    columns = list(dict.fromkeys(key for table in tables for key in table.keys))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [part for column in columns for part in (column, f"{column} half interval", f"{column} seeds")]
    writer.writerow(["table", "of", *heads, "source", *parts])
    for table in tables:
        for line in table.lines:
            words = dict(zip(table.heads, line.heads, strict=True))
            figures = dict(zip(table.keys, line.figures, strict=True))
            writer.writerow(
                [
                    table.title,
                    table.extent,
                    *(words.get(head, "") for head in heads),
                    line.source,
                    *(value for column in columns for value in _values(figures.get(column))),
                ]
            )
    return out.getvalue()


def csv_results(results: Sequence[Result]) -> str:
    """Every result on a line of its own, with all its metrics."""
    names = ("row", "method", "network", "encoder", "labels", "labelled_frames", "seed", "store", "pretrained_on",
             "protocol", "protocol_version", "images", "official", "steps", "cell")  # fmt: skip
    metrics = list(dict.fromkeys(metric for result in results for metric in result.metrics))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *metrics])
    for result in results:
        chain = "->".join(result.pretrained_on)
        words = [chain if name == "pretrained_on" else getattr(result, name) for name in names]
        writer.writerow([*words, *(_number(result.metrics.get(metric, math.nan)) for metric in metrics)])
    return out.getvalue()


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain_markdown, cells))} |"


def _values(figure: Estimate | float | None) -> tuple[str, str, str]:
    if isinstance(figure, Estimate):
        return _number(figure.mean), "" if figure.half is None else _number(figure.half), str(figure.n)
    return "" if figure is None else _number(figure), "", ""


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
