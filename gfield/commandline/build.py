"""`gfield build` and `gfield plan`: one decorated function a kind of source, which `verify --repair` opens by too.

Everything heavy is imported inside the functions, so that --help is instant. What parses the input loads its libraries
beside them, in a process of its own.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gfield.commandline.pieces import Address, Decorator, Level, Part, json_option, path_type, place_type, stacked
from gfield.confine import start
from gfield.reopen import Options, as_densedepth_was_opened, as_nyu_raw_was_opened

if TYPE_CHECKING:
    from gfield.frame import Source
    from gfield.object_path import Location
    from gfield.spec import StoreSpec
    from gfield.store import Store

Opener = Callable[[Any, Options], "Source"]


class Kind(NamedTuple):
    """How a kind of source is opened.

    Attributes
    ----------
    open
        From the input's path and the command's options, of which it takes out its own.
    again
        The options that `open` has to be given for a store that was built by it, given the input's path.
    """

    open: Opener
    again: Callable[[Store, Any], Options]


KINDS: dict[str, Kind] = {}
READ_FROM_URLS = ("nyu",)


store_options = stacked(
    click.option("--level", "levels_WH", type=Level(), multiple=True, metavar="WxH",
                 help="Store only this level; repeatable.  [the two largest]"),
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
run_options = stacked(
    click.option("--scheduler", type=Address(), help="Run on the Dask cluster at this address."),
    click.option("--cluster", type=click.Choice(["slurm"]),
                 help="Run on N jobs of SLURM, N from --workers; ~/.config/dask/jobqueue.yaml describes them."),
    click.option("--part", type=Part(), metavar="i/N", help="Do one part of N of a job array; no scheduler needed."),
    click.option("--report", type=path_type, metavar="FILE.html",
                 help="Write Dask's performance report; with --workers, --scheduler or --cluster."),
    json_option,
)  # fmt: skip


@click.group()
def build() -> None:
    """Build a store, finish it, or bring it up to date."""


@click.group()
def plan() -> None:
    """Say what a build would do: shards, bytes, minutes. Writes nothing."""


def source(
    kind: str, wanted: str, *options: Decorator, again: Callable[[Store, Any], Options]
) -> Callable[[Opener], Opener]:
    """Make ``build KIND`` and ``plan KIND`` of a function that opens the source; its docstring is the build's help.

    Parameters
    ----------
    kind
        Name of the commands, and the source's ``kind``.
    wanted
        What the usage calls the path of the input, such as ``"MAT"``.
    options
        The source's own options, beside those of every store.
    again
        See `Kind`.
    """

    def add(opener: Opener) -> Opener:
        KINDS[kind] = Kind(opener, again)
        arguments = (click.argument("path", metavar=wanted, type=place_type), click.argument("store", type=place_type))
        shared = stacked(*arguments, *options, store_options)

        @build.command(kind, help=opener.__doc__)
        @shared
        @run_options
        def build_kind(path: Location, store: Location, **options: Any) -> None:
            _check_where(options)
            if options["scheduler"] or options["cluster"]:
                # Workers elsewhere have working folders of their own.
                path = path.absolute()
                options = {
                    name: value.absolute() if isinstance(value, Path) else value for name, value in options.items()
                }
            _build(open_source(kind, path, options), store, options)

        @plan.command(kind, help=f"Say what `gfield build {kind} {wanted} STORE` would do.")
        @shared
        @json_option
        def plan_kind(path: Location, store: Location, **options: Any) -> None:
            _plan(open_source(kind, path, options), store, options)

        return opener

    return add


@source(
    "nyu",
    "MAT",
    click.option("--splits", type=place_type, help="splits.mat of the data set.  [beside MAT]"),
    click.option("--keep-frame", is_flag=True, help="Let the operator see the white frame round NYU's pictures."),
    click.option("--array", "optional", type=click.Choice(["raw_depth", "label"]), multiple=True,
                 help="Store this array too; repeatable."),
    again=lambda store, _path: {"splits": None, "keep_frame": store.spec.valid_region is None},
)  # fmt: skip
def _open_nyu(path: Location, options: Options) -> Source:
    """Build STORE from nyu_depth_v2_labeled.mat.

    A build that was interrupted goes on where it was. A finished store is left as it is; with other thresholds
    only its fields are computed again, from the RGB in it.
    """
    start("hdf5")
    from gfield.sources.nyuv2 import open_nyuv2

    return open_nyuv2(path, options.pop("splits"), keep_frame=options.pop("keep_frame"))


@source("make3d", "FOLDER", again=lambda _store, _path: {})
def _open_make3d(path: Path, options: Options) -> Source:
    """Build STORE from the unpacked archives of Make3D below FOLDER."""
    start("jpeg")
    from gfield.sources.make3d import open_make3d

    return open_make3d(path, on_unreadable=options["on_error"])


@source(
    "images",
    "FOLDER",
    click.option("--size", "size_WH", type=Level(), default=(640, 480), metavar="WxH",
                 help="Size of the largest level; pictures are cut to its shape and averaged, never enlarged.  "
                 "[640x480]"),
    again=lambda store, _path: {"size_WH": store.spec.size_WH},
)  # fmt: skip
def _open_images(path: Path, options: Options) -> Source:
    """Build STORE from all JPEG and PNG pictures below FOLDER: RGB and field, split "unlabeled".

    Pictures are turned upright as their EXIF says. One that is damaged, too small, over 64 megapixels, or not plain
    8-bit grey or RGB (CMYK, 16 bits, transparent pixels) stops the build at its end; --on-error skip leaves it out.
    """
    start("jpeg")
    from gfield.sources.images import open_images

    return open_images(path, size_WH=options.pop("size_WH"), on_unreadable=options["on_error"])


@source(
    "densedepth",
    "ZIP",
    click.option("--test", type=path_type, metavar="NYU_TEST_ZIP",
                 help="nyu_test.zip: its frames are the test split, in place of those of ZIP."),
    click.option("--keep-frame", is_flag=True, help="Let the operator see a white frame round the pictures."),
    again=as_densedepth_was_opened,
)  # fmt: skip
def _open_densedepth(path: Path, options: Options) -> Source:
    """Build STORE from DenseDepth's nyu_data.zip, which is read as it is, not unpacked."""
    start("jpeg", "png")
    from gfield.sources.densedepth import open_densedepth

    return open_densedepth(
        path, options.pop("test"), keep_frame=options.pop("keep_frame"), on_unreadable=options["on_error"]
    )


@source(
    "nyu-raw",
    "FOLDER",
    click.option("--every", type=click.IntRange(1), default=1, show_default=True, metavar="N",
                 help="Take every N-th pair of each scene."),
    click.option("--split", type=click.Choice(["unlabeled", "train"]), default="unlabeled", show_default=True,
                 help="train: let fine-tuning use the sensor's depth too."),
    click.option("--max-gap", type=click.FloatRange(0), default=0.1, show_default=True, metavar="SECONDS",
                 help="Leave out depth frames with no colour frame this near in time."),
    click.option("--exclude-test", type=path_type, metavar="MAT",
                 help="nyu_depth_v2_labeled.mat: leave out the scenes of its test frames."),
    click.option("--splits", type=path_type, help="splits.mat for --exclude-test.  [beside MAT]"),
    again=as_nyu_raw_was_opened,
)  # fmt: skip
def _open_nyu_raw(path: Path, options: Options) -> Source:
    """Build STORE from raw scenes of NYU Depth v2 below FOLDER.

    Each depth frame is paired with the colour frame nearest in time and projected into it; colour is freed of the
    lens's distortion. FOLDER may be one scene's folder, with its d-*.pgm and r-*.ppm.
    """
    from gfield.sources.nyu_raw import open_nyu_raw

    names = ("every", "split", "max_gap", "exclude_test", "splits", "only")
    taken = {name: options.pop(name) for name in names if name in options}
    if taken.get("splits") is not None and taken["exclude_test"] is None:
        raise click.UsageError("--splits is for --exclude-test MAT, which is missing")
    return open_nyu_raw(path, **taken)


def open_source(kind: str, path: Location, options: Options) -> Source:
    """Open the input, and tell the user what its source warns of."""
    if not (isinstance(path, Path) or kind in READ_FROM_URLS):
        raise click.UsageError(f"{path}: {kind} is read from this machine's disks alone, a path wanted")
    opened = KINDS[kind].open(path, options)
    from gfield.frame import printable

    for warning in opened.warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
    return opened


def open_again(store: Store, path: Location) -> Source:
    """Open the input that a store was built from, as it was opened then; a `StoreError` where its kind is unknown."""
    from gfield.manifest import StoreError

    kind = store.spec.kind
    if kind not in KINDS:
        raise StoreError(f"{store.path}: a store of kind {kind!r}, this version repairs {', '.join(KINDS)}")
    return open_source(kind, path, {"on_error": "skip", **KINDS[kind].again(store, path)})


def _spec(source: Source, options: dict[str, Any]) -> StoreSpec:
    from gfield.field import FieldParams
    from gfield.specify import make_spec

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


def _check_where(options: dict[str, Any]) -> None:
    """Refuse options of the place that do not go together."""
    if options["cluster"] is not None:
        if options["scheduler"] is not None or options["part"] is not None:
            raise click.UsageError("--cluster, --scheduler and --part exclude each other")
        if options["workers"] is None:
            raise click.UsageError(f"--cluster {options['cluster']} wants --workers N, the number of jobs")
    elif sum(options[name] is not None for name in ("workers", "scheduler", "part")) > 1:
        raise click.UsageError("--workers, --scheduler and --part exclude each other")
    report = options["report"]
    if report is None:
        return
    if options["workers"] is None and options["scheduler"] is None:
        raise click.UsageError("--report is of Dask's processes: it goes with --workers, --scheduler or --cluster")
    if report.suffix != ".html":
        raise click.UsageError(f"--report {report}: the name ends in {report.suffix!r}, wanted .html")
    if not report.absolute().parent.is_dir() or report.is_dir():
        raise click.UsageError(f"--report {report}: wanted a file in a folder that is there")


def _build(source: Source, target: Location, options: dict[str, Any]) -> None:
    from gfield.build import build_store
    from gfield.commandline.summary import build_summary
    from gfield.console import as_json, progress

    spec = _spec(source, options)
    json_wanted = options.pop("as_json")
    try:
        with progress(target.name, "frames") as (start, advance):
            report = build_store(source, target, spec, on_start=start, on_frames=advance, on_note=_tell_note, **options)
    except KeyboardInterrupt:
        kept = f"{target}.building{'-*' if isinstance(target, Path) else ''}"
        click.echo(
            f"\nInterrupted: what is done is kept in {kept}; run the same command to go on.",
            err=True,
        )
        sys.exit(130)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        hint = "; what is done is kept, run the same command to go on" if full else ""
        where = error.filename or target
        raise click.ClickException(f"{where}: {error.strerror or error}{hint}") from error
    click.echo(as_json(report) if json_wanted else build_summary(report, source))


def _tell_note(note: str) -> None:
    from gfield.frame import printable

    click.echo(printable(note), err=True)


def _plan(source: Source, target: Location, options: dict[str, Any]) -> None:
    from gfield.commandline.summary import print_plan
    from gfield.console import as_json
    from gfield.plan import plan_build

    spec = _spec(source, options)
    planned = plan_build(source, target, spec, workers=options["workers"], overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(as_json(planned))
    else:
        print_plan(planned, spec, source, target)
