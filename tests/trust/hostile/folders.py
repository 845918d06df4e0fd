"""Hostile folders: pipes and devices where files should be, links in a circle, names that terminals obey."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.trust.hostile.kit import Arguments, Hostile, Kit, build, images, make3d
from tests.trust.hostile.pictures import _raw

_NAME = "\x1b[2J\x1b]0;owned\x07\n\u202egpj"


def _pair(put: Callable[[Path], None], name: str, x: str = "b") -> Callable[[Kit, Path, Path], Arguments]:
    """A good pair of Make3D, and one of which a file is something else."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        root = make3d(kit, folder)
        make3d(kit, folder, x=x)
        (root / name.format(x)).unlink()
        put(root / name.format(x))
        return build("make3d", root)

    return make


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _odd_pair(kit: Kit, folder: Path, outside: Path) -> Arguments:
    make3d(kit, folder, x=_NAME)
    return build("make3d", make3d(kit, folder))


def _odd_folder(kit: Kit, folder: Path, outside: Path) -> Arguments:
    root = make3d(kit, folder)
    (root / _NAME).mkdir()
    for file in [*root.glob("*.*g"), *root.glob("*.mat")]:
        file.rename(root / _NAME / file.name)
    return build("make3d", root)


def _odd_picture(kit: Kit, folder: Path, outside: Path) -> Arguments:
    root = images(kit, folder, kit.picture)
    (root / f"{_NAME}.jpg").write_bytes(kit.picture)
    (root / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(kit.picture)
    (root / f"x.{_NAME}").write_bytes(b"")
    return build("images", root, "--size", "80x60")


def _picture_pipe(kit: Kit, folder: Path, outside: Path) -> Arguments:
    root = images(kit, folder, kit.picture)
    os.mkfifo(root / "pipe.jpg")
    (root / "zero.png").symlink_to("/dev/zero")
    return build("images", root, "--size", "80x60")


def _link_loop(kit: Kit, folder: Path, outside: Path) -> Arguments:
    root = images(kit, folder, kit.picture)
    (root / "again").symlink_to(root)
    (root / "more").mkdir()
    (root / "more" / "up").symlink_to("..")
    (root / "self.jpg").symlink_to("self.jpg")
    return build("images", root, "--size", "80x60")


def _odd_scene(kit: Kit, folder: Path, outside: Path) -> Arguments:
    arguments = _raw(None, None)(kit, folder, outside)
    scene = folder / "raw" / _NAME
    scene.mkdir()
    for name in ("d-1.5-7.pgm", "r-1.5-9.ppm"):
        (scene / name).write_bytes((folder / "raw" / "den_0001a" / name).read_bytes())
    (folder / "raw" / "den_0001a" / f"d-{_NAME}.pgm").write_bytes(b"")
    return arguments


def _odd_path(kit: Kit, folder: Path, outside: Path) -> Arguments:
    path = folder / f"{_NAME}.mat"
    path.write_bytes(b"nothing")
    return build("nyu", path)


def _odd_bytes(kit: Kit, folder: Path, outside: Path) -> Arguments:
    path = folder / os.fsdecode(b"\xff\xfe.mat")
    path.write_bytes(kit.mat)
    return build("nyu", path)


def _nothing_here(kit: Kit, folder: Path, outside: Path) -> Arguments:
    return ["gfield", "info", folder / _NAME]


FOLDERS = {
    "a picture of a pair is a pipe": Hostile(_pair(os.mkfifo, "img-{}.jpg"), ["img-b.jpg: not a file"], 0),
    "a grid of a pair is a pipe": Hostile(_pair(os.mkfifo, "depth_sph_corr-{}.mat"), ["sph_corr-b.mat: not a file"], 0),
    "a picture of a pair is /dev/zero": Hostile(_pair(_zero, "img-{}.jpg"), ["img-b.jpg: not a file"], 0),
    "a grid of a pair is /dev/zero": Hostile(_pair(_zero, "depth_sph_corr-{}.mat"), ["corr-b.mat: not a file"], 0),
    "a pair whose name is for terminals": Hostile(_odd_pair, ["no printable"], 0),
    "pairs in a folder whose name is for terminals": Hostile(_odd_folder, ["no pair"]),
    "pictures whose names are for terminals": Hostile(_odd_picture, ["no printable"], 0),
    "pictures that are pipes and devices": Hostile(_picture_pipe, ["pipe.jpg: not a file", "zero.png: not a file"], 0),
    "links in a circle": Hostile(_link_loop, ["self.jpg: a link to nowhere"], 0),
    "a scene whose name is for terminals": Hostile(_odd_scene, ["no printable"], 0),
    "a file whose path is for terminals": Hostile(_odd_path, ["HDF5"]),
    "a file whose path is no UTF-8": Hostile(_odd_bytes, [".mat", "it is no UTF-8"]),
    "a store whose path is for terminals": Hostile(_nothing_here, ["no such store"]),
}
