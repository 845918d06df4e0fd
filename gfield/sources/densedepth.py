"""The data set of DenseDepth: 50,688 frames of NYU Depth v2's raw scenes with filled depth, out of ``nyu_data.zip``.

The archive is read as it is. ``data/nyu2_train.csv`` and ``data/nyu2_test.csv`` say which picture goes with which
depth, a line each, ``data/nyu2_train/<scene>_out/1.jpg,data/nyu2_train/<scene>_out/1.png``. Depth of train is 8-bit
grey, metres = value / 255 * 10; of test 16-bit grey, millimetres. ``nyu_test.zip``, where it is given, stands in for
the test files: ``eigen_test_rgb.npy``, ``eigen_test_depth.npy`` in metres, and ``eigen_test_crop.npy``.

The archive may have been packed anew, with all of that in another folder, or without the folder ``data``.

Frames are in the order of the lines, those of train before those of test. A frame's name is its picture's path in the
published archive, or ``eigen_test/`` and its place in the array, counted from 0.

Source: I. Alhashim and P. Wonka, "High Quality Monocular Depth Estimation via Transfer Learning", 2018, and the
loader that they published; the training frames are those of J. Hu et al., WACV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from gfield.formats.eigen import Eigen, open_eigen, valid_metres
from gfield.formats.pair_list import Pair, as_published, check_pairs, read_pairs
from gfield.formats.picture import decode_picture
from gfield.formats.png import decode_png_grey
from gfield.formats.zipped import Member, Table, as_table, open_zip, read_member
from gfield.frame import BadFrame, Frame, InputError, LeftOut, Region
from gfield.listing import counted, first_of
from gfield.nyu_cameras import INSIDE_WHITE_FRAME

SIZE_WH = (640, 480)
FARTHEST_M = 10.0  # of 255 in an 8-bit depth
_A = TypeVar("_A", bound=npt.NDArray[Any])
_SHAPE_HW = (480, 640)
_TRAIN, _TEST = "data/nyu2_train.csv", "data/nyu2_test.csv"
# Metres of every value of a depth, 0 being none.
_METRES = {
    "train": np.append(np.nan, np.arange(1, 256) / 255 * FARTHEST_M).astype(np.float32),
    "test": np.append(np.nan, np.arange(1, 65536) / 1000).astype(np.float32),
}
_PICTURE_BYTES = 16 * 1024 * 1024
_LOOKED_AT = 9
_WHITE = 250
_DEPTH_NOTE = (
    "metres, holes filled by the data set's authors; train: value / 255 * 10, steps of 0.04 m, 255 is 10 m or more; "
    "test: millimetres / 1000; 0 -> NaN"
)
_WHITE_NOTE = "pictures have a white frame; valid_region is the scene, rows 8:473 and columns 8:631"


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """The archive as a `gfield.frame.Source`; made by `open_densedepth`.

    Attributes
    ----------
    archive
        ``nyu_data.zip``.
    pictures, depths
        Members of the frames that lie in it, as rows of `gfield.formats.zipped.Member`.
    depth_names
        Name of the depth member of each of those frames; ``names`` has the picture's.
    train
        How many of them are of the train split, which come first.
    eigen
        Pictures and depths of ``nyu_test.zip``, whose frames follow.
    warnings
        What the user should know, one line each.

    The others are those of `gfield.frame.Source`.
    """

    archive: Path
    pictures: Table
    depths: Table
    depth_names: Sequence[str]
    train: int
    eigen: Eigen | None
    names: Sequence[str]
    splits: Sequence[str]
    scenes: Sequence[str]
    left_out: Sequence[LeftOut]
    warnings: tuple[str, ...]
    notes: Mapping[str, str]
    valid_region: Region | None
    kind: str = "densedepth"
    size_WH: tuple[int, int] = SIZE_WH
    provides: frozenset[str] = frozenset({"rgb", "depth"})
    depth_shape_HW: tuple[int, int] | None = _SHAPE_HW
    frames_per_chunk: int = 1

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """None: names, splits and scenes tell all there is."""
        return {}

    @property
    def reading(self) -> str:
        """One line on how frames are read."""
        return "byte ranges of the archive; JPEG by libjpeg-turbo, PNG by OpenCV"

    def inputs(self) -> Sequence[Path]:
        """The archive, and ``nyu_test.zip`` where it is used."""
        return [self.archive] if self.eigen is None else [self.archive, self.eigen.rgb.path]

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Yield frames ``start`` to ``stop - 1``.

        A member that is damaged, or is not a picture of 640x480 with such a depth as its split has, is a `BadFrame`,
        and the next ones follow.

        Raises
        ------
        InputError
            ``nyu_test.zip`` is damaged: which of its frames is not known then, and none of them is given.
        """
        if not arrays <= self.provides:
            raise ValueError(f"{self.archive}: arrays {sorted(arrays)} asked for of {sorted(self.provides)}")
        apart = len(self.depth_names)
        for index in range(start, min(stop, apart)):
            yield self._frame(index, arrays)
        if stop > apart:
            yield from self._eigen_frames(max(start, apart), stop, arrays)

    def _frame(self, index: int, arrays: frozenset[str]) -> Frame | BadFrame:
        found: dict[str, npt.NDArray[Any]] = {}
        try:
            if "rgb" in arrays:
                data, where = self._member(self.names[index], self.pictures[index])
                found["rgb"] = _picture(data, where)
            if "depth" in arrays:
                data, where = self._member(self.depth_names[index], self.depths[index])
                found["depth"] = _depth(data, where, "train" if index < self.train else "test")
        except InputError as error:
            return BadFrame(index, str(error))
        return Frame(index, found)

    def _member(self, name: str, row: npt.NDArray[np.int64]) -> tuple[bytes, str]:
        return read_member(self.archive, name, Member(*row.tolist()), _PICTURE_BYTES), f"{self.archive}: {name}"

    def _eigen_frames(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        assert self.eigen is not None, "frames beyond the lists are those of nyu_test.zip"
        apart = len(self.depth_names)
        with ExitStack() as stack:
            streams = {
                array: stack.enter_context(closing(frames.read_frames(start - apart, stop - apart)))
                for array, frames in (("rgb", self.eigen.rgb), ("depth", self.eigen.depth))
                if array in arrays
            }
            for index in range(start, stop):
                found = {array: next(stream) for array, stream in streams.items()}
                if "depth" in found:
                    where = f"{self.eigen.depth.path}: {self.eigen.depth.name}, frame {index - apart}"
                    try:
                        found["depth"] = valid_metres(found["depth"], where)
                    except InputError as error:
                        yield BadFrame(index, str(error))
                        continue
                yield Frame(index, found)


def open_densedepth(
    archive: str | Path,
    test: str | Path | None = None,
    *,
    keep_frame: bool = False,
    on_unreadable: Literal["stop", "skip"] = "stop",
) -> DenseDepth:
    """Read the archive's directory and its two lists, and look at a few pictures.

    Parameters
    ----------
    archive
        ``nyu_data.zip``.
    test
        ``nyu_test.zip``: its frames are the test split, and those of ``data/nyu2_test.csv`` are left out.
    keep_frame
        Take a white frame round the pictures for a part of them. Otherwise, where most of nine training pictures that
        are looked at have the white frame of NYU's labelled ones, the operator sees what is inside it.
    on_unreadable
        What to do about lines that name files which are not there: refuse them all in one message, or leave them out
        and list them.

    Raises
    ------
    InputError
        An archive is no whole, plain ZIP archive (see `gfield.formats.zipped.open_zip`); a list is missing or is not
        of two names a line; it names files that are not there (``"stop"``); a picture has two depths or two splits.
    """
    archive = Path(archive)
    members = as_published(open_zip(archive), _TRAIN)
    eigen = None if test is None else open_eigen(Path(test))
    lists = {name: read_pairs(archive, name, members) for name in _lists(members)}
    checked = check_pairs(archive, lists, members)
    if checked.faults and on_unreadable == "stop":
        raise InputError(f"{archive}: {_tell(checked.faults)}")
    train, test_pairs = checked.pairs[_TRAIN], checked.pairs.get(_TEST, [])
    left_out = first_of(checked.faults, "lines") + first_of(checked.repeated, "lines")
    if eigen is not None and test_pairs:
        lines = counted(len(test_pairs), "line")
        reason = f"its {lines}: {eigen.rgb.path.name} stands in for them"
        left_out.append(LeftOut(_TEST, reason, len(test_pairs)))
        test_pairs = []
    pairs, count = train + test_pairs, eigen.rgb.shape[0] if eigen is not None else 0
    if not pairs and not count:
        raise InputError(f"{archive}: no pair in {' and '.join(lists)}; one or more wanted")
    white = not keep_frame and _white_frames(archive, members, train)
    return DenseDepth(
        archive=archive,
        pictures=as_table([members[pair.picture] for pair in pairs]),
        depths=as_table([members[pair.depth] for pair in pairs]),
        depth_names=tuple(pair.depth for pair in pairs),
        train=len(train),
        eigen=eigen,
        names=(*(pair.picture for pair in pairs), *_numbered(count)),
        splits=("train",) * len(train) + ("test",) * (len(test_pairs) + count),
        scenes=_scenes(train) + ("",) * (len(test_pairs) + count),
        left_out=tuple(left_out + first_of(checked.unnamed, "files")),
        warnings=tuple(_warnings(archive, train, len(test_pairs) + count)),
        notes={"depth": _depth_note(eigen), **({"rgb": _WHITE_NOTE} if white else {})},
        valid_region=INSIDE_WHITE_FRAME if white else None,
    )


def _depth_note(eigen: Eigen | None) -> str:
    if eigen is None:
        return _DEPTH_NOTE
    top, bottom, left, right = eigen.crop
    where = f"rows {top} to {bottom} and columns {left} to {right}, both ends included"
    return f"{_DEPTH_NOTE}; the test frames are those of {eigen.rgb.path.name}, metres as they stand, its crop {where}"


def _lists(members: Mapping[str, Member]) -> list[str]:
    """The list of train, which has to be there, and that of test where it is."""
    return [_TRAIN, *([_TEST] if _TEST in members else [])]


def _tell(faults: Sequence[LeftOut], most: int = 4) -> str:
    shown = [f"{fault.name}: {fault.reason}" for fault in faults[:most]]
    if len(faults) > most:
        shown.append(f"and {len(faults) - most} more")
    lines = "1 line names" if len(faults) == 1 else f"{len(faults)} lines name"
    return f"{lines} files that are not there (--on-error skip leaves them out): {'; '.join(shown)}"


def _warnings(archive: Path, train: Sequence[Pair], tested: int) -> Iterator[str]:
    if not train:
        yield f"{archive}: no frame of train, {_TRAIN} has no line that can be used"
    if not tested:
        yield f"{archive}: no frame of test, {_TEST} has no line that can be used; --test nyu_test.zip gives Eigen's"


def _scenes(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The pictures' folders without ``_out``, one text a scene."""
    known: dict[str, str] = {}
    folders = (pair.picture.split("/")[-2:-1] for pair in pairs)
    scenes = (folder[0].removesuffix("_out") if folder else "" for folder in folders)
    return tuple(known.setdefault(scene, scene) for scene in scenes)


def _numbered(count: int) -> Iterator[str]:
    width = len(str(count - 1))
    return (f"eigen_test/{number:0{width}d}" for number in range(count))


def _white_frames(archive: Path, members: Mapping[str, Member], pairs: Sequence[Pair]) -> bool:
    """Whether most of a few pictures have the white frame that NYU's toolbox leaves round them."""
    seen = []
    for place in sorted({len(pairs) * place // _LOOKED_AT for place in range(_LOOKED_AT)} if pairs else ()):
        name = pairs[place].picture
        try:
            rgb_HWC = _picture(read_member(archive, name, members[name], _PICTURE_BYTES), name)
        except InputError:  # told when the frame is read
            continue
        # Two pixels short of the frame, since JPEG rings at its edge.
        rim_HW = np.ones(_SHAPE_HW, bool)
        rim_HW[6:475, 6:633] = False
        seen.append(float(rgb_HWC[rim_HW].mean()) >= _WHITE)
    return sum(seen) > len(seen) / 2


def _picture(data: bytes, where: str) -> npt.NDArray[np.uint8]:
    rgb_HWC = decode_picture(data, where)
    return np.ascontiguousarray(_of_shape(rgb_HWC, where))


def _depth(data: bytes, where: str, split: Literal["train", "test"]) -> npt.NDArray[np.float32]:
    metres_HW: npt.NDArray[np.float32] = _METRES[split][decode_png_grey(data, where, 8 if split == "train" else 16)]
    return _of_shape(metres_HW, where)


def _of_shape(pixels: _A, where: str) -> _A:
    if pixels.shape[:2] != _SHAPE_HW:
        raise InputError(f"{where}: {pixels.shape[1]} x {pixels.shape[0]} pixels; 640 x 480 wanted")
    return pixels
