"""The commands of `gfield`. Everything heavy is imported inside the commands, so that --help is instant."""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gfield.commandline import Commands, Level, Part

if TYPE_CHECKING:
    from gfield.frame import Source
    from gfield.spec import StoreSpec

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = """
\b
Exit codes: 0 done; 1 the input, the store or the disk is at fault (one line
says what); 2 the command line is; 3 `verify` found damage; 130 interrupted.
"""


def _stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
path_type = click.Path(path_type=Path)

store_options = _stacked(
    click.option("--level", "levels_WH", type=Level(), multiple=True, metavar="WxH",
                 help="Store only this level; repeatable.  [all]"),
    click.option("--codec", type=click.Choice(["lz4", "zstd", "raw"]), default="lz4", show_default=True,
                 help="lz4: fast; zstd: smallest; raw: fastest to read. All are checksummed."),
    click.option("--low", type=int, default=50, show_default=True, help="Canny's lower threshold."),
    click.option("--high", type=int, default=200, show_default=True, help="Canny's upper threshold."),
    click.option("--auto", is_flag=True, help="Canny's thresholds from each picture, instead of --low and --high."),
    click.option("--l2-gradient", is_flag=True, help="Canny compares the L2 norm with its thresholds, not L1."),
    click.option("--field", "variant", type=click.Choice(["sobel", "grmc"]), default="sobel", show_default=True,
                 help="grmc repeats the overflow of the paper's released code, for use with its weights only."),
    click.option("--frames-per-shard", type=click.IntRange(1), metavar="N", help="Frames in one file.  [by size]"),
    click.option("--workers", type=click.IntRange(1), metavar="N", help="Local processes.  [threads of this one]"),
    click.option("--overwrite", is_flag=True, help="Replace a store that does not match."),
    click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
                 help="skip: leave unreadable frames out, and list them."),
)  # fmt: skip
run_options = _stacked(
    click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster at this address."),
    click.option("--part", type=Part(), metavar="i/N", help="Do one part of N of a job array; no scheduler needed."),
    json_option,
)
nyu_options = _stacked(
    click.argument("mat", type=path_type),
    click.argument("store", type=path_type),
    click.option("--splits", type=path_type, help="splits.mat of the data set.  [beside MAT]"),
    click.option("--keep-frame", is_flag=True, help="Let the operator see the white frame round NYU's pictures."),
    click.option("--array", "optional", type=click.Choice(["raw_depth", "label"]), multiple=True,
                 help="Store this array too; repeatable."),
)  # fmt: skip
make3d_options = _stacked(click.argument("folder", type=path_type), click.argument("store", type=path_type))


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gfield", message="gfield %(version)s")
def gfield() -> None:
    """Gradient-field stores: RGB, gradient field and depth of NYU Depth v2 and Make3D as checked Zarr."""


@gfield.group()
def build() -> None:
    """Build a store, finish it, or bring it up to date."""


@gfield.group()
def plan() -> None:
    """Say what a build would do: shards, bytes, minutes. Writes nothing."""


@build.command("nyu")
@nyu_options
@store_options
@run_options
def build_nyu(mat: Path, store: Path, **options: Any) -> None:
    """Build STORE from nyu_depth_v2_labeled.mat.

    A build that was interrupted goes on where it was. A finished store is left as it is; with other thresholds
    only its fields are computed again, from the RGB in it.
    """
    _build(_open_nyu(mat, options), store, options)


@build.command("make3d")
@make3d_options
@store_options
@run_options
def build_make3d(folder: Path, store: Path, **options: Any) -> None:
    """Build STORE from the unpacked archives of Make3D below FOLDER."""
    _build(_open_make3d(folder, options), store, options)


@plan.command("nyu")
@nyu_options
@store_options
@json_option
def plan_nyu(mat: Path, store: Path, **options: Any) -> None:
    """Say what `gfield build nyu MAT STORE` would do."""
    _plan(_open_nyu(mat, options), store, options)


@plan.command("make3d")
@make3d_options
@store_options
@json_option
def plan_make3d(folder: Path, store: Path, **options: Any) -> None:
    """Say what `gfield build make3d FOLDER STORE` would do."""
    _plan(_open_make3d(folder, options), store, options)


def _open_nyu(mat: Path, options: dict[str, Any]) -> Source:
    from gfield.sources.nyuv2 import open_nyuv2

    source = open_nyuv2(mat, options.pop("splits"), keep_frame=options.pop("keep_frame"))
    _warn(source.warnings)
    return source


def _open_make3d(folder: Path, options: dict[str, Any]) -> Source:
    from gfield.sources.make3d import open_make3d

    source = open_make3d(folder, on_unreadable=options["on_error"])
    _warn(source.warnings)
    return source


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _spec(source: Source, options: dict[str, Any]) -> StoreSpec:
    from gfield.build import make_spec
    from gfield.field import FieldParams

    taken = {name: options.pop(name) for name in ("low", "high", "auto", "l2_gradient", "variant")}
    try:
        field = FieldParams(**taken)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return make_spec(
        source,
        levels_WH=options.pop("levels_WH") or None,
        optional=options.pop("optional", ()),
        codec=options.pop("codec"),
        field=field,
        frames_per_shard=options.pop("frames_per_shard"),
    )


def _build(source: Source, target: Path, options: dict[str, Any]) -> None:
    from gfield.build import build_store
    from gfield.console import as_json, progress
    from gfield.summary import build_summary

    if sum(options[name] is not None for name in ("workers", "scheduler", "part")) > 1:
        raise click.UsageError("--workers, --scheduler and --part exclude each other")
    spec = _spec(source, options)
    json_wanted = options.pop("as_json")
    try:
        with progress(target.name, "frames") as (start, advance):
            report = build_store(source, target, spec, on_start=start, on_frames=advance, **options)
    except KeyboardInterrupt:
        click.echo(
            f"\nInterrupted: what is done is kept in {target}.building-*; run the same command to go on.",
            err=True,
        )
        sys.exit(130)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        hint = "; what is done is kept, run the same command to go on" if full else ""
        where = error.filename or target
        raise click.ClickException(f"{where}: {error.strerror or error}{hint}") from error
    click.echo(as_json(report) if json_wanted else build_summary(report, source))


def _plan(source: Source, target: Path, options: dict[str, Any]) -> None:
    from gfield.console import as_json
    from gfield.plan import plan_build
    from gfield.summary import print_plan

    spec = _spec(source, options)
    planned = plan_build(source, target, spec, workers=options["workers"], overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(as_json(planned))
    else:
        print_plan(planned, spec, source, target)


@gfield.command()
@click.argument("store", type=path_type)
@json_option
def info(store: Path, as_json: bool) -> None:
    """Say what is in STORE."""
    from gfield import console
    from gfield.info import print_info, store_facts
    from gfield.store import open_store

    opened = open_store(store)
    if as_json:
        click.echo(console.as_json(store_facts(opened)))
    else:
        print_info(opened)


@gfield.command(short_help="Check STORE against its manifest and its own fields.")
@click.argument("store", type=path_type)
@click.option("--all", "every", is_flag=True, help="Recompute the fields of all frames, not of a sample.")
@click.option("--sample", type=click.IntRange(0), default=32, show_default=True, help="Frames to recompute fields of.")
@click.option(
    "--repair",
    "source_path",
    type=path_type,
    metavar="SOURCE",
    help="Rebuild what is damaged from the .mat or the Make3D folder that STORE was built from.",
)
@json_option
def verify(store: Path, every: bool, sample: int, source_path: Path | None, as_json: bool) -> None:
    """Check STORE: hashes, checksums, missing, swapped and stale shards, and fields against the operator."""
    from gfield import console
    from gfield.repair import repair_store
    from gfield.store import open_store
    from gfield.summary import verify_summary
    from gfield.verify import verify_store

    opened = open_store(store)
    with console.progress(f"verify {store.name}", "bytes") as (start, advance):
        start(sum(entry.size for entry in opened.manifest.files.values()))
        report = verify_store(opened, sample=None if every else sample, on_bytes=advance)
    if report.findings and source_path is not None:
        for finding in report.findings:
            click.echo(f"found: {finding.message}", err=True)
        source = _open_again(source_path, opened.spec.kind, keep_frame=opened.spec.valid_region is None)
        repaired = repair_store(opened, report.findings, source)
        for path in repaired.restored:
            click.echo(f"restored: {path}", err=True)
        for path in repaired.different:
            click.echo(f"differs from the manifest: {path} (other software versions than the store's?)", err=True)
        opened = open_store(store)
        report = verify_store(opened, sample=None if every else sample)
    if as_json:
        click.echo(console.as_json(report))
    else:
        click.echo(verify_summary(report, store))
    if report.findings:
        sys.exit(3)


def _open_again(path: Path, kind: str, *, keep_frame: bool) -> Source:
    if kind == "nyu":
        return _open_nyu(path, {"splits": None, "keep_frame": keep_frame})
    if kind == "make3d":
        return _open_make3d(path, {"on_error": "skip"})
    raise click.ClickException(f"a store of kind {kind!r} cannot be repaired by this version")


@gfield.command(short_help="Write a contact sheet of STORE as PNG.")
@click.argument("store", type=path_type)
@click.option("--out", type=path_type, help="The PNG to write.  [STORE.png]")
@click.option("--level", help="Level to show.  [the largest]")
@click.option(
    "--frames",
    type=click.IntRange(1, 64),
    default=6,
    show_default=True,
    help="Frames to show, evenly spread.",
)
@click.option("--row", "rows", type=int, multiple=True, help="Show this frame; repeatable.")
def preview(store: Path, out: Path | None, level: str | None, frames: int, rows: tuple[int, ...]) -> None:
    """Write a contact sheet of STORE: RGB, gradient field and depth side by side."""
    from gfield.preview import preview_store
    from gfield.report import write_png
    from gfield.store import open_store

    sheet = preview_store(open_store(store), level=level, frames=frames, rows=rows)
    out = out or store.with_name(f"{store.name}.png")
    write_png(out, sheet)
    click.echo(f"{out}: {sheet.shape[1]} x {sheet.shape[0]} pixels")


@gfield.command(short_help="Render a small synthetic data set into FOLDER.")
@click.argument("folder", type=path_type)
@click.option("--rooms", type=click.IntRange(2), default=48, show_default=True, help="Indoor frames.")
@click.option("--outdoor", type=click.IntRange(2), default=6, show_default=True, help="Outdoor pairs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other rooms.")
@click.option("--overwrite", is_flag=True, help="Replace a sample that is there.")
def sample(folder: Path, rooms: int, outdoor: int, seed: int, overwrite: bool) -> None:
    """Render a small synthetic NYU Depth v2 and Make3D into FOLDER, in the formats of the real ones."""
    from gfield.console import progress
    from gfield.sample import write_sample

    with progress("sample", "frames") as (start, advance):
        start(rooms + outdoor)
        paths = write_sample(
            folder,
            rooms=rooms,
            outdoor=outdoor,
            seed=seed,
            overwrite=overwrite,
            on_frame=lambda _index: advance(1),
        )
    click.echo(f"{paths.nyu_mat}: {rooms} frames\n{paths.make3d}: {outdoor} pairs")
