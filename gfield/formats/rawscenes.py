"""Scene folders of NYU Depth v2's raw recordings: which files there are, and which belong together.

libfreenect's recorder wrote one file a reading, ``d-<time>-<ticks>.pgm`` for depth, ``r-<time>-<ticks>.ppm`` for
colour and ``a-<time>-<ticks>.dump`` for the accelerometer, where time is the host's clock in seconds and ticks is the
camera's. The two cameras are not synchronised: each runs at 20 to 30 frames a second and drops some.

Every depth frame takes the colour frame of the nearest time, as ``get_synched_frames.m`` of NYU's toolbox has it; of
two that are equally near, the later one. So the colour frames that are taken, in the order of the depth frames, never
go back in time; one may serve several depth frames, and some serve none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gfield.formats.folders import walk_once
from gfield.formats.netpbm import HEADER_MOST, pgm_bytes, ppm_bytes
from gfield.frame import InputError, LeftOut

SIZE_WH = (640, 480)

_SUFFIX = {"d": ".pgm", "r": ".ppm"}
_BYTES = {"d": pgm_bytes(SIZE_WH), "r": ppm_bytes(SIZE_WH)}
# Seconds with up to nine decimals, and the ticks; newer recorders add one more number.
_NAME = re.compile(r"[dr]-(\d{1,12})(?:\.(\d{1,9}))?-\d{1,20}(?:-\d{1,20})?\.p[gp]m", re.ASCII)
_LETTER = re.compile(r"(?<=\d)[a-z]$")
_NO_TIME = "no time in its name; {}-<seconds>-<ticks>{} wanted"
_NUMBER = re.compile(r"(\d+)")


class Reading(NamedTuple):
    """One file of a scene; ``time`` in nanoseconds by the recording machine's clock."""

    time: int
    file: str


class Scene(NamedTuple):
    """A folder with frames.

    Attributes
    ----------
    name
        Its path below the root, with slashes; the root's own name for the root itself.
    folder
        The same path; "" for the root itself.
    """

    name: str
    folder: str


class Readings(NamedTuple):
    """What lies in a scene's folder.

    Attributes
    ----------
    depth, rgb
        Readings of a plausible length, in the order of their times.
    left_out
        Files that are empty, cut off or too long, that have no time in their name, or that cannot be looked at.
    """

    depth: list[Reading]
    rgb: list[Reading]
    left_out: list[LeftOut]


def find_scenes(root: Path) -> list[Scene]:
    """The folders with depth or colour frames, ``root`` and all below it, in the order of their names; not looked into.

    Numbers in names count as numbers. Links are followed, each folder is taken once, and those whose names begin with
    a dot are passed over.

    Raises
    ------
    InputError
        A folder cannot be listed.
    """
    scenes: list[Scene] = []
    for below, files in walk_once(root):
        if any(_is_frame(file) for file in files):
            name = below.as_posix()
            at_root = below == Path()
            scenes.append(Scene(Path(os.path.abspath(root)).name, "") if at_root else Scene(name, name))
    return sorted(scenes, key=lambda scene: (_natural(scene.name), scene.name))


def look_into(scene: Scene, root: Path) -> Readings:
    """The readings of a scene. Names and lengths of files are looked at, nothing else.

    Raises
    ------
    InputError
        The folder cannot be listed.
    """
    try:
        with os.scandir(root / scene.folder) as entries:
            frames = sorted((entry for entry in entries if _is_frame(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    found = Readings([], [], [])
    for entry in frames:
        time = _time(entry.name)
        reason = _NO_TIME.format(entry.name[0], entry.name[-4:]) if time is None else _fault(entry)
        if time is None or reason:
            shown = entry.name if entry.name.isprintable() else ascii(entry.name)[1:-1]
            found.left_out.append(LeftOut(f"{scene.folder}/{shown}".lstrip("/"), reason))
        else:
            (found.depth if entry.name[0] == "d" else found.rgb).append(Reading(time, entry.name))
    found.depth.sort()
    found.rgb.sort()
    return found


def nearest_in_time(depth: Sequence[Reading], rgb: Sequence[Reading]) -> list[int]:
    """For every depth frame, the place of the colour frame of the nearest time; of two, the later.

    Parameters
    ----------
    depth, rgb
        Both in the order of their times; ``rgb`` not empty.
    """
    places, at = [], 0
    for time, _ in depth:
        while at + 1 < len(rgb) and abs(rgb[at + 1].time - time) <= abs(rgb[at].time - time):
            at += 1
        places.append(at)
    return places


def place_of(scene: str) -> str:
    """The place that a scene shows: the last part of its name, without the letter that tells recordings of it apart.

    ``kitchens/kitchen_0004b`` and ``kitchen_0004a`` show ``kitchen_0004``, the name that the labelled data set has
    for both.
    """
    return _LETTER.sub("", scene.rsplit("/", 1)[-1])


def _is_frame(name: str) -> bool:
    return name[1:2] == "-" and name.endswith(_SUFFIX.get(name[:1], "\0"))


def _time(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))


def _fault(entry: os.DirEntry[str]) -> str:
    """Why a file cannot hold a frame, as far as its length tells; empty where it can."""
    try:
        if not entry.is_file():
            return "not a file"
        size = entry.stat().st_size
    except OSError as error:
        return error.strerror or str(error)
    wanted = _BYTES[entry.name[0]]
    if size == 0:
        return "empty: 0 bytes"
    if size < wanted:
        return f"truncated: {size} bytes; {wanted} wanted"
    return f"{size} bytes; {wanted} wanted" if size > wanted + HEADER_MOST else ""


def _natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which kitchen_2 comes before kitchen_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]
