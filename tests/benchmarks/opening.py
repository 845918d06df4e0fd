"""The figures of the operator, of opening and starting, and of whole stores by codec."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from large_store import write_large_store
from measure import Figure, Line, gfield_command, interleave, ratios, run_script, tell, time_command
from peers import absent
from plan import Plan, build_by_command


def operator_figure(plan: Plan) -> Figure:
    """Ours, OpenCV's Canny alone, the released code's, scikit-image's and kornia's."""
    frames = min(plan.seed.frames, plan.frames)
    tell("operators")
    told = run_script("operators.py", plan.mat(frames), str(plan.short_rounds))
    lines: list[Line] = []
    for size in ("640x480", "320x240"):
        times: dict[str, list[float]] = told[size]
        ours, canny, with_grey, *others = (
            "ours, RGB to field",
            "cv2.Canny alone, of the grey picture",
            "cvtColor and cv2.Canny",
            *(name for name in times if name.startswith(("released", "scikit", "kornia"))),
        )
        lines += [Line(f"{size}: {name}", "ms", values) for name, values in times.items()]
        lines += [
            Line(f"{size}: ours / cv2.Canny alone", "x", ratios(times[ours], times[canny]), ("<=", 1.35)),
            Line(f"{size}: ours / cvtColor and cv2.Canny", "x", ratios(times[ours], times[with_grey])),
            *(Line(f"{size}: {name} / ours", "x", ratios(times[name], times[ours])) for name in others),
        ]
    return Figure(
        f"Operator, ms a picture: {frames} frames, one thread",
        lines,
        [
            f"{told['compared']} fields are the definition's bit for bit: grey, Sobel, cv2.Canny, float16 of the root",
            "ours starts from RGB, cv2.Canny alone from grey that is there; scikit-image and kornia blur first",
            *absent("scikit-image", "kornia"),
        ],
        {"frames": frames},
    )


def open_figure(plan: Plan) -> Figure:
    """How soon a store is open, and a stream's first batch there, in processes whose imports are done."""
    sizes = (1449, 120_000)
    stores: dict[int, Path] = {}
    for n in sizes:
        tell(f"a store of {n} frames")
        stores[n] = plan.fresh(f"opened-{n}.zarr")
        write_large_store(stores[n], n)
    frames = max(64, plan.frames)
    real = plan.fresh("first.zarr")
    build_by_command(plan.mat(frames), real, "--level", "640x480")
    texts: dict[int, list[float]] = {n: [] for n in sizes}

    def opened(n: int) -> Callable[[], float]:
        def once() -> float:
            told = run_script("large_store.py", stores[n])
            texts[n].append(told["seconds"])
            return told["open"]

        return once

    def batch(what: str) -> Callable[[], float]:
        return lambda: run_script("touch.py", what, real)["seconds"]

    runs = {f"open {n}": opened(n) for n in sizes}
    runs |= {what: batch(what) for what in ("first batch", "first batch, default")}
    times = interleave(runs, min(9, plan.short_rounds))
    for path in (*stores.values(), real):
        plan.fresh(path.name)
    lines = []
    for n in sizes:
        lines += [
            Line(f"open_store of {n:,} frames", "ms", [1000 * s for s in times[f"open {n}"]], ("<=", 500)),
            Line(f"and names, splits, scenes, rows of {n:,}", "ms", [1000 * s for s in texts[n]], ("<=", 500)),
        ]
    return Figure(
        f"Opening: stores without pictures in them, and the first batch of 64 from a store of {frames} frames",
        [
            *lines,
            Line("open_store to first batch, no cache", "s", times["first batch"], ("<=", 0.3)),
            Line("open_store to first batch, default cache", "s", times["first batch, default"]),
        ],
        ["in fresh processes, imports not counted; files in the system's cache; the default keeps what it decodes"],
        {"frames": frames},
    )


def start_figure(plan: Plan) -> Figure:
    """What starting costs, against the imports that cannot be avoided."""

    def python(code: str) -> Callable[[], float]:
        return lambda: time_command([sys.executable, "-c", code])

    runs = {
        "gfield --help": lambda: time_command([*gfield_command(), "--help"]),
        "import click": python("import click"),
        "import gfield": python("import gfield"),
        "import numpy, zarr": python("import numpy, zarr"),
        "from gfield import open_store": python("from gfield import open_store"),
    }
    for run in runs.values():
        run()  # writes the .pyc files
    times = {name: [1000 * s for s in seconds] for name, seconds in interleave(runs, plan.short_rounds).items()}
    more = [a - b for a, b in zip(times["gfield --help"], times["import click"], strict=True)]
    numpy_zarr = times["import numpy, zarr"]
    opener = ratios(times["from gfield import open_store"], numpy_zarr)
    return Figure(
        "Start, whole processes",
        [
            *(Line(name, "ms", values) for name, values in times.items()),
            Line("gfield --help less import click", "ms", more, ("<=", 150)),
            Line("import gfield / import numpy, zarr", "x", ratios(times["import gfield"], numpy_zarr), ("<=", 1.0)),
            Line("open_store / import numpy, zarr", "x", opener, ("<=", 1.0)),
        ],
    )


def whole_codecs_figure(plan: Plan) -> Figure:
    """Size of a store, its build and its stream, by codec."""
    codecs, frames = ("lz4", "zstd", "raw"), 128 * max(1, plan.frames // 128)
    mat = plan.mat(frames)
    stores = {codec: plan.folder / f"whole-{codec}.zarr" for codec in codecs}
    sizes: dict[str, float] = {}

    def build(codec: str) -> Callable[[], float]:
        return lambda: run_script("package_build.py", mat, plan.fresh(stores[codec].name), "0", codec)["seconds"]

    def stream(codec: str) -> Callable[[], float]:
        return lambda: run_script("stream_io.py", "none", stores[codec], "4")["rate"]

    rounds = min(3, plan.rounds)
    built = interleave({codec: build(codec) for codec in codecs}, rounds)
    streamed = interleave({codec: stream(codec) for codec in codecs}, rounds)
    for codec, store in stores.items():
        sizes[codec] = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 1e6
        plan.fresh(store.name)
    return Figure(
        f"Whole stores by --codec: {frames} frames, six arrays, all cores",
        [
            line
            for codec in codecs
            for line in (
                Line(f"{codec}: size", "MB", [sizes[codec]]),
                Line(f"{codec}: size / raw", "x", [sizes[codec] / sizes["raw"]]),
                Line(f"{codec}: build_store", "s", built[codec]),
                Line(f"{codec}: stream of RGB + field at 640x480", "pairs/s", streamed[codec]),
            )
        ],
        data={"frames": frames},
    )
