"""HDF5 files, looked into by a process that may crash: `gfield.confined.hdf5` does, and this asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gfield import confine
from gfield.formats.framebytes import FrameBytes
from gfield.object_path import Location

_TABLES = 4


class Contents(NamedTuple):
    """What is in a file.

    Attributes
    ----------
    found
        Names of all that is in the root group, in order.
    sets
        Of the data sets that were asked for, those that are there.
    cells
        Likewise, the strings of cell arrays.
    """

    found: list[str]
    sets: dict[str, FrameBytes]
    cells: dict[str, list[str]]


def contents_of(path: Location, *, sets: Sequence[str] = (), cells: Sequence[str] = ()) -> Contents:
    """Look once into an HDF5 (MATLAB 7.3) file.

    Parameters
    ----------
    path
        The file, or its URL.
    sets
        Data sets of numbers in its root group, whose first axis counts frames.
    cells
        Cell arrays of strings; as many strings as the first data set has frames, where there is one.

    Raises
    ------
    InputError
        No such file, no HDF5, or a truncated one. Of what was asked for: links or storage out of the file, not
        numbers or no strings, an unknown filter, a chunk that is too large or lies beyond the end of the file, or
        metadata that HDF5 cannot read or crashes on.
    """
    value, arrays = confine.call("hdf5", str(path), {"sets": list(sets), "cells": list(cells)})
    tables = [arrays[at : at + _TABLES] for at in range(0, len(arrays), _TABLES)]
    described = [FrameBytes.from_plain(path, plain, four) for plain, four in zip(value["sets"], tables, strict=True)]
    return Contents(value["found"], {frames.name: frames for frames in described}, value["cells"])
