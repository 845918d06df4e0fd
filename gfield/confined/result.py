"""What parsers are handed and give back: bytes and arrays in memory that both processes see."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_STEP, _ALIGNED = 1 << 24, 64


@dataclass(frozen=True)
class Result:
    """Plain values, as JSON has them, and arrays."""

    value: Any = None
    arrays: Sequence[Array] = field(default_factory=list)


class Memory:
    """The memory that is shared, mapped as far as it was ever needed, since each new page of a mapping costs time.

    Parameters
    ----------
    descriptor
        Of the file that it is.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._mapped = mmap.mmap(descriptor, min(self._size, _STEP))

    def part(self, start: int, stop: int) -> memoryview:
        """Bytes ``start`` to ``stop``.

        Raises
        ------
        MemoryError
            If there are not so many.
        """
        if stop > self._size:
            raise MemoryError
        if stop > len(self._mapped):  # the shorter mapping goes when nothing refers to it any more
            self._mapped = mmap.mmap(self._descriptor, min(self._size, -(-stop // _STEP) * _STEP))
        return memoryview(self._mapped)[start:stop]


class Room:
    """The shared memory during one call: what is to be parsed, and behind it what was made of it.

    Parameters
    ----------
    memory
        All of it.
    given
        Bytes at its start that are to be parsed.
    """

    def __init__(self, memory: Memory, given: int) -> None:
        self._memory = memory
        self._end = given
        self._made: dict[int, tuple[Array, int]] = {}
        self.data = memory.part(0, given).toreadonly()

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """An array in the shared memory, for a parser to write to.

        Raises
        ------
        MemoryError
            If there is no room for it.
        """
        kind, start = np.dtype(dtype), -(-self._end // _ALIGNED) * _ALIGNED
        self._end = start + prod(shape) * kind.itemsize
        array = np.frombuffer(self._memory.part(start, self._end), kind).reshape(shape)
        self._made[id(array)] = (array, start)
        return array

    def place(self, array: Array) -> tuple[str, Sequence[int], int]:
        """Type, shape and place of an array, which is copied into the shared memory unless it is there."""
        if id(array) not in self._made:
            copy = self.empty(array.shape, array.dtype)
            copy[...] = array
            return self.place(copy)
        made, start = self._made[id(array)]
        return made.dtype.str, made.shape, start
