"""The benchmark for cards runs whole where there is none, at tiny size; its figures are not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "gpu.py"
BLOCKS = (
    "resnet", "fcrn", "densedepth", "densenet",
    "compiled-resnet", "compiled-fcrn", "compiled-densedepth", "compiled-densenet",
)  # fmt: skip


def run(*arguments: object, code: int = 0, script: Path = SCRIPT) -> str:
    """The script as a user starts it; its output."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def tiny(store: Path, out: Path, *arguments: object) -> tuple[dict, str]:
    """What a tiny run keeps, and what it prints."""
    said = run("--tiny", "--device", "cpu", "--store", store, "--out", out, *arguments)
    return json.loads(out.read_text()), said


def assert_sound(result: dict) -> None:
    """Every line has its rounds, and every target a verdict; no step was skipped or left out."""
    for name, block in result["blocks"].items():
        facts = block["facts"]
        assert facts["flops a step"] > 1e8, name
        assert facts["steps skipped"] == 0, name
        assert "left out" not in facts, facts
        assert "no CUDA card" in facts["host waits in a step"]
        assert block["lines"][0]["what"] == "constant batch"
        for line in block["lines"]:
            assert min(line["values"]) > 0 or line["what"] == "  share of waiting", line
            assert line["reached"] in (True, False) if line["target"] else line["reached"] is None


def test_pretraining_and_fine_tuning_are_measured_beside_a_constant_batch_and_the_released_step(small_store, tmp_path):
    only = [part for name in ("resnet", "compiled-fcrn") for part in ("--only", name)]
    result, said = tiny(small_store, tmp_path / "gpu.json", *only, "--peak-tflops", 0.1)
    assert_sound(result)
    assert list(result["blocks"]) == ["resnet", "compiled-fcrn"]
    assert result["left_out"] == {}
    lines = {line["what"]: line for line in result["blocks"]["resnet"]["lines"]}
    assert {"--cache device", "--cache host", "--cache none", "constant, --accumulate 2"} <= lines.keys()
    assert lines["--cache device / released code's step"]["target"] == [">=", 3.0]
    assert lines["--cache none / constant batch"]["target"] == [">=", 0.97]
    # 6.0e9 operations a step of 4 images: at 1 image a second, 1.5 % of 0.1 TFLOP/s.
    constant, share = result["blocks"]["resnet"]["lines"][:2]
    flops = result["blocks"]["resnet"]["facts"]["flops a step"]
    assert share["median"] == pytest.approx(100 * flops / 4 * constant["median"] / 1e11, rel=0.01)
    assert "TINY RUN" in said
    assert "Fine-tuning, fcrn on resnet18, 80x60, batch 2" in said
    assert "--compile / without" in said


def test_a_budget_that_ends_leaves_blocks_out_by_name(small_store, tmp_path):
    result, said = tiny(small_store, tmp_path / "gpu.json", "--budget", 0.5)
    assert result["blocks"] == {}
    assert tuple(result["left_out"]) == BLOCKS
    assert "left out: compiled-fcrn, no time was left" in said


def test_without_a_card_there_are_no_figures(tmp_path):
    said = run("--device", "cpu", "--out", tmp_path / "gpu.json", code=1)
    assert "no CUDA card is at hand" in said
    assert not (tmp_path / "gpu.json").exists()


def test_a_store_without_the_level_is_one_clear_line(small_store, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
from pathlib import Path
from gpu_frames import find_input
find_input(Path({str(small_store)!r}), Path("unused"), 2).frames(("rgb",), (320, 240), 8)
"""
    (tmp_path / "script.py").write_text(code)
    said = run(script=tmp_path / "script.py", code=1)
    assert "no level 320x240, it has" in said
    assert "Traceback" not in said


def test_frames_in_memory_stand_in_where_no_store_can_be_built(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
for missing in ("dask", "zarr"):
    sys.modules[missing] = None
from pathlib import Path
from gpu_frames import find_input
from train.stream import Stream
given = find_input(None, Path({str(tmp_path)!r}), 2)
assert given.store is None and "dask" in given.what or "zarr" in given.what, given.what
for cache in ("none", "host"):
    with Stream(given.frames(("rgb", "depth"), (80, 60), 12), batch=4, seed=0, cache=cache) as stream:
        (batch,) = stream.batches(0, 1)
        assert batch.arrays["rgb"].shape == (4, 60, 80, 3) and batch.arrays["depth"].shape == (4, 30, 40)
        assert 0.02 <= batch.arrays["depth"].min() and batch.arrays["depth"].max() < 4
"""
    (tmp_path / "script.py").write_text(code)
    run(script=tmp_path / "script.py")


@pytest.mark.slow
def test_every_block_runs_and_a_store_is_built_where_none_is_given(tmp_path):
    said = run("--tiny", "--device", "cpu", "--out", tmp_path / "gpu.json", "--profile")
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert_sound(result)
    assert tuple(result["blocks"]) == BLOCKS
    assert "2 rendered rooms" in result["input"]
    assert "busiest kernels" in said
