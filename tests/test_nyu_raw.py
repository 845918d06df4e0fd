"""`gfield.sources.nyu_raw` and `gfield.formats.rawscenes` on scenes as libfreenect's recorder wrote them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import cli
from gfield.build import build_store
from gfield.formats.matv5 import write_numeric
from gfield.formats.rawscenes import Reading, Scene, look_into, nearest_in_time, place_of
from gfield.frame import BadFrame, Frame, InputError, LeftOut, Source, UserError
from gfield.nyu_cameras import INSIDE_WHITE_FRAME, METRES_OF_RAW, depth_projection, undistortion
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits
from gfield.sources.nyu_raw import NyuRaw, open_nyu_raw
from gfield.specify import make_spec
from gfield.store import open_store

from .trees import tree

BOTH = frozenset({"rgb", "depth"})
PPM, PGM = b"P6 640 480 255\n", b"P5 640 480 65535\n"
SECOND = 10**9


def rgb(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8)


def raw(seed: int = 0) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    raw_HW = np.kron(rng.integers(650, 1000, (48, 64)), np.ones((10, 10))).astype(np.uint16)
    raw_HW[rng.random(raw_HW.shape) < 0.1] = 2047
    return raw_HW


def file_of(kind: str, seconds: float | str, ticks: int = 7) -> str:
    time = seconds if isinstance(seconds, str) else f"{seconds:.6f}"
    return f"{kind}-{time}-{ticks}.{ {'d': 'pgm', 'r': 'ppm', 'a': 'dump'}[kind] }"


def add(folder: Path, kind: str, seconds: float | str, values: npt.NDArray[Any] | None = None, ticks: int = 7) -> Path:
    """A frame; without values, one that is as long as it should be, and holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_of(kind, seconds, ticks)
    if values is not None:
        path.write_bytes(PGM + values.astype("<u2").tobytes() if kind == "d" else PPM + values.tobytes())
        return path
    with path.open("wb") as file:
        file.truncate({"d": len(PGM) + 614400, "r": len(PPM) + 921600, "a": 0}[kind])
    return path


def add_pairs(folder: Path, count: int, *, start: float = 100.0, pixels: bool = False) -> None:
    for number in range(count):
        seconds = start + number / 30
        add(folder, "a", seconds)
        add(folder, "d", seconds, raw(number) if pixels else None)
        add(folder, "r", seconds + 0.01, rgb(number) if pixels else None)


def names_of(source: NyuRaw) -> list[str]:
    return list(source.names)


# Pairing


def slow_nearest(depth: list[int], colour: list[int]) -> list[int]:
    """The definition: the least distance, and of equal ones the latest."""
    return [min(range(len(colour)), key=lambda at: (abs(colour[at] - time), -at)) for time in depth]


def by_the_toolbox(depth: list[int], colour: list[int]) -> list[int]:
    """get_synched_frames.m: a pointer that goes on until the next one is worse, and never back."""
    pointer, taken = 0, []
    for time in depth:
        best = abs(time - colour[pointer])
        while pointer < len(colour) - 1:
            following = abs(time - colour[pointer + 1])
            if following > best:
                break
            best = following
            pointer += 1
        taken.append(pointer)
    return taken


@given(
    depth=st.lists(st.integers(0, 40), max_size=20),
    colour=st.lists(st.integers(0, 40), min_size=1, max_size=20),
)
def test_pairing_is_the_nearest_and_the_toolboxs_and_never_goes_back(depth: list[int], colour: list[int]) -> None:
    depth, colour = sorted(depth), sorted(colour)
    seen = nearest_in_time([Reading(time, "d") for time in depth], [Reading(time, "r") for time in colour])
    assert seen == slow_nearest(depth, colour) == by_the_toolbox(depth, colour)
    assert seen == sorted(seen)


def test_times_are_exact(tmp_path: Path) -> None:
    """Floating point would round these, and sorting names would put 99.9 behind 100.05."""
    add(tmp_path, "d", "1294886360.778649123", ticks=1)
    add(tmp_path, "d", "1294886360.778649122", ticks=2)
    add(tmp_path, "d", "99.9")
    add(tmp_path, "r", "100.05")
    add(tmp_path, "r", "7")
    depth, colour, left_out = look_into(Scene("x", ""), tmp_path)
    assert [time for time, _ in depth] == [99_900_000_000, 1294886360778649122, 1294886360778649123]
    assert [time for time, _ in colour] == [7 * SECOND, 100_050_000_000]
    assert left_out == []


def test_frames_come_in_the_order_of_time_with_their_nearest_colour_frame(tmp_path: Path) -> None:
    for seconds in (10.00, 10.04, 10.08, 9.96):
        add(tmp_path / "den_0001", "d", seconds)
    for seconds in (9.99, 10.06, 10.07, 11.0):
        add(tmp_path / "den_0001", "r", seconds)
    source = open_nyu_raw(tmp_path)
    assert names_of(source) == [f"den_0001/d-{time}-7" for time in ("9.960000", "10.000000", "10.040000", "10.080000")]
    assert list(source.columns["rgb_file"]) == [file_of("r", seconds) for seconds in (9.99, 9.99, 10.06, 10.07)]
    assert source.left_out == ()
    assert source.reading.startswith("4 pairs of 4 depth and 4 colour frames in 1 scene;")
    assert [path.name for path in source.inputs()[2:5]] == [
        file_of("d", 10.0), file_of("r", 9.99), file_of("d", 10.04)
    ]  # fmt: skip


def test_pairs_too_far_apart_are_left_out_by_name(tmp_path: Path) -> None:
    for seconds in (10.0, 10.1, 10.2):
        add(tmp_path / "den_0001", "d", seconds)
    add(tmp_path / "den_0001", "r", 10.0)
    source = open_nyu_raw(tmp_path)
    assert len(source.names) == 2  # a tenth of a second is not more than a tenth
    reason = "the nearest colour frame, r-10.000000-7.ppm, is 0.200 s away; at most 0.1 s wanted"
    assert source.left_out == (LeftOut("den_0001/d-10.200000-7.pgm", reason),)
    assert len(open_nyu_raw(tmp_path, max_gap=float("inf")).names) == 3
    assert len(open_nyu_raw(tmp_path, max_gap=0).names) == 1


@pytest.mark.parametrize(("every", "taken"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3]), (9, [0])])
def test_every_nth_pair_of_each_scene(tmp_path: Path, every: int, taken: list[int]) -> None:
    add_pairs(tmp_path / "den_0001", 5)
    add_pairs(tmp_path / "den_0002", 1)
    source = open_nyu_raw(tmp_path, every=every)
    whole = names_of(open_nyu_raw(tmp_path))
    assert names_of(source) == [*(whole[place] for place in taken), whole[5]]


# Scenes


def test_scenes_are_found_anywhere_and_in_natural_order(tmp_path: Path) -> None:
    for folder in ("den_10", "den_2", "part1/den_1", "part1/den_1/again", ".hidden/den_3", "empty"):
        add_pairs(tmp_path / folder, 1)
    for path in (tmp_path / "empty").iterdir():
        path.unlink()
    (tmp_path / "den_2" / "INDEX.txt").write_text("a list of the recorder's\n")
    (tmp_path / "part2").symlink_to(tmp_path / "part1", target_is_directory=True)
    (tmp_path / "den_2" / "loop").symlink_to(tmp_path, target_is_directory=True)
    source = open_nyu_raw(tmp_path)
    assert source.scenes == ("den_2", "den_10", "part1/den_1", "part1/den_1/again")
    assert names_of(source)[3] == "part1/den_1/again/d-100.000000-7"
    assert len(set(source.names)) == 4
    assert all(path.is_file() for path in source.inputs())


def test_one_scenes_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_pairs(tmp_path / "den_0001", 2)
    monkeypatch.chdir(tmp_path / "den_0001")
    for root in (tmp_path / "den_0001", Path("."), Path("../den_0001")):
        source = open_nyu_raw(root)
        assert source.scenes == ("den_0001", "den_0001")
        assert names_of(source)[0] == "den_0001/d-100.000000-7"
        assert source.inputs()[0].is_file()


def test_a_source_as_the_contract_has_it(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0001", 2, pixels=True)
    source: Source = open_nyu_raw(tmp_path)
    assert (source.kind, source.size_WH, source.depth_shape_HW) == ("nyu-raw", (640, 480), (480, 640))
    assert (source.provides, source.valid_region, source.frames_per_chunk) == (BOTH, INSIDE_WHITE_FRAME, 1)
    assert source.splits == ("unlabeled",) * 2
    assert open_nyu_raw(tmp_path, split="train").splits == ("train",) * 2
    assert "351.3 / (1092.5 - raw)" in source.notes["depth"]
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.names) == list(source.names)
    assert list(copy.inputs()) == list(source.inputs())
    assert [type(frame) for frame in copy.read(0, 2, BOTH)] == [Frame, Frame]
    with pytest.raises(ValueError, match=r"arrays \['label'\] asked for"):
        next(iter(source.read(0, 1, frozenset({"label"}))))


def test_opening_reads_no_pixel_and_keeps_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_pairs(tmp_path / "den_0001", 40)
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr("builtins.open", None)
    source = open_nyu_raw(tmp_path)
    monkeypatch.undo()
    assert len(pickle.dumps(source)) - len(pickle.dumps(open_nyu_raw(tmp_path, every=40))) < 39 * 200


def test_long_lists_are_sequences(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0001", 3)
    source = open_nyu_raw(tmp_path)
    names, files = list(source.names), list(source.inputs())
    assert source.names[1:] == names[1:]
    assert source.names[-1] == names[2]
    assert source.inputs()[::-1] == files[::-1]
    assert source.inputs()[-1] == files[5]
    assert len(source.inputs()) == 6
    for sequence in (source.names, source.inputs()):
        with pytest.raises(IndexError):
            sequence[6]


# Frames


def test_frames_hold_the_files_values_registered(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0001", 2, pixels=True)
    source = open_nyu_raw(tmp_path)
    for index, frame in enumerate(source.read(0, 2, BOTH)):
        assert isinstance(frame, Frame)
        assert frame.index == index
        wanted = undistortion()(rgb(index), np.empty((480, 640, 3), np.uint8))
        np.testing.assert_array_equal(frame.arrays["rgb"], wanted)
        np.testing.assert_array_equal(frame.arrays["depth"], METRES_OF_RAW[depth_projection()(raw(index))])
        assert frame.arrays["depth"].dtype == np.float32
        assert all(array.flags.c_contiguous for array in frame.arrays.values())
        assert 0.5 < np.isfinite(frame.arrays["depth"]).mean() < 0.8


@pytest.mark.parametrize("arrays", [frozenset(), {"rgb"}, {"depth"}, BOTH])
def test_any_range_in_order_and_only_what_was_asked(tmp_path: Path, arrays: set[str]) -> None:
    add_pairs(tmp_path / "den_0001", 3, pixels=True)
    source = open_nyu_raw(tmp_path)
    for start, stop in ((0, 3), (1, 2), (2, 2), (2, 3)):
        frames = list(source.read(start, stop, frozenset(arrays)))
        assert [frame.index for frame in frames] == list(range(start, stop))
        assert all(isinstance(frame, Frame) and set(frame.arrays) == arrays for frame in frames)


def test_a_depth_frame_without_any_return_is_one(tmp_path: Path) -> None:
    add(tmp_path, "d", 1.0, np.full((480, 640), 2047))
    add(tmp_path, "r", 1.0, rgb())
    (frame,) = open_nyu_raw(tmp_path).read(0, 1, BOTH)
    assert isinstance(frame, Frame)
    assert np.isnan(frame.arrays["depth"]).all()


# Bad input


def test_unusable_files_are_left_out_by_name_before_pairing(tmp_path: Path) -> None:
    scene = tmp_path / "den_0001"
    add_pairs(scene, 3)
    nearest = scene / file_of("r", 100.01)
    nearest.write_bytes(b"")
    (scene / file_of("d", 100 + 1 / 30)).write_bytes(PGM + bytes(1000))
    with (scene / file_of("d", 100 + 2 / 30)).open("ab") as file:
        file.truncate(700_000)
    add(scene, "d", "noon")
    (scene / "r-12.5.ppm").write_bytes(b"x")
    (scene / file_of("r", 101.0)).mkdir()
    (scene / file_of("r", 102.0)).symlink_to(scene / "gone")
    (scene / "d-notes.txt").write_text("no frame\n")
    source = open_nyu_raw(tmp_path)
    assert names_of(source) == ["den_0001/d-100.000000-7"]
    assert source.columns["rgb_file"][0] == file_of("r", 100 + 1 / 30 + 0.01)  # of those that are left
    assert {out.name: out.reason for out in source.left_out} == {
        "den_0001/d-100.033333-7.pgm": "truncated: 1017 bytes; 614417 wanted",
        "den_0001/d-100.066667-7.pgm": "700000 bytes; 614417 wanted",
        "den_0001/d-noon-7.pgm": "no time in its name; d-<seconds>-<ticks>.pgm wanted",
        "den_0001/r-100.010000-7.ppm": "empty: 0 bytes",
        "den_0001/r-101.000000-7.ppm": "not a file",
        "den_0001/r-102.000000-7.ppm": "not a file",
        "den_0001/r-12.5.ppm": "no time in its name; r-<seconds>-<ticks>.ppm wanted",
    }


def test_scenes_without_one_of_the_cameras_are_told(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0001", 1)
    for seconds in (1.0, 2.0):
        add(tmp_path / "den_0002", "d", seconds)
    add(tmp_path / "den_0003", "r", 1.0)
    (tmp_path / "den_0004").mkdir()
    (tmp_path / "den_0004" / file_of("d", 1.0)).write_bytes(b"")
    source = open_nyu_raw(tmp_path)
    assert set(source.scenes) == {"den_0001"}
    assert source.left_out == (
        LeftOut("den_0002", "2 depth frames, no colour frame"),
        LeftOut("den_0003", "1 colour frame, no depth frame"),
        LeftOut("den_0004/d-1.000000-7.pgm", "empty: 0 bytes"),
    )


def test_folders_without_a_pair_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: not a folder; scene folders with d-<seconds>-<ticks>\.pgm and"):
        open_nyu_raw(tmp_path / "gone")
    with pytest.raises(InputError, match="no raw frame in it or below; scene folders"):
        open_nyu_raw(tmp_path)
    add(tmp_path / "den_0001", "d", 1.0)
    add(tmp_path / "den_0002", "d", 1.0)
    wanted = (
        r"no pair among 2 depth and 0 colour frames of 2 scenes; den_0001: 1 depth frame, no colour frame, and 1 more"
    )
    with pytest.raises(InputError, match=wanted):
        open_nyu_raw(tmp_path)


def test_names_that_cannot_be_written_are_left_out(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0001", 1, pixels=True)
    for name in (b"d-\xff-1.pgm", b"d-two\nlines.pgm"):
        (tmp_path / "den_0001" / os.fsdecode(name)).write_bytes(b"")
    for name in (b"kitchen\xff", b"two\nlines"):
        add_pairs(tmp_path / os.fsdecode(name), 1)
    told = gfield("build", "nyu-raw", tmp_path, tmp_path / "s", "--level", "80x60")
    assert sorted(line for line in told.stdout.splitlines() if line.startswith("left out: ")) == [
        "left out: den_0001/d-\\udcff-1.pgm: no time in its name; d-<seconds>-<ticks>.pgm wanted",
        "left out: den_0001/d-two\\nlines.pgm: no time in its name; d-<seconds>-<ticks>.pgm wanted",
        "left out: kitchen\\udcff: its path is no printable UTF-8; another name wanted",
        "left out: two\\nlines: its path is no printable UTF-8; another name wanted",
    ]
    assert open_store(tmp_path / "s").scenes.tolist() == ["den_0001"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0; 1 or more wanted"),
        ({"max_gap": -0.1}, "max_gap is -0.1; 0 seconds or more wanted"),
        ({"max_gap": float("nan")}, "max_gap is nan; 0 seconds or more wanted"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    add_pairs(tmp_path, 1)
    with pytest.raises(UserError, match=message):
        open_nyu_raw(tmp_path, **options)


def test_damage_found_while_reading_is_a_bad_frame(tmp_path: Path) -> None:
    scene = tmp_path / "den_0001"
    add_pairs(scene, 6, pixels=True)
    source = open_nyu_raw(tmp_path)
    files = source.inputs()
    swapped = raw(0).astype(">u2").tobytes()
    files[0].write_bytes(PGM + swapped)
    too_great = raw(1)
    too_great[3, 4] = 2048
    files[2].write_bytes(PGM + too_great.tobytes())
    files[5].unlink()
    files[7].write_bytes(PPM + bytes(10))
    files[8].write_bytes(b"P5 480 640 65535\n" + bytes(614400))
    *bad, good = source.read(0, 6, BOTH)
    assert [frame.index for frame in bad if isinstance(frame, BadFrame)] == [0, 1, 2, 3, 4]
    for frame, path, message in zip(
        bad,
        (files[0], files[2], files[5], files[7], files[8]),
        (
            "big-endian values, as Netpbm has them; little-endian values of at most 2047 (11 bits) wanted",
            "raw depth up to 2048; little-endian values of at most 2047 (11 bits) wanted",
            "No such file",
            "truncated: 25 bytes; 921615 wanted by its header",
            "header P5 480 640 65535; P5 640 480 65535 wanted",
        ),
        strict=True,
    ):
        assert isinstance(frame, BadFrame)
        assert frame.reason.startswith(f"{path}: {message}")
    assert isinstance(good, Frame)
    assert isinstance(next(iter(source.read(0, 1, frozenset({"rgb"})))), Frame)


# The official test frames


@pytest.mark.parametrize(
    ("scene", "place"),
    [
        ("kitchen_0004", "kitchen_0004"),
        ("kitchen_0004a", "kitchen_0004"),
        ("kitchens_part1/kitchen_0004b", "kitchen_0004"),
        ("nyu_office_0", "nyu_office_0"),
        ("living_room_0069b", "living_room_0069"),
        ("kitchen_0004ab", "kitchen_0004ab"),
        ("kitchen_a", "kitchen_a"),
        ("kitchen_0004A", "kitchen_0004A"),
    ],
)
def test_recordings_of_one_place_differ_by_a_letter(scene: str, place: str) -> None:
    assert place_of(scene) == place


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labelled frames, of which two are test frames, of one place."""
    folder = tmp_path_factory.mktemp("labelled")
    empty = np.zeros((480, 640), np.float32)
    frame = LabelledFrame(np.zeros((480, 640, 3), np.uint8), empty, empty, empty.astype(np.uint16))
    scenes = ["kitchen_0001", "kitchen_0004", "kitchen_0004", "den_0010"]
    write_nyu_mat(folder / "nyu_depth_v2_labeled.mat", [frame] * 4, scenes, ["room"] * 4)
    write_splits(folder / "splits.mat", [1, 4], [2, 3])
    return folder / "nyu_depth_v2_labeled.mat"


def test_all_recordings_of_places_with_test_frames_are_left_out(tmp_path: Path, labelled: Path) -> None:
    kept = ["kitchen_0001a", "kitchen_0001b", "den_0010", "kitchens/kitchen_0040"]
    out = ["kitchen_0004a", "kitchens/kitchen_0004b", "kitchens/kitchen_0004"]
    for scene in (*kept, *out):
        add_pairs(tmp_path / scene, 1)
    source = open_nyu_raw(tmp_path, exclude_test=labelled)
    assert sorted(source.scenes) == sorted(kept)
    assert {left_out.name for left_out in source.left_out} == set(out)
    assert {left_out.reason for left_out in source.left_out} == {"official test frames show kitchen_0004"}
    (warning,) = source.warnings
    assert "1 of 7 scenes, such as kitchens/kitchen_0040, are none that" in warning
    (warning,) = open_nyu_raw(tmp_path).warnings
    assert "scenes of the official test frames are not left out; --exclude-test" in warning


def test_a_folder_that_has_no_test_scene_is_told(tmp_path: Path, labelled: Path) -> None:
    add_pairs(tmp_path / "den_0010", 1)
    (warning,) = open_nyu_raw(tmp_path, exclude_test=labelled).warnings
    assert "none of its 1 scenes is among the 1 of the test frames" in warning
    add_pairs(tmp_path / "x" / "kitchen_0004", 1)
    with pytest.raises(InputError, match="kitchen_0004: official test frames show kitchen_0004"):
        open_nyu_raw(tmp_path / "x", exclude_test=labelled)


def test_test_frames_that_cannot_be_known_are_refused(tmp_path: Path, labelled: Path) -> None:
    add_pairs(tmp_path / "den_0010", 1)
    lone = tmp_path / "lone.mat"
    lone.write_bytes(labelled.read_bytes())
    with pytest.raises(InputError, match=r"splits\.mat: No such file"):
        open_nyu_raw(tmp_path, exclude_test=lone)
    assert len(open_nyu_raw(tmp_path, exclude_test=lone, splits=labelled.with_name("splits.mat")).names) == 1
    with pytest.raises(InputError, match=r"gone\.mat: No such file"):
        open_nyu_raw(tmp_path, exclude_test=tmp_path / "gone.mat")
    for numbers, message in (([5], "testNdxs has frame 5"), ([0], "has frame 0"), ([1.5], "has frame 1.5")):
        write_numeric(tmp_path / "splits.mat", {"testNdxs": np.array([numbers], np.float64)}, compress=False)
        with pytest.raises(InputError, match=rf"splits\.mat: .*{message}; numbers of the 4 frames of .*, from 1"):
            open_nyu_raw(tmp_path, exclude_test=lone)


# Stores and commands


def gfield(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.gfield, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    add_pairs(root / "den_0010", 3, pixels=True)
    add_pairs(root / "kitchen_0004a", 2, pixels=True)
    (root / "den_0010" / file_of("d", 200.0)).write_bytes(b"")
    return root


def test_a_store_is_the_same_from_threads_or_processes(recordings: Path, tmp_path: Path) -> None:
    source = open_nyu_raw(recordings)
    spec = make_spec(source, levels_WH=[(640, 480)], frames_per_shard=2)
    one = build_store(source, tmp_path / "one.zarr", spec)
    other = build_store(source, tmp_path / "two.zarr", spec, workers=1)
    assert one.root == other.root
    store = open_store(tmp_path / "one.zarr")
    assert store.names.tolist() == list(source.names)
    (frame,) = source.read(3, 4, BOTH)
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(store.read("640x480/rgb", np.array([3]))[0], frame.arrays["rgb"])
    np.testing.assert_array_equal(store.read("640x480/depth", np.array([3]))[0], frame.arrays["depth"])
    assert store.attributes["left_out"] == [{"name": "den_0010/d-200.000000-7.pgm", "reason": "empty: 0 bytes"}]


def test_the_commands(recordings: Path, labelled: Path, tmp_path: Path) -> None:
    store = tmp_path / "raw.zarr"
    planned = json.loads(gfield("plan", "nyu-raw", recordings, store, "--exclude-test", labelled, "--json").stdout)
    assert planned["frames"] == 3
    options = ("--exclude-test", labelled, "--every", 2, "--split", "train", "--level", "640x480")
    told = gfield("build", "nyu-raw", recordings, store, *options)
    assert "nyu_depth_v2_labeled.mat does that" not in told.stderr  # it was done
    assert "read as: 2 pairs of 3 depth and 3 colour frames in 2 scenes" in told.stdout
    assert "left out: kitchen_0004a: official test frames show kitchen_0004" in told.stdout
    assert "left out: den_0010/d-200.000000-7.pgm: empty: 0 bytes" in told.stdout
    assert "left out in all: 2, frames excluded: 0" in told.stdout
    assert "nothing was written" in gfield("build", "nyu-raw", recordings, store, *options).stdout
    assert open_store(store).splits.tolist() == ["train"] * 2
    assert "all good" in gfield("verify", store).stdout
    (store / "640x480" / "depth" / "c" / "0" / "0" / "0").write_bytes(b"")
    gfield("verify", store, code=3)
    # However its frames were chosen: the store's own names say which they are.
    assert "all good" in gfield("verify", store, "--repair", recordings).stdout


@pytest.mark.parametrize("split", ["train", "unlabeled"])
def test_damaged_names_and_splits_are_repaired_too(
    recordings: Path, labelled: Path, tmp_path: Path, split: str
) -> None:
    """Without them, which frames the store has is known from what it says was left out."""
    root, store = tmp_path / "raw", tmp_path / "s"
    shutil.copytree(recordings, root)
    add(root / "den_0010", "d", 300.0, raw(0))
    add(root / "den_0010", "d", 100.2, raw(0))
    options = ("--exclude-test", labelled, "--split", split, "--level", "80x60")
    told = gfield("build", "nyu-raw", root, store, *options)
    assert "left out in all: 4, frames excluded: 0" in told.stdout
    before = tree(store)
    for damaged in (["name"], ["split"], ["name", "split", "scene", "rgb_file"]):
        for column in damaged:
            (store / column / "c" / "0").write_bytes(b"damaged")
        assert "all good" in gfield("verify", store, "--repair", root).stdout
        assert tree(store) == before
    (store / "name" / "c" / "0").unlink()
    other = gfield("verify", store, "--repair", root / "den_0010", code=1).output
    assert f"name/ or split/ is damaged, and the frames below {root / 'den_0010'} are not all that it was" in other


def test_mistakes_at_the_command_line_are_one_line(recordings: Path, tmp_path: Path) -> None:
    store = tmp_path / "raw.zarr"
    assert "Missing argument 'FOLDER'" in gfield("build", "nyu-raw", code=2).output
    assert (
        "--splits is for --exclude-test"
        in gfield("build", "nyu-raw", recordings, store, "--splits", "x", code=2).output
    )
    for option, value in (("--every", 0), ("--split", "test"), ("--max-gap", -1)):
        assert option in gfield("build", "nyu-raw", recordings, store, option, value, code=2).output
    for folder, message in ((tmp_path / "gone", "not a folder"), (tmp_path, "no raw frame in it or below")):
        told = gfield("build", "nyu-raw", folder, store, code=1).output
        assert told.count("\n") == 1
        assert message in told
    assert not store.exists()


def test_a_bad_frame_stops_the_build_or_is_left_empty(tmp_path: Path) -> None:
    add_pairs(tmp_path / "den_0010", 2, pixels=True)
    broken = tmp_path / "den_0010" / file_of("d", 100.0)
    broken.write_bytes(PGM + raw(0).astype(">u2").tobytes())
    store = tmp_path / "raw.zarr"
    told = gfield("build", "nyu-raw", tmp_path / "den_0010", store, "--level", "640x480", code=1).output
    assert f"{broken}: big-endian values" in told
    told = gfield("build", "nyu-raw", tmp_path / "den_0010", store, "--level", "640x480", "--on-error", "skip").output
    assert "frames excluded: 1" in told
    assert open_store(store).splits.tolist() == ["excluded", "unlabeled"]
