"""`gfield.sources.make3d` on small trees with real JPEG and MATLAB files, and on the real pairs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.formats.matv5 import read_numeric, write_numeric
from gfield.frame import BadFrame, Frame, InputError, Source
from gfield.sources.make3d import open_make3d

BOTH = frozenset({"rgb", "depth"})
X = "060705-17.10.14-p-254t000"


def picture(seed: int = 0, width: int = 90, height: int = 120) -> bytes:
    rng = np.random.default_rng(seed)
    bgr = cv2.resize(rng.integers(0, 256, (8, 6, 3), np.uint8), (width, height))
    return cv2.imencode(".jpg", bgr)[1].tobytes()


def grid(seed: int = 0) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.integers(200, 7999, (55, 305, 4)) / 100.0


def add_image(folder: Path, x: str, data: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"img-{x}.jpg"
    path.write_bytes(picture(len(x)) if data is None else data)
    return path


def add_depth(folder: Path, x: str, values: npt.NDArray[Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"depth_sph_corr-{x}.mat"
    write_numeric(path, {"Position3DGrid": grid(len(x)) if values is None else values}, compress=False)
    return path


def add_pair(root: Path, x: str, split: str = "train") -> tuple[Path, Path]:
    image, depth = {"train": ("Train400Img", "Train400Depth"), "test": ("Test134", "Gridlaserdata")}[split]
    return add_image(root / image, x), add_depth(root / depth, x)


@pytest.mark.parametrize(
    ("images", "depths", "root", "split"),
    [
        ("Train400Img", "Train400Depth", ".", "train"),
        ("data/make3d/Train400Img", "data/make3d/Train400Depth", ".", "train"),
        ("Train400Img/Train400Img", "Train400Depth/Train400Depth", ".", "train"),
        ("train/images", "train/laser", "train", "train"),
        ("Test134", "Gridlaserdata", ".", "test"),
        ("Test134Img", "Gridlaserdata", ".", "test"),
        ("Test134", "Test134Depth/Gridlaserdata", ".", "test"),
        ("Test134/Test134Img", "Test134/Gridlaserdata", "Test134", "test"),
        ("Train400/Test134", "Train400/Gridlaserdata", ".", "test"),
    ],
)
def test_layouts(tmp_path: Path, images: str, depths: str, root: str, split: str) -> None:
    image, depth = add_image(tmp_path / images, X), add_depth(tmp_path / depths, X)
    source = open_make3d(tmp_path / root)
    assert source.inputs() == [image, depth]
    assert source.names == (f"{split}/{X}",)
    assert source.splits == (split,)
    assert source.left_out == ()
    other = "test" if split == "train" else "train"
    assert [f"no {other} pair" in warning for warning in source.warnings] == [True]


def test_pipes_devices_and_names_for_terminals_are_left_out(tmp_path: Path) -> None:
    add_pair(tmp_path, "good")
    for x, put in (("pipe", os.mkfifo), ("zero", lambda path: path.symlink_to("/dev/zero"))):
        image, depth = add_pair(tmp_path, x)
        for path in (image, depth) if x == "pipe" else (depth,):
            path.unlink()
            put(path)
    add_pair(tmp_path, "\x1b[2J\n")
    source = open_make3d(tmp_path)
    assert source.names == ("train/good",)
    told = {Path(name).name: reason for name, reason, _ in source.left_out}
    assert told["img-pipe.jpg"] == told["depth_sph_corr-pipe.mat"] == told["depth_sph_corr-zero.mat"] == "not a file"
    assert "no printable UTF-8" in told[r"img-\x1b[2J\n.jpg"]


def test_a_nan_that_numpy_warns_of_is_a_bad_frame_and_no_warning(tmp_path: Path) -> None:
    values = grid()
    values[3, 4, 3] = np.frombuffer(b"\1\0\0\0\0\0\xf0\x7f", "<f8")[0]  # one that signals
    add_image(tmp_path / "Train400Img", X)
    add_depth(tmp_path / "Train400Depth", X, values)
    (frame,) = open_make3d(tmp_path).read(0, 1, BOTH)
    assert isinstance(frame, BadFrame)
    assert "such as nan" in frame.reason


def test_folders_that_say_neither_train_nor_test(tmp_path: Path) -> None:
    add_image(tmp_path / "test_pictures_of_mine", X)
    add_depth(tmp_path / "laser", X)
    source = open_make3d(tmp_path)
    assert source.splits == ("unlabeled",)
    assert "1 'unlabeled', as no folder above says train or test" in source.warnings[0]


def test_a_source_as_the_contract_has_it(tmp_path: Path) -> None:
    add_pair(tmp_path, "op10-p-313t000")
    add_pair(tmp_path, "10.21op2-p-046t0", "test")
    source: Source = open_make3d(tmp_path)
    assert (source.kind, source.size_WH, source.depth_shape_HW) == ("make3d", (480, 640), (55, 305))
    assert (source.provides, source.valid_region, source.frames_per_chunk) == (BOTH, None, 1)
    assert source.scenes == ("op10", "10.21op2")
    assert source.columns == {
        "image_file": ("img-op10-p-313t000.jpg", "img-10.21op2-p-046t0.jpg"),
        "depth_file": ("depth_sph_corr-op10-p-313t000.mat", "depth_sph_corr-10.21op2-p-046t0.mat"),
    }
    assert "d >= 80.0 m -> NaN" in source.notes["depth"]
    copy = pickle.loads(pickle.dumps(source))
    assert copy.names == source.names
    assert [type(frame) for frame in copy.read(0, 2, BOTH)] == [Frame, Frame]


@pytest.mark.parametrize(
    ("x", "scene"),
    [
        ("060705-17.10.14-p-254t000", "060705-17.10.14"),
        ("combined1-p-015t0", "combined1"),
        ("a-p-1t2-p-3t4", "a-p-1t2"),
        ("op10", ""),
        ("op10-p-313t000-copy", ""),
    ],
)
def test_scene_is_what_stands_before_the_view(tmp_path: Path, x: str, scene: str) -> None:
    add_pair(tmp_path, x)
    assert open_make3d(tmp_path).scenes == (scene,)


def test_frames_hold_the_files_values(tmp_path: Path) -> None:
    values = grid(7)
    values[0, 0, 3], values[0, 1, 3], values[54, 304, 3], values[2, 2, 3] = 80.0, 79.99, 81.25, 80.0 - 1e-9
    image = add_image(tmp_path / "Train400Img", X, picture(5, 1704, 2272))
    add_depth(tmp_path / "Train400Depth", X, values)
    (frame,) = open_make3d(tmp_path).read(0, 1, BOTH)
    assert isinstance(frame, Frame)
    rgb_HWC, depth_HW = frame.arrays["rgb"], frame.arrays["depth"]
    np.testing.assert_array_equal(rgb_HWC, cv2.imread(str(image))[..., ::-1])
    assert (rgb_HWC.shape, rgb_HWC.dtype) == ((2272, 1704, 3), np.uint8)
    wanted = values[..., 3].astype(np.float32)
    wanted[0, 0] = wanted[54, 304] = wanted[2, 2] = np.nan  # the last one is 80 in float32
    np.testing.assert_array_equal(depth_HW, wanted)
    assert depth_HW.dtype == np.float32
    assert rgb_HWC.flags.c_contiguous
    assert depth_HW.flags.c_contiguous


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seven")
    for number in (3, 1, 2, 0):  # not the order that is wanted
        add_pair(root, f"op{number}-p-000t000")
    for number in (6, 4, 5):
        add_pair(root, f"op{number}-p-000t000", "test")
    return root


@given(bounds=st.tuples(st.integers(0, 7), st.integers(0, 7)), arrays=st.sets(st.sampled_from(sorted(BOTH))))
def test_any_range_in_order_and_only_what_was_asked(seven: Path, bounds: tuple[int, int], arrays: set[str]) -> None:
    start, stop = bounds
    frames = list(open_make3d(seven).read(start, stop, frozenset(arrays)))
    assert [frame.index for frame in frames] == list(range(start, stop))
    assert all(isinstance(frame, Frame) and set(frame.arrays) == arrays for frame in frames)


def test_train_before_test_each_by_x(seven: Path) -> None:
    source = open_make3d(seven)
    assert source.names == tuple(f"{'train' if n < 4 else 'test'}/op{n}-p-000t000" for n in range(7))
    assert [path.suffix for path in source.inputs()] == [".jpg", ".mat"] * 7
    assert [path.name for path in source.inputs()[::2]] == list(source.columns["image_file"])
    with pytest.raises(ValueError, match=r"\['label'\] asked for of \['depth', 'rgb'\]"):
        list(source.read(0, 1, frozenset({"label"})))


def test_the_same_x_in_both_trees(tmp_path: Path) -> None:
    train, test = add_pair(tmp_path, X), add_pair(tmp_path, X, "test")
    source = open_make3d(tmp_path)
    assert source.names == (f"train/{X}", f"test/{X}")
    assert source.inputs() == [*train, *test]


@pytest.mark.parametrize(("of_image", "of_depth"), [("10.21", ""), ("", "10.21"), ("10.21", "10.21"), ("", "")])
def test_a_leading_10_21_may_miss_on_either_side(tmp_path: Path, of_image: str, of_depth: str) -> None:
    image = add_image(tmp_path / "Test134", f"{of_image}op2-p-046t000")
    depth = add_depth(tmp_path / "Gridlaserdata", f"{of_depth}op2-p-046t000")
    source = open_make3d(tmp_path)
    assert source.inputs() == [image, depth]
    assert source.names == (f"test/{of_image}op2-p-046t000",)


def test_an_exact_x_goes_before_one_without_10_21(tmp_path: Path) -> None:
    add_image(tmp_path / "Test134", "op2")
    for x in ("10.21op2", "op2"):
        add_depth(tmp_path / "Gridlaserdata", x)
    source = open_make3d(tmp_path)
    assert source.columns["depth_file"] == ("depth_sph_corr-op2.mat",)
    assert [left_out.name for left_out in source.left_out] == ["Gridlaserdata/depth_sph_corr-10.21op2.mat"]


def test_ambiguous_files_are_left_out_and_told(tmp_path: Path) -> None:
    add_pair(tmp_path, "sound")
    add_pair(tmp_path, "op1")
    add_depth(tmp_path / "Train400Depth" / "copy", "op1")
    add_image(tmp_path / "Train400Img", "op2")  # 10.21 must not choose between two
    add_image(tmp_path / "Train400Img", "10.21op2")
    add_depth(tmp_path / "Train400Depth" / "a", "10.21op2")
    add_depth(tmp_path / "Train400Depth" / "b", "10.21op2")
    source = open_make3d(tmp_path)
    assert source.names == ("train/sound",)
    reasons = {left_out.name: left_out.reason for left_out in source.left_out}
    assert len(reasons) == 7
    ambiguous = "ambiguous: 1 img-X.jpg, 2 depth_sph_corr-X.mat of train for X = op1; one of each wanted"
    assert reasons["Train400Img/img-op1.jpg"] == ambiguous
    assert reasons["Train400Depth/copy/depth_sph_corr-op1.mat"] == ambiguous
    assert "1 img-X.jpg, 2 depth_sph_corr-X.mat of train for X = 10.21op2" in reasons["Train400Img/img-10.21op2.jpg"]
    assert "no depth file" in reasons["Train400Img/img-op2.jpg"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return add_image(folder, "x"), add_depth(folder, "x")


xs = st.sampled_from(["op1", "10.21op1", "op2.b-p-0t0", "10.21op2.b-p-0t0", "10.21"])
folders = st.sampled_from(["Train400Img", "Train400Depth", "Test134", "Gridlaserdata", "Test134/more"])
places = st.sets(st.tuples(folders, xs, st.booleans()), max_size=7)


@settings(max_examples=60)
@given(places=places)
def test_every_file_is_in_one_pair_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, originals: tuple[Path, Path], places: set[tuple[str, str, bool]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    sure = {("Train400Img", "sure", True), ("Train400Depth", "sure", False)}  # never a tree without a pair
    for folder, x, is_image in places | sure:
        (root / folder).mkdir(parents=True, exist_ok=True)
        os.link(
            originals[0 if is_image else 1],
            root / folder / (f"img-{x}.jpg" if is_image else f"depth_sph_corr-{x}.mat"),
        )
    files = sorted(path for path in root.rglob("*") if path.is_file())
    source = open_make3d(root)
    assert sorted([*source.inputs(), *(root / left_out.name for left_out in source.left_out)]) == files
    assert len(set(source.names)) == len(source.names) == len(source.inputs()) // 2
    assert list(source.splits) == sorted(source.splits, reverse=True)  # train, test
    for name, image, depth in zip(source.names, source.inputs()[::2], source.inputs()[1::2], strict=True):
        x = image.name.removeprefix("img-").removesuffix(".jpg")
        of_depth = depth.name.removeprefix("depth_sph_corr-").removesuffix(".mat")
        assert name.endswith(f"/{x}")
        assert x.removeprefix("10.21") == of_depth.removeprefix("10.21")


def test_unpaired_and_hidden_files(tmp_path: Path) -> None:
    add_pair(tmp_path, X)
    add_image(tmp_path / "Test134", "op57-p-016t000")
    add_depth(tmp_path / "Gridlaserdata", "op58-p-016t000")
    for name in (
        "Train400Img/._img-hidden.jpg",
        "Train400Img/Thumbs.db",
        "readme.txt",
        "Train400Img/other.jpg",
    ):
        (tmp_path / name).write_bytes(b"no picture")
    add_pair(tmp_path / ".cache", "hidden")
    source = open_make3d(tmp_path)
    assert source.names == (f"train/{X}",)
    assert tuple(out[:2] for out in source.left_out) == (
        ("Gridlaserdata/depth_sph_corr-op58-p-016t000.mat", "no image img-X.jpg of the same X and split"),
        ("Test134/img-op57-p-016t000.jpg", "no depth file depth_sph_corr-X.mat of the same X and split"),
    )


def test_train_and_test_are_not_paired_with_each_other(tmp_path: Path) -> None:
    add_pair(tmp_path, X)
    add_image(tmp_path / "Train400Img", "op1")
    add_depth(tmp_path / "Gridlaserdata", "op1")
    assert len(open_make3d(tmp_path).left_out) == 2


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    add_pair(tmp_path / "elsewhere", X)
    root = tmp_path / "root"
    root.mkdir()
    for name in ("Train400Img", "Train400Depth"):
        (root / name).symlink_to(tmp_path / "elsewhere" / name)
    (root / "Train400Img" / "loop").symlink_to(root)
    source = open_make3d(root)
    assert source.inputs() == [
        root / f"Train400Img/img-{X}.jpg",
        root / f"Train400Depth/depth_sph_corr-{X}.mat",
    ]
    assert source.left_out == ()


def test_no_tree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: not a folder; the folder with Train400Img/.* wanted$"):
        open_make3d(tmp_path / "gone")
    with pytest.raises(InputError, match=r"no pair among 0 images img-\*\.jpg and 0 depth files .* wanted$"):
        open_make3d(tmp_path)
    file = add_image(tmp_path / "Train400Img", X)
    with pytest.raises(InputError, match="no pair among 1 images"):
        open_make3d(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        open_make3d(file)


def spoil_mat(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


UNREADABLE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "landscape": (lambda i, d: i.write_bytes(picture(0, 120, 90)), "120 wide, 90 high; portrait of 3:4"),
    "square": (lambda i, d: i.write_bytes(picture(0, 100, 130)), "100 wide, 130 high; portrait of 3:4"),
    "no JPEG": (lambda i, d: i.write_bytes(b"<html>"), "no readable JPEG header in 6 bytes; a JPEG wanted"),
    "empty image": (lambda i, d: i.write_bytes(b""), "no readable JPEG header in 0 bytes"),
    "cut .mat": (lambda i, d: spoil_mat(d), r"truncated: \d+ bytes wanted at byte 136, 4864 there"),
    "empty .mat": (lambda i, d: d.write_bytes(b""), "not a MATLAB level-5 file"),
    "variable": (
        lambda i, d: write_numeric(d, {"depth": np.eye(2)}),
        "no variable 'Position3DGrid'; found depth",
    ),
    "shape": (
        lambda i, d: write_numeric(d, {"Position3DGrid": grid()[..., 0]}),
        r"'Position3DGrid' is float64, \(55, 305\); float64, \(55, 305, 4\) wanted",
    ),
    "type": (
        lambda i, d: write_numeric(d, {"Position3DGrid": grid().astype(np.float32)}),
        r"'Position3DGrid' is float32, \(55, 305, 4\); float64",
    ),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_unreadable_files_stop_or_are_left_out(tmp_path: Path, fault: str) -> None:
    add_pair(tmp_path, "op1")
    image, depth = add_pair(tmp_path, "op2")
    spoil, message = UNREADABLE[fault]
    spoil(image, depth)
    with pytest.raises(InputError, match=rf": 1 file cannot be read .*: Train400.*op2\.(jpg|mat): {message}"):
        open_make3d(tmp_path)
    source = open_make3d(tmp_path, on_unreadable="skip")
    assert source.names == ("train/op1",)
    assert {left_out.name for left_out in source.left_out} == {
        "Train400Img/img-op2.jpg",
        "Train400Depth/depth_sph_corr-op2.mat",
    }
    reasons = " | ".join(left_out.reason for left_out in source.left_out)
    assert "which cannot be read" in reasons
    assert str(tmp_path) not in reasons  # a store tells nothing of where it was built


def test_all_unreadable_files_are_in_one_line(tmp_path: Path) -> None:
    for number in range(6):
        image, depth = add_pair(tmp_path, f"op{number}")
        (image if number % 2 else depth).write_bytes(b"broken")
    with pytest.raises(InputError) as caught:
        open_make3d(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: 6 files cannot be read (--on-error skip leaves them out): ")
    assert message.endswith("and 2 more")
    assert "Train400Img/img-op3.jpg: no readable JPEG header" in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r": 6 files cannot be read, which leaves no pair: Train"):
        open_make3d(tmp_path, on_unreadable="skip")


def test_about_3_to_4_is_enough(tmp_path: Path) -> None:
    add_image(tmp_path / "Train400Img", X, picture(0, 1700, 2272))
    add_depth(tmp_path / "Train400Depth", X)
    assert len(open_make3d(tmp_path).names) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "2 of 16775 distances such as nan"),
        (np.inf, "2 of 16775 distances such as inf"),
        (-0.5, "2 of 16775 distances such as -0.5"),
        (0.0, "2 of 16775 distances such as 0.0"),
        (1e300, "2 of 16775 distances such as inf"),
    ],
)
def test_wrong_distances_are_a_bad_frame(tmp_path: Path, value: float, message: str) -> None:
    values = grid()
    values[3, 4, 3] = values[54, 0, 3] = value
    values[0, 0, :3] = np.nan  # the other channels are not read
    depth = add_depth(tmp_path / "Train400Depth", "op1", values)
    add_image(tmp_path / "Train400Img", "op1")
    add_pair(tmp_path, "op2")
    source = open_make3d(tmp_path)
    bad, good = source.read(0, 2, BOTH)
    assert bad == BadFrame(0, f"{depth}: {message}; finite, above 0 m wanted")
    assert isinstance(good, Frame)
    assert [type(frame) for frame in source.read(0, 2, frozenset({"rgb"}))] == [Frame, Frame]


def test_damage_found_while_reading_is_a_bad_frame(tmp_path: Path) -> None:
    pairs = [add_pair(tmp_path, f"op{number}") for number in range(5)]
    pairs[0][0].write_bytes(pairs[0][0].read_bytes()[:-200])  # its header is sound
    source = open_make3d(tmp_path)
    pairs[1][0].unlink()
    spoil_mat(pairs[2][1])
    pairs[3][0].write_bytes(picture(0, 120, 90))
    *bad, good = source.read(0, 5, BOTH)
    assert [type(frame) for frame in bad] == [BadFrame] * 4
    assert isinstance(good, Frame)
    for frame, path, message in zip(
        bad,
        (pairs[0][0], pairs[1][0], pairs[2][1], pairs[3][0]),
        ("Premature end of JPEG file", "No such file", "truncated", "120 wide, 90 high"),
        strict=True,
    ):
        assert isinstance(frame, BadFrame)
        assert frame.reason.startswith(f"{path}: {message}")
        assert "\n" not in frame.reason


def test_real_pairs(real_make3d: Path) -> None:
    source = open_make3d(real_make3d)
    assert source.splits == ("train", "train", "train", "test")
    assert source.names[0] == "train/060705-17.10.14-p-254t000"
    assert source.scenes == ("060705-17.10.14", "op10", "op31", "060705-17.35.48")
    assert [left_out.name for left_out in source.left_out] == ["Test134/img-op57-p-016t000.jpg"]
    for frame, depth in zip(source.read(0, 4, BOTH), source.inputs()[1::2], strict=True):
        assert isinstance(frame, Frame)
        assert frame.arrays["rgb"].shape == (2272, 1704, 3)
        metres_HW = read_numeric(depth, "Position3DGrid")[..., 3]
        saturated_HW = np.isnan(frame.arrays["depth"])
        np.testing.assert_array_equal(saturated_HW, metres_HW == 80.0)
        assert 0.15 < saturated_HW.mean() < 0.35
        # Upright: the sky is above, the ground below, as in the picture, whose top is brighter and bluer.
        assert saturated_HW[:20].mean() > 0.3 > saturated_HW[-20:].mean()
        assert np.nanmedian(frame.arrays["depth"][-5:]) < 10
