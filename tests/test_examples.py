"""The very files of `examples/`, each run as a user would, against what the reader of this project reads."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

import cli
from gfield.store import Store, open_store
from train.checkpoint import save_checkpoint
from train.depth import make_depth_net
from train.encoders import make_encoder
from train.restore import depth_net_of_run, encoder_of_run
from train.runs import create_run

from .odd_source import odd_store
from .small_runs import train

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NAPARI = ROOT / "build" / "napari" / "bin" / "python"
NODE = ROOT / "build" / "zarrita"
PACKAGES = ("zarrita@0.7", "@petamoriken/float16@3")
OF_OURS = {"with_dataloader.py"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(small_store) -> Store:
    return open_store(small_store)


def run(example: str, *arguments: object, cwd: Path, python: str | Path = sys.executable) -> list[str]:
    """The lines that an example prints, in a folder and with caches of its own, and with no network."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_HOME": str(cwd / "hf"),
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
    }
    command = [str(python), str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_here(monkeypatch, capsys, example: str, *arguments: object) -> list[str]:
    """As `run`, in this process, which has loaded torch already."""
    monkeypatch.setattr(sys, "argv", [example, *map(str, arguments)])
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def exported(store: Store, to: str, folder: Path) -> Path:
    """An export of the small level by the command."""
    level = [] if to == "croissant" else ["--level", "80x60"]
    out = folder / f"nyu-{to}"
    result = CliRunner().invoke(cli.gfield, ["export", str(store.path), str(out), "--to", to, *level])
    assert result.exit_code == 0, result.output
    return out


def total(array: np.ndarray) -> float:
    """Of a few bits a value, so that it is exact in whatever order it is added."""
    return float(array.sum(dtype=np.float64))


def described(field_HW: np.ndarray) -> str:
    edges, sum_of = (field_HW > 0).sum(), total(field_HW)
    return f"{field_HW.shape} {field_HW.dtype} edge pixels: {edges} sum: {sum_of}"


def test_there_is_a_test_of_every_example():
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    here = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in names if name.startswith("with_")} == {name for name in names if f'"{name}"' in here}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("with_*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_import_nothing_of_ours(path):
    lines = ast.unparse(ast.parse(path.read_text(encoding="utf-8")).body[1:]).splitlines()
    code = [line for line in lines if line.strip() and not line.lstrip().startswith(("import ", "from "))]
    assert len(code) <= 14
    modules = {node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    modules |= {
        name.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    ours = {name for name in modules if name.partition(".")[0] in ("gfield", "train", "cli")}
    assert bool(ours) == (path.name in OF_OURS)


def test_xarray(store, tmp_path):
    field, attributes = run("with_xarray.py", store.path, cwd=tmp_path)
    assert field == described(store.read("640x480/gradient", [0])[0])
    assert attributes == "gradient field: Sobel magnitude of luminance on Canny edges, else zero | depth in m"


def test_zarr(store, tmp_path):
    rows = store.rows("test").tolist()
    depth_NHW = store.read("640x480/depth", rows)
    (line,) = run("with_zarr.py", store.path, "test", cwd=tmp_path)
    assert line == f"{rows} {depth_NHW.shape} float32 sum in metres: {total(depth_NHW)}"


def test_tensorstore(store, tmp_path):
    lines = run("with_tensorstore.py", store.path, cwd=tmp_path)
    assert lines == [f"{row} {described(store.read('640x480/gradient', [row])[0])}" for row in range(4)]


def test_a_dataloader_of_ours(store, tmp_path):
    lines = run("with_dataloader.py", store.path, cwd=tmp_path)
    rows = store.rows("train")
    assert_batches(store, lines, rows.tolist(), lambda index: int(rows[index]))


def test_a_dataloader_of_zarr(store, tmp_path):
    lines = run("with_dataloader_zarr.py", store.path, cwd=tmp_path)
    assert_batches(store, lines, store.rows("train").tolist(), lambda row: row)


def assert_batches(store: Store, lines: list[str], rows: list[int], row_of) -> None:
    """Each line has the numbers, the shape of the pictures and the fields' sums of a batch of two."""
    seen = []
    for line in lines:
        numbers, shape, sums = ast.literal_eval(f"[{line.replace('] (', '], (').replace(') [', '), [')}]")
        assert shape == (len(numbers), 480, 640, 3)
        batch = [row_of(number) for number in numbers]
        assert sums == [total(field_HW) for field_HW in store.read("640x480/gradient", batch)]
        seen += batch
    assert sorted(seen) == rows


# WebDataset leaves its files to be closed by whoever collects its generators.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("to", "example", "inside"),
    [
        ("hf", "with_datasets.py", ""),
        ("webdataset", "with_webdataset.py", "train-000000.tar"),
        ("litdata", "with_litdata.py", "train"),
    ],
)
def test_what_is_exported_for_training(store, tmp_path, monkeypatch, capsys, to, example, inside):
    out = exported(store, to, tmp_path) / inside
    # datasets keeps a cache in the user's home, unless it is told so before it is imported.
    lines = run(example, out, cwd=tmp_path) if to == "hf" else run_here(monkeypatch, capsys, example, out)
    frames = [line for line in lines if "sums:" in line]
    wanted = []
    for row in store.rows("train").tolist():
        field_HW, depth_HW = (store.read(f"80x60/{name}", [row])[0] for name in ("gradient", "depth"))
        wanted.append(f"{store.names[row]} (60, 80, 3) sums: {total(field_HW)} {total(depth_HW)}")
    assert frames == wanted
    if to == "hf":
        assert lines[0] == "Array2D(shape=(60, 80), dtype='float16') Image(mode=None, decode=True)"


def test_mlcroissant(store, tmp_path):
    lines = run("with_mlcroissant.py", exported(store, "croissant", tmp_path), cwd=tmp_path)
    assert lines[0] == f"nyu.zarr {len(store.manifest.files) + 1} files"
    arrays = len(store.arrays)
    assert lines[1] == "640x480/rgb uint8 10,480,640,3 1"
    texts = zip(store.names, store.splits, store.scenes, strict=True)
    assert lines[1 + arrays :] == [f"{row} {' '.join(of_frame)}" for row, of_frame in enumerate(texts)]


@pytest.mark.skipif(not NAPARI.exists(), reason="napari has an environment of its own: docs/howto/other-tools.md")
def test_napari(store, tmp_path):
    """It brings a pytest plugin that warns when it is loaded, and warnings are errors here."""
    lines = run("with_napari.py", store.path, "--no-window", cwd=tmp_path, python=NAPARI)
    sizes = [(480, 640), (120, 160), (60, 80)]
    assert lines == [
        f"{name} {[(10, *size, *channels) for size in sizes]} "
        f"sum of frame 0: {total(store.read(f'640x480/{name}', [0]))}"
        for name, channels in (("depth", ()), ("gradient", ()), ("rgb", (3,)))
    ]


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """A folder with zarrita, installed once from npm's registry below build/."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is not installed")
    if not (NODE / "node_modules" / "zarrita").is_dir():
        scratch = NODE.with_name(f"zarrita-{os.getpid()}.tmp")
        scratch.mkdir(parents=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(scratch), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(scratch)
            pytest.skip(f"npm cannot install zarrita: {(done.stderr.strip().splitlines() or ['no reason'])[0]}")
        if NODE.exists():
            shutil.rmtree(NODE)
        scratch.rename(NODE)
    return NODE


def run_node(script: Path, node_modules: Path, tmp_path: Path, *arguments: object) -> list[str]:
    """Node looks for packages beside a script."""
    (tmp_path / "node_modules").symlink_to(node_modules / "node_modules")
    shutil.copy(script, tmp_path / script.name)
    command = ["node", str(tmp_path / script.name), *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_zarrita(store, node_modules, tmp_path):
    *arrays, names = run_node(EXAMPLES / "with_zarrita.mjs", node_modules, tmp_path, store.path)
    assert names.split() == store.names.tolist()
    for line, name in zip(arrays, ("gradient", "depth", "rgb"), strict=True):
        (frame,) = store.read(f"640x480/{name}", [0])
        said, _, sum_of = line.rpartition(" sum: ")
        assert said == f"640x480/{name} {frame.dtype} {'x'.join(map(str, frame.shape))}"
        assert float(sum_of) == total(frame)


@pytest.mark.parametrize("codec", ["lz4", "zstd", "raw"])
def test_zarrita_reads_every_bit_of_every_codec(node_modules, tmp_path, codec):
    """Shards, Blosc of both compressors with and without its shuffle, missing chunks, and types of every width."""
    store = open_store(odd_store(tmp_path, codec))
    texts = ["name", "split", "scene", "weather"]
    lines = run_node(
        Path(__file__).with_name("zarrita_digests.mjs"), node_modules, tmp_path, store.path, *store.arrays, *texts
    )
    wanted = []
    for key in store.arrays:
        array = store.read(key, range(len(store)))
        wanted.append([key, str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()])
    for name in texts:
        told = json.dumps(store.text(name).tolist(), ensure_ascii=False, separators=(",", ":"))
        wanted.append([name, "string", [len(store)], hashlib.sha256(told.encode()).hexdigest()])
    assert [json.loads(line) for line in lines] == wanted


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A pre-training and a fine-tuning of one encoder, each with a checkpoint, as their commands save them."""
    net = make_depth_net("densedepth", make_encoder("resnet18", 3), normalise=True, seed=3)
    with torch.no_grad():
        net.last.weight *= 30  # a new network hardly looks at its picture
    models = {
        "pretrain": {f"encoder_q.{key}": value for key, value in net.encoder.state_dict().items()},
        "finetune": net.state_dict(),
    }
    arguments = {
        "encoder": "resnet18",
        "network": "densedepth",
        "size": "160x120",
        "depth_range_m": [0.1, 10.0],
        "normalise": True,
    }
    folder = tmp_path_factory.mktemp("runs")
    for command, model in models.items():
        with create_run(folder / command, {"command": command, "arguments": arguments}):
            save_checkpoint(folder / command, 1, {"model": model}, {})
    return {command: folder / command for command in models}


def pictures(store: Store) -> torch.Tensor:
    return torch.from_numpy(store.read("160x120/rgb", [0, 1])).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize(
    ("to", "example", "file"),
    [
        ("torchvision", "with_torchvision.py", "resnet18.pth"),
        ("timm", "with_timm.py", "resnet18-timm.safetensors"),
    ],
)
def test_an_exported_encoder(store, runs, tmp_path, monkeypatch, capsys, to, example, file):
    train("export", runs["pretrain"], "--to", to, "--out", tmp_path / file)
    (line,) = run_here(monkeypatch, capsys, example, tmp_path / file, store.path)
    with torch.no_grad():
        maps = encoder_of_run(runs["pretrain"], pytest.fail).eval()(pictures(store))
    features_NC = functional.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
    shape, norms, column = ast.literal_eval(f"[{line.replace(') [', '), [').replace('] [', '], [')}]")
    assert shape == (2, 512)
    assert norms == pytest.approx(features_NC.norm(dim=1).tolist(), rel=1e-5)
    assert column == pytest.approx(features_NC[:, 7].tolist(), rel=1e-4)


def test_an_exported_depth_network(store, runs, tmp_path, monkeypatch, capsys):
    train("export", runs["finetune"], "--to", "onnx", "--out", tmp_path / "net.onnx")
    lines = run_here(monkeypatch, capsys, "with_onnxruntime.py", tmp_path / "net.onnx", store.path)
    with torch.no_grad():
        depth_N1HW = depth_net_of_run(runs["finetune"], pytest.fail)[0].eval().predict(pictures(store))
    assert len(lines) == len(depth_N1HW)
    for line, depth_HW in zip(lines, depth_N1HW[:, 0], strict=True):
        shape, _, values = line.partition(" metres, nearest, mean and farthest: ")
        assert ast.literal_eval(shape) == tuple(depth_HW.shape)
        wanted = [float(depth_HW.min()), float(depth_HW.mean()), float(depth_HW.max())]
        assert [float(value) for value in values.split()] == pytest.approx(wanted, rel=1e-5)
        assert wanted[0] < wanted[2]
