"""The experiments, one function a figure: each runs its contenders in turns and gives back lines for the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from bucket import bucket_figure
from building import build_figure, linear_figure, stages_figure, workers_figure
from codec_table import codec_table
from losing_workers import losing_figure
from many_frames import many_figure
from measure import (
    Figure,
    Line,
    gfield_command,
    interleave,
    ratios,
    tell,
    time_command,
    watch_command,
)
from opening import open_figure, operator_figure, start_figure, whole_codecs_figure
from plan import Plan, build_by_command
from store_io import store_io
from stream import stream_figure
from study_cost import study_figure
from training import EPOCHS, ROOMS, SEEDS, learning_figure, step_figure
from viewing import view_figure

MIB = 1 << 20


def memory(plan: Plan) -> Figure:
    """Peak resident memory of the command, few frames against many."""
    sizes = (plan.small_frames, plan.large_frames)
    if not Path("/proc/self/status").is_file():
        return Figure("Memory", [], ["not measured: needs Linux's /proc"])

    def peak(frames: int) -> Callable[[], float]:
        mat = plan.mat(frames)
        command = [*gfield_command(), "build", "nyu"]
        return lambda: watch_command([*command, mat, plan.fresh("store.zarr")]).peak_bytes / MIB

    peaks = interleave({f"memory, {n} frames": peak(n) for n in sizes}, min(2, plan.rounds))
    few, many = peaks.values()
    plan.fresh("store.zarr")
    return Figure(
        "Peak memory of gfield build, resident in its one process",
        [
            Line(f"{sizes[0]} frames", "MiB", few),
            Line(f"{sizes[1]} frames", "MiB", many, ("<=", 1536)),
            Line("many / few", "x", ratios(many, few), ("<=", 1.1)),
        ],
    )


def many(plan: Plan) -> Figure:
    """Memory of builds from sources of many files."""
    sizes = (plan.small_frames, plan.large_frames)
    return many_figure(plan.folder, plan.fresh, sizes, min(2, plan.rounds))


def rerun(plan: Plan) -> Figure:
    """A second run on a finished store, and a run with other thresholds."""
    mat, store = plan.mat(plan.all_frames), plan.fresh("finished.zarr")
    tell(f"building {plan.all_frames} frames")
    first = build_by_command(mat, store)
    before = _files(store)
    written = float(watch_command([*gfield_command(), "build", "nyu", mat, store]).written_bytes)
    again = interleave({"second run": lambda: build_by_command(mat, store)}, max(5, plan.rounds))["second run"]
    changed = len(set(before.items()) ^ set(_files(store).items()))
    plan.fresh("finished.zarr")

    mat, target = plan.mat(plan.frames), plan.folder / "store.zarr"
    times = interleave(
        {
            "full build": lambda: build_by_command(mat, plan.fresh("store.zarr")),
            "other thresholds": lambda: build_by_command(mat, target, "--low", "40", "--high", "160"),
        },
        plan.rounds,
    )
    plan.fresh("store.zarr")
    full, other = times.values()
    return Figure(
        "Second runs of gfield build, whole processes",
        [
            Line(f"first build of {plan.all_frames} frames", "s", [first]),
            Line(f"second run, {plan.all_frames} frames", "s", again, ("<=", 2.0)),
            Line("files changed by the second runs", "", [float(changed)], ("<=", 0)),
            Line("bytes written by a second run", "", [written], ("<=", 0)),
            Line(f"full build, {plan.frames} frames", "s", full),
            Line("other thresholds, same store", "s", other),
            Line("other thresholds / full build", "x", ratios(other, full), ("<=", 0.5)),
        ],
    )


def _files(store: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of change of all that is in a store and beside it."""
    found = sorted(store.parent.rglob(f"{store.name}*")) + sorted(store.rglob("*"))
    return {str(path): ((at := path.lstat()).st_ino, at.st_size, at.st_ctime_ns) for path in found}


def codecs(plan: Plan) -> Figure:
    """Size and speed of every codec that was considered."""
    frames = min(plan.seed.frames, plan.frames)
    text, rows = codec_table(plan.mat(frames), frames, tell)
    return Figure(
        f"Codecs, {frames} distinct frames at 640x480, one thread, checksummed; medians",
        [],
        text,
        {"codecs": rows},
    )


def shards(plan: Plan) -> Figure:
    """Our own shard code against the libraries that could do it instead."""
    frames = min(plan.seed.frames, 32)
    times = store_io(plan.mat(frames), plan.folder, frames, plan.short_rounds)
    return Figure(
        f"One shard of {frames} frames of RGB at 640x480, codec lz4, one thread",
        [Line(f"{name}, a frame", "ms", values) for name, values in times.items()],
        ["this package's writing includes fsync, a hash, and frame after frame instead of all from memory"],
    )


def stream(plan: Plan) -> Figure:
    """Batches for training, against other loaders."""
    frames = 128 * max(1 if plan.quick else 2, -(-plan.frames // 128))  # whole batches for each of two workers
    mat = plan.mat(frames)

    def build_one(store: Path, codec: str) -> Path:
        tell(f"building {frames} frames, {codec}")
        build_by_command(mat, store, "--codec", codec, "--level", "640x480")
        return store

    with TemporaryDirectory(dir=plan.folder) as folder:
        return stream_figure(frames, Path(folder), build_one, 1 if plan.quick else min(3, plan.rounds))


def step(plan: Plan) -> Figure:
    """Training steps on the stream, against steps on a constant batch."""
    store = plan.fresh("step.zarr")
    build_by_command(plan.mat(max(64, plan.small_frames)), store, "--level", "640x480", "--level", "320x240")
    figure = step_figure(store, blocks=4 * min(3, plan.rounds))
    plan.fresh("step.zarr")
    return figure


def learning(plan: Plan) -> Figure:
    """What is learnt from 400 synthetic rooms; a quick run has 40, and learns nothing."""
    quick = plan.quick
    store = _rooms(plan, "640x480", "160x120")
    return learning_figure(store, plan.folder, SEEDS[:1] if quick else SEEDS, 2 if quick else EPOCHS)


def study(plan: Plan) -> Figure:
    """`train study` against the plain commands."""
    quick = plan.quick
    steps, batch = (4, 8) if quick else (400, 32)
    store = _rooms(plan, "640x480", "80x60")
    return study_figure(store, plan.folder, steps=steps, batch=batch, rounds=min(2, plan.rounds))


def _rooms(plan: Plan, *levels: str) -> Path:
    """A store of synthetic rooms, of a tenth of them in a quick run."""
    rooms = ROOMS // 10 if plan.quick else ROOMS
    sample, store = plan.fresh("rooms"), plan.fresh("rooms.zarr")
    tell("rendering rooms")
    time_command([*gfield_command(), "sample", sample, "--rooms", str(rooms), "--outdoor", "2"])
    options = [part for level in levels for part in ("--level", level)]
    build_by_command(sample / "nyu" / "nyu_depth_v2_labeled.mat", store, *options)
    return store


FIGURES: dict[str, Callable[[Plan], Figure]] = {
    "build": build_figure,
    "stages": stages_figure,
    "memory": memory,
    "many": many,
    "rerun": rerun,
    "workers": workers_figure,
    "losing": losing_figure,
    "linear": linear_figure,
    "open": open_figure,
    "start": start_figure,
    "operator": operator_figure,
    "codecs": codecs,
    "whole-codecs": whole_codecs_figure,
    "shards": shards,
    "stream": stream,
    "step": step,
    "learning": learning,
    "study": study,
    "bucket": bucket_figure,
    "view": view_figure,
}
