"""`gfield.formats.jpeg`: the pixels that OpenCV gives, and a refusal where it would give fewer."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from gfield.formats.jpeg import check_jpeg, read_jpeg
from gfield.formats.orientation import jpeg_orientation
from gfield.frame import InputError


def encode(width: int = 90, height: int = 120, channels: int = 3, quality: int = 92) -> bytes:
    rng = np.random.default_rng(1)
    pixels = cv2.resize(rng.integers(0, 256, (12, 9, channels), np.uint8), (width, height))
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """The file with one more segment, straight behind the start of image."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def exif(order: str, orientation: int) -> bytes:
    """EXIF with two entries: a width, and the orientation."""
    head = b"II" if order == "<" else b"MM"
    entries = struct.pack(order + "HHIHH", 0x0100, 3, 1, 90, 0)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "HIH", 42, 8, 2) + entries + bytes(4)


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_picture_of_more_scans_than_a_camera_writes_is_refused(tmp_path: Path) -> None:
    jpeg = encode()
    scan = jpeg.index(b"\xff\xda")
    path = save(tmp_path / "x.jpg", jpeg[:-2] + jpeg[scan : scan + 20] * 200 + jpeg[-2:])
    with pytest.raises(InputError, match=r"x\.jpg: 201 scans; at most 200 wanted"):
        read_jpeg(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size_WH", [(90, 120), (1, 1), (33, 7)])
def test_pixels_are_opencvs(tmp_path: Path, size_WH: tuple[int, int], channels: int) -> None:
    path = save(tmp_path / "x.jpg", encode(*size_WH, channels))
    rgb_HWC = read_jpeg(path)
    assert check_jpeg(path) == size_WH
    np.testing.assert_array_equal(rgb_HWC, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    assert rgb_HWC.dtype == np.uint8
    assert rgb_HWC.flags.c_contiguous


def test_real_pixels_are_opencvs(real_make3d: Path) -> None:
    path = sorted(real_make3d.glob("*/*.jpg"))[0]
    assert check_jpeg(path) == (1704, 2272)
    np.testing.assert_array_equal(read_jpeg(path), cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


def test_header_behind_long_segments(tmp_path: Path) -> None:
    data = encode()
    for _ in range(3):
        data = with_segment(data, 0xE2, bytes(60_000))
    assert check_jpeg(save(tmp_path / "x.jpg", data)) == (90, 120)


def test_pixels_cut_off_or_damaged_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(300, 400)
    path = tmp_path / "x.jpg"
    for length in range(len(data) // 4, len(data), len(data) // 11):
        assert check_jpeg(save(path, data[:length])) == (300, 400)
        with pytest.raises(InputError, match=r"x\.jpg: Premature end of JPEG file; a whole JPEG wanted"):
            read_jpeg(path)
    for start in range(len(data) // 4, len(data) - 700, len(data) // 11):
        save(path, data[:start] + bytes(600) + data[start + 600 :])
        with pytest.raises(InputError, match=r"x\.jpg: Corrupt JPEG data: .*; a whole JPEG wanted"):
            read_jpeg(path)
    assert capfd.readouterr() == ("", "")  # libjpeg's own warnings stay off the user's terminal


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_turned_pictures_are_refused(tmp_path: Path, order: str, orientation: int) -> None:
    path = save(tmp_path / "x.jpg", with_segment(encode(), 0xE1, exif(order, orientation)))
    as_shown = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
    if orientation in (0, 1, 9):  # 0 and 9 are no orientations
        np.testing.assert_array_equal(read_jpeg(path), as_shown)
        return
    for function in (check_jpeg, read_jpeg):
        with pytest.raises(InputError, match=rf"EXIF orientation {orientation}; 1, pixels stored upright, wanted"):
            function(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_may_be_a_long_number_behind_fill_bytes(order: str) -> None:
    head = b"II" if order == "<" else b"MM"
    entry = struct.pack(order + "HIHHHII", 42, 8, 1, 0x0112, 4, 1, 6)
    jpeg = with_segment(encode(), 0xE1, b"Exif\0\0" + head + entry + bytes(4))
    assert jpeg_orientation(jpeg) == 6
    assert jpeg_orientation(jpeg[:2] + b"\xff\xff" + jpeg[2:]) == 6


def test_damaged_exif_tells_nothing(tmp_path: Path) -> None:
    whole = exif("<", 6)
    for length in range(len(whole) - 12):
        path = save(tmp_path / "x.jpg", with_segment(encode(), 0xE1, whole[:length]))
        assert check_jpeg(path) == (90, 120)


def test_large_sizes_are_refused_before_pixels_are_made(tmp_path: Path) -> None:
    data = bytearray(encode())
    at = data.index(b"\xff\xc0") + 5  # height and width in the frame's header
    data[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    path = save(tmp_path / "x.jpg", data)
    for function in (check_jpeg, read_jpeg):
        with pytest.raises(InputError, match="65500 x 65500 pixels; at most 64000000 in all wanted"):
            function(path)
    with path.open("r+b") as file:
        file.truncate(300 * 1024 * 1024)  # sparse
    with pytest.raises(InputError, match="314572800 bytes; at most 268435456 wanted"):
        check_jpeg(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    png = cv2.imencode(".png", np.zeros((4, 3, 3), np.uint8))[1].tobytes()
    for data in (b"", b"\xff\xd8", png, encode()[:100], b"<html>not found</html>"):
        path = save(tmp_path / "x.jpg", data)
        for function in (check_jpeg, read_jpeg):
            with pytest.raises(InputError, match=rf"x\.jpg: no readable JPEG header in {len(data)} bytes; a JPEG"):
                function(path)
    with pytest.raises(InputError, match=r"gone\.jpg: No such file"):
        check_jpeg(tmp_path / "gone.jpg")


def test_cmyk_is_refused(tmp_path: Path) -> None:
    import simplejpeg

    cmyk = np.zeros((120, 90, 4), np.uint8)
    path = save(tmp_path / "x.jpg", simplejpeg.encode_jpeg(cmyk, colorspace="CMYK"))
    with pytest.raises(InputError, match=r"colours are (CMYK|YCCK); YCbCr, RGB, Gray wanted"):
        check_jpeg(path)
