"""`gfield view` without a browser: whom it answers and what, commands that it prints, and how it ends."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import cli
from gfield.field import FieldParams, auto_thresholds, gradient_field
from gfield.pictures import depth_range, field_white
from gfield.store import open_store
from gfield.view.build_command import build_command
from gfield.view.opened import Choice, Opened

from .test_densedepth import archive_files, eigen_files
from .test_densedepth import write as write_archive
from .test_nyu_raw import add_pairs
from .viewing import ask, request, served

ROOT = Path(__file__).parents[1]


def command(*arguments: object, code: int = 0):
    result = CliRunner().invoke(cli.gfield, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def server(small_store):
    with served(small_store) as server:
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Five pictures in two folders, one of them cut off in its middle."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(7)
    for name in ("a/1.png", "a/2.png", "ab/3.png", "ab/10.png", "ab/Lost.png"):
        (root / name).parent.mkdir(exist_ok=True)
        data = cv2.imencode(".png", cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (80, 60)))[1].tobytes()
        (root / name).write_bytes(data[:-300] if "Lost" in name else data)
    return root


@pytest.fixture(scope="module")
def picture_store(pictures, tmp_path_factory) -> Path:
    """A store of them, without depth, and with one frame that could not be read."""
    store = tmp_path_factory.mktemp("images") / "my pictures.zarr"
    command("build", "images", pictures, store, "--size", "64x48", "--on-error", "skip", "--level", "64x48")
    assert open_store(store).splits.tolist().count("excluded") == 1
    return store


def test_arrays_are_those_of_the_store(server, small_store):
    store = open_store(small_store)
    rgb_HWC = np.frombuffer(ask(server, "rgb", row=3, level="80x60").body, np.uint8).reshape(60, 80, 3)
    np.testing.assert_array_equal(rgb_HWC, store.read("80x60/rgb", [3])[0])
    field = ask(server, "field", row=3, level="80x60")
    field_HW = np.frombuffer(gzip.decompress(field.body), "<f2").reshape(60, 80)
    np.testing.assert_array_equal(field_HW, store.read("80x60/gradient", [3])[0])
    assert float(field.headers["gfield-white"]) == field_white(field_HW.astype(np.float32))
    depth = ask(server, "depth", row=3, level="80x60")
    depth_HW = np.frombuffer(depth.body, "<f4").reshape(60, 80)
    np.testing.assert_array_equal(depth_HW, store.read("80x60/depth", [3])[0])
    assert (float(depth.headers["gfield-near"]), float(depth.headers["gfield-far"])) == depth_range([depth_HW])


@pytest.mark.parametrize("level", ["640x480", "80x60"])
@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({"low": 20, "high": 90, "l2": 0, "auto": 0}, {"low": 20, "high": 90}),
        ({"low": 20, "high": 90, "l2": 1}, {"low": 20, "high": 90, "l2_gradient": True}),
        ({"low": 50, "high": 200, "auto": 1}, {"auto": True}),
        ({"low": 0, "high": 2040}, {"low": 0, "high": 2040}),
    ],
)
def test_a_field_by_other_thresholds_is_the_operators(server, small_store, level, query, options):
    store = open_store(small_store)
    width, height = map(int, level.split("x"))
    rgb_HWC, region = store.read(f"{level}/rgb", [5])[0], store.spec.level_region((width, height))
    reply = ask(server, "field", row=5, level=level, **query)
    field_HW = np.frombuffer(gzip.decompress(reply.body), "<f2").reshape(height, width)
    np.testing.assert_array_equal(field_HW, gradient_field(rgb_HWC, valid_region=region, **options))
    if "auto" in options:
        told = int(reply.headers["gfield-low"]), int(reply.headers["gfield-high"])
        assert told == auto_thresholds(rgb_HWC, region)


def test_strangers_are_refused(server):
    path = urlsplit(server.address).path
    ours = {f"127.0.0.1:{server.server_port}", "127.0.0.1", "localhost:9000"}
    for host in ours:
        assert request(server, path, Host=host).status == 200
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1.evil.example", "localhost@evil", ""):
        refused = request(server, path, Host=host)
        assert (refused.status, list(refused.json)) == (403, ["error"])
    assert request(server, f"{path}rgb?row=0", Sec_Fetch_Site="cross-site").status == 403
    assert request(server, path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


def test_only_the_address_that_was_printed_leads_anywhere(server, small_store):
    path = urlsplit(server.address).path
    name = small_store.name
    for other in ("/", "/wrong/", "/wrong/store", "//", f"{path[:-2]}/", f"{path}../", f"{path}..%2f..%2fetc/passwd",
                  f"{path}server.py", f"{path}{name}/zarr.json", f"{path}%70age.html/x", "/etc/passwd"):  # fmt: skip
        reply = request(server, other)
        assert (reply.status, list(reply.json)) == (404, ["error"]), other


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_allowed(server, method):
    reply = request(server, urlsplit(server.address).path, method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert "access-control-allow-origin" not in reply.headers


def test_what_a_page_may_do_is_told_to_the_browser(server):
    reply = request(server, urlsplit(server.address).path)
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    head = request(server, urlsplit(server.address).path, "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(reply.body)))


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("rgb", {"row": 10, "level": "80x60"}, "row is '10', wanted a whole number from 0 to 9"),
        ("rgb", {"row": "-1"}, "row is '-1'"),
        ("rgb", {"row": "9" * 400}, "row is '999"),
        ("rgb", {}, "row is ''"),
        ("rgb", {"row": 0, "level": "1x1"}, "no level '1x1', the store has 640x480, 160x120, 80x60"),
        ("depth", {"row": 0, "array": "label"}, "no array 'label' of depths, the store has depth"),
        ("field", {"row": 0, "low": 300, "high": 200}, "wanted low <= high"),
        ("field", {"row": 0, "low": 0, "high": 2041}, "high is '2041', wanted a whole number from 0 to 2040"),
        ("frames", {"place": 10}, "place is '10'"),
        ("still", {f"n{i}": 1 for i in range(30)}, "the query has over 16 parts"),
    ],
)
def test_a_question_that_has_no_answer_is_told_in_a_line(server, name, query, said):
    reply = ask(server, name, **query)
    assert reply.status == 400
    assert said in reply.json["error"]


def test_frames_are_listed_by_split_scene_and_name_a_page_at_a_time(small_store, picture_store):
    opened = Opened(small_store)
    assert opened.rows(Choice(split="test")).tolist() == [6, 7, 8]
    assert opened.rows(Choice(scene="0001")).tolist() == [3, 4, 5]
    assert opened.rows(Choice(split="train", scene="kitchen_0001")).tolist() == [3, 4, 5]
    assert opened.rows(Choice(split="none")).tolist() == []
    assert opened.scenes("test", "KITCHEN") == [("kitchen_0002", 3)]
    opened = Opened(picture_store)
    assert opened.rows(Choice(name="LOST")).tolist() == opened.rows(Choice(split="excluded")).tolist()
    # A scene's whole name stands for that scene alone, a part of names for all that have it.
    assert opened.rows(Choice(scene="a")).tolist() == [0, 1]
    assert opened.rows(Choice(scene="B")).tolist() == [2, 3, 4]


def test_a_frame_that_could_not_be_read_is_listed_with_its_reason(picture_store):
    with served(picture_store) as server:
        facts = ask(server, "store").json
        assert facts["splits"] == {"excluded": 1, "unlabeled": 4}
        assert facts["levels"]["64x48"]["depths"] == {}
        frames = ask(server, "frames", split="excluded").json
        assert frames["total"] == 1
        assert "Lost.png" in frames["frames"][0]["reason"]
        assert ask(server, "sample", level="64x48").json["near"] is None


def test_the_sample_of_a_store_is_what_numpy_counts(server, small_store):
    store = open_store(small_store)
    told = ask(server, "sample", level="160x120").json
    depth, field = store.read("160x120/depth", range(10)), store.read("160x120/gradient", range(10))
    assert told["frames"] == 10
    assert sum(told["depth_counts"]) == (depth > 0).sum()
    assert told["edges"] == pytest.approx((field > 0).mean())
    assert told["holes"] == pytest.approx(1 - (depth > 0).mean())
    counts, _ = np.histogram(field[field > 0].astype(np.float32), 64, (0, 1152))
    assert told["field_counts"] == counts.tolist()


@pytest.fixture(scope="module")
def make3d_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    command("sample", folder, "--rooms", "2", "--outdoor", "2")
    return folder / "make3d"


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A miniature of nyu_data.zip, that of nyu_test.zip beside it."""
    folder = tmp_path_factory.mktemp("archives")
    write_archive(folder / "nyu_test.zip", eigen_files())
    return write_archive(folder / "nyu_data.zip", archive_files())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Recordings of two scenes in NYU's raw layout."""
    folder = tmp_path_factory.mktemp("raw")
    add_pairs(folder / "den_0010", 2, pixels=True)
    add_pairs(folder / "kitchen_0004a", 1, pixels=True)
    return folder


def sources(
    nyu_mat: Path, pictures: Path, make3d: Path, archives: Path, recordings: Path
) -> dict[str, tuple[list[object], Path]]:
    """Builds with options of all sorts: what to build, and the input to name."""
    return {
        "plain": (["nyu", nyu_mat], nyu_mat),
        "much": (["nyu", nyu_mat, "--keep-frame", "--array", "label", "--array", "raw_depth", "--codec", "zstd",
                  "--level", "160x120", "--level", "80x60", "--frames-per-shard", 4, "--l2-gradient"], nyu_mat),
        "auto": (["nyu", nyu_mat, "--level", "80x60", "--auto"], nyu_mat),
        "images": (["images", pictures, "--size", "64x48", "--on-error", "skip"], pictures),
        "make3d": (["make3d", make3d, "--level", "240x320"], make3d),
        "densedepth": (["densedepth", archives, "--level", "80x60",
                        "--test", archives.parent / "nyu_test.zip"], archives),
        "nyu-raw": (["nyu-raw", recordings, "--split", "train", "--level", "80x60"], recordings),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["plain", "much", "auto", "images", "make3d", "densedepth", "nyu-raw"])
def test_the_printed_command_changes_the_fields_and_nothing_else(
    nyu_mat, pictures, make3d_folder, archives, recordings, tmp_path, which
):
    arguments, source = sources(nyu_mat, pictures, make3d_folder, archives, recordings)[which]
    target = tmp_path / "it's a store.zarr"
    command("build", *arguments[:2], target, *arguments[2:])
    before = open_store(target)
    same = build_command(before, FieldParams.from_dict(before.spec.operator), source)
    assert same.note.startswith("Add --every, --max-gap") if which == "nyu-raw" else same.note == ""
    assert "nothing was written" in command(*shlex.split(same.text)[1:]).stdout
    other = FieldParams(31, 97, l2_gradient=which == "images")
    command(*shlex.split(build_command(before, other, source).text)[1:])
    after = open_store(target)
    assert FieldParams.from_dict(after.spec.operator) == other
    changed = {key for key in before.arrays if before.fingerprints[key] != after.fingerprints[key]}
    assert changed == {key for key in before.arrays if key.endswith("/gradient")}
    assert after.spec.levels_WH == before.spec.levels_WH


def test_a_command_whose_input_is_not_known_says_so(small_store, nyu_mat, tmp_path):
    store = open_store(small_store)
    told = build_command(store, FieldParams(40, 100))
    assert told.text.startswith(f"gfield build nyu nyu_depth_v2_labeled.mat {small_store}")
    assert told.note.startswith("nyu_depth_v2_labeled.mat stands for what nyu.zarr was built from")
    shutil.copy(nyu_mat, tmp_path / "nyu_depth_v2_labeled.mat")
    shutil.copytree(small_store, tmp_path / "nyu.zarr")
    beside = build_command(open_store(tmp_path / "nyu.zarr"), FieldParams(40, 100))
    assert (shlex.split(beside.text)[3], beside.note) == (str(tmp_path / "nyu_depth_v2_labeled.mat"), "")


def test_a_port_that_is_taken_is_named_and_the_next_is_taken_by_default(small_store):
    with served(small_store) as first:
        port = first.server_port
        refused = command("view", small_store, "--port", port, code=1)
        assert refused.output == f"Error: port {port} of 127.0.0.1: Address already in use; wanted a free one, " \
                                 "such as --port 0 takes\n"  # fmt: skip
    assert "no such store" in command("view", small_store / "none", code=1).output
    assert "0<=x<=65535" in command("view", small_store, "--port", 65536, code=2).output


def test_a_store_that_turns_out_to_be_damaged_ends_it(small_store, tmp_path):
    broken = tmp_path / "broken.zarr"
    (broken / "manifest").mkdir(parents=True)
    whole = (small_store / "manifest" / "zarr.json").read_bytes()
    (broken / "manifest" / "zarr.json").write_bytes(whole.replace(b"kitchen", b"chicken").replace(b"size", b"sise"))
    said = command("view", broken, "--port", 0, code=1).output
    assert f"Error: {broken}: the manifest is damaged" in said


def test_the_default_port_gives_way(small_store):
    from gfield.view.server import FIRST_PORT, open_server

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", FIRST_PORT))
            taken.listen()
        except OSError:
            pass  # somebody else's, which is as good
        with open_server(small_store, None) as server:
            assert server.server_port > FIRST_PORT


@pytest.mark.parametrize("late", [False, True])
def test_it_prints_its_address_and_ends_quietly_by_ctrl_c(small_store, late):
    words = [sys.executable, "-m", "cli", "view", str(small_store), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DISPLAY": ":0"}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.split(": ")[1].split()[0]
        if late:
            with socket.create_connection(("127.0.0.1", urlsplit(address).port)) as connection:
                connection.sendall(f"GET {urlsplit(address).path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
                process.send_signal(signal.SIGINT)
                rest, errors = process.communicate(timeout=30)
        else:
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
    assert said == f"{small_store}: {address}  (Ctrl-C ends it)\n"
    assert (process.returncode, rest.strip(), errors) == (0, "", "")


def test_the_pages_files_are_in_a_wheel_and_name_nothing_elsewhere():
    folder = ROOT / "gfield" / "view"
    files = sorted(path for path in folder.iterdir() if path.suffix in (".html", ".css", ".js"))
    assert {"page.html", "view.css", "view.js"} <= {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line.split("// ")[0] for line in text.splitlines()), path
    assert sum(path.stat().st_size for path in files) < 100_000
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["gfield"]
    assert all(any(path.relative_to(ROOT / "gfield").match(one) for one in patterns) for path in files)
