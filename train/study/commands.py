"""The command `train study`. Everything heavy is imported inside it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gfield.commandline.pieces import Part, place_type
from train.study import TABLES

if TYPE_CHECKING:
    from gfield import Location
    from train.study.folder import StudyFolder
    from train.study.jobs import Share
    from train.study.pieces import Cell, Plan
    from train.study.run import StudyOutcome
    from train.study.study_file import Study

path_type = click.Path(path_type=Path)


class NamedStore(click.ParamType[Any]):
    """A store of a study, as ``name=PATH``."""

    name = "NAME=PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Location]:
        if isinstance(value, tuple):
            return value
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            self.fail(f"{value!r}, wanted a name of the study and a path, for example nyu=nyu.zarr", param, ctx)
        return name, place_type.convert(path, param, ctx)


@click.command(short_help="Run a whole grid of methods, labels and seeds.")
@click.argument("file", required=False, type=path_type)
@click.option("--preset", metavar="NAME", help="A study that is at hand: smoke (minutes), small (1-2 hours), paper.")
@click.option(
    "--store",
    "stores",
    type=NamedStore(),
    multiple=True,
    metavar="NAME=PATH",
    help="Where a store of the study is; as often as there are stores.",
)
@click.option("--out", type=path_type, metavar="OUT", help="Folder of the study.")
@click.option("--grid", "tables", type=click.Choice(TABLES), multiple=True, help="Only what this table needs.")
@click.option("--list", "only_list", is_flag=True, help="Show what there is to do and what is done, and end.")
@click.option("--part", type=Part(), metavar="i/N", help="Only the i-th of N parts of the cells.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.  [the study's, auto]")
@click.option("--precision", type=click.Choice(["auto", "bf16", "float32"]), help="[the study's, auto]")
@click.option(
    "--keep",
    type=click.Choice(["all", "newest", "encoders"]),
    default="newest",
    show_default=True,
    help="Checkpoints of finished runs: encoders drops all of scored depth networks.",
)
def study(
    file: Path | None,
    preset: str | None,
    stores: tuple[tuple[str, Location], ...],
    out: Path | None,
    tables: tuple[str, ...],
    only_list: bool,
    part: tuple[int, int] | None,
    jobs: int,
    device: str | None,
    precision: str | None,
    keep: str,
) -> None:
    """Pre-train, fine-tune and score every cell of the study in FILE, or of a preset, and report on it.

    The same command goes on where it was stopped. Finished cells are never done again, and cells of changed options
    are new ones. Several machines may work on one OUT: give each `--part i/N`, as a job array does.
    """
    if (file is None) == (preset is None):
        seen = "both FILE and --preset" if file else "neither FILE nor --preset"
        raise click.UsageError(f"{seen} given, wanted one: train study FILE --out OUT, or train study --preset small "
                               f"--store rooms=PATH --out OUT")  # fmt: skip
    if out is None and not only_list:
        raise click.UsageError("no --out given, wanted the folder of the study")
    _refuse_torchrun()
    machine = {name: value for name, value in (("device", device), ("precision", precision)) if value is not None}
    from train.study.jobs import Share
    from train.study.plan import make_plan

    read = _with_stores_of_before(_read(file, preset, _by_name(stores)), out)
    plan = make_plan(read, machine, tables)
    for note in plan.notes:
        _say(f"note: {note}")
    command = _command(file, preset, read, dict(stores), out, precision)
    share = Share(read, machine, out or Path(), tables, part, command, keep)
    cells = share.cells(plan)
    if not cells:
        assert part is not None
        _say(f"note: part {part[0]} of {part[1]} has no cells")
    if only_list:
        _list(plan, out, cells)
        return
    _run(plan, share, cells, jobs)


def _by_name(stores: tuple[tuple[str, Location], ...]) -> dict[str, Location]:
    found: dict[str, Location] = {}
    for name, path in stores:
        if found.setdefault(name, path) != path:
            raise click.UsageError(f"--store {name} is both {found[name]} and {path}, wanted one")
    return found


def _with_stores_of_before(study: Study, out: Path | None) -> Study:
    """The study with the stores that earlier calls on OUT gave, so that a call for one table keeps the others."""
    from train.study.folder import StudyFolder

    if out is None:
        return study
    folder = StudyFolder(out)
    folder.check()
    places = dict(study.stores)
    for name, path in folder.stores_before().items():
        if name in places and places[name] is None:
            if not isinstance(path, Path) or path.exists():
                places[name] = path
                _say(f"note: store {name} is {path}, as before")
            else:
                _say(f"note: store {name} was {path}, which is gone; --store {name}=PATH says where it is now")
    return replace(study, stores=places)


def _read(file: Path | None, preset: str | None, stores: dict[str, Location]) -> Study:
    from train.study.study_file import read_preset, read_study

    if preset is not None:
        return read_preset(preset, stores)
    assert file is not None
    return read_study(file, stores)


def _run(plan: Plan, share: Share, cells: list[Cell], jobs: int) -> None:
    from train.study.blocks import counted
    from train.study.folder import StudyFolder, count_done
    from train.study.jobs import run_jobs
    from train.study.run import StudyOutcome, work_on

    folder = StudyFolder(share.out)
    left = len(cells) - count_done(folder, cells)
    if left:
        _say(f"{plan.study.name}: {left} of {len(cells)} cells to do, checked first")
        _rehearse(plan, folder, cells)
    folder.begin(plan, share.command)
    strangers = folder.strangers(plan)
    if strangers:
        _say(
            f"note: {counted(len(strangers), 'finished cell')} that this study does not ask for, of other options, "
            f"stores or seeds, left as they are in {share.out / 'cells'}"
        )
    if not left:
        outcome = StudyOutcome()
    elif jobs > 1:
        outcome = run_jobs(share, min(jobs, left))
    else:
        outcome = work_on(plan, folder, cells, command=share.command, keep=share.keep, say=_say, say_run=_say)
    folder.refresh(plan, share.command)
    _finish(plan, folder, cells, outcome)


def _rehearse(plan: Plan, folder: StudyFolder, cells: list[Cell]) -> None:
    """Try what may be refused; a signal that comes meanwhile ends the command, since nothing has begun."""
    import signal

    from train.signals import StopSignals
    from train.study.rehearsal import rehearse
    from train.study.work import StoppedError

    with StopSignals() as signals:

        def look() -> None:
            if signals.received is not None:
                raise StoppedError(signals.received)

        try:
            rehearse(plan, folder, cells, look=look)
            look()
        except StoppedError as stopped:
            _say(f"Stopped by {signal.Signals(stopped.signal).name} before anything was begun.")
            sys.exit(130 if stopped.signal == signal.SIGINT else 0)


def _finish(plan: Plan, folder: StudyFolder, cells: list[Cell], outcome: StudyOutcome) -> None:
    """Say how it ended, write the report, and exit accordingly."""
    from train.study.folder import count_done
    from train.study.report import write_report
    from train.study.run import how_it_stopped

    done = count_done(folder, cells)
    whole = "" if len(cells) == len(plan.cells) else f", {count_done(folder, plan.cells)} of {len(plan.cells)} in all"
    click.echo(f"{folder.path}: {done} of {len(cells)} cells done{whole}; results in {folder.path / 'results.jsonl'}")
    if outcome.signal is not None:
        _say(how_it_stopped(outcome.signal))
        sys.exit(130 if outcome.signal == 2 else 0)
    if done:
        click.echo(f"report: {write_report(folder.path)[-1]}")
    if outcome.failures or done < len(cells):
        for failure in outcome.failures:
            _say(f"Error: {failure}")
        sys.exit(1)


def _list(plan: Plan, out: Path | None, cells: list[Cell]) -> None:
    from train.study.folder import StudyFolder
    from train.study.listing import list_pieces

    folder = StudyFolder(out) if out is not None else None
    if folder is not None:
        folder.check()
    for line in list_pieces(plan, folder, cells):
        click.echo(line)


def _command(
    file: Path | None,
    preset: str | None,
    study: Study,
    given: Mapping[str, Location],
    out: Path | None,
    precision: str | None,
) -> str:
    """The command that runs the whole study, whichever part of it this is; ``given`` are stores as the user wrote."""
    words = ["train", "study", *([str(file)] if file else ["--preset", str(preset)])]
    for name, path in study.stores.items():
        if name in given or (preset is not None and path is not None):
            words += ["--store", f"{name}={given.get(name, path)}"]
    words += ["--out", str(out)]
    return shlex.join([*words, *(["--precision", precision] if precision else [])])


def _refuse_torchrun() -> None:
    world = os.environ.get("WORLD_SIZE", "1")
    if world not in ("", "1"):
        raise click.UsageError(f"WORLD_SIZE is {world}: a study starts its own processes, wanted --jobs or --part "
                               f"without torchrun")  # fmt: skip


def _say(text: str) -> None:
    click.echo(text, err=True)
