"""Read runs, predict what is to be shown, and write the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gfield import Location, UserError
from gfield.console import progress
from train.errors import TrainError
from train.files import write_atomically
from train.report.page import page
from train.report.predictions import Examples, examples_of
from train.report.read import Run, read_runs

Say = Callable[[str], None]


def write_runs(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    store: Location | None = None,
    examples: int = 3,
    device: str = "auto",
    say: Say = lambda text: None,
) -> Path:
    """Write the page of runs; a file that is there is replaced.

    Parameters
    ----------
    folders
        Of the runs, at least one.
    out
        The page; by default beside the run, or ``report.html`` beside the first of several.
    store, examples, device
        What to predict, see `train.report.predictions.examples_of`. Where that cannot be done the page says why.
    say
        Is told of it, too.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    TrainError
        If a folder is no run, or the place will not do.
    """
    first = folders[0].resolve()
    place = out or (first.with_name(f"{first.name}.html") if len(folders) == 1 else first.with_name("report.html"))
    if place.suffix.lower() not in (".html", ".htm"):
        raise TrainError(f"{place}: the name ends in {place.suffix!r}, wanted .html")
    if not place.parent.is_dir():
        raise TrainError(f"{place}: no folder {place.parent}, wanted one that is there")
    runs = read_runs(folders)
    for run in runs:
        if place.resolve().is_relative_to(run.folder):
            raise TrainError(f"{place}: inside a run, which nothing but runs write to; wanted beside it")
    shown, why_none = _examples(runs, store, examples, device, say)
    try:
        write_atomically(place, page(runs, shown, why_none).encode())
    except OSError as error:
        raise TrainError(f"{place}: {error.strerror or error}, wanted a place that can be written") from error
    return place if out else folders[0].parent / place.name


def _examples(
    runs: Sequence[Run], store: Location | None, count: int, device: str, say: Say
) -> tuple[Examples | None, str]:
    if not count or not any(run.command == "finetune" for run in runs):
        return None, ""
    try:
        with progress("predict", "pictures") as (start, advance):
            return examples_of(
                runs, store=store, count=count, device=device, say=say, on_start=start, on_frames=advance
            ), ""
    except UserError as error:
        say(f"no predictions: {error}")
        return None, f"None: {error}"
