"""What a data set looks like to the rest of the package: frames, and the `Source` that yields them.

Legend of dimension letters used in names here and in every module: N frames, H rows (y, down),
W columns (x, right), C colour channels (red, green, blue). Images are upright and C-contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gfield.errors import InputError, UserError, printable

if TYPE_CHECKING:
    from gfield.object_path import Location

__all__ = [
    "BadFrame",
    "Frame",
    "InputError",
    "LeftOut",
    "Region",
    "Source",
    "UserError",
    "printable",
]


class Region(NamedTuple):
    """A half-open rectangle of pixels, rows ``top:bottom`` and columns ``left:right``.

    Examples
    --------
    >>> from gfield import Region
    >>> Region(top=8, bottom=473, left=8, right=631).scaled((640, 480), (80, 60))
    Region(top=1, bottom=59, left=1, right=78)
    """

    top: int
    bottom: int
    left: int
    right: int

    def scaled(self, from_WH: tuple[int, int], to_WH: tuple[int, int]) -> Region:
        """The region on a grid of another size, shrunk inwards to whole pixels."""
        (from_W, from_H), (to_W, to_H) = from_WH, to_WH
        return Region(
            top=-(-self.top * to_H // from_H),
            bottom=self.bottom * to_H // from_H,
            left=-(-self.left * to_W // from_W),
            right=self.right * to_W // from_W,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, as the source has it.

    Attributes
    ----------
    index
        Row of the frame in its source, and so in the store.
    arrays
        ``"rgb"`` (H, W, 3) uint8; ``"depth"`` (h, w) float32 metres on the sensor's own grid, NaN
        where the sensor has no valid value; and the optional arrays that were asked for, such as
        ``"raw_depth"`` (h, w) float32 and ``"label"`` (h, w) uint16.
        The arrays may be views of buffers that the next iteration overwrites.
    """

    index: int
    arrays: Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that could not be read; ``reason`` is one line that names the file and the fault."""

    index: int
    reason: str


class LeftOut(NamedTuple):
    """An input file that is no part of any frame, and why; or ``number`` files, lines or scenes in one."""

    name: str
    reason: str
    number: int = 1


class Source(Protocol):
    """A data set that can be read by frame range, on any worker: a source pickles and holds no open file.

    A frozen dataclass with these names as fields satisfies it.
    """

    @property
    def kind(self) -> str:
        """Short name of the data set, such as ``"nyu"`` or ``"make3d"``."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """One unique name a frame."""
        ...

    @property
    def splits(self) -> Sequence[str]:
        """One split a frame: ``"train"``, ``"test"`` or ``"unlabeled"``."""
        ...

    @property
    def scenes(self) -> Sequence[str]:
        """One scene a frame, "" where it is not known."""
        ...

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """More text columns, one entry a frame each, such as ``{"scene_type": [...]}``; may be empty."""
        ...

    @property
    def size_WH(self) -> tuple[int, int]:
        """Width and height of the largest level that the pictures are stored at."""
        ...

    @property
    def provides(self) -> frozenset[str]:
        """Names of the arrays that `read` can yield, always with ``"rgb"``."""
        ...

    @property
    def depth_shape_HW(self) -> tuple[int, int] | None:
        """Shape of the sensor's own depth grid, that of ``"depth"`` and of the optional arrays."""
        ...

    @property
    def valid_region(self) -> Region | None:
        """The part of the ``size_WH`` picture that is scene; None where all of it is."""
        ...

    @property
    def notes(self) -> Mapping[str, str]:
        """Facts about an array that readers must know, by array name, such as the rule for invalid depth."""
        ...

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files that belong to no frame."""
        ...

    @property
    def frames_per_chunk(self) -> int:
        """How many frames share one compressed piece of the input; 1 where frames lie apart."""
        ...

    @property
    def reading(self) -> str:
        """One line on how frames are read, for a build's summary."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should know before the build, one line each."""
        ...

    def inputs(self) -> Sequence[Location]:
        """Every file that pixels come from, in a fixed order."""
        ...

    def read(self, start: int, stop: int, arrays: frozenset[str]) -> Iterator[Frame | BadFrame]:
        """Yield frames ``start`` to ``stop - 1`` in order, each with the named arrays only."""
        ...
