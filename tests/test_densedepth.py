"""`gfield.sources.densedepth` on miniatures of nyu_data.zip and nyu_test.zip, and stores built of them."""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import gfield.sources.densedepth as module
from gfield.build import build_store
from gfield.formats.zipped import read_member
from gfield.frame import BadFrame, Frame, InputError, Region, Source
from gfield.sources.densedepth import open_densedepth
from gfield.specify import make_spec
from gfield.store import open_store

from .test_images import gfield
from .trees import tree

BOTH = frozenset({"rgb", "depth"})
TRAIN, TEST = "data/nyu2_train.csv", "data/nyu2_test.csv"
FOLDER = "data/nyu2_train/"
PAIRS = [f"{FOLDER}{scene}_out/{n}" for scene, n in (("den_0001a", 3), ("den_0001a", 10), ("office_out_2b", 1))]
Files = dict[str, bytes]


def picture(seed: int, *, white: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rgb_HWC = cv2.resize(rng.integers(0, 200, (6, 8, 3), np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST)
    if white:
        inside = rgb_HWC[8:473, 8:631].copy()
        rgb_HWC[:] = 255
        rgb_HWC[8:473, 8:631] = inside
    return rgb_HWC


def depth(seed: int, dtype: type, below: int) -> np.ndarray:
    return blocks(np.random.default_rng(seed).integers(0, below, (48, 64))).astype(dtype)


def blocks(values: np.ndarray) -> np.ndarray:
    """Every value ten times ten, which compresses and decompresses quickly."""
    return values.repeat(10, -2).repeat(10, -1)


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def archive_files(*, white: bool = False) -> Files:
    """Three training pairs and two test pairs, in the names and formats of the real archive."""
    return dict(encoded_files(white))


@functools.cache
def encoded_files(white: bool) -> Files:
    files: Files = {}
    for seed, name in enumerate(PAIRS):
        files[f"{name}.jpg"] = encoded(picture(seed, white=white), ".jpg")
        files[f"{name}.png"] = encoded(depth(seed, np.uint8, 256))
    for seed in range(2):
        files[f"data/nyu2_test/{seed:05d}_colors.png"] = encoded(picture(50 + seed, white=True))
        files[f"data/nyu2_test/{seed:05d}_depth.png"] = encoded(depth(seed, np.uint16, 10_000))
    files[TRAIN] = "".join(f"{name}.jpg,{name}.png\n" for name in PAIRS).encode()
    files[TEST] = "".join(
        f"data/nyu2_test/{n:05d}_colors.png,data/nyu2_test/{n:05d}_depth.png\r\n" for n in (1, 0)
    ).encode()
    return files


def write(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/", b"")
        for name, data in files.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name.endswith(".jpg") else method)
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


EIGEN_RGB = np.stack([picture(70 + n, white=True) for n in range(4)])
EIGEN_DEPTH = blocks(np.random.default_rng(9).uniform(0.5, 9, (4, 48, 64)).round(2))
EIGEN_DEPTH[:, :2] = 0


def eigen_files(dtype: type = np.float32) -> Files:
    return {
        "eigen_test_rgb.npy": npy(EIGEN_RGB),
        "eigen_test_depth.npy": npy(EIGEN_DEPTH.astype(dtype)),
        "eigen_test_crop.npy": npy(np.array([20, 459, 24, 615])),
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Not to be changed."""
    return write(tmp_path_factory.mktemp("densedepth") / "nyu_data.zip", archive_files())


@pytest.fixture(scope="module")
def eigen(archive) -> Path:
    """nyu_test.zip beside it; not to be changed."""
    return write(archive.parent / "nyu_test.zip", eigen_files())


@pytest.fixture(scope="module")
def built(archive, eigen, tmp_path_factory) -> Path:
    """A store of both; not to be changed."""
    store = tmp_path_factory.mktemp("built") / "s"
    gfield("build", "densedepth", archive, store, "--test", eigen, "--frames-per-shard", "2", "--level", "320x240")
    return store


def test_a_source_as_the_contract_has_it(archive):
    source: Source = open_densedepth(archive)
    tested = ("data/nyu2_test/00001_colors.png", "data/nyu2_test/00000_colors.png")
    assert source.names == (*(f"{name}.jpg" for name in PAIRS), *tested)
    assert source.splits == ("train",) * 3 + ("test",) * 2
    assert source.scenes == ("den_0001a", "den_0001a", "office_out_2b", "", "")
    assert (source.kind, source.size_WH, source.depth_shape_HW) == ("densedepth", (640, 480), (480, 640))
    assert (source.provides, source.valid_region, source.columns, source.frames_per_chunk) == (BOTH, None, {}, 1)
    assert (source.left_out, source.warnings, source.inputs()) == ((), (), [archive])
    assert "0 -> NaN" in source.notes["depth"]
    copy = pickle.loads(pickle.dumps(source))
    assert [type(frame) for frame in copy.read(0, 5, BOTH)] == [Frame] * 5


def by_definition(stored_HW: np.ndarray, split: str) -> np.ndarray:
    metres_HW = stored_HW / 255.0 * 10.0 if split == "train" else stored_HW / 1000.0
    return np.where(stored_HW == 0, np.nan, metres_HW).astype(np.float32)


def test_frames_are_the_archives_pictures_and_depths_in_metres(archive):
    files = archive_files()
    for frame in open_densedepth(archive).read(0, 5, BOTH):
        name = open_densedepth(archive).names[frame.index]
        shown = cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(frame.arrays["rgb"], shown)
        seed, split = (frame.index, "train") if frame.index < 3 else (4 - frame.index, "test")
        stored = depth(seed, *((np.uint8, 256) if split == "train" else (np.uint16, 10_000)))
        np.testing.assert_array_equal(frame.arrays["depth"], by_definition(stored, split))
        assert np.nanmax(frame.arrays["depth"]) <= 10
        assert (frame.arrays["rgb"].dtype, frame.arrays["depth"].dtype) == (np.uint8, np.float32)
    assert [set(frame.arrays) for frame in open_densedepth(archive).read(2, 4, frozenset({"depth"}))] == [{"depth"}] * 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nyu_test_zip_stands_in_for_the_archives_test_frames(archive, tmp_path, method, dtype):
    test = write(tmp_path / "nyu_test.zip", eigen_files(dtype), method)
    source = pickle.loads(pickle.dumps(open_densedepth(archive, test)))
    assert source.names[3:] == tuple(f"eigen_test/{n}" for n in range(4))
    assert source.splits == ("train",) * 3 + ("test",) * 4
    assert source.inputs() == [archive, test]
    assert source.left_out == ((TEST, "its 2 lines: nyu_test.zip stands in for them", 2),)
    assert "its crop rows 20 to 459 and columns 24 to 615, both ends included" in source.notes["depth"]
    wanted = np.where(EIGEN_DEPTH == 0, np.nan, EIGEN_DEPTH).astype(np.float32)
    for start, stop in ((0, 7), (2, 5), (4, 6), (6, 7)):
        frames = list(source.read(start, stop, BOTH))
        assert [frame.index for frame in frames] == list(range(start, stop))
        for frame in frames[max(0, 3 - start) :]:
            np.testing.assert_array_equal(frame.arrays["rgb"], EIGEN_RGB[frame.index - 3])
            np.testing.assert_array_equal(frame.arrays["depth"], wanted[frame.index - 3])


def test_opening_decodes_few_pictures_however_many_there_are(tmp_path, monkeypatch):
    files = archive_files()
    names = [f"{FOLDER}many_out/{n}" for n in range(300)]
    for name in names:
        files[f"{name}.jpg"], files[f"{name}.png"] = files[f"{PAIRS[0]}.jpg"], b"no picture, never looked at"
    files[TRAIN] += "".join(f"{name}.jpg,{name}.png\n" for name in names).encode()
    read: list[str] = []
    monkeypatch.setattr(module, "read_member", lambda *args: read.append(args[1]) or read_member(*args))
    source = open_densedepth(write(tmp_path / "a.zip", files))
    assert len(source.names) == 305
    assert len(read) == 9
    assert source.pictures.nbytes + source.depths.nbytes == 305 * 2 * 40
    assert not [value for value in vars(source).values() if isinstance(value, dict) and len(value) > 2]


def test_many_threads_read_at_once(archive, eigen):
    source = open_densedepth(archive, eigen)
    alone = list(source.read(0, 7, BOTH))
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda row: next(source.read(row, row + 1, BOTH)), list(range(7)) * 3))
    for place, frame in enumerate(together):
        for array in BOTH:
            np.testing.assert_array_equal(frame.arrays[array], alone[place % 7].arrays[array])


@pytest.mark.parametrize(
    ("white", "keep", "region"),
    [(False, False, None), (True, False, Region(8, 473, 8, 631)), (True, True, None)],
)
def test_a_white_frame_is_found_and_kept_from_the_operator(tmp_path, white, keep, region):
    source = open_densedepth(write(tmp_path / "a.zip", archive_files(white=white)), keep_frame=keep)
    assert source.valid_region == region
    assert ("rgb" in source.notes) == (region is not None)


Change = Callable[[Files], object]


def lines(name: str, text: bytes) -> Change:
    return lambda files: files.__setitem__(name, files[name] + text)


ZIP = r"a\.zip: "
BAD: dict[str, tuple[Change, str]] = {
    "no list": (lambda f: f.pop(TRAIN), f"no {TRAIN} among 11 members; DenseDepth's nyu_data.zip wanted"),
    "no lines": (lambda f: f.update({TRAIN: b"", TEST: b""}), f"no pair in {TRAIN} and {TEST}"),
    "one name": (lines(TRAIN, b"a.jpg\n"), f"{TRAIN}:4 has 1 names; a picture's and its depth's wanted"),
    "three names": (lines(TRAIN, b"a,b,c\n"), f"{TRAIN}:4 has 3 names"),
    "an empty name": (lines(TRAIN, b"a,\n"), f"{TRAIN}:4 has 2 names"),
    "no text": (lines(TRAIN, b"\xff\xfe\n"), f"{TRAIN} is no UTF-8"),
    "an open quote": (lines(TRAIN, b'"a,b\n' + b"x" * 200_000), f"{TRAIN}:5: field larger than"),
    "a file that is not there": (
        lines(TRAIN, b"data/x.jpg,data/x.png\n"),
        f"1 line names files that are not there .*: {TRAIN}:4: data/x.jpg and data/x.png not in the archive",
    ),
    "two depths": (
        lines(TRAIN, f"{PAIRS[0]}.jpg,{PAIRS[1]}.png\n".encode()),
        f"{TRAIN}:4 has {PAIRS[0]}.jpg with {PAIRS[1]}.png, {TRAIN}:1 with {PAIRS[0]}.png; one depth",
    ),
    "a test picture in train": (
        lines(TEST, f"{PAIRS[0]}.jpg,{PAIRS[0]}.png\n".encode()),
        ".*; one depth and one list a picture wanted",
    ),
    "an escape": (lines(TRAIN, b"\x1b[2J.jpg,a.png\n"), rf"{TRAIN}:4 has '\\x1b\[2J\.jpg,a\.png'; printable names"),
    "a line break in a name": (lines(TRAIN, b'"a\nb.jpg",a.png\n'), rf"{TRAIN}:5 has 'a\\nb\.jpg,a\.png'"),
    "two archives in one": (
        lambda f: [
            f.update({folder + name: data for folder in ("x/", "y/")}) for name, data in [*f.items()] if f.pop(name)
        ],
        f"no {TRAIN} among 24 members",
    ),
    "a name that leads out": (lambda f: f.update({"../x": b""}), r"a member named '../x'"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_archive_that_cannot_be_used_is_told_in_one_line(tmp_path, case):
    change, said = BAD[case]
    files = archive_files()
    change(files)
    path = write(tmp_path / "a.zip", files)
    with pytest.raises(InputError, match=ZIP + said):
        open_densedepth(path)
    result = gfield("build", "densedepth", path, tmp_path / "s", code=1)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("packed", ["wrapped", "without data", "by Windows", "by macOS"])
def test_an_archive_that_was_packed_anew_gives_the_same_frames(archive, tmp_path, packed):
    rename = {
        "wrapped": lambda name: f"nyu_data/{name}",
        "without data": lambda name: name.removeprefix("data/"),
        "by Windows": lambda name: name.replace("/", "\\"),
        "by macOS": lambda name: name,
    }[packed]
    files = {rename(name): data for name, data in archive_files().items()}
    if packed == "by macOS":
        files |= {f"__MACOSX/{name.replace('nyu2_', '._nyu2_')}": b"x" for name in files} | {"data/.DS_Store": b"x"}
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as stream:
        for name, data in files.items():
            stream.writestr(name, data)
    source, published = open_densedepth(path), open_densedepth(archive)
    assert (source.names, source.depth_names, source.scenes) == (
        published.names,
        published.depth_names,
        published.scenes,
    )
    assert source.left_out == ()
    for frame, wanted in zip(source.read(0, 5, BOTH), published.read(0, 5, BOTH), strict=True):
        np.testing.assert_array_equal(frame.arrays["rgb"], wanted.arrays["rgb"])
        np.testing.assert_array_equal(frame.arrays["depth"], wanted.arrays["depth"])


@pytest.mark.parametrize(
    "written",
    [
        lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"  \r\n\r\n",
        lambda text: text.replace(b"/", b"\\"),
        lambda text: text.replace(b"data/", b" ./data/").replace(b",", b" ,"),
    ],
)
def test_a_list_may_be_written_in_other_ways(archive, tmp_path, written):
    files = archive_files()
    files[TRAIN] = written(files[TRAIN])
    source = open_densedepth(write(tmp_path / "a.zip", files))
    assert (source.names, source.left_out) == (open_densedepth(archive).names, ())


def test_a_list_of_too_many_lines_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gfield.formats.pair_list._MOST_LINES", 2)
    with pytest.raises(InputError, match=f"{TRAIN}:3 and more lines; at most 2 wanted"):
        open_densedepth(write(tmp_path / "a.zip", archive_files()))


def test_lines_without_files_and_files_without_lines_can_be_left_out_and_are_listed(tmp_path):
    files = archive_files()
    files[TRAIN] += f"gone.jpg,{PAIRS[0]}.png\n\n{PAIRS[0]}.jpg,{PAIRS[0]}.png\n".encode()
    files["data/nyu2_train/extra_out/1.jpg"] = b"x"
    path = write(tmp_path / "a.zip", files)
    source = open_densedepth(path, on_unreadable="skip")
    assert len(source.names) == 5
    assert source.left_out == (
        (f"{TRAIN}:4", "gone.jpg not in the archive", 1),
        (f"{TRAIN}:6", f"the same as {TRAIN}:1", 1),
        ("data/nyu2_train/extra_out/1.jpg", "no line names it", 1),
    )
    built = gfield("build", "densedepth", path, tmp_path / "s", "--on-error", "skip", "--level", "80x60")
    assert f"left out: {TRAIN}:4: gone.jpg not in the archive" in built.stdout
    assert len(open_store(tmp_path / "s").attributes["left_out"]) == 3


def test_of_many_files_without_lines_a_hundred_are_listed(tmp_path):
    files = archive_files() | {f"data/extra/{n:03d}.jpg": b"" for n in range(250)}
    left_out = open_densedepth(write(tmp_path / "a.zip", files)).left_out
    assert len(left_out) == 101
    assert left_out[-1] == ("150 more files", "as data/extra/099.jpg: no line names it", 150)


def test_an_archive_without_test_frames_says_so(tmp_path):
    files = archive_files()
    del files[TEST]
    path = write(tmp_path / "a.zip", files)
    (warning,) = open_densedepth(path).warnings
    assert "no frame of test" in warning
    assert "--test nyu_test.zip" in warning


CASES: dict[str, tuple[str, bytes, str]] = {
    "no picture": (f"{PAIRS[1]}.jpg", b"<html>404</html>", "a JPEG or PNG wanted"),
    "another size": (f"{PAIRS[1]}.jpg", encoded(picture(0)[:, :600], ".jpg"), "600 x 480 pixels; 640 x 480 wanted"),
    "16 bits in train": (f"{PAIRS[1]}.png", encoded(depth(0, np.uint16, 9)), "16-bit grey PNG; 8-bit grey wanted"),
    "a coloured depth": (f"{PAIRS[1]}.png", encoded(picture(0)), "8-bit RGB PNG; 8-bit grey wanted"),
    "a small depth": (f"{PAIRS[1]}.png", encoded(depth(0, np.uint8, 9)[::2, ::2]), "320 x 240 pixels; 640 x 480"),
    "8 bits in test": ("data/nyu2_test/00001_depth.png", encoded(depth(0, np.uint8, 9)), "16-bit grey wanted"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_member_is_a_bad_frame(tmp_path, case):
    member, data, said = CASES[case]
    path = write(tmp_path / "a.zip", archive_files() | {member: data})
    frames = list(open_densedepth(path).read(0, 5, BOTH))
    (bad,) = (frame for frame in frames if isinstance(frame, BadFrame))
    assert bad.index == (3 if "test" in member else 1)
    assert bad.reason.startswith(f"{path}: {member}: ")
    assert said in bad.reason


def test_damage_in_the_archive_is_a_bad_frame_and_stops_a_build(tmp_path):
    path = write(tmp_path / "a.zip", archive_files())
    data = bytearray(path.read_bytes())
    at = data.index(archive_files()[f"{PAIRS[2]}.jpg"]) + 2000
    data[at] ^= 1
    path.write_bytes(data)
    stopped = gfield("build", "densedepth", path, tmp_path / "s", "--level", "80x60", code=1)
    assert f"{PAIRS[2]}.jpg does not match its size and CRC-32" in stopped.stderr
    gfield("build", "densedepth", path, tmp_path / "s", "--level", "80x60", "--on-error", "skip")
    store = open_store(tmp_path / "s")
    assert store.splits.tolist() == ["train", "train", "excluded", "test", "test"]
    assert str(tmp_path) not in store.attributes["excluded"][0]["reason"]


EIGEN_BAD: dict[str, tuple[Change, str]] = {
    "no crop": (
        lambda f: f.pop("eigen_test_crop.npy"),
        "0 members named eigen_test_crop.npy; DenseDepth's nyu_test.zip",
    ),
    "one depth less": (
        lambda f: f.update({"eigen_test_depth.npy": npy(EIGEN_DEPTH[:3])}),
        r"eigen_test_depth.npy is float64 \(3, 480, 640\); float32 or float64 \(4, 480, 640\) wanted",
    ),
    "whole metres": (lambda f: f.update({"eigen_test_depth.npy": npy(EIGEN_DEPTH.astype(int))}), ".* is int64"),
    "channels first": (
        lambda f: f.update({"eigen_test_rgb.npy": npy(EIGEN_RGB.transpose(0, 3, 1, 2).copy())}),
        ".* is uint8",
    ),
    "no frame": (
        lambda f: f.update({"eigen_test_rgb.npy": npy(EIGEN_RGB[:0]), "eigen_test_depth.npy": npy(EIGEN_DEPTH[:0])}),
        r".* is uint8 \(0, 480, 640, 3\)",
    ),
    "a crop of three": (
        lambda f: f.update({"eigen_test_crop.npy": npy(np.arange(3))}),
        ".*; four .* whole numbers wanted",
    ),
    "a crop beyond the picture": (
        lambda f: f.update({"eigen_test_crop.npy": npy(np.array([20, 480, 24, 615]))}),
        ".* is rows 20 to 480 and columns 24 to 615; a part of 480 rows and 640 columns wanted",
    ),
}


@pytest.mark.parametrize("case", EIGEN_BAD)
def test_a_test_archive_of_another_kind_is_refused(archive, tmp_path, case):
    change, said = EIGEN_BAD[case]
    files = eigen_files()
    change(files)
    with pytest.raises(InputError, match=rf"t\.zip: {said}"):
        open_densedepth(archive, write(tmp_path / "t.zip", files))


def test_wrong_metres_of_the_test_archive_are_a_bad_frame(archive, tmp_path):
    wrong = EIGEN_DEPTH.copy()
    wrong[1, 3, 4], wrong[2, 0, 0], wrong[3, 0, 0] = np.nan, -1, 1234  # of these the last is in millimetres
    files = eigen_files() | {"eigen_test_depth.npy": npy(wrong)}
    frames = list(open_densedepth(archive, write(tmp_path / "t.zip", files)).read(3, 7, BOTH))
    assert [type(frame) for frame in frames] == [Frame, BadFrame, BadFrame, BadFrame]
    assert frames[2].reason.endswith(
        "eigen_test_depth.npy, frame 2: 1 of 307200 values such as -1.0; metres of 0 to 100 wanted"
    )
    assert "such as 1234.0; metres" in frames[3].reason


def test_a_damaged_test_archive_fails_the_build_whatever_is_asked_for(archive, tmp_path):
    path = write(tmp_path / "t.zip", eigen_files(), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[1_000_000] ^= 1
    path.write_bytes(data)
    options = ["--level", "80x60", "--on-error", "skip", "--test", path]
    failed = gfield("build", "densedepth", archive, tmp_path / "s", *options, code=1)
    assert "eigen_test_rgb.npy does not match its size and CRC-32" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_an_interrupted_build_goes_on_and_repair_gives_the_same_bytes(archive, eigen, built, tmp_path):
    store = tmp_path / "s"
    options = ["--test", eigen, "--frames-per-shard", "2", "--level", "320x240"]
    gfield("build", "densedepth", archive, store, *options, "--part", "2/3")
    assert not store.exists()
    gfield("build", "densedepth", archive, store, *options)
    assert tree(store) == tree(built)
    assert "all good" in gfield("verify", store, "--all").stdout
    for damaged in ("320x240/depth/c/3/0/0", "320x240/rgb/c/0/0/0/0", "split/c/0"):
        (store / damaged).unlink()
    repaired = gfield("verify", store, "--repair", archive)
    assert repaired.stderr.count("restored: ") == 3
    assert tree(store) == tree(built)


def test_repair_wants_the_test_archive_beside_the_other(archive, built, tmp_path):
    alone = tmp_path / "nyu_data.zip"
    alone.write_bytes(archive.read_bytes())
    store = tmp_path / "s"
    store.mkdir()
    for path, data in tree(built).items():
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(data)
    (store / "split/c/0").unlink()
    refused = gfield("verify", store, "--repair", alone, code=1)
    assert f"Error: {tmp_path / 'nyu_test.zip'}: No such file or directory" in refused.stderr


def test_the_store_says_what_it_is(built, eigen, archive):
    store = open_store(built)
    assert store.attributes["title"] == "NYU Depth v2, DenseDepth's frames"
    assert [entry["name"] for entry in store.attributes["source_files"]] == [archive.name, eigen.name]
    assert store.rows("test").tolist() == [3, 4, 5, 6]
    shown = gfield("info", built).stdout
    assert "7: 4 test, 3 train; 2 scenes" in shown
    assert "320x240/depth" in gfield("plan", "densedepth", archive, built.parent / "t", "--level", "320x240").stdout


def test_the_papers_protocol_scores_such_a_store(archive, eigen, tmp_path, one_thread):
    """A network that says 3 m everywhere, against metrics computed here from the archive's numbers."""
    import torch

    from gfield import open_store as public
    from train.errors import TrainError
    from train.evaluate import evaluate
    from train.protocols import PROTOCOLS

    class Constant:
        def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
            return torch.full((len(rgb_N3HW), 1, 240, 320), 3.0)

    source = open_densedepth(archive, eigen)
    build_store(source, tmp_path / "s", make_spec(source, levels_WH=[(640, 480), (80, 60)]))
    store = public(tmp_path / "s")
    told = evaluate(Constant(), store, PROTOCOLS["nyu-eigen"], size_WH=(80, 60))
    true = EIGEN_DEPTH.astype(np.float32)[:, 45:471, 41:601]
    assert told.images == 4
    assert told.metrics["rms"] == pytest.approx(np.mean([np.sqrt(np.mean((d - 3) ** 2)) for d in true]), rel=1e-5)
    with pytest.raises(TrainError, match="a store of densedepth, make3d-c1 wants one of make3d"):
        evaluate(Constant(), store, PROTOCOLS["make3d-c1"], size_WH=(80, 60))


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_threads(archive, eigen, built, tmp_path):
    source = open_densedepth(archive, eigen)
    spec = make_spec(source, frames_per_shard=2, levels_WH=[(320, 240)])
    build_store(source, tmp_path / "s", spec, workers=2)
    assert tree(tmp_path / "s") == tree(built)
