"""`gfield export`: the tools that a format is for read back what the store holds, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from gfield.exports import chosen as chosen_module
from gfield.exports.export import export_store
from gfield.exports.place import MARK
from gfield.frame import UserError
from gfield.manifest import StoreError
from gfield.store import Store, open_store

from .odd_source import BAD, FRAMES, NAMES, odd_store
from .trees import tree

ARRAYS = ("rgb", "gradient", "depth", "label", "depth_native")
ROWS = {"train": [0, 2, 3, 6, 8, 9, 10], "test": [1, 4], "unlabeled": [7]}
FOLDERS = ("hf", "webdataset", "litdata")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """The odd store; not to be changed."""
    return open_store(odd_store(tmp_path_factory.mktemp("odd")))


@pytest.fixture
def small_files(monkeypatch):
    """Two frames a file and a block, so that there are several."""
    monkeypatch.setattr(chosen_module, "FILE_BYTES", 100_000)
    monkeypatch.setattr(chosen_module, "BLOCK", 1)


def gfield(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.gfield, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def assert_same(store: Store, level: str, row: int, seen: dict[str, np.ndarray]) -> None:
    """The arrays are those of the store's frame, in type, shape and every bit."""
    assert {*seen} == {*ARRAYS}
    for name, array in seen.items():
        (wanted,) = store.read(name if name == "depth_native" else f"{level}/{name}", [row])
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape), name
        assert array.tobytes() == wanted.tobytes(), (name, row)


def assert_texts(store: Store, row: int, seen: dict[str, str]) -> None:
    for name in ("name", "split", "scene", "weather"):
        assert seen[name] == store.text(name)[row], (name, row)


def test_hugging_face_datasets_load_the_folder_with_its_features(store, tmp_path, small_files):
    import datasets
    import pyarrow

    export_store(store, tmp_path / "out", "hf")
    assert len(list((tmp_path / "out" / "data").glob("train-*-of-00004.parquet"))) == 4
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows["row"][:] for split, rows in loaded.items()} == ROWS
    features = loaded["train"].features
    assert features["rgb"] == datasets.Image()
    assert features["gradient"] == datasets.Array2D((48, 64), "float16")
    assert features["depth"] == datasets.Array2D((48, 64), "float32")
    assert features["depth_native"] == datasets.Array2D((48, 32), "float32")
    assert features["label"] == datasets.Array2D((48, 64), "uint16")
    for split in loaded:
        table = loaded[split].with_format("arrow")[:]
        assert isinstance(table, pyarrow.Table)
        for place, frame in enumerate(loaded[split]):
            arrays = {name: table[name].chunk(0).to_numpy(zero_copy_only=False)[place] for name in ARRAYS[1:]}
            assert_same(store, "64x48", frame["row"], {"rgb": np.asarray(frame["rgb"]), **arrays})
            for name, array in arrays.items():  # as readers of Parquet see it that know no two-dimensional arrays
                lists = table[name].chunk(0).storage[place].as_py()
                np.testing.assert_array_equal(np.array(lists, array.dtype), array)
            assert_texts(store, frame["row"], frame)
        numpy = loaded[split].with_format("numpy")[0]
        (wanted,) = store.read("64x48/gradient", [ROWS[split][0]])
        np.testing.assert_array_equal(numpy["gradient"].astype(np.float16), wanted)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| depth | depth, NaN where there is none; float32, 48 x 64, unit m |" in card


# WebDataset leaves its files to be closed by whoever collects its generators.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_streams_the_tars(store, tmp_path, small_files):
    import webdataset

    export_store(store, tmp_path / "out", "webdataset", level_WH=(32, 24))
    seen: dict[str, list[int]] = {}
    for split, rows in ROWS.items():
        tars = sorted(map(str, (tmp_path / "out").glob(f"{split}-*.tar")))
        assert len(tars) == -(-len(rows) // 6)  # of the frames of the small level six fit
        for frame in webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"):
            row = frame["json"]["row"]
            assert frame["__key__"] == f"{row:08d}"
            arrays = {name: frame[f"{name}.{'png' if name == 'rgb' else 'npy'}"] for name in ARRAYS}
            assert_same(store, "32x24", row, arrays)
            assert_texts(store, row, frame["json"])
            seen.setdefault(split, []).append(row)
    assert seen == ROWS


def test_litdata_streams_the_chunks(store, tmp_path, small_files):
    import litdata

    export_store(store, tmp_path / "out", "litdata")
    seen: dict[str, list[int]] = {}
    for split in ROWS:
        for frame in litdata.StreamingDataset(str(tmp_path / "out" / split)):
            assert_same(store, "64x48", frame["row"], {name: frame[name] for name in ARRAYS})
            assert_texts(store, frame["row"], frame)
            seen.setdefault(split, []).append(frame["row"])
    assert seen == ROWS


# rdflib warns of its own deprecated classes, and mlcroissant of a date, which a store does not have.
@pytest.mark.filterwarnings("ignore")
def test_croissant_is_valid_and_tells_every_file_and_frame(store, tmp_path, monkeypatch):
    import mlcroissant

    def no_network(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    (tmp_path / "store").mkdir()
    shutil.copytree(store.path, tmp_path / "store" / "odd.zarr")
    out = tmp_path / "meta" / "odd.json"
    export_store(open_store(tmp_path / "store" / "odd.zarr"), out, "croissant")
    data = mlcroissant.Dataset(str(out))
    assert not data.metadata.ctx.issues.errors
    assert [("datePublished" in warning) for warning in data.metadata.ctx.issues.warnings] == [True]
    files = json.loads(out.read_text())["distribution"]
    on_disk = {path.relative_to(store.path).as_posix() for path in store.path.rglob("*") if path.is_file()}
    assert {file["@id"] for file in files} == on_disk
    for file in files:
        content = (out.parent / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
    frames = list(data.records("frames"))
    assert [frame["frames/row"] for frame in frames] == [row for row in range(FRAMES) if row != BAD]
    for frame in frames:
        assert_texts(store, frame["frames/row"], {key.partition("/")[2]: text for key, text in frame.items()})
    arrays = {array["arrays/key"]: array for array in data.records("arrays")}
    assert {*arrays} == {*store.arrays}
    assert arrays["32x24/gradient"]["arrays/shape"] == f"{FRAMES},24,32"


@pytest.mark.parametrize("to", FOLDERS)
def test_the_command_says_what_it_has_written_and_left_out(store, tmp_path, to):
    said = gfield("export", store.path, tmp_path / "out", "--to", to, "--level", "32x24")
    assert f"{tmp_path}/out: 10 frames of 32x24, 2 test, 7 train, 1 unlabeled;" in said
    assert "left out: 1 excluded frame, which `gfield info` lists" in said
    facts = json.loads((tmp_path / "out" / MARK).read_text())
    assert facts["frames"] == {split: len(rows) for split, rows in ROWS.items()}
    assert facts["root"] == store.manifest.root
    one = gfield("export", store.path, tmp_path / "one", "--to", to, "--split", "test")
    assert f"{tmp_path}/one: 2 frames of 64x48, 2 test;" in one
    names = {path.name.partition("-")[0] for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert "train" not in names


@pytest.mark.parametrize("to", ["hf", "webdataset"])
def test_two_exports_of_one_store_are_the_same_bytes(store, tmp_path, to):
    for name in ("a", "b"):
        export_store(store, tmp_path / name, to)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--to'"),
        (["--to", "ome"], 2, "'ome' is not one of"),
        (["--to", "hf", "--level", "10x10"], 1, "no level '10x10', it has 64x48, 32x24"),
        (["--to", "hf", "--level", "ten"], 2, "'ten' is no level, wanted for example 640x480"),
        (["--to", "hf", "--split", "val"], 1, "no frame of split 'val', it has excluded, test, train, unlabeled"),
        (["--to", "litdata", "--split", "excluded"], 1, "excluded frames hold nothing"),
        (["--to", "croissant", "--split", "test"], 2, "--level and --split are not for it"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(store, tmp_path, arguments, code, said):
    told = gfield("export", store.path, tmp_path / "out", *arguments, code=code)
    assert said in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", [*FOLDERS, "croissant"])
def test_what_is_there_is_replaced_only_on_demand(store, tmp_path, to):
    out = tmp_path / "out"
    export_store(store, out, to)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"out: is there; --overwrite replaces it$"):
        export_store(store, out, to)
    assert tree(tmp_path) == before
    if to == "croissant":
        out.write_text(out.read_text() + " ")
    else:
        (out / "of-before").touch()
    export_store(store, out, to, overwrite=True)
    assert {*tree(tmp_path)} == {*before}
    assert to != "croissant" or tree(tmp_path) == before


@pytest.mark.parametrize("to", ["webdataset", "croissant"])
@pytest.mark.parametrize("strangers", ["folder", "file", "link"])
def test_what_is_not_ours_is_never_replaced(store, tmp_path, to, strangers):
    out = tmp_path / "out"
    if strangers == "folder":
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
    elif strangers == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = [(path, path.is_symlink()) for path in sorted(tmp_path.rglob("*"))]
    with pytest.raises(UserError, match=r"out: is there and is no .* wanted a name that is free$"):
        export_store(store, out, to, overwrite=True)
    assert [(path, path.is_symlink()) for path in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize("to", ["hf", "croissant"])
def test_no_export_goes_into_the_store(store, to):
    before = tree(store.path)
    with pytest.raises(UserError, match="inside the store, wanted a name outside it"):
        export_store(store, store.path / "64x48" / "out", to)
    assert tree(store.path) == before


@pytest.mark.parametrize("to", [*FOLDERS, "croissant"])
@pytest.mark.parametrize("path", ["64x48/depth/c/4/0/0", "scene/c/0"])
def test_a_damaged_store_is_told_and_nothing_is_left(store, tmp_path, to, path):
    shutil.copytree(store.path, tmp_path / "odd.zarr")
    damaged = tmp_path / "odd.zarr" / path
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    said = gfield("export", tmp_path / "odd.zarr", tmp_path / "out", "--to", to, code=1)
    assert path.partition("/c/")[0] in said
    assert len(said.strip().splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["odd.zarr"]


@pytest.mark.parametrize("to", FOLDERS)
def test_an_interrupted_export_leaves_what_was_there(store, tmp_path, to):
    export_store(store, tmp_path / "out", to, split="test")
    before = tree(tmp_path)

    def interrupt(_frames: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(store, tmp_path / "out", to, overwrite=True, on_done=interrupt)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("to", "package"), [("hf", "datasets"), ("litdata", "litdata")])
def test_a_missing_package_is_named_with_the_extra(store, tmp_path, monkeypatch, to, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    said = gfield("export", store.path, tmp_path / "out", "--to", to, code=1)
    assert said.startswith(f"Error: {package} cannot be imported (")
    assert said.endswith("wanted for this export: pip install 'gfield[tools]'\n")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_nothing_is_left(store, tmp_path):
    """A limit on file size stands in for it."""
    statement = (
        "import cli, resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        f"cli.gfield(['export', {str(store.path)!r}, {str(tmp_path / 'out')!r}, '--to', 'webdataset'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", statement], cwd=Path(cli.__file__).parent, capture_output=True, check=False
    )
    assert run.returncode == 1
    assert b"File too large" in run.stderr
    assert b"Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_url_is_no_place_for_an_export(store, tmp_path):
    said = gfield("export", store.path, "s3://bucket/out", "--to", "hf", code=2)
    assert "OUT s3://bucket/out: exports go to a folder of this machine, wanted a path" in said


def test_an_empty_folder_may_be_given(store, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="--overwrite replaces it"):
        export_store(store, tmp_path / "out", "webdataset")
    export_store(store, tmp_path / "out", "webdataset", overwrite=True)
    assert (tmp_path / "out" / MARK).is_file()


def test_names_of_frames_are_theirs_alone(store):
    """They hold what would end a key, leave a folder or begin a tag; the tests above see that they come through."""
    assert {os.sep, ".", "<", "'", " "} <= {letter for name in NAMES for letter in name}
    with pytest.raises(StoreError, match="no level"):
        export_store(store, Path("out"), "hf", level_WH=(1, 1))
