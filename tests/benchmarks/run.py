"""Measure the figures that this package promises, print them as one table, and keep JSON and pictures in build/bench.

``python tests/benchmarks/run.py [--quick] [--only NAME] [--frames N] [--rounds N] [--mat FILE] [--scratch DIR]
[--bucket URL]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from figures import FIGURES
from inputs import find_seed, scratch_folder
from measure import HERE, Figure, Line, tell
from peers import MODULES, why_absent
from plan import Plan
from plot import OUTPUT, draw

LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "zarr",
    "numcodecs",
    "h5py",
    "deflate",
    "blake3",
    "dask",
    "torch",
    *MODULES,
)
FREE_BYTES = 10 << 30
QUICK = {
    "frames": 64,
    "small_frames": 32,
    "large_frames": 128,
    "all_frames": 256,
    "worker_frames": 96,
    "rounds": 2,
    "short_rounds": 5,
    "quick": True,
}


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "CPU": f"{_cpu_model()}, {cores} cores for this process",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            facts[library] = "absent"
    return facts


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def print_figure(figure: Figure) -> None:
    """One block of the table."""
    print(f"\n{figure.title}")
    width = max((len(line.what) for line in figure.lines), default=0) + 2
    if figure.lines:
        print(f"  {'':{width}}{'median':>14}   {'min - max':<17}{'runs':>4}  {'target':<9}reached")
    for line in figure.lines:
        print(f"  {_row(line, width)}".rstrip())
    for text in figure.text:
        print(f"  {text}")


def _row(line: Line, width: int) -> str:
    unit = "" if line.unit == "x" else f" {line.unit}"
    number = _x if line.unit == "x" else _plain
    spread = f"{number(min(line.values))} - {number(max(line.values))}"
    target = "" if line.target is None else f"{line.target[0]} {line.target[1]:g}{unit}"
    reached = {None: "", True: "yes", False: "NO"}[line.reached]
    value = number(line.median) + unit
    return f"{line.what:{width}}{value:>14}   {spread:<17}{len(line.values):>4}  {target:<9} {reached}"


def _x(value: float) -> str:
    return f"{value:.2f}x"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.2f}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks/run.py", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--quick", action="store_true", help="few frames and rounds: to see that all of it runs")
    parser.add_argument("--only", choices=list(FIGURES), action="append", help="only this figure; repeatable")
    parser.add_argument("--frames", type=int, help="frames of a build (256)")
    parser.add_argument("--rounds", type=int, help="rounds of a build (5)")
    parser.add_argument("--mat", type=Path, help="a .mat whose frames are repeated, one frame a chunk")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure on (the system's temporary one)")
    parser.add_argument("--bucket", default="", help="s3://BUCKET[/PREFIX] of a server that runs (moto's, begun here)")
    options = parser.parse_args()
    if options.bucket and not options.bucket.startswith("s3://"):
        parser.error(f"--bucket is {options.bucket!r}, wanted s3://BUCKET or s3://BUCKET/PREFIX")
    return options


def main() -> None:
    """Run and print the figures."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the scratch folder goes with the process
    sizes: dict[str, Any] = dict(QUICK) if options.quick else {}
    sizes |= {name: value for name in ("frames", "rounds", "bucket") if (value := getattr(options, name)) is not None}
    facts = machine()
    print(", ".join(f"{name} {value}" if name in ("Python", *LIBRARIES) else value for name, value in facts.items()))
    if options.quick:
        print("QUICK RUN: few frames and rounds, the figures mean little")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with scratch_folder(options.scratch) as name:
        folder = Path(name)
        if not options.quick and shutil.disk_usage(folder).free < FREE_BYTES:
            sys.exit(f"{folder}: less than {FREE_BYTES >> 30} GiB free; --scratch DIR names another folder")
        seed = find_seed(folder, options.mat)
        print(f"input: {seed.what}", flush=True)
        plan = Plan(seed, folder, **sizes)
        for wanted in options.only or FIGURES:
            figure = FIGURES[wanted](plan)
            tell("")
            print_figure(figure)
            sys.stdout.flush()
            _keep(wanted, figure, facts, seed.what, options.quick)
    _draw()
    print(f"\n{time.monotonic() - started:.0f} s in all; JSON and pictures in {OUTPUT.relative_to(HERE.parents[1])}")


def _draw() -> None:
    """The pictures of all figures that are kept, those of earlier runs too; none without matplotlib."""
    if why := why_absent("matplotlib"):
        print(f"\nno pictures: {why}")
        return
    draw(OUTPUT, list(FIGURES))


def _keep(name: str, figure: Figure, facts: dict[str, str], source: str, quick: bool) -> None:
    kept = {
        "title": figure.title,
        "quick": quick,
        "machine": facts,
        "input": source,
        "lines": [line.to_json() for line in figure.lines],
        **figure.data,
    }
    (OUTPUT / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
