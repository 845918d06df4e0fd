"""Long lists, as a source of 400,000 frames has them: texts and paths kept as arrays, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from gfield.frame import LeftOut

_LISTED = 100
_SCREENFUL = 20


@dataclass(frozen=True, eq=False)
class Joined(Sequence[str]):
    """Texts that share few beginnings, put together when they are asked for: 400,000 of them are two arrays.

    Attributes
    ----------
    starts
        The beginnings.
    start_N
        Which of them each text has.
    rest_N
        What follows it, ASCII.
    end
        What ends every text.
    """

    starts: Sequence[str]
    start_N: npt.NDArray[np.int32]
    rest_N: npt.NDArray[np.bytes_]
    end: str = ""

    def __len__(self) -> int:
        return len(self.rest_N)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return f"{self.starts[self.start_N[index]]}{self.rest_N[index].decode()}{self.end}"


@dataclass(frozen=True, eq=False)
class FilesOfPairs(Sequence[Path]):
    """Depth and colour file of each frame in turn, put together when they are asked for."""

    root: Path
    depth: Joined
    rgb: Joined

    def __len__(self) -> int:
        return 2 * len(self.depth)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self.root / (self.rgb if index % 2 else self.depth)[index // 2]


def first_of(left_out: list[LeftOut], what: str) -> list[LeftOut]:
    """The first hundred, and how many more there are: a store lists them in a file that every reader parses."""
    more = len(left_out) - _LISTED
    if more <= 0:
        return left_out
    last = left_out[_LISTED - 1]
    return [*left_out[:_LISTED], LeftOut(f"{more} more {what}", f"as {last.name}: {last.reason}", more)]


def screenful(lines: list[str], where: str = "") -> list[str]:
    """As many lines as a terminal shows, and how many more there are; ``where`` follows, to say what lists them all."""
    more = len(lines) - _SCREENFUL
    return [*lines[:_SCREENFUL], f"{more} more{where}"] if more > 0 else lines


def counted(number: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
