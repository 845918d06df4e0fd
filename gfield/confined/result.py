"""What parsers are handed and give back: bytes and arrays in memory that both processes see."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Result:
    """Plain values, as JSON has them, and arrays."""

    value: Any = None
    arrays: Sequence[Array] = field(default_factory=list)


class Room:
    """The shared memory during one call: what is to be parsed, and behind it what was made of it.

    Parameters
    ----------
    memory
        Descriptor of the memory.
    given
        Bytes at its start that are to be parsed.
    """

    def __init__(self, memory: int, given: int) -> None:
        self._memory = memory
        self._size = os.fstat(memory).st_size
        self._next = -(-given // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._made: dict[int, tuple[Array, int]] = {}
        self.data = memoryview(mmap.mmap(memory, given, mmap.MAP_SHARED, mmap.PROT_READ)) if given else memoryview(b"")

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """An array in the shared memory, for a parser to write to.

        Raises
        ------
        MemoryError
            If there is no room for it.
        """
        kind, offset = np.dtype(dtype), self._next
        length = max(1, prod(shape) * kind.itemsize)
        if offset + length > self._size:
            raise MemoryError
        self._next += -(-length // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        array = np.frombuffer(mmap.mmap(self._memory, length, offset=offset), kind, prod(shape)).reshape(shape)
        self._made[id(array)] = (array, offset)
        return array

    def place(self, array: Array) -> tuple[str, Sequence[int], int]:
        """Type, shape and place of an array, which is copied into the shared memory unless it is there."""
        if id(array) not in self._made:
            copy = self.empty(array.shape, array.dtype)
            copy[...] = array
            return self.place(copy)
        made, offset = self._made[id(array)]
        return made.dtype.str, made.shape, offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.clear()
