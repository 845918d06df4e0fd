"""The command `train report`, of runs and of studies. Everything heavy is imported inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.command_options import device_option, path_type, place_type, say

if TYPE_CHECKING:
    from gfield import Location


@click.command(short_help="A page that sets runs side by side; of a study, its tables, curves and page.")
@click.argument("paths", metavar="RUN... | STUDY", nargs=-1, required=True, type=path_type)
@click.option(
    "--out",
    type=path_type,
    metavar="PATH",
    help="Runs: the page.  [RUN.html, or report.html beside the first of several]  Study: the folder.  [STUDY/report]",
)
@click.option("--store", type=place_type, help="Predict test frames of this store.  [the one trained on]")
@click.option(
    "--examples",
    type=click.IntRange(0, 16),
    default=3,
    show_default=True,
    help="Best and worst predictions to show, of each; 0 computes none.",
)
@device_option
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Of a study: whose curve to draw, as often as wanted; the first is the one of the sentences.  [d1]",
)
def report(
    paths: tuple[Path, ...],
    out: Path | None,
    store: Location | None,
    examples: int,
    device: str,
    metrics: tuple[str, ...],
) -> None:
    """Write a page of RUNs: curves, scores, settings that differ, best and worst predictions. Or the report of STUDY.

    A run may be of pretrain or finetune, finished or not. Of a study, from its results.jsonl, index.html has
    everything; tables are beside it as Markdown and CSV, curves as SVG.
    """
    if len(paths) == 1 and _is_study(paths[0]):
        if store is not None:
            raise click.UsageError("--store is for the report of runs")
        _report_study(paths[0], out, metrics or ("d1",))
        return
    if metrics:
        raise click.UsageError("--metric is for the report of a study")
    from train.report.write import write_runs

    place = write_runs(paths, out, store=store, examples=examples, device=device, say=say)
    click.echo(place)


def _is_study(path: Path) -> bool:
    """Whether it is the folder of a study and not of a run; anything else is refused."""
    if (path / "meta.json").is_file():
        return False
    if not (path / "results.jsonl").exists():
        from train.errors import TrainError

        raise TrainError(f"{path}: neither meta.json nor results.jsonl in it, wanted the folder of a run or a study")
    return True


def _report_study(folder: Path, out: Path | None, metrics: tuple[str, ...]) -> None:
    from train.study.report import write_report

    for path in write_report(folder, out, metrics=metrics):
        click.echo(path)
