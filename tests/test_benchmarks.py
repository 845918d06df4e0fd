"""What the benchmarks draw; what they measure is no test's business."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).with_name("benchmarks")))

from overview import draw_overview, rows_of


def write_figure(folder, name, *lines):
    keys = ("what", "unit", "values", "median", "target", "reached")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"lines": [dict(zip(keys, line, strict=True)) for line in lines]}))


@pytest.fixture
def folder(tmp_path):
    write_figure(
        tmp_path / "bench",
        "stream",
        ("ours", "pairs/s", [10.0, 30.0], 20.0, None, None),
        ("ours / theirs", "x", [2.5, 3.0], 2.75, [">=", 2], True),
    )
    write_figure(tmp_path / "bench", "build", ("ours / floor", "x", [1.2, 1.4], 1.3, ["<=", 1.15], False))
    return tmp_path / "bench"


def test_rows_are_the_ratios_in_the_order_of_a_run(folder):
    rows = rows_of(folder)
    assert [(row.figure, row.what, row.target, row.reached) for row in rows] == [
        ("build", "ours / floor", ("<=", 1.15), False),
        ("stream", "ours / theirs", (">=", 2.0), True),
    ]


def test_a_picture_is_drawn_where_it_can_be(folder):
    picture = folder / "deep" / "overview.png"
    said = draw_overview(folder, picture)
    if said.startswith("no picture"):
        pytest.skip(said)
    assert said == f"2 ratios drawn in {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nothing_measured_is_nothing_drawn(tmp_path):
    assert draw_overview(tmp_path, tmp_path / "overview.png") == f"no ratio in {tmp_path}: nothing to draw"
