"""NYU Depth v2's raw recordings: folders of colour and depth frames as the Kinect gave them, about 407,000 of each.

A frame is a depth frame with the colour frame nearest in time (`gfield.formats.rawscenes`), the depth projected into
the colour picture (`gfield.nyu_cameras`). Frames are in the order of scenes and, within a scene, of time; a frame's
name is its scene, a slash and its depth file without the suffix.

Scenes of the official test frames lie among the raw ones. `open_nyu_raw` can leave them out, which gives the training
scenes that depth estimation is compared on since Eigen et al. (2014).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gfield.formats.folders import ODD_NAME
from gfield.formats.hdf5 import contents_of
from gfield.formats.matv5 import read_numeric
from gfield.formats.netpbm import read_pgm_little_endian, read_ppm
from gfield.formats.rawscenes import Readings, Scene, find_scenes, look_into, nearest_in_time, place_of
from gfield.frame import BadFrame, Frame, InputError, LeftOut, Region, UserError, printable
from gfield.listing import FilesOfPairs, Joined, counted
from gfield.nyu_cameras import (
    INSIDE_WHITE_FRAME,
    METRES_OF_RAW,
    NO_RETURN,
    NOTES,
    SIZE_WH,
    depth_projection,
    undistortion,
)

MAX_GAP_SECONDS = 0.1

_LAYOUT = "scene folders with d-<seconds>-<ticks>.pgm and r-<seconds>-<ticks>.ppm"
_TEST_SCENES_KEPT = (
    "{root}: scenes of the official test frames are not left out; --exclude-test nyu_depth_v2_labeled.mat does that, "
    "and a store for training that is tested on NYU wants it"
)

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class NyuRaw:
    """The raw recordings as a `gfield.frame.Source`; made by `open_nyu_raw`.

    Attributes
    ----------
    files
        Depth and colour file of each frame in turn.
    found
        How many depth frames, colour frames and scenes there were to choose from.

    The others are those of `gfield.frame.Source`.
    """

    files: FilesOfPairs
    found: tuple[int, int, int]
    names: Sequence[str]
    splits: Sequence[str]
    scenes: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    left_out: Sequence[LeftOut]
    warnings: tuple[str, ...]
    notes: Mapping[str, str]
    kind: str = "nyu-raw"
    size_WH: tuple[int, int] = SIZE_WH
    provides: frozenset[str] = frozenset({"rgb", "depth"})
    depth_shape_HW: tuple[int, int] | None = (SIZE_WH[1], SIZE_WH[0])
    valid_region: Region | None = INSIDE_WHITE_FRAME
    frames_per_chunk: int = 1

    @property
    def reading(self) -> str:
        """One line on how frames are read, and out of how many files they were chosen."""
        depth, rgb, scenes = self.found
        chosen = f"{len(self.names)} pairs of {depth} depth and {rgb} colour frames in {counted(scenes, 'scene')}"
        return f"{chosen}; undistorted, depth projected into the colour picture"

    def inputs(self) -> Sequence[Path]:
        """Depth and colour file of each frame, in the order of the frames; a colour file may come more than once."""
        return self.files

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Yield frames ``start`` to ``stop - 1``; the arrays are overwritten by the next iteration.

        A file that is gone, that is no picture of 640 x 480 or not as long as its header says, or a raw depth of more
        than 11 bits is a `BadFrame`, and the next ones follow.
        """
        if not arrays <= self.provides:
            raise ValueError(f"{self.files.root}: arrays {sorted(arrays)} asked for of {sorted(self.provides)}")
        upright: dict[str, Array] = {
            "rgb": np.empty((SIZE_WH[1], SIZE_WH[0], 3), np.uint8),
            "depth": np.empty((SIZE_WH[1], SIZE_WH[0]), np.float32),
        }
        for index in range(start, stop):
            try:
                if "depth" in arrays:
                    _read_depth(self.files[2 * index], upright["depth"])
                if "rgb" in arrays:
                    undistortion()(read_ppm(self.files[2 * index + 1], SIZE_WH), upright["rgb"])
            except InputError as error:
                yield BadFrame(index, str(error))
            else:
                yield Frame(index, {array: upright[array] for array in arrays})


def _read_depth(path: Path, depth_HW: Array) -> None:
    """Fill ``depth_HW`` with metres in the colour picture's grid."""
    raw_HW = read_pgm_little_endian(path, SIZE_WH)
    if (greatest := int(raw_HW.max())) > NO_RETURN:
        swapped = int(raw_HW.byteswap().max()) <= NO_RETURN
        seen = "big-endian values, as Netpbm has them" if swapped else f"raw depth up to {greatest}"
        raise InputError(f"{path}: {seen}; little-endian values of at most {NO_RETURN} (11 bits) wanted")
    np.take(METRES_OF_RAW, depth_projection()(raw_HW), out=depth_HW, mode="clip")  # its other mode copies once more


def open_nyu_raw(
    root: str | Path,
    *,
    every: int = 1,
    split: Literal["train", "unlabeled"] = "unlabeled",
    max_gap: float = MAX_GAP_SECONDS,
    exclude_test: str | Path | None = None,
    splits: str | Path | None = None,
    only: Collection[str] | None = None,
) -> NyuRaw:
    """Find the scenes below a folder and pair their frames, by names and lengths of files alone.

    Files that are empty, cut off or without a time in their name, depth frames without a colour frame in time, and
    scenes without pairs are left out and listed.

    Parameters
    ----------
    root
        A scene's folder, or one with scenes anywhere below it.
    every
        Take the first pair of each scene and every ``every``-th one from there.
    split
        Of all frames.
    max_gap
        Seconds that the two frames of a pair may lie apart; infinite as in NYU's toolbox.
    exclude_test
        ``nyu_depth_v2_labeled.mat``: leave out all recordings of places that its test frames show (see
        `gfield.formats.rawscenes.place_of`).
    splits
        ``splits.mat``; by default the one beside ``exclude_test``.
    only
        Names of frames: take no others, as a store that was built of these has to be repaired.

    Raises
    ------
    InputError
        No folder, no pair, or a file to exclude by that is not what it should be.
    UserError
        ``every`` below 1, or ``max_gap`` below 0.
    """
    root = Path(root)
    if every < 1:
        raise UserError(f"every is {every}; 1 or more wanted")
    if not max_gap >= 0:
        raise UserError(f"max_gap is {max_gap}; 0 seconds or more wanted")
    if not os.path.isdir(root):  # unlike Path.is_dir, False where the way there may not be searched
        raise InputError(f"{root}: not a folder; {_LAYOUT} wanted")
    if not (all_scenes := find_scenes(root)):
        raise InputError(f"{root}: no raw frame in it or below; {_LAYOUT} wanted")
    scenes = [scene for scene in all_scenes if scene.name.isprintable()]
    odd = [LeftOut(printable(scene.name), ODD_NAME) for scene in all_scenes if not scene.name.isprintable()]
    warnings = [_TEST_SCENES_KEPT.format(root=root)] if only is None else []
    of_test: Collection[str] = ()
    if exclude_test is not None:
        of_test, all_places = _labelled_places(Path(exclude_test), None if splits is None else Path(splits))
        warnings = list(_exclusion_warnings(root, scenes, Path(exclude_test), of_test, all_places))
    chosen, found, left_out = _choose(root, scenes, of_test, every, max_gap, only)
    left_out = odd + left_out
    if not any(map(len, chosen)):
        raise InputError(f"{root}: {_tell_nothing(len(scenes), *found, left_out)}")
    scene_N = np.repeat(np.arange(len(scenes), dtype=np.int32), [len(pairs) for pairs in chosen])
    depth_N, rgb_N = np.ascontiguousarray(np.concatenate([pairs for pairs in chosen if len(pairs)]).T)
    folders = [f"{scene.folder}/" if scene.folder else "" for scene in scenes]
    return NyuRaw(
        files=FilesOfPairs(root, Joined(folders, scene_N, depth_N, ".pgm"), Joined(folders, scene_N, rgb_N, ".ppm")),
        found=(*found, len(scenes)),
        names=Joined([f"{scene.name}/" for scene in scenes], scene_N, depth_N),
        splits=(split,) * len(scene_N),
        scenes=tuple(scenes[number].name for number in scene_N.tolist()),
        columns={"rgb_file": Joined([""] * len(scenes), scene_N, rgb_N, ".ppm")},
        left_out=tuple(left_out),
        warnings=tuple(warnings),
        notes=dict(NOTES),
    )


def _choose(
    root: Path,
    scenes: Sequence[Scene],
    of_test: Collection[str],
    every: int,
    max_gap: float,
    only: Collection[str] | None,
) -> tuple[list[Array], tuple[int, int], list[LeftOut]]:
    """File names without suffix of the pairs taken, (n, 2) bytes a scene; what there was; and what was left out."""
    chosen: list[Array] = []
    left_out: list[LeftOut] = []
    depth_frames = rgb_frames = 0
    for scene in scenes:
        pairs: list[tuple[str, str]] = []
        if (place := place_of(scene.name)) in of_test:
            left_out.append(LeftOut(scene.name, f"official test frames show {place}"))
        else:
            readings = look_into(scene, root)
            depth_frames += len(readings.depth)
            rgb_frames += len(readings.rgb)
            pairs, unpaired = _pair(scene, readings, max_gap)
            if only is not None:
                pairs = [pair for pair in pairs if f"{scene.name}/{pair[0]}" in only]
            left_out += [*readings.left_out, *unpaired]
        chosen.append(np.array(pairs[::every], np.bytes_).reshape(-1, 2))
    return chosen, (depth_frames, rgb_frames), left_out


def _pair(scene: Scene, readings: Readings, max_gap: float) -> tuple[list[tuple[str, str]], list[LeftOut]]:
    """Depth and colour file of each pair in the order of time, without suffixes; and what has no partner."""
    depth, rgb = readings.depth, readings.rgb
    if not (depth and rgb):
        seen, wanted = ("depth", "colour") if depth else ("colour", "depth")
        lone = f"{counted(len(depth) + len(rgb), f'{seen} frame')}, no {wanted} frame"
        return [], [LeftOut(scene.name, lone)] if depth or rgb else []
    pairs, left_out = [], []
    for of_depth, place in zip(depth, nearest_in_time(depth, rgb), strict=True):
        gap = abs(of_depth.time - rgb[place].time) / 1e9
        if gap > max_gap:
            reason = f"the nearest colour frame, {rgb[place].file}, is {gap:.3f} s away; at most {max_gap:g} s wanted"
            left_out.append(LeftOut(f"{scene.folder}/{of_depth.file}".lstrip("/"), reason))
        else:
            pairs.append((of_depth.file.removesuffix(".pgm"), rgb[place].file.removesuffix(".ppm")))
    return pairs, left_out


def _labelled_places(mat: Path, splits: Path | None) -> tuple[frozenset[str], frozenset[str]]:
    """The places that the official test frames show, and those that any labelled frame shows."""
    if splits is None:
        splits = mat.with_name("splits.mat")
        if mat.exists() and not splits.exists():
            raise InputError(f"{splits}: No such file or directory; --splits names it where it lies elsewhere")
    contents = contents_of(mat, cells=("scenes",))
    if "scenes" not in contents.cells:
        raise InputError(f"{mat}: no variable 'scenes'; nyu_depth_v2_labeled.mat wanted")
    scenes = contents.cells["scenes"]
    n = len(scenes)
    if not all(scenes):
        raise InputError(f"{mat}: frame {scenes.index('') + 1} has no scene; one for each frame wanted")
    numbers = read_numeric(splits, "testNdxs").ravel()
    wrong = numbers[~((numbers >= 1) & (numbers <= n) & (numbers == np.floor(numbers)))]
    if wrong.size or not numbers.size:
        seen = f"testNdxs has frame {wrong[0]:g}" if wrong.size else "testNdxs is empty"
        raise InputError(f"{splits}: {seen}; numbers of the {n} frames of {mat}, from 1, wanted")
    test = frozenset(place_of(scenes[number - 1]) for number in numbers.astype(int).tolist())
    return test, frozenset(map(place_of, scenes))


def _exclusion_warnings(
    root: Path, scenes: Sequence[Scene], mat: Path, of_test: Collection[str], labelled: Collection[str]
) -> Iterator[str]:
    places = {scene.name: place_of(scene.name) for scene in scenes}
    if not any(place in of_test for place in places.values()):
        yield f"{root}: none of its {len(scenes)} scenes is among the {len(of_test)} of the test frames of {mat}"
    if unknown := [name for name, place in places.items() if place not in labelled]:
        yield (
            f"{root}: {len(unknown)} of {len(scenes)} scenes, such as {unknown[0]}, are none that {mat} knows, "
            "so whether test frames show them cannot be told; they are kept"
        )


def _tell_nothing(scenes: int, depth: int, rgb: int, left_out: Sequence[LeftOut]) -> str:
    seen = f"no pair among {depth} depth and {rgb} colour frames of {counted(scenes, 'scene')}"
    if not left_out:
        return seen
    more = f", and {len(left_out) - 1} more left out" if len(left_out) > 1 else ""
    return f"{seen}; {left_out[0].name}: {left_out[0].reason}{more}"
