"""`gfield export`: a store as the formats of other people's tools. What is heavy is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gfield.commandline.pieces import Level, place_type

if TYPE_CHECKING:
    from gfield.object_path import Location


@click.command(short_help="Write STORE as another tool's format.")
@click.argument("store", type=place_type)
@click.argument("out", type=place_type)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["hf", "webdataset", "litdata", "croissant"]),
    help="hf: Parquet for Hugging Face datasets. webdataset: tar. litdata: chunks. croissant: metadata alone.",
)
@click.option("--level", "level_WH", type=Level(), metavar="WxH", help="The level to write.  [the largest]")
@click.option("--split", metavar="NAME", help="Write this split alone.  [all]")
@click.option("--overwrite", is_flag=True, help="Replace an export that is there.")
def export(
    store: Location, out: Location, target: str, level_WH: tuple[int, int] | None, split: str | None, overwrite: bool
) -> None:
    """Write the frames of STORE to OUT for tools that do not read Zarr, every value as it is.

    OUT is a new folder; of croissant a JSON file, which describes STORE where it lies. Frames that could not be read
    when STORE was built are left out.
    """
    from gfield import console
    from gfield.exports.export import export_store
    from gfield.store import open_store

    if target == "croissant" and (level_WH is not None or split is not None):
        raise click.UsageError("--to croissant describes the whole store: --level and --split are not for it")
    if not isinstance(out, Path):
        raise click.UsageError(f"OUT {out}: exports go to a folder of this machine, wanted a path")
    opened = open_store(store)
    unit = "bytes" if target == "croissant" else "frames"
    with console.progress(f"export {store.name}", unit) as (start, advance):
        done = export_store(
            opened,
            out,
            target,
            level_WH=level_WH,
            split=split,
            overwrite=overwrite,
            on_start=start,
            on_done=advance,
        )
    splits = ", ".join(f"{count} {name}" for name, count in sorted(done.frames.items()))
    of = "" if target == "croissant" else f" of {done.level}"
    files = "1 file" if done.files == 1 else f"{done.files} files"
    click.echo(f"{out}: {sum(done.frames.values())} frames{of}, {splits}; {files}, {console.readable_bytes(done.size)}")
    if done.excluded:
        frames = "1 excluded frame" if done.excluded == 1 else f"{done.excluded} excluded frames"
        click.echo(f"left out: {frames}, which `gfield info` lists")
