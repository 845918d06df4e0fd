"""The commands of `gfield`. Everything heavy is imported inside the commands, so that --help is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gfield.commandline.build import build, open_again, plan
from gfield.commandline.export import export
from gfield.commandline.pieces import Commands, json_option, path_type, place_type
from gfield.commandline.view import view

if TYPE_CHECKING:
    from gfield.object_path import Location

EXIT_CODES = """
\b
Exit codes: 0 done; 1 the input, the store or the disk is at fault (one line
says what); 2 the command line is; 3 `verify` found damage; 130 interrupted.
"""


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gfield", message="gfield %(version)s")
def gfield() -> None:
    """Gradient-field stores: RGB, gradient field and depth of NYU Depth v2 and Make3D as checked Zarr."""


gfield.add_command(build)
gfield.add_command(plan)
gfield.add_command(view)
gfield.add_command(export)


@gfield.command()
@click.argument("store", type=place_type)
@json_option
def info(store: Location, as_json: bool) -> None:
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
@click.argument("store", type=place_type)
@click.option("--all", "every", is_flag=True, help="Recompute the fields of all frames, not of a sample.")
@click.option("--sample", type=click.IntRange(0), default=32, show_default=True, help="Frames to recompute fields of.")
@click.option(
    "--repair",
    "source_path",
    type=place_type,
    metavar="SOURCE",
    help="Rebuild what is damaged from the file or folder that STORE was built from.",
)
@json_option
def verify(store: Location, every: bool, sample: int, source_path: Location | None, as_json: bool) -> None:
    """Check STORE: hashes, checksums, missing, swapped and stale shards, and fields against the operator."""
    from gfield import console
    from gfield.commandline.summary import verify_summary
    from gfield.frame import printable
    from gfield.repair import repair_store
    from gfield.store import open_store
    from gfield.verify import verify_store

    opened = open_store(store)
    with console.progress(f"verify {store.name}", "bytes") as (start, advance):
        start(sum(entry.size for entry in opened.manifest.files.values()))
        report = verify_store(opened, sample=None if every else sample, on_bytes=advance)
    if report.findings and source_path is not None:
        for finding in report.findings:
            click.echo(printable(f"found: {finding.message}"), err=True)
        repaired = repair_store(opened, report.findings, open_again(opened, source_path))
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


@gfield.command(short_help="Write a contact sheet of STORE as PNG.")
@click.argument("store", type=place_type)
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
def preview(store: Location, out: Path | None, level: str | None, frames: int, rows: tuple[int, ...]) -> None:
    """Write a contact sheet of STORE: RGB, gradient field and depth side by side."""
    from gfield.contact_sheet import write_png
    from gfield.preview import preview_store
    from gfield.store import open_store

    sheet = preview_store(open_store(store), level=level, frames=frames, rows=rows)
    beside = store.parent if isinstance(store, Path) else Path()
    out = out or beside / f"{store.name}.png"
    write_png(out, sheet)
    click.echo(f"{out}: {sheet.shape[1]} x {sheet.shape[0]} pixels")


@gfield.command(short_help="Write a page that shows STORE and finds frames whose depth and picture do not fit.")
@click.argument("store", type=place_type)
@click.option("--out", type=path_type, metavar="FILE.html", help="The page to write.  [STORE.html]")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Measure N frames, evenly spread.  [all]")
@click.option("--frames", type=click.IntRange(1, 64), default=8, show_default=True, help="Frames to show of all.")
@click.option("--worst", type=click.IntRange(0, 64), default=6, show_default=True, help="Frames to show of the worst.")
@json_option
def report(store: Location, out: Path | None, sample: int | None, frames: int, worst: int, as_json: bool) -> None:
    """Write one HTML file that says what is in STORE and how its frames are: splits, pictures, depths, holes, edges.

    It ranks frames by how well the edges of depth lie on those of the picture, which finds mirrored and mispaired
    ones. With --json, the same facts go to standard output, and the page only to where --out says.
    """
    from gfield import console
    from gfield.report.measures import measure_store
    from gfield.report.write import check_place, report_facts, report_summary, write_page
    from gfield.store import open_store

    opened = open_store(store)
    beside = store.parent if isinstance(store, Path) else Path()
    place = out or beside / f"{store.resolve().name}.html"
    if not out and store.name == "":  # a dot, from inside the store
        place = beside.resolve().parent / place.name
    check_place(store, place)
    with console.progress(f"report {store.name}", "frames") as (start, advance):
        measures = measure_store(opened, sample=sample, on_start=start, on_frames=advance)
    size = write_page(opened, measures, place, frames=frames, worst=worst) if out or not as_json else 0
    if as_json:
        click.echo(console.as_json(report_facts(opened, measures)))
    else:
        click.echo(report_summary(opened, measures))
        click.echo(f"{place}: {console.readable_bytes(size)}")


@gfield.command(short_help="Render a small synthetic data set into FOLDER.")
@click.argument("folder", type=path_type)
@click.option("--rooms", type=click.IntRange(2), default=48, show_default=True, help="Indoor frames.")
@click.option("--views", type=click.IntRange(1), help="Of each room.  [1 to 3]", metavar="N")
@click.option("--outdoor", type=click.IntRange(2), default=6, show_default=True, help="Outdoor pairs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other rooms.")
@click.option("--overwrite", is_flag=True, help="Replace a sample that is there.")
def sample(folder: Path, rooms: int, views: int | None, outdoor: int, seed: int, overwrite: bool) -> None:
    """Render a small synthetic NYU Depth v2 and Make3D into FOLDER, in the formats of the real ones."""
    from gfield.console import progress
    from gfield.sample import write_sample

    with progress("sample", "frames") as (start, advance):
        start(rooms + outdoor)
        paths = write_sample(
            folder,
            rooms=rooms,
            views=views,
            outdoor=outdoor,
            seed=seed,
            overwrite=overwrite,
            on_frame=lambda _index: advance(1),
        )
    click.echo(f"{paths.nyu_mat}: {rooms} frames\n{paths.make3d}: {outdoor} pairs")
