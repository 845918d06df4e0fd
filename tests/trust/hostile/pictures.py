"""Hostile JPEG, PNG and Netpbm files."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from gfield.formats.netpbm import pgm_bytes, ppm_bytes
from tests.trust.hostile.kit import Arguments, Hostile, Kit, build, images, make3d

_SOF = b"\xff\xc0"


def _picture(change: Callable[[Kit], bytes]) -> Callable[[Kit, Path, Path], Arguments]:
    """A folder of pictures, one of them bad."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        return build("images", images(kit, folder, change(kit)), "--size", "80x60")

    return make


def _portrait(change: Callable[[Kit], bytes]) -> Callable[[Kit, Path, Path], Arguments]:
    return lambda kit, folder, outside: build("make3d", make3d(kit, folder, picture=change(kit)))


def _of_size(width: int, height: int) -> Callable[[Kit], bytes]:
    """A JPEG whose header tells another size than its pixels have."""

    def change(kit: Kit) -> bytes:
        at = kit.picture.index(_SOF) + 5
        return kit.picture[:at] + struct.pack(">HH", height, width) + kit.picture[at + 4 :]

    return change


def _many_markers(kit: Kit) -> bytes:
    return kit.picture[:2] + b"\xff\xfe\0\2" * 65_000 + b"\xff\xe1\0\2" * 65_000 + kit.picture[2:]


def _cut(kit: Kit) -> bytes:
    return kit.picture[: len(kit.picture) * 2 // 3]


def _four_colours(kit: Kit) -> bytes:
    """CMYK, as far as the header tells."""
    adobe = b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0"
    frame = b"\xff\xc0\0\x14\x08\0\x78\0\x5a\4" + b"".join(bytes([n, 0x11, 0]) for n in range(1, 5))
    at = kit.picture.index(_SOF)
    length = struct.unpack_from(">H", kit.picture, at + 2)[0]
    return kit.picture[:2] + adobe + kit.picture[2:at] + frame + kit.picture[at + 2 + length :]


def _many_scans(kit: Kit) -> bytes:
    """A progressive picture of 64 million pixels, each scan of which is a few bytes long and takes all of them."""
    head = b"\xff\xd8\xff\xdb\0\x43\0" + b"\1" * 64
    head += b"\xff\xc2\0\x0b\x08" + struct.pack(">HH", 7999, 7999) + b"\1\1\x11\0"
    head += b"\xff\xc4\0\x14\x10" + b"\1" + bytes(15) + b"\0"
    scan = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + bytes(8)
    return head + scan * 3000 + b"\xff\xd9"


def _png(width: int, height: int, idat: bytes, *more: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(size: int) -> bytes:
    squeeze = zlib.compressobj(9)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)) + squeeze.flush()


def _profile_bomb(kit: Kit) -> bytes:
    return _png(8, 8, zlib.compress(bytes(25 * 8)), _chunk(b"iCCP", b"x\0\0" + _bomb(1 << 29)))


def _raw(pgm: bytes | None, ppm: bytes | None, *, long_header: int = 0) -> Callable[[Kit, Path, Path], Arguments]:
    """A scene of raw frames, whose files are as long as they have to be and begin with the bytes that are given."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        scene = folder / "raw" / "den_0001a"
        scene.mkdir(parents=True)
        for name, head, sound, length in (
            ("d-1.5-7.pgm", pgm, b"P5 640 480 65535\n", pgm_bytes((640, 480))),
            ("r-1.5-9.ppm", ppm, b"P6 640 480 255\n", ppm_bytes((640, 480))),
        ):
            (scene / name).write_bytes((sound if head is None else head).ljust(length + long_header, b"\0"))
        return build("nyu-raw", folder / "raw")

    return make


def _raw_pipe(kit: Kit, folder: Path, outside: Path) -> Arguments:
    arguments = _raw(None, None)(kit, folder, outside)
    os.mkfifo(folder / "raw" / "den_0001a" / "d-2.5-7.pgm")
    os.mkfifo(folder / "raw" / "den_0001a" / "a-2.5-7.dump")
    return arguments


_SAID = ["bad.jpg"]
PICTURES = {
    "a JPEG of 65500 x 65500": Hostile(_picture(_of_size(65500, 65500)), ["bad.jpg", "pixels; at most"]),
    "a portrait of 48000 x 64000": Hostile(_portrait(_of_size(48000, 64000)), ["img-a.jpg", "pixels; at most"]),
    "a JPEG of 0 x 0": Hostile(_picture(_of_size(0, 0)), _SAID),
    "a JPEG larger than its pixels": Hostile(_portrait(_of_size(900, 1200)), ["img-a.jpg", "whole JPEG wanted"]),
    "130,000 markers": Hostile(_picture(_many_markers), ["root hash"], 0),
    "half a scan": Hostile(_picture(_cut), ["bad.jpg", "whole JPEG wanted"]),
    "CMYK": Hostile(_picture(_four_colours), ["bad.jpg", "colours are"]),
    "3,000 scans of 64 million pixels": Hostile(_picture(_many_scans), ["bad.jpg"]),
    "a PNG of 2**31 x 2**31": Hostile(
        _picture(lambda kit: _png(2**31 - 1, 2**31 - 1, b"")), ["bad.jpg", "in all wanted"]
    ),
    "a PNG bomb": Hostile(_picture(lambda kit: _png(300, 300, _bomb(1 << 30))), ["bad.jpg"]),
    "a PNG's profile is a bomb": Hostile(_picture(_profile_bomb), ["bad.jpg"]),
    "a PNG of 200,000 chunks": Hostile(
        _picture(lambda kit: kit.png[:33] + _chunk(b"tEXt", b"a\0b") * 200_000 + kit.png[33:]), ["root hash"], 0
    ),
    "a PNG's chunk that is longer than the file": Hostile(
        _picture(lambda kit: kit.png[:33] + b"\xff\xff\xff\xf0tEXt" + kit.png[33:]), ["bad.jpg", "whole PNG wanted"]
    ),
    "neither JPEG nor PNG": Hostile(_picture(lambda kit: b"\x1b[2J\n" * 100), ["bad.jpg"]),
    "a PGM of 10**18 pixels": Hostile(_raw(b"P5 999999999 999999999 65535\n", None), ["d-1.5-7.pgm", "header"]),
    "a PGM of a negative width": Hostile(_raw(b"P5 -640 480 65535\n", None), ["d-1.5-7.pgm", "no Netpbm header"]),
    "a PPM of 10,000 digits": Hostile(_raw(None, b"P6 " + b"9" * 10_000), ["r-1.5-9.ppm", "no Netpbm header"]),
    "a PPM that is all comment": Hostile(_raw(None, b"P6\n#" + b"\x1b" * 99_999), ["r-1.5-9.ppm", "no Netpbm header"]),
    "pipes among raw frames": Hostile(_raw_pipe, ["left out", "d-2.5-7.pgm: not a file"], 0),
}
