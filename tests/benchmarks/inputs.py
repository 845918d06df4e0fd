"""The input of the benchmarks: a .mat of any number of frames, made of the frames of a smaller one.

The compressed chunks are copied as they are, so that 1,449 real frames take seconds and cost a reader what
NYU's own file costs. The frames repeat; nothing that is measured looks for repetitions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from gfield.sample import write_sample
from gfield.sample.nyu_mat import USER_BLOCK_BYTES, write_splits

REAL_MAT = Path(__file__).parents[3] / "shared/data/nyu/nyu_depth_v2_labeled.mat"
_PICTURES = ("images", "depths")
_TEXTS = ("scenes", "sceneTypes", "rawRgbFilenames", "rawDepthFilenames")
_ROOMS = 32


class Seed(NamedTuple):
    """A small .mat that larger ones are made of: the file, what it shows, and how many frames it has."""

    mat: Path
    what: str
    frames: int


def find_seed(folder: Path, mat: Path | None = None) -> Seed:
    """The given .mat, or the real sample where it is there, or else a synthetic one, rendered into ``folder``."""
    if mat is None and REAL_MAT.is_file():
        mat = REAL_MAT
    if mat is None:
        rendered = write_sample(folder / "sample", rooms=_ROOMS, outdoor=2).nyu_mat
        return Seed(rendered, f"{_ROOMS} synthetic frames (no real ones were there)", _ROOMS)
    with h5py.File(mat, "r") as file:
        frames = len(file["images"])
        filters = f"{file['images'].compression} {file['images'].compression_opts}"
    return Seed(mat, f"{frames} frames of {mat.name}, {filters}, repeated", frames)


def tile_mat(seed: Seed, folder: Path, frames: int) -> Path:
    """Write ``frames-N/nyu_depth_v2_labeled.mat`` and its splits.mat into ``folder``, unless they are there.

    RGB and depth only: the arrays that a build reads by default.
    """
    path = folder / f"frames-{frames}" / "nyu_depth_v2_labeled.mat"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True)
    with h5py.File(seed.mat, "r") as small, h5py.File(path, "w", userblock_size=USER_BLOCK_BYTES) as large:
        for name in _PICTURES:
            _repeat_chunks(small[name], large, frames)
        small.copy("#refs#", large)
        for name in _TEXTS:
            _repeat_references(small[name], large, frames)
    with seed.mat.open("rb") as small_stream, path.open("r+b") as large_stream:
        large_stream.write(small_stream.read(USER_BLOCK_BYTES))
    train = round(frames * 795 / 1449)
    write_splits(path.with_name("splits.mat"), range(1, train + 1), range(train + 1, frames + 1))
    return path


def _repeat_chunks(small: h5py.Dataset, file: h5py.File, frames: int) -> None:
    n, *frame_shape = small.shape
    if small.chunks != (1, *frame_shape):
        raise SystemExit(f"{small.file.filename}: chunks of {small.chunks}, chunks of one frame wanted")
    large = file.create_dataset(
        small.name,
        (frames, *frame_shape),
        small.dtype,
        chunks=small.chunks,
        compression=small.compression,
        compression_opts=small.compression_opts,
        shuffle=small.shuffle,
        fletcher32=small.fletcher32,
    )
    _copy_attributes(small, large)
    rest = (0,) * len(frame_shape)
    stored = [small.id.read_direct_chunk((row, *rest)) for row in range(n)]
    for row in range(frames):
        mask, data = stored[row % n]
        large.id.write_direct_chunk((row, *rest), data, mask)


def _repeat_references(small: h5py.Dataset, file: h5py.File, frames: int) -> None:
    """A cell array of ``frames`` texts; `small`'s texts are in the file already, by the names that they had."""
    texts = [file[h5py.h5r.get_name(reference, small.file.id)].ref for reference in small[:].ravel()]
    large = file.create_dataset(small.name, (1, frames), h5py.ref_dtype)
    _copy_attributes(small, large)
    large[0, :] = [texts[row % len(texts)] for row in range(frames)]


def _copy_attributes(small: h5py.Dataset, large: h5py.Dataset) -> None:
    attributes: dict[str, Any] = dict(small.attrs)
    for name, value in attributes.items():
        large.attrs[name] = value


def scratch_folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder for inputs and outputs, on one disk, that goes when the benchmarks end."""
    return tempfile.TemporaryDirectory(prefix="gfield-bench-", dir=parent)
