"""The stream against the other ways to the same batches, and a training run's first batch.

Every way runs in a process of its own, in turns, on the same frames, which lie in the system's file cache.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from measure import Figure, Line, interleave, ratios, run_script, tell
from peers import absent, why_absent

BATCH = 64
Build = Callable[[Path, str], Path]
Rates = dict[str, list[float]]

OURS = {"lz4": "ours, default codec", "raw": "ours, --codec raw", "host": "ours, --cache host"}
RELEASED, COPY = "released code's loader, 2 workers", "copy in memory, 1 thread"
ZARR_ON_OURS = "zarr-python on our default store"
# Distribution, format, the way of reading it in which batches are put together by one's own code, and its title.
PEERS = [
    ("", "zarr", "zarr-hand", "zarr-python, raw"),
    ("litdata", "litdata", "litdata-hand", "LitData, raw"),
    ("mosaicml-streaming", "mosaic", "mosaic-hand", "MosaicML Streaming, raw"),
    ("webdataset", "webdataset", "webdataset-hand", "WebDataset, raw"),
    ("datasets", "huggingface", "arrow-hand", "Hugging Face datasets, raw"),
]
WORKERS = (0, 2)
BY_HAND = "batches by hand"


def stream_figure(frames: int, folder: Path, build: Build, rounds: int) -> Figure:
    """Measure.

    Parameters
    ----------
    frames
        How many there are; a multiple of 128, so that two workers, too, have whole batches and nothing is left out.
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
    epochs = max(1, 1024 // frames)
    tell("writing JPEG files")
    run_script("stream_io.py", "write", "jpegs", lz4, folder / "jpegs")

    def way(name: str, path: Path, epochs: int = epochs, *, true: bool = True) -> Callable[[], float]:
        unchecked = [lz4] if true else []

        def run() -> float:
            """The first time, what is yielded is compared with the store."""
            compared = [unchecked.pop()] if unchecked else []
            return run_script("stream_io.py", name, path, str(epochs), *compared)["rate"]

        return run

    ways = {
        OURS["lz4"]: way("none", lz4),
        OURS["raw"]: way("none", raw),
        OURS["host"]: way("host", lz4, 8 * epochs),
        RELEASED: way("released", folder / "jpegs", 1, true=False),
        COPY: way("copy", lz4, 8 * epochs, true=False),
    }
    for workers in WORKERS:
        ways[f"{ZARR_ON_OURS}, {workers} workers"] = way(f"zarr-{workers}", lz4, max(1, epochs // 2))
    for peer, kind, by_hand, title in PEERS:
        if peer and why_absent(peer):
            continue
        tell(f"writing for {kind}")
        run_script("stream_io.py", "write", kind, lz4, folder / kind)
        for workers in WORKERS:
            ways[f"{title}, {workers} workers"] = way(f"{kind}-{workers}", folder / kind)
        ways[f"{title}, {BY_HAND}"] = way(by_hand, folder / kind)
    rates = interleave(ways, rounds)
    return Figure(
        f"Stream of RGB + field at 640x480, {frames} frames, shuffled, batches of {BATCH} as torch tensors, on the CPU",
        [*(Line(name, "pairs/s", values) for name, values in rates.items()), *_comparisons(rates)],
        [
            "every way but the released code's was seen to yield the true values of all frames, in another order",
            "peers store raw arrays without checksums; our raw store has one of every chunk, and it is checked",
            "by hand: without workers, batches by NumPy's stack instead of the library's own collation (datasets: by",
            "Arrow's buffers), which is one copy out of the mapped file where the library allows that",
            *absent(*(peer for peer, *_ in PEERS if peer)),
        ],
        {"frames": frames, "batch": BATCH},
    )


def best_of(rates: Rates, names: Iterable[str]) -> str:
    """The way with the highest median."""
    return max(names, key=lambda name: statistics.median(rates[name]))


def _comparisons(rates: Rates) -> list[Line]:
    peers = [name for name in rates if name.startswith(tuple(title for *_, title in PEERS))]
    best = best_of(rates, peers)
    own = best_of(rates, [name for name in peers if BY_HAND not in name])
    same = best_of(rates, [name for name in rates if name.startswith(ZARR_ON_OURS)])
    lz4, raw, host = (rates[name] for name in OURS.values())
    each = [
        best_of(rates, of_title) for *_, title in PEERS if (of_title := [one for one in peers if one.startswith(title)])
    ]
    return [
        Line(f"raw / best peer ({best})", "x", ratios(raw, rates[best]), (">=", 2)),
        Line(f"raw / best peer's own batches ({own})", "x", ratios(raw, rates[own]), (">=", 2)),
        Line("default codec / zarr-python on the same store", "x", ratios(lz4, rates[same]), (">=", 2)),
        Line("default codec / best peer", "x", ratios(lz4, rates[best]), (">=", 0.8)),
        Line("default codec / best peer's own batches", "x", ratios(lz4, rates[own]), (">=", 0.8)),
        Line("default codec / released code's loader", "x", ratios(lz4, rates[RELEASED]), (">=", 20)),
        Line("--cache host / best peer", "x", ratios(host, rates[best]), (">=", 10)),
        Line("--cache host / best peer's own batches", "x", ratios(host, rates[own]), (">=", 10)),
        Line("--cache host / copy in memory", "x", ratios(host, rates[COPY]), (">=", 0.4)),
        *(Line(f"raw / {name}", "x", ratios(raw, rates[name])) for name in each if name not in (best, own)),
    ]
