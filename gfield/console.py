"""What the commands show: a progress bar or, where nobody watches, plain lines; sizes, times and summaries."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gfield.frame import printable

_LINE_EVERY_S = 30.0


@contextmanager
def progress(label: str, unit: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show the progress of a task on standard error.

    Parameters
    ----------
    label
        What is being done.
    unit
        What is counted, in the plural, such as ``"frames"``.

    Yields
    ------
    start, advance
        To be told the total, and how many more are done; ``advance`` may be called from any thread.
    """
    if sys.stderr.isatty():
        yield from _bar(label, unit)
    else:
        yield from _lines(label, unit)


def _bar(label: str, unit: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None, rate="")
        started = time.monotonic()

        def start(total: int) -> None:
            bars.update(task, total=total)

        def advance(count: int) -> None:
            bars.advance(task, count)
            rate = bars.tasks[0].completed / max(1e-3, time.monotonic() - started)
            bars.update(task, rate=f"{_rate(rate)} {unit}/s")

        yield start, advance


def _lines(label: str, unit: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A line every half minute, for log files."""
    started = said = time.monotonic()
    done, wanted = 0, 0

    def start(total: int) -> None:
        nonlocal wanted
        wanted = total

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if now - said >= _LINE_EVERY_S and 0 < done < wanted:
            said = now
            rate = done / (now - started)
            left = readable_time((wanted - done) / rate)
            print(f"{label}: {done} of {wanted} {unit}, {_rate(rate)} {unit}/s, {left} left", file=sys.stderr)  # noqa: T201

    yield start, advance


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def readable_bytes(count: float) -> str:
    """``1536000`` is ``"1.5 MB"``; powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def readable_time(seconds: float) -> str:
    """``75`` is ``"1 min 15 s"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a plain table that wraps rather than cuts in a narrow terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=printable(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, markup=False).print(table)


def print_facts(facts: list[tuple[str, str]]) -> None:
    """Print names and texts in two columns, the texts wrapped."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, printable(text))
    Console(highlight=False, markup=False).print(table)


def as_json(value: Any) -> str:
    """JSON for scripts: dataclasses and paths as plain values, two-space indent."""
    import dataclasses
    import json

    def plain(item: Any) -> Any:
        return dataclasses.asdict(item) if dataclasses.is_dataclass(item) and not isinstance(item, type) else str(item)

    return json.dumps(value, default=plain, indent=2)
