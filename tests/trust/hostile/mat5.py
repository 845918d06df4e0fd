"""Hostile MATLAB 5 files, for ``splits.mat`` and for depth grids."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gfield.formats.matv5 import write_numeric
from tests.trust.hostile.kit import Arguments, Hostile, Kit, build, make3d, nyu

_HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")


def _element(kind: int, data: bytes, length: int | None = None) -> bytes:
    """An element, which may lie about its length."""
    return struct.pack("<II", kind, len(data) if length is None else length) + data + bytes(-len(data) % 8)


def _variable(shape: tuple[int, ...], numbers: bytes, *, array_class: int = 11, name: bytes = b"trainNdxs") -> bytes:
    body = _element(6, struct.pack("<II", array_class, 0)) + _element(5, struct.pack(f"<{len(shape)}i", *shape))
    return body + _element(1, name) + numbers


def _splits(data: bytes) -> Callable[[Kit, Path, Path], Arguments]:
    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        mat = nyu(kit, folder)
        (folder / "splits.mat").write_bytes(_HEADER + data)
        return build("nyu", mat)

    return make


def _arrays(**arrays: np.ndarray) -> Callable[[Kit, Path, Path], Arguments]:
    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        mat = nyu(kit, folder)
        write_numeric(folder / "splits.mat", {"testNdxs": np.array([[2]], np.uint16), **arrays})
        return build("nyu", mat)

    return make


def _bomb() -> bytes:
    """A zlib stream of a gibibyte, in which a variable promises one."""
    body = _variable((1 << 29, 1), _element(4, b"", 1 << 30))
    squeeze = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    stream = squeeze.compress(struct.pack("<II", 14, (1 << 30) + len(body)) + body)
    stream += b"".join(squeeze.compress(zeros) for _ in range(1024)) + squeeze.flush()
    return struct.pack("<II", 15, len(stream)) + stream


def _quiet_bomb() -> bytes:
    """The same, which promises a few bytes."""
    body = _variable((1, 1), _element(4, b"\1\0"))
    stream = zlib.compress(struct.pack("<II", 14, len(body)) + body + bytes(1 << 26), 9)
    return struct.pack("<II", 15, len(stream)) + stream


def _nested(depth: int) -> bytes:
    body = _variable((1, 1), _element(4, b"\1\0"))
    for _ in range(depth):
        body = _variable((1, 1), _element(14, body), array_class=1)
    return _element(14, body)


def _grid(kit: Kit, folder: Path, outside: Path) -> Arguments:
    write_numeric(folder / "x.mat", {"Position3DGrid": np.full((55, 305, 4), 1e300)})
    return build("make3d", make3d(kit, folder, grid=(folder / "x.mat").read_bytes()))


_NUMBERS = _element(4, b"\1\0")
MAT5 = {
    "longer than the file": Hostile(
        _splits(struct.pack("<II", 14, 0xFFFFFFF0) + bytes(64)), ["splits.mat", "truncated"]
    ),
    "numbers that are not there": Hostile(
        _splits(_element(14, _variable((1 << 20, 1), _element(4, b"", 2 << 20)))), ["splits.mat", "wanted"]
    ),
    "a zlib bomb": Hostile(_splits(_bomb()), ["splits.mat", "bytes; at most"]),
    "a quiet zlib bomb": Hostile(_splits(_quiet_bomb()), ["splits.mat", "inflate"]),
    "cells in cells": Hostile(_splits(_nested(3000)), ["splits.mat", "'trainNdxs' is cell"]),
    "2**62 numbers of none": Hostile(
        _splits(_element(14, _variable((2**31 - 1, 2**31 - 1, 0), _element(4, b"")))), ["splits.mat", "at most"]
    ),
    "negative dimensions": Hostile(_splits(_element(14, _variable((-1, -1), _NUMBERS))), ["splits.mat", "below 0"]),
    "a name for terminals": Hostile(
        _splits(_element(14, _variable((1, 1), _NUMBERS, name=b"\x1b[2J\n"))), ["splits.mat", "no variable"]
    ),
    "a mask for numbers": Hostile(_arrays(trainNdxs=np.array([[False, True]])), ["splits.mat", "wanted"]),
    "no numbers": Hostile(_arrays(trainNdxs=np.array([[np.nan, np.inf]])), ["splits.mat", "wanted"]),
    "distances beyond float32": Hostile(_grid, ["depth_sph_corr-a.mat", "frame"]),
}
