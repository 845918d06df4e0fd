"""Writes the sample: a miniature of NYU Depth v2's labelled .mat with its splits, and of Make3D's folders.

Frames are rendered by threads and written in order, a few at a time, so memory does not grow with their
number, and the files are the same bytes for any number of threads. Everything is made in a temporary folder
inside the target and moved into place at the end.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from gfield.files import temporary_name
from gfield.frame import InputError, UserError
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits
from gfield.sample.outdoor import render_street, write_pair
from gfield.sample.render import RenderedFrame, render_room
from gfield.sample.rooms import name_room
from gfield.sample.scene import CLASS_NAMES

_MAT, _SPLITS, _MAKE3D = "nyu/nyu_depth_v2_labeled.mat", "nyu/splits.mat", "make3d"
_TRAIN_SHARE = 795 / 1449  # of the official split
_SEED_STRIDE = 10_000  # scenes of one sample are numbered from seed x this, so samples share no scene

T = TypeVar("T")
R = TypeVar("R")


class SamplePaths(NamedTuple):
    """Where a sample's parts are: two files and the folder of Make3D's folders."""

    nyu_mat: Path
    splits: Path
    make3d: Path


class Shot(NamedTuple):
    """One frame to render: the seed of its room, and which camera there."""

    seed: int
    view: int


class Pair(NamedTuple):
    """One outdoor picture to render; paths are in the Make3D folder, ``depth`` is None where left out."""

    seed: int
    image: Path
    depth: Path | None


def write_sample(
    directory: Path,
    *,
    rooms: int = 48,
    views: int | None = None,
    outdoor: int = 6,
    seed: int = 0,
    threads: int | None = None,
    overwrite: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> SamplePaths:
    """Render a sample and write it in the formats of the real data sets.

    Parameters
    ----------
    directory
        Folder for ``nyu/`` and ``make3d/``; made if missing.
    rooms
        Indoor frames, 2 or more. About 55 % are for training; no room is in both splits.
    views
        Of each room, 1 to 1000, as in a walk through it; one to three by default, as in NYU's labelled set.
        The last room may have fewer, and where ``rooms`` is too small for two of them the first has.
    outdoor
        Outdoor pairs, 2 or more, a third of them for testing. One more picture has no depth, as happens.
    seed
        Another seed gives other rooms and streets: 0 or more.
    threads
        Threads to render with; as many as there are cores by default. The result does not depend on it.
    overwrite
        Replace the files of a sample that is there already.
    on_frame
        Called with the number of each frame as it is rendered: the indoor ones, then the outdoor pairs.

    Raises
    ------
    InputError
        The directory holds such files already.
    UserError
        A number is out of range.
    """
    _check_range("rooms", rooms, 2, _SEED_STRIDE)
    if views is not None:
        _check_range("views", views, 1, 1000)
    _check_range("outdoor", outdoor, 2, 1000)
    _check_range("seed", seed, 0, 2**31)
    threads = (os.cpu_count() or 1) if threads is None else threads
    _check_range("threads", threads, 1, 1024)
    present = _present(directory)
    if present and not overwrite:
        raise InputError(f"{present[0]}: exists; a folder without a sample, or overwrite, wanted")
    directory.mkdir(parents=True, exist_ok=True)
    scratch = temporary_name(directory)
    report = on_frame or (lambda _number: None)
    cv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the threads here share the cores; OpenCV's own would only get in their way
    try:
        _write_nyu(scratch, plan_rooms(rooms, seed, views), threads, report)
        _write_make3d(scratch / _MAKE3D, outdoor, seed, threads, lambda number: report(rooms + number))
        _publish(scratch, directory)
    finally:
        cv2.setNumThreads(cv_threads)
        shutil.rmtree(scratch, ignore_errors=True)
    return SamplePaths(directory / _MAT, directory / _SPLITS, directory / _MAKE3D)


class RoomPlan(NamedTuple):
    """The indoor frames of a sample, and the 1-based frame numbers of its two splits."""

    shots: list[Shot]
    train: list[int]
    test: list[int]


def plan_rooms(rooms: int, seed: int, views: int | None = None) -> RoomPlan:
    """Plan ``rooms`` indoor frames, ``views`` of each room or one to three of them."""
    rng = np.random.default_rng((5, seed))
    sizes = _views_of_rooms(rooms, views, rng)
    shots = [Shot(seed * _SEED_STRIDE + room, view) for room, size in enumerate(sizes) for view in range(size)]
    wanted = round(_TRAIN_SHARE * rooms)
    train_rooms: set[int] = set()
    frames = 0
    for room in rng.permutation(len(sizes)):
        if not train_rooms or (frames + sizes[room] <= wanted and len(train_rooms) < len(sizes) - 1):
            train_rooms.add(seed * _SEED_STRIDE + int(room))
            frames += sizes[room]
    numbers = range(1, rooms + 1)
    train = [number for number, shot in zip(numbers, shots, strict=True) if shot.seed in train_rooms]
    test = [number for number, shot in zip(numbers, shots, strict=True) if shot.seed not in train_rooms]
    return RoomPlan(shots, train, test)


def _views_of_rooms(frames: int, views: int | None, rng: np.random.Generator) -> list[int]:
    """How many views each room has; ``frames`` in all, of two rooms at least, for two splits."""
    if views is not None:
        views = min(views, frames - 1)
        rest = frames % views
        return [views] * (frames // views) + [rest] * (rest > 0)
    sizes = [1, 1]
    while sum(sizes) < frames:
        sizes.append(min(int(rng.integers(1, 4)), frames - sum(sizes)))
    rng.shuffle(sizes)
    return sizes


def plan_pairs(outdoor: int, seed: int) -> list[Pair]:
    """The outdoor pictures of a sample, with names as in Make3D; the last one has no depth.

    The last training pair is named as the odd ones of Make3D are: the picture's name starts with ``10.21``,
    that of its depth does not.
    """
    rng = np.random.default_rng((6, seed))
    tests = max(1, outdoor // 3)
    pairs = []
    for number in range(outdoor + 1):
        degrees = int(rng.integers(0, 360))
        name = f"op{number + 1}-p-{degrees:03d}t000"
        if number % 2 == 0:
            name = f"060705-17.{10 + number % 50}.{14 + number // 50}-p-{degrees:03d}t000"
        is_test = number >= outdoor - tests
        pictured = name
        if number == outdoor - tests - 1:
            name = f"op{number + 1}-p-{degrees:03d}t000"
            pictured = f"10.21{name}"
        image = Path("Test134" if is_test else "Train400Img") / f"img-{pictured}.jpg"
        depth = Path("Gridlaserdata" if is_test else "Train400Depth") / f"depth_sph_corr-{name}.mat"
        pairs.append(Pair(seed * _SEED_STRIDE + number, image, depth if number < outdoor else None))
    return pairs


def _write_nyu(scratch: Path, plan: RoomPlan, threads: int, report: Callable[[int], None]) -> None:
    names = [name_room(shot.seed) for shot in plan.shots]
    (scratch / _MAT).parent.mkdir(parents=True)
    with closing(_in_order(lambda shot: render_room(*shot), plan.shots, threads)) as frames:
        write_nyu_mat(
            scratch / _MAT,
            _labelled(frames, report),
            [scene for scene, _ in names],
            [scene_type for _, scene_type in names],
            class_names=CLASS_NAMES,
        )
    write_splits(scratch / _SPLITS, plan.train, plan.test)


def _labelled(frames: Iterable[RenderedFrame], report: Callable[[int], None]) -> Iterator[LabelledFrame]:
    for number, frame in enumerate(frames):
        report(number)  # before the yield: whoever takes the last frame need not come back
        yield LabelledFrame(frame.rgb_HWC, frame.depth_HW, frame.raw_depth_HW, frame.label_HW)


def _write_make3d(folder: Path, outdoor: int, seed: int, threads: int, report: Callable[[int], None]) -> None:
    pairs = plan_pairs(outdoor, seed)
    for pair in pairs:
        (folder / pair.image).parent.mkdir(parents=True, exist_ok=True)
        if pair.depth is not None:
            (folder / pair.depth).parent.mkdir(parents=True, exist_ok=True)

    def make(pair: Pair) -> None:
        write_pair(render_street(pair.seed), folder / pair.image, pair.depth and folder / pair.depth)

    with closing(_in_order(make, pairs, threads)) as made:
        for number, _ in enumerate(made):
            if number < outdoor:
                report(number)


def _in_order(function: Callable[[T], R], items: Sequence[T], threads: int) -> Generator[R, None, None]:
    """``map`` by threads, at most two results a thread ahead of the consumer."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _present(directory: Path) -> list[Path]:
    """The files that make up a sample, where they are there already."""
    files = [path for name in (_MAT, _SPLITS) if (path := directory / name).exists()]
    for pattern in ("*/img-*.jpg", "*/depth_sph_corr-*.mat"):
        files += sorted((directory / _MAKE3D).glob(pattern))
    return files


def _publish(scratch: Path, directory: Path) -> None:
    """Take an old sample's files away, and move the new ones to their places."""
    for old in _present(directory):
        old.unlink()
    for new in sorted(path for path in scratch.rglob("*") if path.is_file()):
        place = directory / new.relative_to(scratch)
        place.parent.mkdir(parents=True, exist_ok=True)
        new.replace(place)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UserError(f"{name} is {value}; {least} to {most} wanted")
