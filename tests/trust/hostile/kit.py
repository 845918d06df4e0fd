"""What makers of hostile files start from, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfield.sample.nyu_mat import write_splits
from tests.trust.inputs import small
from tests.trust.seeds import Seed, densedepth_members, eigen_members, hdf5_seeds, jpeg_seeds, mat5_seeds, zipped

SECRET = b"SECRET of somebody else\n"


@dataclass(frozen=True)
class Kit:
    """Valid files as bytes, and a finished store.

    Attributes
    ----------
    mat, picture, png, grid
        A labelled file of two frames; a JPEG and a PNG, portrait; a depth grid of Make3D.
    members, eigen
        What is in ``nyu_data.zip`` and ``nyu_test.zip``.
    store, store_mat
        A store, and the labelled file that it was built of.
    """

    mat: bytes
    picture: bytes
    png: bytes
    grid: bytes
    members: dict[str, bytes]
    eigen: dict[str, bytes]
    store: Path
    store_mat: Path


def kit(folder: Path) -> Kit:
    """Make them."""
    made = small(folder)
    by_name: dict[str, Seed] = {seed.name: seed for seed in (*hdf5_seeds(folder), *mat5_seeds(folder), *jpeg_seeds())}
    datas = {name: by_name[name].data for name in ("gzip", "baseline", "png", "grid")}
    members, eigen = densedepth_members(), eigen_members()
    return Kit(datas["gzip"], datas["baseline"], datas["png"], datas["grid"], members, eigen, made.store, made.mat)


Arguments = Sequence[str | Path]
Make = Callable[[Kit, Path, Path], Arguments]


@dataclass(frozen=True)
class Hostile:
    """A hostile input.

    Attributes
    ----------
    make
        Writes it: ``make(kit, folder, outside)``. What it has to do with ``outside``, nobody may open. Returns the
        arguments of ``cli.py`` that hand it to the command that it is meant for.
    said
        What has to be in the message, beside no traceback and nothing that a terminal would obey.
    status
        How the command ends.
    """

    make: Make
    said: Sequence[str]
    status: int = 1


def build(kind: str, path: Path, *options: str | Path) -> Arguments:
    """The command that builds a store of an input, at its smallest."""
    level = {"make3d": "60x80"}.get(kind, "80x60")
    return ["gfield", "build", kind, path, path.parent / "x.zarr", "--level", level, *options]


def nyu(kit: Kit, folder: Path, data: bytes | None = None) -> Path:
    """A labelled file with splits.mat beside it."""
    mat = folder / "nyu.mat"
    mat.write_bytes(kit.mat if data is None else data)
    write_splits(folder / "splits.mat", [1], [2])
    return mat


def make3d(kit: Kit, folder: Path, *, picture: bytes | None = None, grid: bytes | None = None, x: str = "a") -> Path:
    """A folder of one pair."""
    root = folder / "make3d"
    root.mkdir(exist_ok=True)
    (root / f"img-{x}.jpg").write_bytes(kit.picture if picture is None else picture)
    (root / f"depth_sph_corr-{x}.mat").write_bytes(kit.grid if grid is None else grid)
    return root


def images(kit: Kit, folder: Path, data: bytes, name: str = "bad.jpg") -> Path:
    """A folder of a good picture and a bad one."""
    root = folder / "pictures"
    root.mkdir(exist_ok=True)
    (root / "good.jpg").write_bytes(kit.picture)
    (root / name).write_bytes(data)
    return root


def archive(folder: Path, members: dict[str, bytes]) -> Path:
    """An archive of them, called ``nyu_data.zip``."""
    path = folder / "nyu_data.zip"
    path.write_bytes(zipped(members))
    return path
