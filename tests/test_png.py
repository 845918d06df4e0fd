"""`gfield.formats.png`, `picture`, `orientation`: PNG by hand and by Pillow, pictures turned as OpenCV turns them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gfield.formats.jpeg import decode_jpeg, jpeg_size
from gfield.formats.orientation import upright, upright_size
from gfield.formats.picture import decode_picture, picture_size, read_picture
from gfield.formats.png import decode_png_grey, decode_png_rgb, png_header
from gfield.frame import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (6, 5), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 5)).astype(np.uint16)
RGB = RNG.integers(0, 256, (6, 5, 3), np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour_type: int, rows: list[bytes], *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join([SIGNATURE, header, *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def by_pillow(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png", **options)
    return stream.getvalue()


GREY_PNG = png(5, 6, 8, 0, [row.tobytes() for row in GREY])
DEEP_PNG = png(5, 6, 16, 0, [row.astype(">u2").tobytes() for row in DEEP])
RGB_PNG = png(5, 6, 8, 2, [row.tobytes() for row in RGB])


def test_depth_keeps_its_values():
    eight, sixteen = decode_png_grey(GREY_PNG, "x", 8), decode_png_grey(DEEP_PNG, "x", 16)
    assert (eight.dtype, sixteen.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(eight, GREY)
    np.testing.assert_array_equal(sixteen, DEEP)
    assert str(png_header(DEEP_PNG, "x")) == "16-bit grey"


@pytest.mark.parametrize(
    ("data", "bits", "said"),
    [
        (GREY_PNG, 16, "8-bit grey PNG; 16-bit grey wanted"),
        (DEEP_PNG, 8, "16-bit grey PNG; 8-bit grey wanted"),
        (RGB_PNG, 8, "8-bit RGB PNG; 8-bit grey wanted"),
        (by_pillow(Image.fromarray(RGB).quantize(8)), 8, "PNG; 8-bit grey wanted"),
    ],
)
def test_another_depth_is_refused(data, bits, said):
    with pytest.raises(InputError, match=said):
        decode_png_grey(data, "x.png", bits)


PICTURES = {
    "RGB": (RGB_PNG, RGB),
    "grey": (GREY_PNG, np.repeat(GREY[..., None], 3, 2)),
    "opaque alpha": (by_pillow(Image.fromarray(np.dstack([RGB, np.full((6, 5), 255, np.uint8)]))), RGB),
    "palette": (by_pillow(Image.fromarray(RGB // 128 * 255).quantize(8)), RGB // 128 * 255),
    "one bit": (by_pillow(Image.fromarray(GREY > 99)), np.repeat((GREY > 99)[..., None] * np.uint8(255), 3, 2)),
}


@pytest.mark.parametrize("case", PICTURES)
def test_pictures_are_rgb(case):
    data, wanted = PICTURES[case]
    seen = decode_png_rgb(data, "x")
    np.testing.assert_array_equal(seen, wanted)
    assert (seen.dtype, seen.flags.c_contiguous) == (np.dtype(np.uint8), True)


def test_transparent_and_deep_pictures_are_refused():
    alpha = by_pillow(Image.fromarray(np.dstack([RGB, GREY])))
    with pytest.raises(InputError, match="RGB with alpha PNG with transparent pixels; opaque ones wanted"):
        decode_png_rgb(alpha, "x")
    with pytest.raises(InputError, match="16-bit grey PNG; 8 bits wanted"):
        decode_png_rgb(DEEP_PNG, "x")


@pytest.mark.parametrize(
    ("data", "key"),
    [(RGB_PNG, RGB[2, 3]), (GREY_PNG, GREY[2, 3:4]), (by_pillow(Image.fromarray(GREY > 99)), np.ones(1))],
)
def test_a_transparent_colour_is_refused_where_a_pixel_has_it(data, key):
    def with_key(colour) -> bytes:
        return data[:33] + chunk(b"tRNS", np.asarray(colour, ">u2").tobytes()) + data[33:]

    with pytest.raises(InputError, match="PNG with transparent pixels; opaque ones wanted"):
        decode_png_rgb(with_key(key), "x")
    unused = next(value for value in range(256) if value not in RGB and value not in GREY and value > 1)
    np.testing.assert_array_equal(decode_png_rgb(with_key(np.full(len(key), unused)), "x"), decode_png_rgb(data, "x"))


def test_chunks_that_make_no_pixel_are_not_shown_to_libpng(capfd):
    odd = chunk(b"iCCP", b"odd\0\0" + zlib.compress(b"no profile")) + chunk(b"gAMA", struct.pack(">I", 0))
    np.testing.assert_array_equal(decode_png_rgb(RGB_PNG[:33] + odd + RGB_PNG[33:], "x"), RGB)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [RGB_PNG, by_pillow(Image.fromarray(np.tile(RGB, (9, 9, 1))))])
def test_any_changed_or_missing_byte_is_told(data):
    wanted = decode_png_rgb(data, "x")
    for at in range(0, len(data), 3):
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 0x21]) + data[at + 1 :]):
            with pytest.raises(InputError, match=r"^x\.png: .*(wanted)"):
                decode_png_rgb(bad, "x.png")
    np.testing.assert_array_equal(decode_png_rgb(data + b"what follows the end", "x"), wanted)


def test_pixels_that_are_missing_behind_sound_checksums_are_told():
    with pytest.raises(InputError, match="OpenCV cannot decode it; a whole PNG wanted"):
        decode_png_rgb(png(5, 6, 8, 2, [row.tobytes() for row in RGB[:3]]), "x")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ((60_000, 60_000, 8, 2, 0, 0, 0), "60000 x 60000 pixels; 1 to 64000000 in all wanted"),
        ((0, 6, 8, 2, 0, 0, 0), "0 x 6 pixels"),
        ((5, 6, 4, 2, 0, 0, 0), "colour type 2 with 4 bits"),
        ((5, 6, 8, 5, 0, 0, 0), "colour type 5"),
        ((5, 6, 8, 2, 1, 0, 0), "a standard PNG wanted"),
    ],
)
def test_headers_that_cannot_be_are_refused_before_pixels_are_made(header, said):
    data = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + RGB_PNG[33:]
    for function in (png_header, decode_png_rgb):
        with pytest.raises(InputError, match=said):
            function(data, "x")


def exif(orientation: int) -> bytes:
    """A TIFF block with one entry."""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def jpeg_of(rgb_HWC: np.ndarray, orientation: int) -> bytes:
    data = cv2.imencode(".jpg", rgb_HWC[..., ::-1])[1].tobytes()
    block = b"Exif\0\0" + exif(orientation)
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]


@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_opencv_turns_them(tmp_path: Path, orientation: int):
    picture = cv2.resize(RGB, (40, 24))
    data = jpeg_of(picture, orientation)
    as_shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_jpeg(data, "x", turn=True), as_shown)
    assert jpeg_size(data, "x", turn=True) == as_shown.shape[1::-1]
    turned = png(40, 24, 8, 2, [row.tobytes() for row in picture], chunk(b"eXIf", exif(orientation)))
    as_shown = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_picture(turned, "x"), as_shown)
    path = tmp_path / "named-wrongly.jpg"
    path.write_bytes(turned)
    np.testing.assert_array_equal(read_picture(path), as_shown)
    assert picture_size(path) == as_shown.shape[1::-1]
    if orientation not in (0, 1, 9):
        with pytest.raises(InputError, match=f"EXIF orientation {orientation}"):
            decode_jpeg(data, "x")


def test_orientations_are_the_eight_of_exif():
    """Where the pixel that is stored first, and the one right of it, are shown (row and column)."""
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0], stored[0, 1] = 1, 2
    shown = {
        1: ((0, 0), (0, 1)), 2: ((0, 2), (0, 1)), 3: ((1, 2), (1, 1)), 4: ((1, 0), (1, 1)),
        5: ((0, 0), (1, 0)), 6: ((0, 1), (1, 1)), 7: ((2, 1), (1, 1)), 8: ((2, 0), (1, 0)),
    }  # fmt: skip
    for orientation, places in shown.items():
        picture = upright(stored, orientation)[..., 0]
        assert tuple(tuple(int(v) for v in np.argwhere(picture == value)[0]) for value in (1, 2)) == places
        assert picture.shape[::-1] == upright_size((3, 2), orientation)


def test_what_is_no_picture_is_refused(tmp_path: Path):
    path = tmp_path / "x.jpg"
    for data, said in ((b"", r"begins with b'' \(0 bytes\)"), (b"GIF89a....", "begins with b'GIF89a..'")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"x\.jpg: {said}.*; a JPEG or PNG wanted"):
            read_picture(path)
    with path.open("r+b") as file:
        file.truncate(300 * 1024 * 1024)  # sparse
    for function in (read_picture, picture_size):
        with pytest.raises(InputError, match="314572800 bytes; at most 268435456 wanted"):
            function(path)
    with pytest.raises(InputError, match="gone: No such file"):
        read_picture(tmp_path / "gone")
