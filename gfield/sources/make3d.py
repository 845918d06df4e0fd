"""Make3D's range images: outdoor pictures of 2272 x 1704 pixels with laser depth on a grid of 55 x 305.

The unpacked archives are ``Train400Img/img-X.jpg`` with ``Train400Depth/depth_sph_corr-X.mat``, and
``Test134`` with ``Gridlaserdata`` (by other hands ``Test134Img`` and ``Test134Depth/Gridlaserdata``). Files
are found by their names anywhere below the root; the nearest folder that says train or test tells the split.
Pictures and grids are upright as they are stored: no transposition, row 0 is the top of both.

Frames are in the order of X, those of train before those of test. A frame's name is its split, a slash, and
its image's X, such as ``train/op10-p-313t000``: so it is unique even where both trees hold the same X.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gfield.formats.folders import ODD_NAME, no_file, walk_once
from gfield.formats.jpeg import check_jpeg, read_jpeg
from gfield.formats.matv5 import read_numeric
from gfield.frame import BadFrame, Frame, InputError, LeftOut, Region, printable

SIZE_WH = (480, 640)
DEPTH_SHAPE_HW = (55, 305)
SATURATED_METRES = 80.0

_VARIABLE = "Position3DGrid"  # channels Y, X, Z and d, the distance along the ray, in metres
_IMAGE = re.compile(r"img-(.+)\.jpg", re.DOTALL)
_DEPTH = re.compile(r"depth_sph_corr-(.+)\.mat", re.DOTALL)
# Whole names of this kind only: a folder such as "test_run_3" above the data tells nothing of them.
_SPLIT_FOLDER = re.compile(
    r"(?P<split>train|test)(ing)?[-_ ]?\d*[-_ ]?(imgs?|images?|depths?)?|gridlaserdata", re.IGNORECASE
)
_VIEW = re.compile(r"-p-\d+t\d+$")  # pan and tilt
_SPLITS = ("train", "test", "unlabeled")

_LAYOUT = (
    "Train400Img/img-X.jpg with Train400Depth/depth_sph_corr-X.mat, or Test134/img-X.jpg with "
    "Gridlaserdata/depth_sph_corr-X.mat"
)
_ARCHIVES = {
    "train": "Train400Img.tar.gz and Train400Depth.tgz",
    "test": "Test134.tar.gz and Test134Depth.tar.gz",
}
_NOTES = {
    "rgb": "pictures of 3:4, stored portrait and undistorted",
    "depth": "metres along the laser's ray, d of Position3DGrid; the laser saturates: d >= 80.0 m -> NaN",
}


class Pair(NamedTuple):
    """One frame's files, as paths below the root."""

    split: str
    x: str
    image: Path
    depth: Path


class _File(NamedTuple):
    split: str
    x: str
    path: Path


@dataclass(frozen=True, eq=False)
class Make3D:
    """The range image data as a `gfield.frame.Source`; made by `open_make3d`.

    Attributes
    ----------
    root
        The folder that ``pairs`` and ``left_out`` name files from.
    pairs
        The files of each frame.
    warnings
        What the user should know, one line each.

    The others are those of `gfield.frame.Source`.
    """

    root: Path
    pairs: Sequence[Pair]
    names: Sequence[str]
    splits: Sequence[str]
    scenes: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    left_out: Sequence[LeftOut]
    warnings: tuple[str, ...]
    notes: Mapping[str, str]
    kind: str = "make3d"
    size_WH: tuple[int, int] = SIZE_WH
    provides: frozenset[str] = frozenset({"rgb", "depth"})
    depth_shape_HW: tuple[int, int] | None = DEPTH_SHAPE_HW
    valid_region: Region | None = None
    frames_per_chunk: int = 1

    @property
    def reading(self) -> str:
        """One line on how frames are read."""
        return "JPEG by libjpeg-turbo, depth by gfield.formats.matv5"

    def inputs(self) -> Sequence[Path]:
        """Image and depth file of each frame, in the order of the frames."""
        return [self.root / path for pair in self.pairs for path in (pair.image, pair.depth)]

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Yield frames ``start`` to ``stop - 1``: pictures in their own size, depth on the laser's grid.

        A picture with cut off or damaged pixels (as far as `gfield.formats.jpeg` can see that), or a grid with NaN,
        infinite, negative or zero distances, is a `BadFrame`, and the next ones follow.
        """
        if not arrays <= self.provides:
            raise ValueError(f"{self.root}: arrays {sorted(arrays)} asked for of {sorted(self.provides)}")
        for index in range(start, stop):
            yield self._frame(index, arrays)

    def _frame(self, index: int, arrays: frozenset[str]) -> Frame | BadFrame:
        pair = self.pairs[index]
        found: dict[str, npt.NDArray[Any]] = {}
        for array, path, read in (("rgb", pair.image, _read_rgb), ("depth", pair.depth, _read_depth)):
            if array in arrays:
                try:
                    found[array] = read(self.root / path)
                except InputError as error:
                    return BadFrame(index, str(error))
        return Frame(index, found)


def open_make3d(root: str | Path, *, on_unreadable: Literal["stop", "skip"] = "stop") -> Make3D:
    """Find the pairs below a folder, and check that their files can be read.

    The header of every picture is read and every grid is parsed (about 2 ms a pair); pixels are not decoded.
    Images without a depth file and depth files without an image are left out and listed.

    Parameters
    ----------
    root
        The folder that the archives were unpacked in, one above it, or one of the trees.
    on_unreadable
        What to do about paired files that cannot be read: refuse them all in one message, or leave their
        pairs out and list them.

    Raises
    ------
    InputError
        No folder, no pair, or (``"stop"``) a file that cannot be read.
    """
    root = Path(root)
    if not os.path.isdir(root):  # unlike Path.is_dir, False where the way there may not be searched
        raise InputError(f"{root}: not a folder; the folder with {_LAYOUT} wanted")
    images, depths, unusable = _find(root)
    pairs, left_out = _pair(images, depths)
    left_out += unusable
    if not pairs:
        seen = f"{len(images)} images img-*.jpg and {len(depths)} depth files depth_sph_corr-*.mat"
        seen += f", {unusable[0].name} ({unusable[0].reason})" if unusable else ""
        raise InputError(f"{root}: no pair among {seen}; {_LAYOUT} wanted")
    faults = _faults(root, pairs)
    pairs, unreadable = _without(faults, pairs)
    if faults and on_unreadable == "stop":
        raise InputError(f"{root}: {_tell(faults, ' (--on-error skip leaves them out)')}")
    if not pairs:
        raise InputError(f"{root}: {_tell(faults, ', which leaves no pair')}")
    left_out += unreadable
    return Make3D(
        root=root,
        pairs=tuple(pairs),
        names=tuple(f"{pair.split}/{pair.x}" for pair in pairs),
        splits=tuple(pair.split for pair in pairs),
        scenes=tuple(_scene(pair.x) for pair in pairs),
        columns={
            "image_file": tuple(pair.image.name for pair in pairs),
            "depth_file": tuple(pair.depth.name for pair in pairs),
        },
        left_out=tuple(sorted(left_out)),
        warnings=tuple(_warnings(root, pairs)),
        notes=dict(_NOTES),
    )


def _find(root: Path) -> tuple[list[_File], list[_File], list[LeftOut]]:
    """All image and depth files below ``root``, through links to folders too, each folder once; and what is none."""
    images: list[_File] = []
    depths: list[_File] = []
    unusable: list[LeftOut] = []
    for below, files in walk_once(root):
        split = _split(below, root)
        for file in files:
            for pattern, found in ((_IMAGE, images), (_DEPTH, depths)):
                if match := pattern.fullmatch(file):
                    path = below / file
                    if not path.as_posix().isprintable():
                        unusable.append(LeftOut(printable(path.as_posix()), ODD_NAME))
                    elif reason := no_file(root / path):
                        unusable.append(LeftOut(path.as_posix(), reason))
                    else:
                        found.append(_File(split, match[1], path))
    return sorted(images), sorted(depths), unusable


def _split(below: Path, root: Path) -> str:
    """The split that the nearest folder tells, from a folder below the root up to the root itself."""
    for name in (*reversed(below.parts), root.absolute().name):
        if match := _SPLIT_FOLDER.fullmatch(name):
            return (match["split"] or "test").lower()  # Gridlaserdata comes with the test archive only
    return "unlabeled"


def _pair(images: list[_File], depths: list[_File]) -> tuple[list[Pair], list[LeftOut]]:
    """Pair files of one split by equal X, then the rest without a leading 10.21 on either side."""
    pairs: list[Pair] = []
    left_out: list[LeftOut] = []
    keys: tuple[Callable[[str], str], ...] = (str, lambda x: x.removeprefix("10.21"))
    for key in keys:
        groups: dict[tuple[str, str], tuple[list[_File], list[_File]]] = defaultdict(lambda: ([], []))
        for side, files in enumerate((images, depths)):
            for file in files:
                groups[file.split, key(file.x)][side].append(file)
        images, depths = [], []
        for (split, x), (of_image, of_depth) in groups.items():
            if len(of_image) == len(of_depth) == 1:
                pairs.append(Pair(split, of_image[0].x, of_image[0].path, of_depth[0].path))
            elif of_image and of_depth:
                seen = f"{len(of_image)} img-X.jpg, {len(of_depth)} depth_sph_corr-X.mat of {split} for X = {x}"
                left_out += _left_out(of_image + of_depth, f"ambiguous: {seen}; one of each wanted")
            else:
                images += of_image
                depths += of_depth
    left_out += _left_out(images, "no depth file depth_sph_corr-X.mat of the same X and split")
    left_out += _left_out(depths, "no image img-X.jpg of the same X and split")
    return sorted(pairs, key=lambda pair: (_SPLITS.index(pair.split), pair.x)), left_out


def _left_out(files: Iterable[_File], reason: str) -> list[LeftOut]:
    return [LeftOut(file.path.as_posix(), reason) for file in files]


def _faults(root: Path, pairs: Iterable[Pair]) -> dict[Path, str]:
    """What is wrong with each file that cannot be read."""
    faults: dict[Path, str] = {}
    for pair in pairs:
        for path, check in ((pair.image, _check_picture), (pair.depth, _read_grid)):
            try:
                check(root / path)
            except InputError as error:
                faults[path] = str(error).removeprefix(f"{root / path}: ")
    return faults


def _without(faults: Mapping[Path, str], pairs: Iterable[Pair]) -> tuple[list[Pair], list[LeftOut]]:
    """The pairs of sound files, and the files of all others."""
    sound: list[Pair] = []
    left_out: list[LeftOut] = []
    for pair in pairs:
        if pair.image not in faults and pair.depth not in faults:
            sound.append(pair)
            continue
        for path, partner in ((pair.image, pair.depth), (pair.depth, pair.image)):
            reason = faults.get(path) or f"belongs to {partner.as_posix()}, which cannot be read"
            left_out.append(LeftOut(path.as_posix(), reason))
    return sound, left_out


def _tell(faults: Mapping[Path, str], remark: str, most: int = 4) -> str:
    shown = [f"{path.as_posix()}: {reason}" for path, reason in list(faults.items())[:most]]
    if len(faults) > most:
        shown.append(f"and {len(faults) - most} more")
    files = "1 file" if len(faults) == 1 else f"{len(faults)} files"
    return f"{files} cannot be read{remark}: {'; '.join(shown)}"


def _scene(x: str) -> str:
    """The place that the laser turned at: X without its view; empty where X does not end in a view."""
    match = _VIEW.search(x)
    return x[: match.start()] if match else ""


def _warnings(root: Path, pairs: Sequence[Pair]) -> Iterator[str]:
    frames = Counter(pair.split for pair in pairs)
    if count := frames["unlabeled"]:
        yield f"{root}: {count} 'unlabeled', as no folder above says train or test ({_LAYOUT})"
    for split, archives in _ARCHIVES.items():
        if not frames[split]:
            yield f"{root}: no {split} pair; {archives} are on make3d.cs.cornell.edu/data.html"


def _check_picture(path: Path) -> None:
    _check_portrait(path, *check_jpeg(path))


def _read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    rgb_HWC = read_jpeg(path)
    height, width, _ = rgb_HWC.shape
    _check_portrait(path, width, height)
    return rgb_HWC


def _check_portrait(path: Path, width: int, height: int) -> None:
    """Refuse what the levels of 3:4 would show stretched."""
    if abs(4 * width - 3 * height) > 0.01 * 3 * height:
        raise InputError(f"{path}: {width} wide, {height} high; portrait of 3:4, such as 1704 x 2272, wanted")


def _read_grid(path: Path) -> npt.NDArray[np.float64]:
    grid = read_numeric(path, _VARIABLE)
    wanted = (*DEPTH_SHAPE_HW, 4)
    if grid.shape != wanted or grid.dtype != np.float64:
        raise InputError(f"{path}: '{_VARIABLE}' is {grid.dtype}, {grid.shape}; float64, {wanted} wanted")
    return grid


def _read_depth(path: Path) -> npt.NDArray[np.float32]:
    """Metres, NaN where the laser saturated."""
    with np.errstate(over="ignore"):  # too large becomes infinite, which is refused
        metres_HW = _read_grid(path)[..., 3].astype(np.float32, order="C")
    wrong = metres_HW[~(np.isfinite(metres_HW) & (metres_HW > 0))]
    if wrong.size:
        raise InputError(
            f"{path}: {wrong.size} of {metres_HW.size} distances such as {wrong[0]}; finite, above 0 m wanted"
        )
    metres_HW[metres_HW >= SATURATED_METRES] = np.nan
    return metres_HW
