"""Every example that the documentation has in Python: blocks of the pages, docstrings, examples/, the notebook."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import gfield

from . import object_server
from .documents import PAGES, ROOT, blocks, check_printed, run_step, steps

EXAMPLES = ROOT / "examples"
WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
MODULES = sorted(
    {f"gfield.{home}" for home in gfield._HOMES.values()}
    | set(re.findall(r"^::: (train\.\S+)", (ROOT / "docs/reference/train.md").read_text("utf-8"), re.MULTILINE))
)


@pytest.fixture(scope="module")
def folder(built, nyu_mat, tmp_path_factory) -> Path:
    """What the examples expect to find where they run: the input, and a store of it."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(built, folder / "nyu.zarr")
    for file in nyu_mat.parent.iterdir():
        shutil.copy(file, folder / file.name)
    return folder


@pytest.fixture
def lab(built, monkeypatch) -> Iterator[None]:
    """The bucket ``lab`` of docs/howto/object-stores.md, on a server of this machine, with a store in it."""
    pytest.importorskip("moto", reason="moto, an S3 server, is not installed: pip install '.[dev]'")
    process, port = object_server.start_server()
    try:
        for name, value in object_server.settings(port).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # obstore by itself speaks to a server of this machine only so
        object_server.make_bucket(port, "lab")
        object_server.put_tree(built, "s3://lab/nyu.zarr")
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_code_in_pages_runs(page, folder, monkeypatch, request):
    """All blocks of a page one after the other, as a reader would type them."""
    if "s3://lab" in page.read_text(encoding="utf-8"):
        request.getfixturevalue("lab")
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.language == "python":
            # Padded, so that a traceback tells the line of the page.
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, names)


def test_there_is_code_in_pages():
    assert {page.name for page in WITH_PYTHON} >= {"format.md", "reuse-fields.md", "tutorial.md"}


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_hold(module, folder, monkeypatch):
    monkeypatch.chdir(folder)
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert not results.failed


@pytest.mark.parametrize(
    "name", ["open_store", "build_store", "make_spec", "verify_store", "gradient_field", "FieldParams", "open_nyuv2"]
)
def test_what_is_used_most_has_an_example(name):
    assert ">>>" in getattr(gfield, name).__doc__


@pytest.fixture
def recording(tmp_path) -> Path:
    """What examples/own_dataset.py takes: pairs of PNGs, as a depth camera would leave them."""
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (tmp_path / "recording" / kind).mkdir(parents=True)
    for index in range(12):
        small_HWC = rng.integers(0, 256, (12, 16, 3), np.uint8)
        millimetres_HW = np.full((480, 640), 500 + 100 * index, np.uint16)
        millimetres_HW[:10] = 0
        rgb = cv2.resize(small_HWC, (640, 480), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / f"recording/rgb/{index:03d}.png"), rgb)
        cv2.imwrite(str(tmp_path / f"recording/depth/{index:03d}.png"), millimetres_HW)
    shutil.copy(EXAMPLES / "own_dataset.py", tmp_path)
    return tmp_path / "recording"


def test_a_data_set_of_your_own_in_40_lines(recording):
    """As docs/howto/own-data.md has it, and what is in the store then."""
    assert len((EXAMPLES / "own_dataset.py").read_text("utf-8").splitlines()) <= 40
    here = recording.parent
    for block in blocks(ROOT / "docs" / "howto" / "own-data.md"):
        for step in steps(block) if block.language == "console" else ():
            check_printed(step, run_step(step, here), 0.1)
    store = gfield.open_store(here / "own.zarr")
    assert (len(store), store.spec.kind, store.rows("test").tolist()) == (12, "recording", [0, 10])
    depth_HW = store.read("640x480/depth", [3])[0]
    assert np.isnan(depth_HW[:10]).all()
    assert (depth_HW[10:] == np.float32(0.8)).all()
    assert (store.read("640x480/rgb", [3])[0] == cv2.imread(str(recording / "rgb/003.png"))[..., ::-1]).all()


def test_a_broken_pair_of_your_own_data_set_is_named(recording):
    cv2.imwrite(str(recording / "depth" / "004.png"), np.ones((20, 20), np.uint16))
    done = subprocess.run(
        [sys.executable, "own_dataset.py", "recording", "own.zarr"],
        cwd=recording.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "004: no pair of PNGs of 640x480" in done.stderr
    assert not (recording.parent / "own.zarr").exists()


def test_examples_read_as_python():
    for path in EXAMPLES.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path.name}: what is it an example of?"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[dev]'")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install '.[dev]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "built 6 frames, 1 shard" in printed
    assert "12 fields recomputed, 0 findings" in printed
    assert "edges, the strongest" in printed
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert min(map(len, pictures)) > 5000


def test_the_notebook_is_kept_without_outputs():
    for cell in json.loads((EXAMPLES / "tour.ipynb").read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
