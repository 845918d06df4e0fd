"""`gfield.sources.images` on small folders of real pictures, and stores built of them by the command."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cli
from gfield import inputs
from gfield.build import build_store
from gfield.formats import picture
from gfield.frame import BadFrame, Frame, InputError, Source
from gfield.sources.images import centre_window, open_images
from gfield.specify import make_spec
from gfield.store import open_store

from .test_png import exif
from .trees import tree

RGB = frozenset({"rgb"})
SIZE = (64, 48)


def encoded(seed: int, width: int, height: int, suffix: str = ".png") -> bytes:
    rng = np.random.default_rng(seed)
    bgr = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height))
    return cv2.imencode(suffix, bgr)[1].tobytes()


def add(root: Path, name: str, data: bytes | None = None) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(len(name), 80, 60, path.suffix.lower()) if data is None else data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of several sizes, and other files."""
    root = tmp_path / "pictures"
    add(root, "top.png")
    add(root, "b/2.jpg", encoded(1, 200, 100, ".jpg"))
    add(root, "b/10.JPG", encoded(2, 64, 48, ".jpg"))
    add(root, "a/deep/x.jpeg", encoded(3, 90, 160, ".jpg"))
    add(root, "a/deep/ü z.png", encoded(4, 128, 96))
    for other in ("notes.txt", "b/clip.mp4", "b/other.mp4", "README", ".hidden/x.png", "b/._2.jpg"):
        add(root, other, b"no picture")
    return root


def gfield(*arguments: object, code: int = 0):
    result = CliRunner().invoke(cli.gfield, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_source_as_the_contract_has_it(folder):
    source: Source = open_images(folder, size_WH=SIZE)
    assert source.names == ("a/deep/x.jpeg", "a/deep/ü z.png", "b/10.JPG", "b/2.jpg", "top.png")
    assert source.scenes == ("a/deep", "a/deep", "b", "b", "")
    assert set(source.splits) == {"unlabeled"}
    assert (source.kind, source.size_WH, source.provides, source.depth_shape_HW) == ("images", SIZE, RGB, None)
    assert (source.columns, source.valid_region, source.frames_per_chunk, source.warnings) == ({}, None, 1, ())
    assert [(entry.name, entry.reason) for entry in source.left_out] == [
        ("1 file without a suffix", "no pictures *.jpg, *.jpeg, *.png"),
        ("2 files *.mp4", "no pictures *.jpg, *.jpeg, *.png"),
        ("1 file *.txt", "no pictures *.jpg, *.jpeg, *.png"),
    ]
    inputs = source.inputs()
    assert list(inputs) == [folder / name for name in source.names]
    assert list(inputs[1:3]) == [folder / name for name in source.names[1:3]]
    copy = pickle.loads(pickle.dumps(source))
    assert [type(frame) for frame in copy.read(0, 5, RGB)] == [Frame] * 5


def test_opening_decodes_no_picture_and_reads_few_files(folder, monkeypatch):
    """Of 120,000 pictures the names are all that is looked at, but for the heads of 64."""
    for number in range(100):
        add(folder, f"many/{number}.png", b"no picture")
    heads: list[Path] = []
    monkeypatch.setattr("gfield.sources.images.picture_size", lambda path: heads.append(path) or (64, 48))
    monkeypatch.setattr(picture, "_read", lambda path, most: pytest.fail(f"{path} is read"))
    source = open_images(folder, size_WH=SIZE)
    assert len(source.names) == 105
    assert len(set(heads)) == len(heads) == 64
    assert (heads[0], heads[-1].parent) == (folder / source.names[0], folder / "many")


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    shape=st.tuples(st.integers(16, 900), st.integers(16, 900)),
)
def test_the_window_is_the_largest_centred_one_of_the_shape(size, shape):
    window = centre_window(size, shape)
    width, height = window.right - window.left, window.bottom - window.top
    assert width == size[0] or height == size[1]
    assert 0 <= window.left <= size[0] - window.right <= window.left + 1
    assert 0 <= window.top <= size[1] - window.bottom <= window.top + 1
    # The other side is within half a pixel of what the aspect ratio asks for, or is one pixel.
    if width < size[0]:
        assert width == 1 or abs(width - height * shape[0] / shape[1]) <= 0.5
    if height < size[1]:
        assert height == 1 or abs(height - width * shape[1] / shape[0]) <= 0.5


def test_pictures_are_cut_round_their_centre_and_never_stretched(folder):
    frames = {frame.index: frame.arrays["rgb"] for frame in open_images(folder, size_WH=SIZE).read(0, 5, RGB)}
    shown = [cv2.imread(str(folder / name))[..., ::-1] for name in open_images(folder, size_WH=SIZE).names]
    np.testing.assert_array_equal(frames[0], shown[0][46:114])  # 90 x 160, portrait: 90 x 68
    np.testing.assert_array_equal(frames[1], shown[1])
    np.testing.assert_array_equal(frames[2], shown[2])
    np.testing.assert_array_equal(frames[3], shown[3][:, 33:166])  # 200 x 100: 133 x 100
    np.testing.assert_array_equal(frames[4], shown[4])
    assert all(frame.flags.c_contiguous for frame in frames.values())


def test_the_store_holds_area_averages(folder, tmp_path):
    source = open_images(folder, size_WH=SIZE)
    build_store(source, tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert set(store.arrays) == {f"{level}/{name}" for level in ("64x48", "32x24") for name in ("rgb", "gradient")}
    assert store.attributes["title"] == "Pictures without depth"
    assert "cut round their centre" in store.arrays["64x48/rgb"].attributes["comment"]
    for row, frame in enumerate(source.read(0, 5, RGB)):
        wanted = cv2.resize(frame.arrays["rgb"], SIZE, interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(store.read("64x48/rgb", [row])[0], wanted)
    assert store.names.tolist() == list(source.names)
    assert store.scenes.tolist() == list(source.scenes)


def test_a_phones_pictures_are_shown_as_it_was_held(tmp_path):
    data = encoded(0, 80, 60, ".jpg")
    block = b"Exif\0\0" + exif(6)
    add(tmp_path, "x.jpg", data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:])
    (frame,) = open_images(tmp_path, size_WH=(30, 40)).read(0, 1, RGB)
    np.testing.assert_array_equal(frame.arrays["rgb"], cv2.imread(str(tmp_path / "x.jpg"))[..., ::-1])


BAD = {
    "empty": (b"", "a JPEG or PNG wanted"),
    "another format": (b"RIFF....WEBPVP8 ", "begins with b'RIFF....'"),
    "cut off": (encoded(0, 80, 60)[:-30], "a whole PNG wanted"),
    "cut off JPEG": (encoded(0, 80, 60, ".jpg")[:-60], "a whole JPEG wanted"),
    "depth": (cv2.imencode(".png", np.full((48, 64), 900, np.uint16))[1].tobytes(), "16-bit grey PNG; 8 bits wanted"),
    "too small": (encoded(0, 80, 47), "80 x 47 pixels, 63 x 47 of them in the store's shape; 64 x 48 or more wanted"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_stops_the_build_or_is_left_out(folder, tmp_path, case):
    data, said = BAD[case]
    bad = add(folder, "b/5.png", data)
    frames = list(open_images(folder, size_WH=SIZE).read(0, 6, RGB))
    assert [type(frame) for frame in frames].count(BadFrame) == 1
    assert frames[4].reason.startswith(f"{bad}: ")
    store = tmp_path / "s"
    stopped = gfield("build", "images", folder, store, "--size", "64x48", code=1)
    assert said in stopped.stderr
    assert "--on-error skip leaves such frames out" in stopped.stderr
    assert len([line for line in stopped.stderr.splitlines() if not line.startswith("Warning")]) == 2
    skipped = gfield("build", "images", folder, store, "--size", "64x48", "--on-error", "skip")
    assert "excluded: frame 4 (b/5.png): " in skipped.stdout
    assert open_store(store).splits.tolist() == ["unlabeled"] * 4 + ["excluded", "unlabeled"]
    assert "all good" in gfield("verify", store, "--all").stdout


def test_pictures_that_are_too_small_are_told_before_the_build(folder):
    (warning,) = open_images(folder).warnings
    assert "5 of 5 pictures looked at are too small, such as a/deep/x.jpeg: 90 x 160 pixels" in warning
    assert "640 x 480 or more wanted, or a smaller --size" in warning


def test_folders_without_pictures_and_sizes_without_levels_are_refused(folder, tmp_path):
    (tmp_path / "none").mkdir()
    add(tmp_path / "texts", "a.txt", b"")
    for path, said in (
        (tmp_path / "nowhere", "not a folder"),
        (folder / "top.png", "not a folder"),
        (tmp_path / "none", "no picture, but nothing"),
        (tmp_path / "texts", r"no picture, but 1 file \*\.txt; pictures \*\.jpg, \*\.jpeg, \*\.png wanted"),
    ):
        with pytest.raises(InputError, match=said):
            open_images(path)
    for size in ((15, 480), (640, 8193), (-64, -48)):
        with pytest.raises(InputError, match=f"size {size[0]}x{size[1]}: sides of 16 to 8192 pixels wanted"):
            open_images(folder, size_WH=size)


def test_names_that_cannot_be_written_are_left_out(folder):
    (folder / os.fsdecode(b"b/\xff.png")).write_bytes(b"")
    (folder / "b/two\nlines.png").write_bytes(b"")
    source = open_images(folder, size_WH=SIZE)
    assert len(source.names) == 5
    assert [entry.name for entry in source.left_out[:2]] == ["b/two\\nlines.png", "b/\\udcff.png"]


def test_what_is_no_file_is_left_out_and_nothing_waits_for_it(folder, tmp_path):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to("nothing")
    (folder / "itself.png").symlink_to("itself.png")
    told = gfield("build", "images", folder, tmp_path / "s", "--size", "64x48", "--level", "64x48")
    for line in ("gone.jpg: a link to nowhere", "itself.png: a link to nowhere", "pipe.jpg: not a file"):
        assert f"left out: {line}" in told.stdout
    assert len(open_store(tmp_path / "s")) == 5


def test_links_to_nowhere_are_told_and_of_many_a_hundred_are_listed(tmp_path):
    for number in range(250):
        (tmp_path / f"{number:03d}.jpg").symlink_to("nothing")
    with pytest.raises(InputError, match=r"no picture, but 000\.jpg \(a link to nowhere\), 001\.jpg") as caught:
        open_images(tmp_path)
    assert len(str(caught.value)) < 300
    add(tmp_path, "x.png")
    left_out = open_images(tmp_path, size_WH=SIZE).left_out
    assert len(left_out) == 101
    assert left_out[-1] == ("150 more files", "as 099.jpg: a link to nowhere", 150)


def test_files_that_may_not_be_read_can_be_left_out(folder, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and not str(path).endswith("top.png"))
    assert len(open_images(folder, size_WH=SIZE).names) == 5
    skipped = open_images(folder, size_WH=SIZE, on_unreadable="skip")
    assert (len(skipped.names), skipped.left_out[-1]) == (4, ("top.png", "may not be read", 1))


def test_links_are_followed_and_rings_are_not(folder, tmp_path):
    add(tmp_path / "elsewhere", "y.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a/ring").symlink_to(folder)
    names = open_images(folder, size_WH=SIZE).names
    assert "link/y.png" in names
    assert len(names) == 6


def test_many_kinds_of_other_files_are_one_line(folder):
    for number in range(30):
        add(folder, f"x.{number:03d}", b"")
    left_out = open_images(folder, size_WH=SIZE).left_out
    assert len(left_out) == 21
    assert left_out[-1].name == "13 files of other kinds"


def test_size_decides_the_levels_and_another_is_another_store(folder, tmp_path):
    store = tmp_path / "s"
    gfield("build", "images", folder, store, "--size", "48x48", "--level", "48x48", "--level", "12x12")
    assert open_store(store).levels == ("48x48", "12x12")
    refused = gfield("build", "images", folder, store, "--size", "48x40", code=1)
    assert "size_WH is (48, 48) in the store, (48, 40) asked for" in refused.stderr
    plan = gfield("plan", "images", folder, tmp_path / "t", "--size", "48x40")
    assert "48x40/gradient" in plan.stdout


def test_an_interrupted_build_goes_on_and_repair_gives_the_same_bytes(folder, tmp_path):
    for number in range(20):
        add(folder, f"more/{number:02d}.png", encoded(number, 64, 48))
    add(folder, "more/bad.png", b"no picture")
    options = ["--size", "64x48", "--frames-per-shard", "4", "--on-error", "skip"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    gfield("build", "images", folder, whole, *options)
    gfield("build", "images", folder, parts, *options, "--part", "2/3")
    assert not parts.exists()
    gfield("build", "images", folder, parts, *options)
    assert tree(parts) == tree(whole)
    for damaged in ("64x48/rgb/c/6/0/0/0", "32x24/gradient/c/1/0/0", "name/c/0", "scene/zarr.json"):
        (parts / damaged).unlink()
    repaired = gfield("verify", parts, "--repair", folder)
    assert repaired.stderr.count("restored: ") == 4
    assert tree(parts) == tree(whole)
    add(folder, "more/00.png", encoded(99, 64, 48))
    (parts / "64x48/rgb/c/6/0/0/0").unlink()
    refused = gfield("verify", parts, "--repair", folder, code=1)
    assert "was built from another input" in refused.stderr
    shutil.rmtree(folder)
    assert "not a folder" in gfield("verify", parts, "--repair", folder, code=1).stderr


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures that the quick digest sees little of, the fourth damaged where it does not look."""
    monkeypatch.setattr(inputs, "_BLOCKS", 6)
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (240, 320, 3), np.uint8)
        add(tmp_path / "noisy", f"{number}.png", cv2.imencode(".png", pixels)[1].tobytes())
    path = tmp_path / "noisy" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:150_000] + bytes(100) + whole[150_100:])
    path.with_suffix(".whole").write_bytes(whole)
    return tmp_path / "noisy"


def test_a_file_mended_between_two_runs_leaves_no_trace_of_the_damaged_one(noisy, tmp_path):
    options = ("--size", "320x240", "--level", "320x240", "--frames-per-shard", 1)
    assert "the 5 of 6 shards" in gfield("build", "images", noisy, tmp_path / "s", *options, code=1).stderr
    (noisy / "3.whole").replace(noisy / "3.png")
    told = gfield("build", "images", noisy, tmp_path / "s", *options).stdout
    assert "an input file had changed: 5 shards of an earlier run made again" in told
    gfield("build", "images", noisy, tmp_path / "fresh", *options)
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")


def test_files_that_were_only_copied_between_two_runs_are_the_same_files(noisy, tmp_path):
    options = ("--size", "320x240", "--level", "320x240", "--frames-per-shard", 1)
    gfield("build", "images", noisy, tmp_path / "s", *options, code=1)
    shutil.copytree(noisy, tmp_path / "copy")
    told = gfield("build", "images", tmp_path / "copy", tmp_path / "s", *options, "--on-error", "skip").stdout
    assert "6 frames in 6 shards, 1 written now" in told
    assert "had changed" not in told


def test_a_build_that_keeps_nothing_leaves_nothing_in_the_way(folder, tmp_path):
    whole = (folder / "top.png").read_bytes()
    (folder / "top.png").write_bytes(whole[:200])
    said = gfield("build", "images", folder, tmp_path / "s", "--size", "64x48", "--level", "64x48", code=1).stderr
    assert "1 frame cannot be read; --on-error skip leaves such frames out" in said
    (folder / "top.png").write_bytes(whole)
    gfield("build", "images", folder, tmp_path / "s", "--size", "64x48", "--level", "64x48")


def test_mended_files_of_a_build_that_kept_shards_are_told_apart(folder, tmp_path):
    options = ("--size", "64x48", "--level", "64x48", "--frames-per-shard", 1)
    whole = (folder / "top.png").read_bytes()
    (folder / "top.png").write_bytes(whole[:200])
    said = gfield("build", "images", folder, tmp_path / "s", *options, code=1).stderr
    assert "the 4 of 5 shards without them are kept; --on-error skip" in said
    assert "--overwrite begins anew with mended files" in said
    (folder / "top.png").write_bytes(whole)
    said = gfield("build", "images", folder, tmp_path / "s", *options, code=1).stderr
    assert (
        "made of other input files, or they have changed since; an unfinished build, which --overwrite removes" in said
    )
    gfield("build", "images", folder, tmp_path / "s", *options, "--overwrite")
    assert not list(tmp_path.glob("s.building-*"))


def test_a_store_of_no_readable_picture_is_not_made(tmp_path):
    for number in range(3):
        add(tmp_path / "p", f"{number}.png", encoded(0, 64, 48)[:150])
    options = ("--size", "64x48", "--level", "64x48", "--on-error", "skip")
    said = gfield("build", "images", tmp_path / "p", tmp_path / "s", *options, code=1).stderr
    assert "none of 3 frames can be read; no store was made" in said
    assert not list(tmp_path.glob("s*"))


@pytest.mark.parametrize("target", ["file:///tmp/x", "gs://bucket/x.zarr"])
def test_urls_of_other_kinds_are_refused(folder, target):
    for command in ("build", "plan"):
        said = gfield(command, "images", folder, target, code=2).stderr
        assert f"{target}: {target.partition(':')[0]}:// is not read here" in said


def test_of_many_lines_a_screenful_is_printed(tmp_path):
    for number in range(50):
        add(tmp_path / "p", f"{number:02d}.png", encoded(0, 64, 48)[: 150 if number else None])
    options = ("--size", "64x48", "--level", "64x48", "--on-error", "skip")
    told = gfield("build", "images", tmp_path / "p", tmp_path / "s", *options).stdout
    assert len(told.splitlines()) < 30
    assert "excluded: 29 more, which `gfield info --json STORE` lists" in told
    assert "frames excluded: 49" in told
    assert "29 more, which --json lists" in gfield("info", tmp_path / "s").stdout


@pytest.mark.parametrize("target", ["", ".", "..", "p/..", "/"])
def test_what_cannot_be_a_store_is_refused_before_anything_is_made(folder, tmp_path, monkeypatch, target):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in ("build", "plan"):
        said = gfield(command, "images", folder, target, code=1).stderr
        assert f"{target or '.'}" in said
        assert "cannot be the store; a folder's path wanted, such as nyu.zarr" in said
    assert not list((tmp_path / "here").iterdir())
    assert not list(tmp_path.parent.glob("*.building-*"))


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_threads(folder, tmp_path):
    source = open_images(folder, size_WH=SIZE)
    spec = make_spec(source, frames_per_shard=2)
    build_store(source, tmp_path / "a", spec)
    build_store(source, tmp_path / "b", spec, workers=2)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_arrays_that_are_not_there(folder):
    with pytest.raises(ValueError, match="asked for of"):
        list(open_images(folder, size_WH=SIZE).read(0, 1, frozenset({"rgb", "depth"})))
