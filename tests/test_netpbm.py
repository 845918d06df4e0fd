"""`gfield.formats.netpbm`: headers as Netpbm has them, values as libfreenect writes them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield.formats.netpbm import HEADER_MOST, pgm_bytes, ppm_bytes, read_pgm_little_endian, read_ppm
from gfield.frame import InputError

SIZE_WH = (5, 3)
RGB = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
RAW = np.random.default_rng(1).integers(0, 65536, (3, 5), np.uint16)
PPM = b"P6 5 3 255\n"
PGM = b"P5 5 3 65535\n"


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_red_green_and_blue_are_opencvs(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ppm", PPM + RGB.tobytes())
    rgb_HWC = read_ppm(path, SIZE_WH)
    np.testing.assert_array_equal(rgb_HWC, RGB)
    np.testing.assert_array_equal(rgb_HWC, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    assert rgb_HWC.dtype == np.uint8
    assert path.stat().st_size == ppm_bytes(SIZE_WH)


def test_sixteen_bits_are_little_endian_where_netpbm_has_them_big(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pgm", PGM + RAW.astype("<u2").tobytes())
    raw_HW = read_pgm_little_endian(path, SIZE_WH)
    np.testing.assert_array_equal(raw_HW, RAW)
    # OpenCV reads by the rule, as MATLAB does: hence the toolbox's swapbytes.
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).byteswap(), RAW)
    assert (raw_HW.dtype, raw_HW.dtype.isnative, raw_HW.flags.aligned) == (np.uint16, True, True)
    assert path.stat().st_size == pgm_bytes(SIZE_WH)


@given(
    gaps=st.lists(
        st.lists(st.sampled_from([b" ", b"\t", b"\n", b"\r\n", b"# 7 7 7\n", b"#\n"]), min_size=1, max_size=4),
        min_size=3,
        max_size=3,
    ),
    end=st.sampled_from([b" ", b"\n", b"\t"]),
)
def test_any_header_that_netpbm_allows(tmp_path_factory, gaps: list[list[bytes]], end: bytes) -> None:
    words = [b"P6", b"5", b"3", b"255"]
    header = b"".join(word + b"".join(gap) for word, gap in zip(words, [*gaps, [end]], strict=True))
    path = save(tmp_path_factory.getbasetemp() / "any.ppm", header + RGB.tobytes())
    np.testing.assert_array_equal(read_ppm(path, SIZE_WH), RGB)


def test_values_may_look_like_white_space(tmp_path: Path) -> None:
    data = b"\n # 1\n" * 8
    path = save(tmp_path / "x.ppm", PPM + data[:45])
    assert read_ppm(path, SIZE_WH).tobytes() == data[:45]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file; P6 5 3 255 and its values wanted"),
        (b"<html>not found</html>", "no Netpbm header in 22 bytes; P6 5 3 255"),
        (b"P6 5 3", "no Netpbm header in 6 bytes"),
        (b"P6 5 3 255", "no Netpbm header in 10 bytes"),
        (b"P6 -5 3 255\n", "no Netpbm header"),
        (b"P6 5 3 0x1\n", "no Netpbm header"),
        (b"P6 5 " + b"9" * 400 + b" 255\n", "no Netpbm header"),
        (b"P6 " + b"# long\n" * 80 + b"5 3 255\n" + RGB.tobytes(), "no Netpbm header"),
        (PGM + RAW.tobytes(), "header P5 5 3 65535; P6 5 3 255 wanted"),
        (b"P6 3 5 255\n" + RGB.tobytes(), "header P6 3 5 255; P6 5 3 255 wanted"),
        (b"P6 5 3 65535\n" + RGB.tobytes() * 2, "header P6 5 3 65535; P6 5 3 255 wanted"),
        (b"P6 99999 99999 255\n" + RGB.tobytes(), "header P6 99999 99999 255;"),
        (b"P3 5 3 255\n", "header P3 5 3 255; P6"),
        (PPM, "truncated: 11 bytes; 56 wanted by its header"),
        (PPM + RGB.tobytes()[:-1], "truncated: 55 bytes; 56 wanted"),
        (PPM + RGB.tobytes() + b"\n", "57 bytes; 56 wanted by its header"),
        (PPM + RGB.tobytes() * 20, "more bytes; 56 wanted by its header"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_ppm(save(tmp_path / "x.ppm", data), SIZE_WH)
    assert str(caught.value).startswith(f"{tmp_path / 'x.ppm'}: {message}")
    assert "\n" not in str(caught.value)


def test_eight_bits_of_grey_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pgm", b"P5 5 3 255\n" + bytes(15))
    with pytest.raises(InputError, match="header P5 5 3 255; P5 5 3 65535 wanted"):
        read_pgm_little_endian(path, SIZE_WH)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.ppm: No such file"):
        read_ppm(tmp_path / "gone.ppm", SIZE_WH)
    with pytest.raises(InputError, match="Is a directory"):
        read_ppm(tmp_path, SIZE_WH)


def test_no_more_is_read_than_a_picture_can_have(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ppm", PPM + RGB.tobytes())
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: a terabyte of zeros
    with pytest.raises(InputError, match="more bytes; 56 wanted"):
        read_ppm(path, SIZE_WH)
    assert HEADER_MOST < 1000
