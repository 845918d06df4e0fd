"""Hostile MATLAB 7.3 files: that is HDF5, which has ways out of a file, and promises of any size."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.trust.hostile.kit import Arguments, Hostile, Kit, build, nyu

Change = Callable[[h5py.File, Path], None]
_FRAME = (2, 3, 640, 480)


def _changed(change: Change) -> Callable[[Kit, Path, Path], Arguments]:
    """A labelled file in which something was changed by HDF5's own means."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        mat = nyu(kit, folder)
        with h5py.File(mat, "r+") as file:
            change(file, outside)
        return build("nyu", mat)

    return make


def _external_storage(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file.create_dataset("images", _FRAME, "u1", external=[(os.fsencode(outside / "secret"), 0, h5py.h5f.UNLIMITED)])


def _external_link(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink(str(outside / "secret"), "/images")


def _soft_link(file: h5py.File, outside: Path) -> None:
    file.move("images", "elsewhere")
    file["images"] = h5py.SoftLink("/elsewhere")


def _link_loop(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file["images"], file["more"] = h5py.SoftLink("/more"), h5py.SoftLink("/images")


def _virtual(file: h5py.File, outside: Path) -> None:
    del file["images"]
    layout = h5py.VirtualLayout(_FRAME, "u1")
    layout[:] = h5py.VirtualSource(str(outside / "secret"), "images", _FRAME)
    file.create_virtual_dataset("images", layout)


def _group_for_a_set(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file.create_group("images")["images"] = file["/"]  # a hard link up: groups within groups without end


def _type_named_as_a_set(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file["images"] = np.dtype("u1")


def _many_frames(file: h5py.File, outside: Path) -> None:
    del file["images"], file["depths"]
    file.create_dataset("images", (1 << 40, 3, 640, 480), "u1", chunks=(1, 3, 640, 480))
    file.create_dataset("depths", (1 << 40, 640, 480), "f4", chunks=(1, 640, 480))


def _large_chunks(file: h5py.File, outside: Path) -> None:
    del file["images"]
    file.create_dataset("images", (2000, 3, 640, 480), "u1", chunks=(2000, 3, 640, 480), compression="gzip")


def _gzip_bomb(file: h5py.File, outside: Path) -> None:
    squeeze = zlib.compressobj(9)
    nothing = bytes(1 << 20)
    bomb = b"".join(squeeze.compress(nothing) for _ in range(1024)) + squeeze.flush()  # a gibibyte in a megabyte
    file["images"].id.write_direct_chunk((0, 0, 0, 0), bomb)


def _unknown_filter(file: h5py.File, outside: Path) -> None:
    del file["images"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, 3, 640, 480))
    plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"images", h5py.h5t.STD_U8LE, h5py.h5s.create_simple(_FRAME), plist)


def _unprintable_name(file: h5py.File, outside: Path) -> None:
    file.move("images", "\x1b[2J\x1b]0;owned\x07im\nages")


def _long_string(file: h5py.File, outside: Path) -> None:
    references = file["#refs#"]
    text = references.create_dataset("bomb", (1 << 34, 1), "<u2", chunks=(1 << 20, 1), compression="gzip")
    file["scenes"][0, 0] = text.ref


def _far_string(file: h5py.File, outside: Path) -> None:
    text = file["#refs#"].create_dataset("x", (8, 1), "<u2", external=[(os.fsencode(outside / "secret"), 0, 16)])
    file["scenes"][0, 0] = text.ref


def _references_to_nowhere(kit: Kit, folder: Path, outside: Path) -> Arguments:
    mat = nyu(kit, folder)
    with h5py.File(mat) as file:
        place, count = file["scenes"].id.get_offset(), file["scenes"].size
    data = bytearray(mat.read_bytes())
    data[place : place + 8 * count] = struct.pack("<Q", len(data) * 8 + 7) * count
    mat.write_bytes(data)
    return build("nyu", mat)


def _cut(kit: Kit, folder: Path, outside: Path) -> Arguments:
    return build("nyu", nyu(kit, folder, kit.mat[: len(kit.mat) // 2]))


def _not_at_all(kit: Kit, folder: Path, outside: Path) -> Arguments:
    return build("nyu", nyu(kit, folder, b"<!DOCTYPE html><script>\x1b[31m" * 100))


def _pipe(kit: Kit, folder: Path, outside: Path) -> Arguments:
    os.mkfifo(folder / "nyu.mat")
    return build("nyu", folder / "nyu.mat")


def _device(kit: Kit, folder: Path, outside: Path) -> Arguments:
    (folder / "nyu.mat").symlink_to("/dev/zero")
    return build("nyu", folder / "nyu.mat")


HDF5 = {
    "external storage": Hostile(_changed(_external_storage), ["nyu.mat", "data in the file itself wanted"]),
    "external link": Hostile(_changed(_external_link), ["nyu.mat", "link"]),
    "soft link": Hostile(_changed(_soft_link), ["nyu.mat", "link"]),
    "links in a circle": Hostile(_changed(_link_loop), ["nyu.mat", "link"]),
    "virtual data set": Hostile(_changed(_virtual), ["nyu.mat", "data in the file itself wanted"]),
    "group for a data set": Hostile(_changed(_group_for_a_set), ["nyu.mat", "a data set wanted"]),
    "type for a data set": Hostile(_changed(_type_named_as_a_set), ["nyu.mat", "a data set wanted"]),
    "2**40 frames": Hostile(_changed(_many_frames), ["nyu.mat", "frames; at most"]),
    "chunks of 2 GB": Hostile(_changed(_large_chunks), ["nyu.mat", "bytes; at most"]),
    "a gzip bomb": Hostile(_changed(_gzip_bomb), ["nyu.mat", "frame 0", "inflate"]),
    "an unknown filter": Hostile(_changed(_unknown_filter), ["nyu.mat", "filter 31999"]),
    "a variable's name is for terminals": Hostile(_changed(_unprintable_name), ["nyu.mat", "no variable images"]),
    "a string of 32 GiB": Hostile(_changed(_long_string), ["nyu.mat", "letters long; at most"]),
    "a string in another file": Hostile(_changed(_far_string), ["nyu.mat", "data in the file itself wanted"]),
    "references to nowhere": Hostile(_references_to_nowhere, ["nyu.mat", "HDF5 cannot read it"]),
    "half a file": Hostile(_cut, ["nyu.mat", "truncated"]),
    "a web page": Hostile(_not_at_all, ["nyu.mat", "HTML"]),
    "a pipe for a file": Hostile(_pipe, ["nyu.mat", "not a regular file"]),
    "a device for a file": Hostile(_device, ["nyu.mat", "not a regular file"]),
}
