"""What of the benchmarks is right or wrong without being timed: their comparisons, their definition, their pictures."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gfield import gradient_field

FOLDER = Path(__file__).parent / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Modules of the benchmarks import each other as scripts of one folder do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def line(what: str, unit: str, values: list[float], target: Any = None, reached: Any = None) -> dict[str, Any]:
    """A line as the JSON has it."""
    median = float(np.median(values))
    return {
        "what": what,
        "unit": unit,
        "median": median,
        "values": values,
        "target": target,
        "reached": reached,
    }


def write_run(folder: Path, *, quick: bool) -> None:
    lines = [
        line("ours", "s", [1.0, 2.0]),
        line("theirs / ours", "x", [3.0, 4.0], [">=", 2], True),
        line("a / b", "x", [0.5]),
    ]
    (folder / "build.json").write_text(json.dumps({"quick": quick, "lines": lines}))
    (folder / "memory.json").write_text(json.dumps({"quick": quick, "lines": [line("peak", "MiB", [9.0])]}))


def test_target_is_reached_by_the_median_and_on_its_own_side(load: Load) -> None:
    measure = load("measure")
    assert measure.Line("a", "x", [1.0, 3.0, 9.0], (">=", 3)).reached is True
    assert measure.Line("a", "x", [1.0, 3.0, 9.0], ("<=", 2.9)).reached is False
    assert measure.Line("a", "x", [1.0]).reached is None
    assert measure.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_names_of_requirements_are_normalised_and_extras_are_left_out(load: Load) -> None:
    peers = load("peers")
    assert [peers.name_of(one) for one in ("Scikit_Image[data] >=1; python_version>'3'", "zope.event<2", "a")] == [
        "scikit-image",
        "zope-event",
        "a",
    ]
    wanted = ["numpy<2.2", "pytest; extra == 'dev'", "tomli; python_version < '3.11'"]
    assert peers.needs_of(wanted) == [wanted[0], wanted[2]]


def test_every_peer_of_the_extra_has_a_module_to_be_tried(load: Load) -> None:
    peers = load("peers")
    project = importlib.import_module("tomllib").loads((peers.ROOT / "pyproject.toml").read_text())["project"]
    assert {peers.name_of(one) for one in project["optional-dependencies"]["bench"]} == {*peers.MODULES}


def test_a_missing_peer_is_named_with_its_reason(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = load("peers")
    monkeypatch.setitem(peers.MODULES, "nowhere-to-be-found", "nowhere_to_be_found")
    (text,) = peers.absent("nowhere-to-be-found")
    assert text.startswith("nowhere-to-be-found is left out: ModuleNotFoundError")


@pytest.mark.parametrize(("frames", "length"), [(512, 32), (72, 24), (31, 31), (37, 1)])
def test_dask_chunks_are_whole_shards_of_equal_length(load: Load, frames: int, length: int) -> None:
    assert load("dask_script").shard_length(frames) == length


def test_definition_of_the_benchmark_is_the_operator_bit_for_bit(load: Load) -> None:
    rng = np.random.default_rng(3)
    rgb_HWC = rng.integers(0, 256, (60, 80, 3), np.uint8)
    wanted_HW = load("operators").definition(rgb_HWC)
    assert np.count_nonzero(wanted_HW) > 500
    np.testing.assert_array_equal(gradient_field(rgb_HWC).view(np.uint16), wanted_HW.view(np.uint16))


def test_best_peer_has_the_highest_median(load: Load) -> None:
    rates = {"a": [1.0, 1.0, 99.0], "b": [2.0, 2.0, 2.0], "c": [50.0, 50.0, 50.0]}
    assert load("stream").best_of(rates, ["a", "b"]) == "b"


def test_ratios_are_drawn_by_figure_and_other_units_are_not(load: Load, tmp_path: Path) -> None:
    plot = load("plot")
    write_run(tmp_path, quick=True)
    run = plot.read_run(tmp_path, ["memory", "build", "absent"])
    assert list(run) == ["memory", "build"]
    (group,) = plot.ratio_groups(run, with_target=False)
    assert (group[0], [row["what"] for row in group[1]]) == ("build", ["theirs / ours", "a / b"])
    (few,) = plot.ratio_groups(run, with_target=True)
    assert [row["what"] for row in few[1]] == ["theirs / ours"]
    assert [row["what"] for _, rows in plot.contender_groups(run) for row in rows] == ["ours"]


def test_documents_get_no_picture_of_a_quick_run(load: Load, tmp_path: Path) -> None:
    write_run(tmp_path, quick=True)
    with pytest.raises(SystemExit, match="quick run"):
        load("plot").draw(tmp_path, ["build"], tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_pictures_are_drawn(load: Load, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path, quick=False)
    drawn = load("plot").draw(tmp_path, ["build", "memory"])
    assert [path.name for path in drawn] == ["overview.png", "contenders.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_outputs_of_earlier_rounds_are_put_aside_empty(load: Load, tmp_path: Path) -> None:
    made = load("plan").Plan(load("inputs").Seed(tmp_path / "a.mat", "", 1), tmp_path)
    for _ in range(3):
        store = made.fresh("store.zarr")
        assert not store.exists()
        (store / "c").mkdir(parents=True)
        (store / "c/0").write_bytes(bytes(1000))
    assert sum(file.stat().st_size for file in (tmp_path / "emptied").rglob("*") if file.is_file()) == 0
    assert len(list((tmp_path / "emptied").iterdir())) == 2
