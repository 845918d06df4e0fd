"""Writes a miniature of NYU Depth v2's labelled .mat and of its splits.mat, in the layout of the originals.

Same user block, axis order, variables, cell strings and attributes; any number of frames. The chunk
shape of the original is not documented, so every layout that a reader may meet can be asked for.
Nothing in the file depends on the time or the machine. Left out: ``namesToIds``, which HDF5 readers
cannot decode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from gfield.formats.matv5 import write_numeric

Chunks: TypeAlias = int | tuple[int, int, int] | None
USER_BLOCK_BYTES = 512
# Item type and MATLAB's name for it, of each variable with one entry a frame.
CLASSES = {
    "images": ("u1", "uint8"),
    "depths": ("f4", "single"),
    "rawDepths": ("f4", "single"),
    "labels": ("u2", "uint16"),
    "instances": ("u1", "uint8"),
}


class LabelledFrame(NamedTuple):
    """One upright frame of 480 rows and 640 columns.

    ``rgb_HWC`` uint8; ``depth_HW`` float32 metres without holes; ``raw_depth_HW`` float32 metres, 0 = no
    return; ``label_HW`` uint16 class numbers, 0 = unlabelled.
    """

    rgb_HWC: npt.NDArray[np.uint8]
    depth_HW: npt.NDArray[np.float32]
    raw_depth_HW: npt.NDArray[np.float32]
    label_HW: npt.NDArray[np.uint16]


def write_nyu_mat(
    path: Path,
    frames: Iterable[LabelledFrame],
    scenes: Sequence[str],
    scene_types: Sequence[str],
    *,
    class_names: Sequence[str] = ("wall", "floor", "box", "ball"),
    chunks: Chunks = 1,
    compression: Literal["gzip", "lzf"] | None = "gzip",
    compression_level: int = 1,
    shuffle: bool = False,
    fletcher32: bool = False,
) -> None:
    """Write ``len(scenes)`` frames, holding no more of them than share a chunk.

    Parameters
    ----------
    path
        The file to write; one that is there is overwritten.
    frames
        At least one frame for each entry of ``scenes``; an iterator will do.
    scenes, scene_types
        One text a frame; an empty text is written as MATLAB writes an empty string.
    class_names
        Name of each label, from label 1 on.
    chunks
        How many frames a chunk spans; or (frames, columns, rows) of a chunk that is a tile of one
        channel; or None for contiguous data, which takes no compression and no filter.
    compression, compression_level, shuffle, fletcher32
        HDF5's filters, as h5py names them; the level counts for gzip.
    """
    n = len(scenes)
    span = 1 if chunks is None else chunks if isinstance(chunks, int) else chunks[0]
    filters: dict[str, Any] = {}
    if chunks is not None:
        filters = {"compression": compression, "shuffle": shuffle, "fletcher32": fletcher32}
        if compression == "gzip":
            filters["compression_opts"] = compression_level
    with h5py.File(path, "w", userblock_size=USER_BLOCK_BYTES) as file:
        sets = {}
        for name in CLASSES:
            shape = (n, 3, 640, 480) if name == "images" else (n, 640, 480)
            sets[name] = _create(file, name, shape, chunks, filters)
        for start, group in _groups(frames, n, span):
            for name, stored in _stored(group).items():
                sets[name][start : start + len(group)] = stored
        accelerations = file.create_dataset("accelData", data=np.zeros((4, n), np.float32))
        accelerations.attrs["MATLAB_class"] = np.bytes_("single")
        _write_texts(file, scenes, scene_types, class_names)
    _write_user_block(path)


def write_splits(path: Path, train: Sequence[int], test: Sequence[int]) -> None:
    """Write splits.mat (MATLAB 5); frames are counted from 1."""
    write_numeric(
        path,
        {
            "testNdxs": np.asarray(test, np.uint16).reshape(-1, 1),
            "trainNdxs": np.asarray(train, np.uint16).reshape(-1, 1),
        },
    )


def _create(
    file: h5py.File, name: str, shape: tuple[int, ...], chunks: Chunks, filters: dict[str, Any]
) -> h5py.Dataset:
    layout: tuple[int, ...] | None = None
    if isinstance(chunks, int):
        layout = (min(chunks, shape[0]), *shape[1:])
    elif chunks is not None:
        layout = (min(chunks[0], shape[0]), *[1] * (len(shape) - 3), *chunks[1:])
    dtype, matlab_class = CLASSES[name]
    dataset = file.create_dataset(name, shape, dtype, chunks=layout, **filters)
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    return dataset


def _groups(frames: Iterable[LabelledFrame], n: int, span: int) -> Iterator[tuple[int, list[LabelledFrame]]]:
    """The first ``n`` frames, as many together as share a chunk, so that no chunk is written twice."""
    iterator = iter(frames)
    for start in range(0, n, span):
        group = list(islice(iterator, min(span, n - start)))
        if len(group) < min(span, n - start):
            raise ValueError(f"{start + len(group)} frames given, {n} wanted: one for each scene")
        yield start, group


def _stored(group: list[LabelledFrame]) -> dict[str, npt.NDArray[Any]]:
    """The variables of some frames, with the axes as HDF5 shows MATLAB's: frame, (channel,) x, y."""
    labels = np.stack([frame.label_HW.T for frame in group])
    return {
        "images": np.stack([frame.rgb_HWC.transpose(2, 1, 0) for frame in group]),
        "depths": np.stack([frame.depth_HW.T for frame in group]),
        "rawDepths": np.stack([frame.raw_depth_HW.T for frame in group]),
        "labels": labels,
        "instances": (labels > 0).astype(np.uint8),  # one instance of each class
    }


def _write_texts(
    file: h5py.File, scenes: Sequence[str], scene_types: Sequence[str], class_names: Sequence[str]
) -> None:
    numbered = list(enumerate(scenes, start=1))
    cells = {
        "scenes": scenes,
        "sceneTypes": scene_types,
        "rawRgbFilenames": [f"{scene}/r-{i:010d}.000000-{i * 2003}.ppm" for i, scene in numbered],
        "rawDepthFilenames": [f"{scene}/d-{i:010d}.000000-{i * 2003}.pgm" for i, scene in numbered],
        "names": class_names,
    }
    references = file.create_group("#refs#")
    for variable, texts in cells.items():
        cell = file.create_dataset(variable, (1, len(texts)), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[0, :] = [_write_text(references, f"{variable}{i}", text) for i, text in enumerate(texts)]


def _write_text(references: h5py.Group, name: str, text: str) -> h5py.Reference:
    if text:
        units = np.frombuffer(text.encode("utf-16-le"), "<u2").reshape(-1, 1)
        dataset = references.create_dataset(name, data=units)
        dataset.attrs["MATLAB_int_decode"] = np.int32(2)
    else:  # MATLAB stores the shape of an empty array in its place
        dataset = references.create_dataset(name, data=np.zeros(2, np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    dataset.attrs["MATLAB_class"] = np.bytes_("char")
    return dataset.ref


def _write_user_block(path: Path) -> None:
    """116 letters of text, 8 bytes for subsystem data, the version, and the mark of a little-endian file."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 ."
    with path.open("r+b") as stream:
        stream.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")
