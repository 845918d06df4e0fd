"""Measure a store and write its page; or give the same facts to scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gfield.files import write_atomically
from gfield.frame import UserError, printable
from gfield.info import store_facts
from gfield.listing import counted
from gfield.object_path import Location
from gfield.report.agreement import Agreement
from gfield.report.findings import findings
from gfield.report.measures import StoreMeasures, bin_edges
from gfield.report.page import page
from gfield.store import Store


def check_place(store: Location, out: Path) -> None:
    """Refuse a place for the page before anything is measured.

    Raises
    ------
    UserError
        If the name does not end in .html, the place is inside the store, or its folder is not there.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: the name ends in {out.suffix!r}, wanted .html")
    if isinstance(store, Path) and out.resolve().is_relative_to(store.resolve()):
        raise UserError(f"{out}: inside the store, which would no longer be what its manifest says; wanted beside it")
    if not out.parent.is_dir():
        raise UserError(f"{out}: no folder {out.parent}, wanted one that is there")


def write_page(store: Store, measures: StoreMeasures, out: Path, *, frames: int, worst: int) -> int:
    """Write the page, whole or not at all, and return its size in bytes; a file that is there is replaced.

    Raises
    ------
    StoreError
        If a frame cannot be read.
    OSError
        If the file cannot be written.
    """
    data = page(store, measures, frames=frames, worst=worst).encode()
    write_atomically(out, data)
    return len(data)


def report_facts(store: Store, measures: StoreMeasures) -> dict[str, Any]:
    """What the page says, for scripts; shares from 0 to 1."""
    frames = [
        {
            "row": frame.row,
            "name": str(store.names[frame.row]),
            "split": str(store.splits[frame.row]),
            "coverage": frame.coverage,
            "holes": frame.holes,
            "raw_holes": frame.raw_holes,
            "agreement": None
            if frame.agreement is None
            else {**frame.agreement._asdict(), "verdict": frame.agreement.verdict},
        }
        for frame in measures.frames
    ]
    return {
        **store_facts(store),
        "findings": findings(store, measures),
        "measured": {
            "level": measures.level,
            "frames": frames,
            "of": measures.readable,
            "worst": [frame.row for frame in measures.worst()],
            "depth_bin_edges_m": bin_edges().tolist(),
            "depth_pixels": {split: counts.tolist() for split, counts in measures.depths.items()},
        },
    }


def _agreement_facts(fits: Agreement | None) -> dict[str, Any] | None:
    return None if fits is None else {**fits._asdict(), "verdict": fits.verdict}


def report_summary(store: Store, measures: StoreMeasures) -> str:
    """How many frames were measured, and what to look at, as lines."""
    count = counted(len(measures.frames), "frame")
    of = f" of {measures.readable}" if len(measures.frames) < measures.readable else ""
    lines = [f"{count}{of} measured at {measures.level}", *(f"look: {told}" for told in findings(store, measures))]
    return "\n".join(map(printable, lines))
