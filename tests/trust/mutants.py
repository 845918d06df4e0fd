"""Mutants of the data sets' files: whatever is in them is read as it should be, or refused in one line."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.build import build_store
from gfield.formats.jpeg import check_jpeg, read_jpeg
from gfield.formats.matv5 import read_numeric
from gfield.formats.picture import picture_size, read_picture
from gfield.frame import BadFrame, Frame, InputError, Source
from gfield.manifest import StoreError
from gfield.sources.densedepth import open_densedepth
from gfield.sources.make3d import open_make3d
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.staging import BuildError
from gfield.worker import settle_worker
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import ChildDied, in_child
from tests.trust.guard import bad_frame, outcome
from tests.trust.mutate import mutated
from tests.trust.seeds import (
    Seed,
    X,
    densedepth_members,
    eigen_members,
    hdf5_seeds,
    jpeg_seeds,
    mat5_seeds,
    zipped,
)

_QUICK, _SOAK, _SECONDS = 60, 5000, 60.0
_MOST_FRAMES = 6
HOLDS = (
    "the process lives; within 10 s and 1 GiB the file is read as it should be, or refused in one line that names it"
)


def _picked(seeds: list[Seed], rng: np.random.Generator) -> tuple[Seed, bytes]:
    """A seed, and a mutant of it."""
    seed = seeds[int(rng.integers(len(seeds)))]
    others = [other.data for other in seeds]
    return seed, mutated(seed.data, rng, others=others, hot=seed.hot, words=seed.words)


def read_all(source: Source, *names: str, known: Collection[bytes] | None = None) -> str:
    """Read the first and last frames of a source, and check each, that its arrays are known ones too; tell of bad ones.

    ``known`` are hashes of arrays.
    """
    n = len(source.names)
    if not n or {len(source.splits), len(source.scenes), *map(len, source.columns.values())} != {n}:
        raise Wrong(f"{n} names, {len(source.splits)} splits, {len(source.scenes)} scenes")
    bad = 0
    for start, stop in ((0, min(n, _MOST_FRAMES)), (max(min(n, _MOST_FRAMES), n - 2), n)):
        frames = list(_checked(source, start, stop, names, known)) if start < stop else []
        if len(frames) != stop - start:
            raise Wrong(f"{len(frames)} frames of {start}:{stop}")
        bad += sum(frames)
    return f"{'read' if not bad else 'read but for frames that were refused'}"


def _checked(
    source: Source, start: int, stop: int, names: tuple[str, ...], known: Collection[bytes] | None
) -> Iterator[bool]:
    for index, frame in enumerate(source.read(start, stop, source.provides), start):
        if frame.index != index:
            raise Wrong(f"frame {frame.index} in the place of {index}")
        if isinstance(frame, BadFrame):
            bad_frame(frame, *names)
        else:
            _check_frame(source, frame)
            if known is not None and not {_hash(array) for array in frame.arrays.values()} <= {*known}:
                raise Wrong(f"frame {index} is read otherwise than it was written")
        yield isinstance(frame, BadFrame)


def _check_frame(source: Source, frame: Frame) -> None:
    kinds = {"rgb": np.uint8, "depth": np.float32, "raw_depth": np.float32, "label": np.uint16}
    if {*frame.arrays} != {*source.provides}:
        raise Wrong(f"{sorted(frame.arrays)} in a frame, {sorted(source.provides)} promised")
    for name, array in frame.arrays.items():
        if array.dtype != kinds[name] or not array.flags.c_contiguous:
            raise Wrong(f"{name} is {array.dtype}")
        if name == "rgb" and (array.ndim != 3 or array.shape[2] != 3):
            raise Wrong(f"rgb is {array.shape}")
        if name != "rgb" and array.shape != source.depth_shape_HW:
            raise Wrong(f"{name} is {array.shape}, {source.depth_shape_HW} promised")
        if array.dtype == np.float32:
            known = array[~np.isnan(array)] if source.kind != "nyu" else array
            if not (np.isfinite(known) & (known >= 0)).all():
                raise Wrong(f"{name} is not finite or negative")


def _build(source: Source, folder: Path, *names: str) -> str:
    """Build what could be opened, at its smallest, and leave out what cannot be read."""
    width, height = source.size_WH
    spec = make_spec(source, levels_WH=[(width >> 3, height >> 3)])
    try:
        in_child(_build_skipping, source, folder / "x.zarr", spec, seconds=30)
    except (BuildError, StoreError, InputError) as error:
        if not any(name in str(error) for name in names):
            raise Wrong(f"a build that fails without a name: {error}") from error
        return "built nothing"
    except ChildDied as died:
        raise Wrong(f"the build {died}") from died
    return "built"


def _build_skipping(source: Source, target: Path, spec: Any) -> str:
    return build_store(source, target, spec, on_error="skip").root


def _seeds_of_hdf5(folder: Path) -> list[Seed]:
    settle_worker()
    return hdf5_seeds(folder)


def _hdf5(seeds: list[Seed], number: int, rng: np.random.Generator, folder: Path) -> str:
    seed, data = _picked(seeds, rng)
    mat = folder / "m.mat"
    mat.write_bytes(data)
    opened: list[Source] = []

    def read() -> str:
        opened.append(open_nyuv2(mat))
        return read_all(opened[0], "m.mat")

    told = outcome(read, folder, "m.mat")
    if opened and number % 16 == 0:
        told += f", {_build(opened[0], folder, 'm.mat')}"
    return f"{seed.name}: {told}"


def _seeds_of_mat5(folder: Path) -> tuple[list[Seed], Path, Path]:
    settle_worker()
    seeds = mat5_seeds(folder)
    (gzip, *_) = hdf5_seeds(folder)
    mat, picture = folder / "nyu.mat", folder / X[0]
    mat.write_bytes(gzip.data)
    picture.write_bytes(jpeg_seeds()[0].data)
    return seeds, mat, picture


def _mat5(prepared: tuple[list[Seed], Path, Path], number: int, rng: np.random.Generator, folder: Path) -> str:
    seeds, mat, picture = prepared
    seed, data = _picked(seeds, rng)
    splits, grid = folder / "splits.mat", folder / X[1]
    grids = seed.name.startswith("grid")
    (grid if grids else splits).write_bytes(data)

    def read() -> str:
        if grids:
            os.link(picture, folder / X[0])
            return read_all(open_make3d(folder), X[1])
        for name in ("trainNdxs", "testNdxs"):
            array = read_numeric(splits, name, max_bytes=1 << 20)
            if array.ndim < 2 or array.dtype.kind not in "biuf" or not array.dtype.isnative or array.nbytes > 1 << 20:
                raise Wrong(f"an array of {array.dtype} {array.shape}")
        # Every eighth time by way of the data set, which takes as long as 40 of these.
        return read_all(open_nyuv2(mat, splits), "splits.mat") if number % 8 == 0 else "read"

    return f"{seed.name}: {outcome(read, folder, X[1] if grids else 'splits.mat')}"


def _seeds_of_jpeg(folder: Path) -> list[Seed]:
    settle_worker()
    return jpeg_seeds()


def _jpeg(seeds: list[Seed], number: int, rng: np.random.Generator, folder: Path) -> str:
    seed, data = _picked(seeds, rng)
    if "png" in seed.name and rng.random() < 0.7:
        data = _with_crcs(data)
    path = folder / "img-x.jpg"
    path.write_bytes(data)

    def read() -> str:
        size_WH = picture_size(path)
        upright_HWC = read_picture(path)
        if upright_HWC.dtype != np.uint8 or upright_HWC.shape != (size_WH[1], size_WH[0], 3):
            raise Wrong(f"{upright_HWC.shape} for {size_WH}")
        return "read"

    def read_upright() -> str:
        size_WH = check_jpeg(path)
        rgb_HWC = read_jpeg(path)
        if rgb_HWC.dtype != np.uint8 or rgb_HWC.shape != (size_WH[1], size_WH[0], 3):
            raise Wrong(f"{rgb_HWC.shape} for {size_WH}")
        return "read"

    told = outcome(read, folder, "img-x.jpg")
    if (strict := outcome(read_upright, folder, "img-x.jpg")) == "read" and told != "read":
        raise Wrong("read as a JPEG, but not as a picture")
    return f"{seed.name}: {told}" if strict == told else f"{seed.name}: {told} as a picture, {strict} as upright JPEG"


def _with_crcs(png: bytes) -> bytes:
    """A PNG whose chunks' checksums are right, whatever is in them; as far as chunks can be told apart."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


@dataclass(frozen=True)
class Archives:
    """``nyu_data.zip`` and ``nyu_test.zip`` in a folder; by name, what is in them, archives of it; hashes of frames."""

    folder: Path
    members: dict[str, dict[str, bytes]]
    seeds: dict[str, list[Seed]]
    known: frozenset[bytes]


def _seeds_of_zip(folder: Path) -> Archives:
    settle_worker()
    all_members, all_seeds = {}, {}
    for name, members in (("nyu_data.zip", densedepth_members()), ("nyu_test.zip", eigen_members())):
        seeds = [
            Seed(f"{name} {kind}", data, ((data.index(b"PK\1\2"), len(data)), *_headers(data)), _ZIP_WORDS)
            for kind, data in (
                ("deflated", zipped(members)),
                ("stored", zipped(members, zipfile.ZIP_STORED)),
                ("zip64", zipped(members, zip64=True)),
            )
        ]
        (folder / name).write_bytes(seeds[0].data)
        all_members[name], all_seeds[name] = members, seeds
    data, test = folder / "nyu_data.zip", folder / "nyu_test.zip"
    both = [open_densedepth(data), open_densedepth(data, test)]
    frames = [frame for source in both for frame in source.read(0, len(source.names), source.provides)]
    known = {_hash(array) for frame in frames if isinstance(frame, Frame) for array in frame.arrays.values()}
    return Archives(folder, all_members, all_seeds, frozenset(known))


def _hash(array: npt.NDArray[Any]) -> bytes:
    return blake3(np.ascontiguousarray(array).view(np.uint8).reshape(-1)).digest()


_ZIP_WORDS = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"../", b"/etc/passwd", b"\xff" * 4, b"\1\0\x18\0")
_LIST_WORDS = (
    b"\r",
    b'"',
    b",",
    b"../../etc/passwd",
    b"\0",
    b"\xff\xfe",
    b"\n" * 100,
    b"data/nyu2_train/office_out/1.jpg",
)
_NPY_WORDS = (b"'<f1'", b"'|O'", b"9" * 60, b"9" * 4500, b"-1", b"()", b"(1,)", b"__import__('os')", b"True", b"'>f8'")


def _headers(data: bytes) -> list[tuple[int, int]]:
    """Where local headers are, the first few."""
    places, at = [], data.find(b"PK\3\4")
    while at >= 0 and len(places) < 6:
        places.append((at, at + 80))
        at = data.find(b"PK\3\4", at + 80)
    return places


def _zip(prepared: Archives, number: int, rng: np.random.Generator, folder: Path) -> str:
    which = ("nyu_data.zip", "nyu_test.zip")[int(rng.integers(2))]
    members, known = prepared.members[which], None
    if rng.random() < 0.5:  # an archive that somebody else has damaged: what its checksums let pass is as it was
        seed, data = _picked(prepared.seeds[which], rng)
        kind, known = seed.name, prepared.known
    else:  # an archive that is whole, of a member that is not
        name = list(members)[int(rng.integers(len(members)))]
        lists = name.endswith(".csv")
        hot = ((0, 128),) if name.endswith(".npy") else ((0, 60),) if name.endswith(".png") else ()
        part = Seed(name, members[name], hot, _LIST_WORDS if lists else _NPY_WORDS)
        changed = mutated(part.data, rng, others=list(members.values()), hot=part.hot, words=part.words)
        changed = _with_crcs(changed) if name.endswith(".png") else changed
        method = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[int(rng.integers(2))]
        data, kind = zipped({**members, name: changed}, method), f"a member of {which}"
    (folder / which).write_bytes(data)

    def read() -> str:
        if which == "nyu_data.zip":
            source = open_densedepth(folder / which, on_unreadable=("stop", "skip")[number % 2])
        else:
            source = open_densedepth(prepared.folder / "nyu_data.zip", folder / which)
        return read_all(source, which, known=known)

    return f"{kind}: {outcome(read, folder, which)}"


CAMPAIGNS = [
    Campaign(
        "mutants-hdf5", "damaged or crafted MATLAB 7.3 files", HOLDS, _QUICK, _SOAK, _seeds_of_hdf5, _hdf5, _SECONDS
    ),
    Campaign(
        "mutants-mat5", "damaged or crafted MATLAB 5 files", HOLDS, _QUICK, 4 * _SOAK, _seeds_of_mat5, _mat5, _SECONDS
    ),
    Campaign(
        "mutants-jpeg", "damaged or crafted JPEG and PNG", HOLDS, _QUICK, 4 * _SOAK, _seeds_of_jpeg, _jpeg, _SECONDS
    ),
    Campaign("mutants-zip", "damaged or crafted archives", HOLDS, _QUICK, _SOAK, _seeds_of_zip, _zip, _SECONDS),
]
