"""NYU Depth v2's .mat and splits.mat: upright frames in any chunk layout, and clear words for bad files."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gfield.frame import BadFrame, Frame, InputError, Region
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits
from gfield.sources.nyuv2 import NyuV2, open_nyuv2

ALL = frozenset({"rgb", "depth", "raw_depth", "label"})
PAIR = frozenset({"rgb", "depth"})
N = 5
REAL = Path(__file__).parents[2] / "shared" / "data" / "nyu"
REAL_MAT = REAL / "nyu_depth_v2_labeled.mat"
needs_real_data = pytest.mark.skipif(not REAL_MAT.exists(), reason="no real NYUv2 frames at ../shared/data/nyu")


def frame_of(number: int) -> LabelledFrame:
    """No two pixels of a column or a row alike, so that a flip or a swap of axes shows; it deflates well."""
    y, x = np.mgrid[:480, :640]
    depth = (1 + number + y / 480 + x / 6400).astype(np.float32)
    raw = depth.copy()
    raw[100:120, 300:340] = 0
    return LabelledFrame(
        rgb_HWC=np.stack([y // 2, x // 3, (x + y + number) // 5], axis=-1).astype(np.uint8),
        depth_HW=depth,
        raw_depth_HW=raw,
        label_HW=(y // 40 * 16 + x // 40).astype(np.uint16),
    )


def write(path: Path, n: int = N, **options: Any) -> Path:
    scenes = [f"kitchen_{i:04d}" if i else "" for i in range(n)]
    write_nyu_mat(path, map(frame_of, range(n)), scenes, ["kitchen"] * n, **options)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("nyu") / "labelled.mat")


@pytest.fixture
def mat(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copy(written, tmp_path / "labelled.mat"))


def reasons(source: NyuV2, arrays: frozenset[str] = PAIR) -> list[str]:
    return [item.reason if isinstance(item, BadFrame) else "" for item in source.read(0, N, arrays)]


@pytest.mark.parametrize(
    ("options", "frames_per_chunk", "reading"),
    [
        ({}, 1, "byte ranges, outside HDF5's lock"),
        ({"chunks": 3}, 3, "byte ranges"),
        ({"chunks": (2, 200, 150), "shuffle": True, "fletcher32": True}, 2, "byte ranges"),
        ({"chunks": None}, 1, "byte ranges"),
        ({"compression": "lzf"}, 1, r"h5py, in processes of its own \(images: filters lzf; depths: "),
    ],
)
def test_frames_are_upright_in_every_layout(
    tmp_path: Path, options: dict[str, Any], frames_per_chunk: int, reading: str
) -> None:
    source = open_nyuv2(write(tmp_path / "a.mat", **options))
    assert source.frames_per_chunk == frames_per_chunk
    assert source.reading.startswith(reading.replace("\\", ""))
    seen = 0
    for item in source.read(1, N, ALL):
        assert isinstance(item, Frame)
        wanted = frame_of(item.index)
        for array, expected in zip(("rgb", "depth", "raw_depth", "label"), wanted, strict=True):
            np.testing.assert_array_equal(item.arrays[array], expected)
            assert item.arrays[array].dtype == expected.dtype
            assert item.arrays[array].flags.c_contiguous
        seen += 1
    assert seen == N - 1


def test_big_endian_variables(mat: Path) -> None:
    with h5py.File(mat, "r+") as file:
        for variable, dtype in (("depths", ">f4"), ("labels", ">u2")):
            data = file[variable][()].astype(dtype)
            del file[variable]
            file.create_dataset(variable, data=data, chunks=(1, 640, 480))
    (item,) = open_nyuv2(mat).read(2, 3, ALL)
    assert isinstance(item, Frame)
    np.testing.assert_array_equal(item.arrays["depth"], frame_of(2).depth_HW)
    np.testing.assert_array_equal(item.arrays["label"], frame_of(2).label_HW)


def test_a_chunk_of_three_frames_is_decoded_once(tmp_path: Path) -> None:
    source = open_nyuv2(write(tmp_path / "a.mat", chunks=3))
    for start in (0, 3):
        assert sum(1 for _ in source.read(start, min(start + 3, N), PAIR)) == min(3, N - start)
    assert source.decoded_chunks == {"rgb": 2, "depth": 2, "raw_depth": 0, "label": 0}


def test_what_the_source_says_of_itself(mat: Path) -> None:
    source = pickle.loads(pickle.dumps(open_nyuv2(mat)))
    assert source.kind == "nyu"
    assert source.size_WH == (640, 480)
    assert source.depth_shape_HW == (480, 640)
    assert source.provides == ALL
    assert source.names == ["0001", "0002", "0003", "0004", "0005"]
    assert source.scenes == ["", "kitchen_0001", "kitchen_0002", "kitchen_0003", "kitchen_0004"]
    assert source.columns["scene_type"] == ["kitchen"] * N
    assert source.columns["raw_rgb_filename"][1].startswith("kitchen_0001/r-")
    assert source.columns["raw_depth_filename"][1].startswith("kitchen_0001/d-")
    assert source.valid_region == Region(8, 473, 8, 631)
    assert open_nyuv2(mat, keep_frame=True).valid_region is None
    assert set(source.notes) == ALL
    assert list(source.left_out) == []
    assert [item.arrays["depth"][0, 0] for item in source.read(2, 4, PAIR)] == [3, 4]


def test_arrays_asked_for_and_no_others(mat: Path) -> None:
    (item,) = open_nyuv2(mat).read(0, 1, frozenset({"depth"}))
    assert set(item.arrays) == {"depth"}
    with pytest.raises(ValueError, match="'normals'"):
        next(open_nyuv2(mat).read(0, 1, frozenset({"rgb", "normals"})))


def test_variables_that_may_be_missing(mat: Path) -> None:
    with h5py.File(mat, "r+") as file:
        for variable in ("rawDepths", "labels", "scenes", "sceneTypes", "rawRgbFilenames"):
            del file[variable]
    source = open_nyuv2(mat)
    assert source.provides == PAIR
    assert set(source.notes) == PAIR
    assert source.scenes == source.columns["scene_type"] == source.columns["raw_rgb_filename"] == [""] * N
    assert source.columns["raw_depth_filename"][4].startswith("kitchen_0004/d-")


def test_numbers_of_a_large_set_are_as_wide_as_the_largest(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:  # no space is taken for frames never written
        file.create_dataset("images", (10_000, 3, 640, 480), "u1")
        file.create_dataset("depths", (10_000, 640, 480), "f4", fillvalue=2)
    source = open_nyuv2(path)
    assert (source.names[0], source.names[-1]) == ("00001", "10000")
    (item,) = source.read(9_999, 10_000, PAIR)
    assert isinstance(item, Frame)
    assert not item.arrays["rgb"].any()
    assert (item.arrays["depth"] == 2).all()


# splits.mat


def test_splits_are_counted_from_one(mat: Path, tmp_path: Path) -> None:
    without = open_nyuv2(mat)
    assert without.splits == ["unlabeled"] * N
    (warning,) = without.warnings
    assert "cs.nyu.edu" in warning
    assert "--splits FILE" in warning
    elsewhere = tmp_path / "elsewhere" / "my_splits.mat"
    elsewhere.parent.mkdir()
    write_splits(elsewhere, train=[1, 4], test=[5, 2])
    told = open_nyuv2(mat, splits=elsewhere)
    assert told.splits == ["train", "test", "unlabeled", "train", "test"]
    assert told.inputs() == without.inputs() == [mat]
    assert told.warnings == ()
    shutil.copy(elsewhere, mat.parent / "splits.mat")
    assert open_nyuv2(mat).splits == told.splits


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1, 6], [2], r"trainNdxs has frame 6, but .*labelled\.mat has 5 frames; numbers 1 to 5 wanted"),
        ([1], [0, 2], "testNdxs has frame 0, but .* numbers 1 to 5 wanted"),
        ([1, 3, 3], [2], "trainNdxs has frame 3, which is in train already"),
        ([1, 3], [2, 3], "testNdxs has frame 3, which is in train already"),
    ],
)
def test_splits_that_do_not_fit(mat: Path, train: list[int], test: list[int], message: str) -> None:
    write_splits(mat.parent / "splits.mat", train, test)
    with pytest.raises(InputError, match=r"splits\.mat: " + message):
        open_nyuv2(mat)


def test_splits_that_are_not_there(mat: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mat"):
        open_nyuv2(mat, splits=mat.parent / "gone.mat")


# Bad frames


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5])
@pytest.mark.parametrize(("variable", "array"), [("depths", "depth"), ("rawDepths", "raw_depth")])
def test_metres_that_are_none(mat: Path, variable: str, array: str, value: float) -> None:
    with h5py.File(mat, "r+") as file:
        file[variable][2, 10:13, 20] = value
    bad = f"{mat}: '{variable}', frame 2: 3 of 307200 values such as {value}; finite metres of 0 or more wanted"
    assert reasons(open_nyuv2(mat), frozenset({"rgb", array})) == ["", "", bad, "", ""]
    assert reasons(open_nyuv2(mat), frozenset({"rgb", "label"})) == [""] * N


def test_zero_and_minus_zero_metres_are_sound(mat: Path) -> None:
    with h5py.File(mat, "r+") as file:
        file["rawDepths"][2, 10:13, 20] = -0.0
        file["depths"][2, 10:13, 20] = 0.0
    assert reasons(open_nyuv2(mat), ALL) == [""] * N


def test_a_damaged_chunk_is_a_bad_frame_and_the_next_ones_are_sound(mat: Path) -> None:
    with h5py.File(mat) as file:
        chunk = file["depths"].id.get_chunk_info(1)
    with mat.open("r+b") as stream:
        stream.seek(chunk.byte_offset + chunk.size // 2)
        stream.write(b"\xff" * 20)
    source = open_nyuv2(mat)
    seen = reasons(source)
    assert seen[1].startswith(f"{mat}: data set 'depths', frame 1: its chunk does not inflate")
    assert [bool(reason) for reason in seen] == [False, True, False, False, False]
    after = next(iter(source.read(2, 3, PAIR)))
    assert isinstance(after, Frame)
    np.testing.assert_array_equal(after.arrays["depth"], frame_of(2).depth_HW)


# Bad files


def replaced(variable: str, shape: tuple[int, ...], dtype: str) -> Callable[[h5py.File], None]:
    def replace(file: h5py.File) -> None:
        if variable in file:
            del file[variable]
        file.create_dataset(variable, shape, dtype)

    return replace


def without(*variables: str) -> Callable[[h5py.File], None]:
    def remove(file: h5py.File) -> None:
        for variable in variables:
            del file[variable]

    return remove


def linked_elsewhere(file: h5py.File) -> None:
    del file["depths"]
    file["depths"] = h5py.ExternalLink("/etc/passwd", "depths")


def a_text_kept_elsewhere(file: h5py.File) -> None:
    text = file["#refs#"].create_dataset("spy", (9, 1), "u2", external=[("/etc/passwd", 0, 18)])
    cells = file["scenes"][()]
    cells[0, 0] = text.ref
    file["scenes"][...] = cells


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("images"), "no variable images; found #refs#, accelData, depths, "),
        (without("images", "depths"), "no variable images and depths; found"),
        (
            replaced("images", (N, 480, 640, 3), "u1"),
            r"'images' has shape \(5, 480, 640, 3\), uint8; \(N, 3, 640, 480\), uint8 wanted \(HDF5 shows",
        ),
        (replaced("images", (N, 3, 320, 240), "u1"), r"'images' .*; \(N, 3, 640, 480\), uint8 wanted"),
        (replaced("images", (0, 3, 640, 480), "u1"), r"'images' has shape \(0, 3, 640, 480\)"),
        (
            replaced("depths", (N - 1, 640, 480), "f4"),
            r"'depths' has shape \(4, .*\(5, 640, 480\), float32 wanted",
        ),
        (
            replaced("depths", (N, 640, 480), "f8"),
            r"'depths' has .* float64; \(5, 640, 480\), float32 wanted",
        ),
        (replaced("labels", (N, 640, 480), "u1"), "'labels' has .* uint16 wanted"),
        (replaced("scenes", (1, N), "u2"), r"'scenes' is uint16 \(1, 5\); a cell array of 5 strings wanted"),
        (replaced("scenes", (1, N + 1), "f4"), "'scenes' .* a cell array of 5 strings wanted"),
        (linked_elsewhere, "'depths' is a soft or external link"),
        (a_text_kept_elsewhere, "a string of 'scenes': its data lie in other files"),
    ],
)
def test_variables_that_are_wrong(mat: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(mat, "r+") as file:
        spoil(file)
    with pytest.raises(InputError, match=r"labelled\.mat: " + message) as caught:
        open_nyuv2(mat)
    assert "\n" not in str(caught.value)


def test_files_that_are_wrong(mat: Path) -> None:
    size = mat.stat().st_size
    with pytest.raises(InputError, match=r"gone\.mat: No such file"):
        open_nyuv2(mat.parent / "gone.mat")
    os.truncate(mat, size // 2)
    with pytest.raises(InputError, match=rf"labelled\.mat: truncated: {size // 2} bytes long, {size} wanted"):
        open_nyuv2(mat)
    write_splits(mat, [1], [2])
    with pytest.raises(InputError, match=r"labelled\.mat: a MATLAB 5 file; an HDF5 \(MATLAB 7.3\) file wanted"):
        open_nyuv2(mat)


# The writer of the miniature


def test_the_miniature_is_laid_out_as_the_original(mat: Path) -> None:
    head = mat.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(mat) as file:
        assert file.userblock_size == 512
        shapes = {name: file[name].shape for name in file if name != "#refs#"}
        assert shapes == {
            "images": (N, 3, 640, 480),
            "depths": (N, 640, 480),
            "rawDepths": (N, 640, 480),
            "labels": (N, 640, 480),
            "instances": (N, 640, 480),
            "accelData": (4, N),
            **dict.fromkeys(("scenes", "sceneTypes", "rawRgbFilenames", "rawDepthFilenames"), (1, N)),
            "names": (1, 4),
        }
        assert {name: file[name].attrs["MATLAB_class"] for name in ("images", "depths", "labels", "scenes")} == {
            "images": b"uint8",
            "depths": b"single",
            "labels": b"uint16",
            "scenes": b"cell",
        }
        empty, text = (file[file["scenes"][0, i]] for i in (0, 1))
        assert (empty.dtype, empty.shape, empty.attrs["MATLAB_empty"]) == (np.uint64, (2,), 1)
        assert (text.dtype, text.shape) == (np.uint16, (12, 1))


def test_the_miniature_depends_on_its_frames_only(mat: Path, written: Path) -> None:
    again = write(mat.parent / "again.mat")
    assert again.read_bytes() == written.read_bytes()


def test_the_writer_holds_no_more_frames_than_share_a_chunk(tmp_path: Path) -> None:
    template = frame_of(0)

    def frames() -> Iterator[LabelledFrame]:
        for _ in range(12):
            yield LabelledFrame(*(array.copy() for array in template))

    frame_bytes = sum(array.nbytes for array in template)
    tracemalloc.start()
    try:
        write_nyu_mat(tmp_path / "a.mat", frames(), ["a"] * 12, ["b"] * 12)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * frame_bytes  # two frames at the change of groups, and one as it is stored


def test_the_writer_wants_a_frame_for_each_scene(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 frames given, 3 wanted"):
        write_nyu_mat(tmp_path / "a.mat", map(frame_of, range(2)), ["a"] * 3, ["b"] * 3)


# Real frames


@needs_real_data
def test_real_frames_equal_what_h5py_reads() -> None:
    source = open_nyuv2(REAL_MAT)
    assert source.reading.startswith("byte ranges")
    assert len(source.names) == 32
    assert source.splits.count("train") + source.splits.count("test") == 32
    with h5py.File(REAL_MAT) as file:
        for item in source.read(0, 32, ALL):
            assert isinstance(item, Frame)
            np.testing.assert_array_equal(item.arrays["rgb"], file["images"][item.index].transpose(2, 1, 0))
            for array, variable in (("depth", "depths"), ("raw_depth", "rawDepths"), ("label", "labels")):
                np.testing.assert_array_equal(item.arrays[array], file[variable][item.index].T)


@needs_real_data
def test_the_official_splits_do_not_fit_32_frames() -> None:
    with pytest.raises(InputError, match=r"splits_official_1449\.mat: trainNdxs has frame 1440, but .* 32 frames"):
        open_nyuv2(REAL_MAT, REAL / "splits_official_1449.mat")


@needs_real_data
def test_the_official_splits_fit_1449_frames(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("images", (1449, 3, 640, 480), "u1")
        file.create_dataset("depths", (1449, 640, 480), "f4")
    source = open_nyuv2(tmp_path / "a.mat", REAL / "splits_official_1449.mat")
    assert (source.splits.count("train"), source.splits.count("test")) == (795, 654)
    assert [i + 1 for i, split in enumerate(source.splits) if split == "test"][:5] == [1, 2, 9, 14, 15]
