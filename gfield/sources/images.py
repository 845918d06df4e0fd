"""Any folder of pictures, for pre-training without depth: JPEG and PNG, at any depth below the folder.

Frames are in the order of their paths. A frame's name is its path below the folder, its scene the folder it lies in
("" for the top one); the split is "unlabeled". A store has one size, so every picture is cut to that shape round its
centre and averaged down to it; none is stretched, and none is enlarged, since an enlarged picture's gradient field
would be that of the interpolation.

Pictures are looked at when their frame is read: opening lists the folders and looks at a few headers alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np

from gfield.formats.folders import ODD_NAME, no_file, walk_once
from gfield.formats.picture import SUFFIXES, picture_size, read_picture
from gfield.frame import BadFrame, Frame, InputError, LeftOut, Region, printable
from gfield.listing import counted, first_of

SIZE_WH = (640, 480)
_SMALLEST, _LARGEST = 16, 8192  # of a side of the largest level
_LOOKED_AT = 64
_LISTED_SUFFIXES = 20
_TOLD = 3
_WANTED = f"pictures {', '.join('*' + suffix for suffix in SUFFIXES)}"


@dataclass(frozen=True)
class Files(Sequence[Path]):
    """Paths below a folder, made when they are asked for: of each, the name alone is held."""

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Files: ...
    def __getitem__(self, place: int | slice) -> Path | Files:
        return Files(self.root, self.names[place]) if isinstance(place, slice) else self.root / self.names[place]


@dataclass(frozen=True, eq=False)
class Images:
    """A folder of pictures as a `gfield.frame.Source`; made by `open_images`.

    Attributes
    ----------
    root
        The folder that ``names`` are paths below.
    warnings
        What the user should know, one line each.

    The others are those of `gfield.frame.Source`.
    """

    root: Path
    names: Sequence[str]
    splits: Sequence[str]
    scenes: Sequence[str]
    left_out: Sequence[LeftOut]
    warnings: tuple[str, ...]
    notes: Mapping[str, str]
    size_WH: tuple[int, int]
    kind: str = "images"
    provides: frozenset[str] = frozenset({"rgb"})
    depth_shape_HW: tuple[int, int] | None = None
    valid_region: Region | None = None
    frames_per_chunk: int = 1

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """None: names and scenes tell all there is."""
        return {}

    @property
    def reading(self) -> str:
        """One line on how frames are read."""
        return "JPEG by libjpeg-turbo, PNG by OpenCV"

    def inputs(self) -> Sequence[Path]:
        """The pictures, in the order of the frames."""
        return Files(self.root, self.names)

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Yield frames ``start`` to ``stop - 1``, upright and cut to the shape of ``size_WH``.

        A file that is no picture, is damaged as far as `gfield.formats.picture` can see that, or is too small is a
        `BadFrame`, and the next ones follow.
        """
        if not arrays <= self.provides:
            raise ValueError(f"{self.root}: arrays {sorted(arrays)} asked for of {sorted(self.provides)}")
        for index in range(start, stop):
            path = self.root / self.names[index]
            try:
                rgb_HWC = read_picture(path)
                size_WH = (rgb_HWC.shape[1], rgb_HWC.shape[0])
                if fault := _too_small(size_WH, self.size_WH):
                    raise InputError(f"{path}: {fault}")
            except InputError as error:
                yield BadFrame(index, str(error))
            else:
                window = centre_window(size_WH, self.size_WH)
                rgb_hwC = rgb_HWC[window.top : window.bottom, window.left : window.right]
                yield Frame(index, {"rgb": np.ascontiguousarray(rgb_hwC)})


def open_images(
    folder: str | Path, *, size_WH: tuple[int, int] = SIZE_WH, on_unreadable: Literal["stop", "skip"] = "stop"
) -> Images:
    """Find the pictures below a folder, through links too; what begins with a dot is passed over.

    A file is taken for a picture by its name. What has such a name and is no file, such as a link to nowhere, is
    left out and listed. Headers of 64 pictures are read, to warn of a size that does not suit
    them; no picture is decoded.

    Parameters
    ----------
    folder
        Where the pictures are.
    size_WH
        Width and height of the largest level, 16 to 8192 each.
    on_unreadable
        ``"skip"``: leave out and list files that may not be read, too. Otherwise they are found out when the store's
        input is identified.

    Raises
    ------
    InputError
        No folder, one that cannot be listed, no picture, or such a size that no level can have.
    """
    root = Path(folder)
    if not all(_SMALLEST <= side <= _LARGEST for side in size_WH):
        raise InputError(f"size {size_WH[0]}x{size_WH[1]}: sides of {_SMALLEST} to {_LARGEST} pixels wanted")
    if not os.path.isdir(root):  # unlike Path.is_dir, False where the way there may not be searched
        raise InputError(f"{root}: not a folder; a folder of {_WANTED} wanted")
    names, left_out = _find(root)
    names, unusable = _usable(root, names, must_open=on_unreadable == "skip")
    left_out += first_of(unusable, "files")
    if not names:
        seen = ", ".join(f"{entry.name} ({entry.reason})" for entry in unusable[:_TOLD])
        seen = seen or ", ".join(entry.name for entry in left_out) or "nothing"
        raise InputError(f"{root}: no picture, but {seen}; {_WANTED} wanted")
    folders: dict[str, str] = {}  # one text a folder, however many pictures are in it
    scenes = (name.rpartition("/")[0] for name in names)
    width, height = size_WH
    return Images(
        root=root,
        names=names,
        splits=("unlabeled",) * len(names),
        scenes=tuple(folders.setdefault(scene, scene) for scene in scenes),
        left_out=tuple(left_out),
        warnings=tuple(_warnings(root, names, size_WH)),
        notes={"rgb": f"pictures cut round their centre to the shape of {width}x{height}, never enlarged"},
        size_WH=size_WH,
    )


def centre_window(size_WH: tuple[int, int], shape_WH: tuple[int, int]) -> Region:
    """The largest centred part of a picture with the aspect ratio of ``shape_WH``, to the nearest pixel."""
    (width, height), (shape_W, shape_H) = size_WH, shape_WH
    part_W = min(width, max(1, (2 * height * shape_W + shape_H) // (2 * shape_H)))
    part_H = min(height, max(1, (2 * width * shape_H + shape_W) // (2 * shape_W)))
    left, top = (width - part_W) // 2, (height - part_H) // 2
    return Region(top, top + part_H, left, left + part_W)


def _too_small(size_WH: tuple[int, int], wanted_WH: tuple[int, int]) -> str:
    """Why a picture would have to be enlarged; empty where it need not."""
    window = centre_window(size_WH, wanted_WH)
    if window.right - window.left >= wanted_WH[0] and window.bottom - window.top >= wanted_WH[1]:
        return ""
    size = f"{size_WH[0]} x {size_WH[1]} pixels, {window.right - window.left} x {window.bottom - window.top} of them"
    return f"{size} in the store's shape; {wanted_WH[0]} x {wanted_WH[1]} or more wanted, or a smaller --size"


def _find(root: Path) -> tuple[tuple[str, ...], list[LeftOut]]:
    """Paths of all pictures below ``root``, in order, and how many other files there are; each folder once."""
    names: list[str] = []
    odd: list[str] = []
    others: Counter[str] = Counter()
    for below, files in walk_once(root):
        prefix = "" if below == Path() else f"{below.as_posix()}/"
        for file in files:
            suffix = os.path.splitext(file)[1].lower()
            if file.startswith("."):
                continue
            if suffix not in SUFFIXES:
                others[suffix] += 1
            else:
                (names if (prefix + file).isprintable() else odd).append(prefix + file)
    unnamed = [LeftOut(printable(name), ODD_NAME) for name in sorted(odd)]
    left_out = first_of(unnamed, "files")
    listed = others.most_common(_LISTED_SUFFIXES)
    rest = others.total() - sum(count for _, count in listed)
    left_out += [
        LeftOut(f"{counted(count, 'file')} {_kind(suffix)}", f"no {_WANTED}", count)
        for suffix, count in (*sorted(listed), *([("...", rest)] if rest else []))
    ]
    return tuple(sorted(names)), left_out


def _usable(root: Path, names: Sequence[str], *, must_open: bool) -> tuple[tuple[str, ...], list[LeftOut]]:
    """Those of ``names`` that are files, and, on demand, may be read."""
    usable: list[str] = []
    left_out: list[LeftOut] = []
    for name in names:
        path = f"{root}/{name}"
        if reason := no_file(path):
            left_out.append(LeftOut(name, reason))
        elif must_open and not os.access(path, os.R_OK):
            left_out.append(LeftOut(name, "may not be read"))
        else:
            usable.append(name)
    return tuple(usable), left_out


def _kind(suffix: str) -> str:
    if suffix == "...":
        return "of other kinds"
    return f"*{ascii(suffix)[1:-1]}" if suffix else "without a suffix"


def _warnings(root: Path, names: Sequence[str], size_WH: tuple[int, int]) -> Iterator[str]:
    looked_at = sorted({len(names) * place // _LOOKED_AT for place in range(_LOOKED_AT)})
    small = []
    for index in looked_at:
        try:
            size = picture_size(root / names[index])
        except InputError:  # told when the frame is read
            continue
        if fault := _too_small(size, size_WH):
            small.append(f"{names[index]}: {fault}")
    if small:
        yield f"{root}: {len(small)} of {len(looked_at)} pictures looked at are too small, such as {small[0]}"
