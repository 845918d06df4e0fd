"""The stream against the other ways to the same batches: the released code's loader, LitData, a copy in memory.

Every way runs in a process of its own, in turns, on the same frames, which lie in the system's file cache.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from measure import Figure, Line, interleave, ratios, run_script, tell

BATCH = 64
HOST_PAIRS, HOST_SHARE = 5000, 0.2
Build = Callable[[Path, str], Path]


def stream_figure(frames: int, folder: Path, build: Build, rounds: int) -> Figure:
    """Measure.

    Parameters
    ----------
    frames
        How many there are.
    folder
        Where other formats are written.
    build
        Makes a store of them, given its path and the codec.
    rounds
        Turns of every way.
    """
    missing = [name for name in ("torch", "PIL") if find_spec(name) is None]
    if missing:
        return Figure("Stream", [], [f"not measured: {', '.join(missing)} not installed"])
    lz4, raw = build(folder / "lz4.zarr", "lz4"), build(folder / "raw.zarr", "raw")
    tell("writing JPEG files")
    run_script("stream_io.py", "write-jpegs", lz4, folder / "jpegs")
    with_litdata = find_spec("litdata") is not None
    if with_litdata:
        tell("writing LitData's chunks")
        run_script("stream_io.py", "write-litdata", lz4, folder / "litdata")
    epochs = max(1, 1024 // frames)

    def way(name: str, path: Path, epochs: int = epochs) -> Callable[[], float]:
        return lambda: run_script("stream_io.py", name, path, str(epochs))["rate"]

    ways = {
        "stream, lz4": way("none", lz4),
        "stream, raw": way("none", raw),
        "stream, --cache host": way("host", lz4, 8 * epochs),
        "released code's loader, 2 workers": way("released", folder / "jpegs", 1),
        "copy in memory, 1 thread": way("copy", lz4, 8 * epochs),
    }
    if with_litdata:
        ways |= {f"LitData, {n} workers": way(f"litdata-{n}", folder / "litdata") for n in (0, 2)}
    rates = interleave(ways, rounds)
    return Figure(
        f"Stream of RGB + field at 640x480, {frames} frames, shuffled, batch {BATCH}, on the CPU",
        [*(Line(name, "pairs/s", values) for name, values in rates.items()), *_comparisons(rates)],
        [] if with_litdata else ["LitData is not installed: `pip install litdata` adds it to the table"],
        {"frames": frames, "batch": BATCH},
    )


def _comparisons(rates: dict[str, list[float]]) -> list[Line]:
    lz4, raw, host = rates["stream, lz4"], rates["stream, raw"], rates["stream, --cache host"]
    wanted = [min(HOST_PAIRS, HOST_SHARE * copied) for copied in rates["copy in memory, 1 thread"]]
    lines = [
        Line("lz4 / released code's loader", "x", ratios(lz4, rates["released code's loader, 2 workers"]), (">=", 12)),
        Line("--cache host / what is wanted of it", "x", ratios(host, wanted), (">=", 1)),
    ]
    litdata = [values for name, values in rates.items() if name.startswith("LitData")]
    if litdata:
        best = max(litdata, key=statistics.median)
        lines += [
            Line("lz4 / LitData at its best", "x", ratios(lz4, best), (">=", 0.7)),
            Line("raw / LitData at its best", "x", ratios(raw, best), (">=", 1.2)),
        ]
    return lines
