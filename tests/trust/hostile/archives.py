"""Hostile archives, and arrays and lists in them."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.trust.hostile.kit import Arguments, Hostile, Kit, archive, build
from tests.trust.seeds import npy, zipped

_LIST = "data/nyu2_train.csv"
_ENTRY, _END = b"PK\1\2", b"PK\5\6"


def _bytes(change: Callable[[Kit], bytes]) -> Callable[[Kit, Path, Path], Arguments]:
    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        (folder / "nyu_data.zip").write_bytes(change(kit))
        return build("densedepth", folder / "nyu_data.zip")

    return make


def _members(**more: bytes) -> Callable[[Kit, Path, Path], Arguments]:
    """The archive with other members, by name."""
    return _bytes(lambda kit: zipped({**kit.members, **more}))


def _link(kit: Kit) -> bytes:
    stream = io.BytesIO(zipped(kit.members))
    with zipfile.ZipFile(stream, "a") as file:
        entry = zipfile.ZipInfo("data/link")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    return stream.getvalue()


def _twice(kit: Kit) -> bytes:
    data = zipped({"data/nyu2_train.csv": b"", "data/nyu2_Train.csv": b""})
    return data.replace(b"nyu2_Train", b"nyu2_train")


def _each_entry(data: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """An archive in whose directory every entry was changed in its place."""
    changed, at = bytearray(data), data.index(_ENTRY)
    while changed[at : at + 4] == _ENTRY:
        change(changed, at)
        at += 46 + sum(struct.unpack_from("<HHH", changed, at + 28))
    return bytes(changed)


def _overlapping(kit: Kit) -> bytes:
    """Every member is the first one's bytes."""
    return _each_entry(zipped(kit.members), lambda data, at: struct.pack_into("<I", data, at + 42, 0))


def _encrypted(kit: Kit) -> bytes:
    return _each_entry(zipped(kit.members), lambda data, at: struct.pack_into("<H", data, at + 8, 1))


def _lzma(kit: Kit) -> bytes:
    return _each_entry(zipped(kit.members), lambda data, at: struct.pack_into("<H", data, at + 10, 14))


def _sized(size: int) -> Callable[[Kit], bytes]:
    """Every member says that it inflates to so much."""
    return lambda kit: _each_entry(zipped(kit.members), lambda data, at: struct.pack_into("<I", data, at + 24, size))


def _counted(count: int) -> Callable[[Kit], bytes]:
    """So many members, says the end of the directory."""

    def change(kit: Kit) -> bytes:
        data = bytearray(zipped(kit.members))
        struct.pack_into("<HH", data, data.rindex(_END) + 8, count, count)
        return bytes(data)

    return change


def _end64(**lies: int) -> Callable[[Kit], bytes]:
    """A ZIP64 end that lies about the number of members, or about the directory's length or place."""

    def change(kit: Kit) -> bytes:
        data = zipped(kit.members)
        end = data.rindex(_END)
        count, length, start = (*struct.unpack_from("<H", data, end + 10), *struct.unpack_from("<II", data, end + 12))
        told = {"count": count, "length": length, "start": start, **lies}
        record = b"PK\6\6" + struct.pack(
            "<QHHIIQQQQ", 44, 45, 45, 0, 0, told["count"], told["count"], told["length"], told["start"]
        )
        return data[:end] + record + b"PK\6\7" + struct.pack("<IQI", 0, end, 1) + data[end:]

    return change


def _bomb(kit: Kit) -> bytes:
    """A picture of 4 GB less one byte in 4 MB, which deflate can reach."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    packed = b"".join(squeeze.compress(zeros) for _ in range(512)) + squeeze.flush()
    name = b"data/nyu2_train/office_out/1.jpg"
    others = {key: data for key, data in kit.members.items() if key.encode() != name}
    stream = io.BytesIO()
    crc = 0
    for _ in range(512):
        crc = zlib.crc32(zeros, crc)
    local = b"PK\3\4" + struct.pack("<HHHIIIIHH", 20, 0, 8, 0, crc, len(packed), 1 << 29, len(name), 0) + name + packed
    stream.write(local)
    with zipfile.ZipFile(stream, "a") as file:
        for key, data in others.items():
            file.writestr(key, data)
    data = bytearray(stream.getvalue())
    end = data.rindex(_END)
    entry = _ENTRY + struct.pack(
        "<HHHHIIIIHHHHHII", 20, 20, 0, 8, 0, crc, len(packed), 1 << 29, len(name), 0, 0, 0, 0, 0, 0
    )
    count, length = struct.unpack_from("<HI", data, end + 10)
    struct.pack_into("<HHI", data, end + 8, count + 1, count + 1, length + len(entry) + len(name))
    return bytes(data[:end]) + entry + name + bytes(data[end:])


def _eigen(**more: bytes) -> Callable[[Kit, Path, Path], Arguments]:
    """The archive of test frames with other arrays."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        (folder / "nyu_test.zip").write_bytes(zipped({**kit.eigen, **more}))
        return build("densedepth", archive(folder, kit.members), "--test", folder / "nyu_test.zip")

    return make


def _header(text: str, data: bytes = bytes(64)) -> bytes:
    """A ``.npy`` whose header is this text."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


class _Code:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("executed",)


def _objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([_Code()], dtype=object), allow_pickle=True)
    return stream.getvalue()


_DATA = ["nyu_data.zip"]
_RGB = "eigen_test_rgb.npy"
ARCHIVES = {
    "a name with ..": Hostile(_members(**{"data/../../outside/x": b"x"}), [*_DATA, "without '..'"]),
    "a name with .. and backslashes": Hostile(_members(**{"..\\..\\outside\\x": b"x"}), [*_DATA, "without '..'"]),
    "an absolute name": Hostile(_members(**{"/etc/cron.d/x": b"x"}), [*_DATA, "relative names"]),
    "a drive's name": Hostile(_members(**{"C:/x": b"x"}), [*_DATA, "relative names"]),
    "a name for terminals": Hostile(_members(**{"\x1b[2J\x1b]0;x\x07": b"x"}), [*_DATA, "printable"]),
    "a link": Hostile(_bytes(_link), [*_DATA, "data/link is a link"]),
    "a name twice": Hostile(_bytes(_twice), [*_DATA, "twice"]),
    "overlapping members": Hostile(_bytes(_overlapping), [*_DATA, "runs into"]),
    "encrypted members": Hostile(_bytes(_encrypted), [*_DATA, "encrypted"]),
    "members by LZMA": Hostile(_bytes(_lzma), [*_DATA, "method 14"]),
    "members of 4 GB": Hostile(_bytes(_sized(0xFFFFFFF0)), [*_DATA, "is said to hold"]),
    "members of ZIP64 sizes that are missing": Hostile(_bytes(_sized(0xFFFFFFFF)), [*_DATA, "ZIP64"]),
    "more members than there are": Hostile(_bytes(_counted(60_000)), [*_DATA, "breaks off"]),
    "2**60 members by ZIP64": Hostile(_bytes(_end64(count=1 << 60)), [*_DATA, "members"]),
    "a directory of 2**63 bytes": Hostile(_bytes(_end64(length=1 << 63)), [*_DATA, "directory"]),
    "a directory before the file": Hostile(_bytes(_end64(start=(1 << 64) - 1)), [*_DATA, "directory"]),
    "a picture of 512 MB in 500 kB": Hostile(_bytes(_bomb), [*_DATA, "holds 536870912 bytes; at most"]),
    "a list with a way out": Hostile(
        _members(**{_LIST: b"../../outside/secret,/etc/passwd\n"}), [*_DATA, "not in the archive"]
    ),
    "a list for terminals": Hostile(_members(**{_LIST: b"\x1b[2J.jpg,\x1b[0m.png\n"}), [*_DATA, "printable names"]),
    "a list of one endless line": Hostile(_members(**{_LIST: b"a" * (1 << 22)}), [*_DATA, _LIST]),
    "a list in one endless quote": Hostile(_members(**{_LIST: b'"' + b"a,\n" * (1 << 20)}), [*_DATA, _LIST]),
    "a list of names too long": Hostile(_members(**{_LIST: b"a" * 99_999 + b"," + b"b" * 99_999}), [*_DATA, _LIST]),
    "an array that is code": Hostile(
        _eigen(**{_RGB: _header("__import__('os').system('touch executed')\n")}), ["nyu_test.zip", "plain numbers"]
    ),
    "an array of objects": Hostile(_eigen(**{_RGB: _objects()}), ["nyu_test.zip", "plain numbers"]),
    "a pickle": Hostile(_eigen(**{_RGB: pickle.dumps(_Code())}), ["nyu_test.zip", "a .npy wanted"]),
    "an array of 10**4500 frames": Hostile(
        _eigen(**{_RGB: _header("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 4000 + ",480,640,3)}")}),
        ["nyu_test.zip", _RGB],
    ),
    "an array of 2**60 frames": Hostile(
        _eigen(
            **{_RGB: _header("{'descr': '|u1', 'fortran_order': False, 'shape': (1152921504606846976, 480, 640, 3)}")}
        ),
        ["nyu_test.zip", "bytes"],
    ),
    "an array of a type that is none": Hostile(
        _eigen(**{_RGB: _header("{'descr': '<f1', 'fortran_order': False, 'shape': (1, 480, 640, 3)}")}),
        ["nyu_test.zip", "plain numbers"],
    ),
    "a crop without end": Hostile(
        _eigen(**{"eigen_test_crop.npy": npy(np.array([0, 2**62, -(2**62), 1]))}),
        ["nyu_test.zip", "a part of 480 rows"],
    ),
}
