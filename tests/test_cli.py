"""The commands as their users meet them: what they print, what they refuse, and how they exit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import cli
from gfield.formats.matv5 import write_numeric
from gfield.frame import UserError
from gfield.staging import BuildError
from gfield.store import open_store


def gfield(*arguments, code=0):
    """Run a command in this process; checks the exit code, and that there is no traceback."""
    result = CliRunner().invoke(cli.gfield, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def built(nyu_mat, tmp_path_factory):
    """A small store, built by the command; not to be changed."""
    target = tmp_path_factory.mktemp("cli") / "nyu.zarr"
    gfield("build", "nyu", nyu_mat, target, "--frames-per-shard", "3")
    return target


def test_what_strangers_name_is_shown_as_text_and_not_done_by_the_terminal(tmp_path):
    odd = tmp_path / "\x1b[2J\nError: all is well.mat"
    odd.write_bytes(b"nothing")
    for arguments in (["build", "nyu", odd, tmp_path / "s"], ["info", odd], ["info", tmp_path / ("x" * 300)]):
        said = gfield(*arguments, code=1).output
        assert said.count("\n") == 1
        assert said[:-1].isprintable()
    assert r"\x1b[2J\nError: all is well.mat" in gfield("info", odd, code=1).output


def test_an_error_is_a_line_to_be_read_however_long_what_it_tells_of():
    for error in (UserError("a" * 10_000), BuildError("a" * 10_000 + "\n" + "b\x07" * 5000)):
        lines = str(error).split("\n")
        assert all(line.isprintable() and len(line) < 4100 and " [...] " in line for line in lines)
    assert len(lines) == 2


def test_help_needs_nothing_heavy():
    code = "import sys, cli; print(*sorted({'numpy', 'dask', 'zarr', 'torch', 'cv2', 'h5py', 'rich'} & {*sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("arguments", [[], ["build"], ["plan"]])
def test_a_group_without_a_command_shows_its_help(arguments):
    assert "Commands:" in gfield(*arguments, code=2).output


@pytest.mark.parametrize("command", ["build", "plan", "info", "verify", "preview", "sample", "view"])
def test_every_command_has_help(command):
    assert "Usage:" in gfield(command, "--help").output


def test_build_says_what_it_did_and_what_it_did_not(nyu_mat, tmp_path):
    target = tmp_path / "nyu.zarr"
    first = gfield("build", "nyu", nyu_mat, target)
    assert "10 frames in 2 shards, 2 written now" in first.stdout
    assert "root hash" in first.stdout
    again = gfield("build", "nyu", nyu_mat, target)
    assert "already finished, 10 frames; nothing was written" in again.stdout


def test_build_as_json(nyu_mat, tmp_path):
    report = json.loads(gfield("build", "nyu", nyu_mat, tmp_path / "s", "--json").stdout)
    assert (report["state"], report["frames"]) == ("built", 10)
    assert report["root"] == open_store(tmp_path / "s").manifest.root


def test_build_without_splits_says_how_to_get_them(nyu_mat, tmp_path):
    shutil.copy(nyu_mat, tmp_path / "nyu.mat")
    result = gfield("build", "nyu", tmp_path / "nyu.mat", tmp_path / "s")
    assert "Warning: " in result.stderr
    assert "splits.mat" in result.stderr


def test_parts_of_a_job_array(nyu_mat, tmp_path):
    first = gfield("build", "nyu", nyu_mat, tmp_path / "s", "--part", "1/2")
    assert "this part is done; other parts have shards to do" in first.stdout
    assert "unfinished" in gfield("info", tmp_path / "s", code=1).stderr
    assert "root hash" in gfield("build", "nyu", nyu_mat, tmp_path / "s", "--part", "2/2").stdout


def test_plan_writes_nothing_and_tells_what_a_build_will_do(nyu_mat, built, tmp_path):
    plan = json.loads(gfield("plan", "nyu", nyu_mat, tmp_path / "s", "--frames-per-shard", "3", "--json").stdout)
    assert list(tmp_path.iterdir()) == []
    assert (plan["frames"], plan["shards"], plan["files"], plan["shards_done"]) == (10, 4, 24, 0)
    for key, stored in plan["stored_bytes"].items():
        files = sum(path.stat().st_size for path in (built / key / "c").rglob("*") if path.is_file())
        assert stored == pytest.approx(files, rel=0.35)
    text = gfield("plan", "nyu", nyu_mat, built, "--frames-per-shard", "3").stdout
    assert "nothing to compute" in text
    text = gfield("plan", "nyu", nyu_mat, built, "--frames-per-shard", "3", "--low", "20", "--json").stdout
    assert json.loads(text)["to_write"] == ["640x480/gradient", "320x240/gradient"]


def test_info(built):
    text = gfield("info", built).stdout
    for expected in ("640x480/gradient", "10: 3 test, 6 train, 1 unlabeled; 4 scenes", "rows 8:473, columns 8:631"):
        assert expected in text
    facts = json.loads(gfield("info", built, "--json").stdout)
    assert facts["arrays"]["640x480/rgb"]["shape"] == [10, 480, 640, 3]
    assert facts["source_files"][0]["name"] == "nyu_depth_v2_labeled.mat"
    assert len(facts["source_files"][0]["sha256"]) == 64


def test_verify_finds_repairs_and_exits_accordingly(built, nyu_mat, tmp_path):
    store = tmp_path / "nyu.zarr"
    shutil.copytree(built, store)
    assert "all good" in gfield("verify", store, "--all").stdout
    (store / "640x480/rgb/c/1/0/0/0").unlink()
    found = gfield("verify", store, code=3)
    assert "missing: 640x480/rgb/c/1/0/0/0: missing" in found.stdout
    assert json.loads(gfield("verify", store, "--json", code=3).stdout)["findings"][0]["kind"] == "missing"
    repaired = gfield("verify", store, "--repair", nyu_mat)
    assert "restored: 640x480/rgb/c/1/0/0/0" in repaired.stderr
    assert "all good" in repaired.stdout


def test_preview_is_a_picture_of_the_store(built, tmp_path):
    out = tmp_path / "sheet.png"
    assert str(out) in gfield("preview", built, "--out", out, "--frames", "2").stdout
    sheet = cv2.imread(str(out))
    assert sheet.shape[1] > 600
    assert sheet.std() > 20
    one = tmp_path / "one.png"
    gfield("preview", built, "--out", one, "--row", "4", "--level", "320x240")
    assert cv2.imread(str(one)).shape[0] < sheet.shape[0]


def bad_mat(tmp_path, change):
    """A .mat with something wrong in it, from nothing."""
    path = tmp_path / "bad.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = np.zeros((2, 3, 640, 480), np.uint8)
        file["depths"] = np.ones((2, 640, 480), np.float32)
        change(file)
    return path


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def garbage(tmp_path):
    (tmp_path / "x.mat").write_bytes(b"<!DOCTYPE html><html>404</html>" * 50)
    return tmp_path / "x.mat"


def truncated(tmp_path):
    path = bad_mat(tmp_path, lambda file: None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


BAD_NYU = {
    "missing": (lambda t: t / "nowhere.mat", "nowhere.mat"),
    "a folder": (lambda t: t, ""),
    "not HDF5": (garbage, "HTML"),
    "no images": (lambda t: bad_mat(t, lambda f: f.__delitem__("images")), "images"),
    "wrong shape": (lambda t: bad_mat(t, replace("depths", np.ones((2, 480, 640), np.float32))), "(2, 640, 480)"),
    "wrong type": (lambda t: bad_mat(t, replace("images", np.zeros((2, 3, 640, 480), np.float32))), "uint8"),
    "NaN depth": (lambda t: bad_mat(t, replace("depths", np.full((2, 640, 480), np.nan, np.float32))), "nan"),
    "negative depth": (lambda t: bad_mat(t, replace("depths", np.full((2, 640, 480), -2, np.float32))), "-2"),
    "truncated": (truncated, "bytes"),
}


@pytest.mark.parametrize("case", BAD_NYU)
def test_a_bad_mat_is_told_in_few_lines_that_name_it(tmp_path, case):
    make, said = BAD_NYU[case]
    mat = make(tmp_path)
    result = gfield("build", "nyu", mat, tmp_path / "out" / "s.zarr", code=1)
    errors = [line for line in result.stderr.splitlines() if not line.startswith("Warning")]
    assert errors[0].startswith(f"Error: {mat}")
    assert said in result.stderr
    assert len(errors) <= 3
    assert not (tmp_path / "out" / "s.zarr").exists()


@pytest.fixture
def make3d_tree(tmp_path):
    """Two pairs in the layout of Make3D's archives."""
    rng = np.random.default_rng(5)
    for x in ("op1-p-015t000", "10.21op2-p-139t000"):
        rgb = cv2.resize(rng.integers(0, 256, (16, 12, 3), dtype=np.uint8), (300, 400))
        for folder in ("Train400Img", "Train400Depth"):
            (tmp_path / "m3d" / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"m3d/Train400Img/img-{x}.jpg"), rgb)
        grid = rng.uniform(3, 70, (55, 305, 4))
        grid[:5, :, 3] = 80.0
        write_numeric(tmp_path / f"m3d/Train400Depth/depth_sph_corr-{x}.mat", {"Position3DGrid": grid})
    return tmp_path / "m3d"


def test_make3d_builds_portrait_levels_and_the_native_grid(make3d_tree, tmp_path):
    gfield("build", "make3d", make3d_tree, tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert store.levels == ("480x640", "240x320")
    native = store.read("depth_native", [0])[0]
    assert native.shape == (55, 305)
    assert np.isnan(native[:5]).all()
    assert not np.isnan(native[5:]).any()
    level = store.read("240x320/depth", [0])[0]
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((320, 55), (240, 305)))
    np.testing.assert_array_equal(level, native[rows][:, columns])
    assert "d >= 80" in store.arrays["depth_native"].attributes["comment"]


def overwrite(name, data):
    return lambda folder: (folder / name).write_bytes(data)


BAD_MAKE3D = {
    "empty": (lambda f: shutil.rmtree(f) or f.mkdir(), "m3d"),
    "missing": (shutil.rmtree, "m3d"),
    "corrupt JPEG": (overwrite("Train400Img/img-op1-p-015t000.jpg", b"no picture" * 99), "img-op1-p-015t000.jpg"),
    "unreadable .mat": (
        overwrite("Train400Depth/depth_sph_corr-op1-p-015t000.mat", b"no array" * 99),
        "depth_sph_corr-op1-p-015t000.mat",
    ),
}


@pytest.mark.parametrize("case", BAD_MAKE3D)
def test_a_bad_make3d_tree_is_told_in_a_line_that_names_the_file(make3d_tree, tmp_path, case):
    do, said = BAD_MAKE3D[case]
    do(make3d_tree)
    result = gfield("build", "make3d", make3d_tree, tmp_path / "s", code=1)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("case", ["corrupt JPEG", "unreadable .mat"])
def test_unreadable_make3d_files_can_be_skipped_and_are_listed(make3d_tree, tmp_path, case):
    do, said = BAD_MAKE3D[case]
    do(make3d_tree)
    result = gfield("build", "make3d", make3d_tree, tmp_path / "s", "--on-error", "skip")
    assert said in result.stdout
    store = open_store(tmp_path / "s")
    assert len(store) == 1
    assert any(said in entry["name"] for entry in store.attributes["left_out"])


def test_a_jpeg_with_damaged_pixels_stops_the_build_or_is_excluded(make3d_tree, tmp_path):
    image = make3d_tree / "Train400Img/img-op1-p-015t000.jpg"
    image.write_bytes(image.read_bytes()[:-2000])
    stopped = gfield("build", "make3d", make3d_tree, tmp_path / "s", code=1)
    assert image.name in stopped.stderr
    skipped = gfield("build", "make3d", make3d_tree, tmp_path / "s", "--on-error", "skip")
    assert "excluded: frame 1" in skipped.stdout
    store = open_store(tmp_path / "s")
    assert store.splits.tolist() == ["train", "excluded"]
    assert image.name in store.attributes["excluded"][0]["reason"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/proc/s.zarr", "/proc/s.zarr"),
        ("{mat}/s.zarr", "Not a directory"),
        ("{file}", "a file, wanted the folder of a store"),
    ],
)
def test_a_target_that_cannot_be_written_is_named(nyu_mat, tmp_path, target, said):
    (tmp_path / "f").write_text("x")
    target = target.format(mat=nyu_mat, file=tmp_path / "f")
    result = gfield("build", "nyu", nyu_mat, target, code=1)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(nyu_mat, tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in gfield("build", "nyu", nyu_mat, tmp_path / "s.zarr", code=1).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--level", "100x100"], "level 100x100 is unknown, nyu has 640x480, 320x240, 160x120, 80x60"),
        (["--low", "300"], "low 300 and high 200, wanted low <= high"),
        (["--array", "rgb"], "'rgb' is not one of"),
        (["--part", "3/2"], "the part must be between 1 and 2"),
        (["--part", "x"], "'x' is no part"),
        (["--level", "big"], "'big' is no level"),
        (["--part", "1/2", "--workers", "2"], "exclude each other"),
        (["--codec", "gzip"], "'gzip' is not one of"),
    ],
)
def test_wrong_options_are_told(nyu_mat, tmp_path, options, said):
    result = CliRunner().invoke(cli.gfield, ["build", "nyu", str(nyu_mat), str(tmp_path / "s"), *options])
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["info", "verify", "preview"])
def test_commands_on_what_is_no_store(tmp_path, command):
    result = gfield(command, tmp_path / "x.zarr", code=1)
    assert result.stderr == f"Error: {tmp_path / 'x.zarr'}: no such store\n"


@pytest.mark.parametrize("path", ["with space", "ünïcødé"])
def test_odd_paths_work(nyu_mat, tmp_path, path):
    folder = tmp_path / path
    folder.mkdir()
    shutil.copy(nyu_mat, folder / "in.mat")
    gfield("build", "nyu", folder / "in.mat", folder / "out.zarr", "--level", "320x240")
    assert "all good" in gfield("verify", folder / "out.zarr").stdout


def test_a_closed_pipe_is_no_traceback(built):
    script = f'"{sys.executable}" -m cli info "{built}" --json | head -c 20'
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in run.stderr
    assert run.stdout.startswith("{")


def test_a_build_in_a_log_file_prints_no_bar(nyu_mat, tmp_path):
    command = [sys.executable, "-m", "cli", "build", "nyu", nyu_mat, tmp_path / "s"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert "\x1b" not in run.stdout


def test_the_real_samples_build_and_verify(real_nyu, real_make3d, tmp_path):
    gfield("build", "nyu", real_nyu, tmp_path / "nyu.zarr")
    made = gfield("build", "make3d", real_make3d, tmp_path / "make3d.zarr")
    assert "left out: Test134/img-op57-p-016t000.jpg" in made.stdout
    for name, frames in (("nyu.zarr", 32), ("make3d.zarr", 4)):
        assert "all good" in gfield("verify", tmp_path / name, "--all").stdout
        assert len(open_store(tmp_path / name)) == frames
    assert open_store(tmp_path / "nyu.zarr").rows("train").size == 20
    assert not Path(tmp_path / "nyu.zarr.png").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work_without_standard_streams(built, closed):
    command = [sys.executable, "-m", "cli", "verify", built]
    assert subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], check=False).returncode == 0


def test_an_output_that_takes_no_more_is_told_of_in_one_line(built):
    command = ["sh", "-c", 'exec "$@" > /dev/full', "sh", sys.executable, "-m", "cli", "verify", built]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (run.returncode, run.stderr) == (1, "Error: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Error: not enough memory (MemoryError)\n"),
        (MemoryError("Unable to allocate 1 MiB"), "Error: not enough memory (Unable to allocate 1 MiB)\n"),
        (RuntimeError("can't start new thread"), "Error: not enough memory (can't start new thread)\n"),
        (cv2.error("(-4:Insufficient memory)\n"), "Error: not enough memory ((-4:Insufficient memory))\n"),
    ],
)
def test_too_little_memory_is_told_of_in_one_line(built, monkeypatch, error, said):
    def failing(*arguments, **options):
        raise error

    monkeypatch.setattr("gfield.verify.verify_store", failing)
    result = CliRunner().invoke(cli.gfield, ["verify", str(built)])
    assert result.exit_code == 1
    assert result.output == said


def test_a_name_that_is_no_text_is_told_of_in_one_line(nyu_mat, tmp_path):
    mat = shutil.copy(nyu_mat, tmp_path / os.fsdecode(b"k\xfcche.mat"))
    result = CliRunner().invoke(cli.gfield, ["build", "nyu", str(mat), str(tmp_path / "s")])
    assert result.exit_code == 1
    assert "the store would have this name in it, and it is no UTF-8; rename the file" in result.output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("soft", "hard"), [(100, 200), (100, 100), (200, 300)])
def test_train_has_as_many_descriptors_as_it_may(soft, hard):
    """Each open shard has one, and usual soft limits are fewer than a large store has shards."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from train.commands import train
train(["import", "--help"], standalone_mode=False)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == f"({hard}, {hard})"
