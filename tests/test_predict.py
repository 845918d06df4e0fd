"""Pictures as people have them, and depth at their own size: read, scaled, predicted, written."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from train.depth import DepthNet, make_depth_net
from train.depth_picture import depth_picture
from train.encoders import make_encoder
from train.errors import TrainError
from train.image_io import MAX_PNG_M, prediction_stems, read_image, write_prediction
from train.predict import predict_image

pytestmark = pytest.mark.usefixtures("one_thread")


def smooth_picture(height: int = 61, width: int = 83) -> np.ndarray:
    """Unlike in every direction, and smooth enough for JPEG to keep."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 20 + y / 30)), -1).astype(np.uint8)


@pytest.fixture(scope="module")
def net() -> DepthNet:
    return make_depth_net("densedepth", make_encoder("resnet18", 0), seed=0).eval()


class DepthByRed(DepthNet):
    """Depth in metres is 1 + 8 times the red that the network is given, at half the size."""

    def __init__(self):
        super().__init__("fcrn", make_encoder("resnet18", 0), min_depth_m=0.1, max_depth_m=10, normalise=False)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, rgb_N3HW):
        self.seen.append(tuple(rgb_N3HW.shape))
        red_N1HW = rgb_N3HW[:, :1]
        return 10 / (1 + 8 * torch.nn.functional.avg_pool2d(red_N1HW, 2, ceil_mode=True))


@pytest.fixture
def by_red() -> DepthByRed:
    return DepthByRed().eval()


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_pngs_of_every_kind_are_read_as_rgb(tmp_path, mode):
    picture = Image.fromarray(smooth_picture())
    if mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture = picture.convert(mode)
    picture.save(tmp_path / "picture.png")
    colours = picture.convert("RGBA").convert("RGB") if mode != "LA" else picture.convert("L").convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / "picture.png"), np.asarray(colours))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pngs_of_16_bits_are_read_by_their_upper_8(tmp_path, channels):
    sixteen = np.random.default_rng(0).integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), sixteen)
    wanted = np.repeat(sixteen, 3, axis=2) if channels == 1 else sixteen[..., 2::-1]
    # libpng rounds some values, others cut off; half a step is no matter.
    assert np.abs(read_image(tmp_path / "deep.png").astype(int) - wanted / 257).max() <= 1


def test_jpegs_are_read_in_colour_and_in_grey(tmp_path):
    picture = Image.fromarray(smooth_picture())
    for mode in ("RGB", "L"):
        picture.convert(mode).save(tmp_path / "picture.jpg", quality=95)
        with Image.open(tmp_path / "picture.jpg") as opened:
            wanted = np.asarray(opened.convert("RGB")).astype(int)
        assert np.abs(read_image(tmp_path / "picture.jpg") - wanted).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_are_turned_as_exif_tells(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth_picture()).save(tmp_path / f"turned{suffix}", exif=exif, quality=95)
    # The table of EXIF 2.3, section 4.6.4: where the stored row 0 and column 0 are in the picture.
    stored = smooth_picture()
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]
    read = read_image(tmp_path / f"turned{suffix}")
    assert read.shape == upright.shape
    assert read.flags.c_contiguous
    assert np.abs(read.astype(int) - upright).mean() < 2


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@given(kept=st.floats(0, 0.999))
@settings(max_examples=15)
def test_a_picture_cut_off_anywhere_is_one_line(tmp_path_factory, suffix, kept):
    whole = cv2.imencode(suffix, smooth_picture())[1].tobytes()
    path = tmp_path_factory.mktemp("cut") / f"cut{suffix}"
    # JPEG's last two bytes only say that it ends.
    path.write_bytes(whole[: int(kept * (len(whole) - 2))])
    with pytest.raises(TrainError, match=f"cut{suffix}: .*wanted") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path):
    whole = bytearray(cv2.imencode(".png", smooth_picture())[1].tobytes())
    whole[len(whole) // 2] ^= 4
    (tmp_path / "flipped.png").write_bytes(whole)
    with pytest.raises(TrainError, match=r"flipped\.png: the checksum at byte \d+ is wrong"):
        read_image(tmp_path / "flipped.png")


def test_a_jpeg_with_damaged_pixels_is_refused(tmp_path):
    whole = bytearray(cv2.imencode(".jpg", smooth_picture())[1].tobytes())
    middle = (whole.index(b"\xff\xda") + len(whole)) // 2
    whole[middle : middle + 2] = b"\xff\xd3"  # a restart, where none is due; OpenCV fills in the rest
    (tmp_path / "torn.jpg").write_bytes(whole)
    with pytest.raises(TrainError, match=r"torn\.jpg: Corrupt JPEG data: .*, wanted a whole JPEG$"):
        read_image(tmp_path / "torn.jpg")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 10)])
def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(png(width, height, zlib.compress(bytes(10))))
    with pytest.raises(TrainError, match=rf"bomb\.png: {width} x {height} pixels, wanted 1 to 64000000 in all"):
        read_image(tmp_path / "bomb.png")


def test_a_jpeg_that_claims_too_many_pixels_is_refused_by_its_header(tmp_path):
    whole = bytearray(cv2.imencode(".jpg", smooth_picture())[1].tobytes())
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    (tmp_path / "bomb.jpg").write_bytes(whole)
    with pytest.raises(TrainError, match=r"bomb\.jpg: 60000 x 60000 pixels"):
        read_image(tmp_path / "bomb.jpg")


def test_a_whole_png_of_damaged_pixels_is_refused(tmp_path, capfd):
    (tmp_path / "odd.png").write_bytes(png(40, 30, b"no deflate stream"))
    with pytest.raises(TrainError, match=r"odd\.png: the pixels are damaged"):
        read_image(tmp_path / "odd.png")
    capfd.readouterr()  # OpenCV's own words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing, wanted a JPEG or PNG picture"),
        (b"GIF89a..", "begins with 47 49 46 38, wanted a JPEG or PNG picture"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x" * 13), "its first chunk is b'IDAT', wanted a PNG that begins"),
        (b"\xff\xd8\xff\xe0junk", "no readable JPEG header"),
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path, content, message):
    (tmp_path / "file.jpg").write_bytes(content)
    with pytest.raises(TrainError, match=message):
        read_image(tmp_path / "file.jpg")


def test_missing_files_folders_and_cmyk_are_one_line(tmp_path):
    with pytest.raises(TrainError, match=r"none\.png: No such file or directory$"):
        read_image(tmp_path / "none.png")
    with pytest.raises(TrainError, match=r"Is a directory$"):
        read_image(tmp_path)
    Image.fromarray(smooth_picture()).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(TrainError, match=r"print\.jpg: colours are .*CMYK|YCCK.*, wanted YCbCr, RGB, Gray"):
        read_image(tmp_path / "print.jpg")


# Predicting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size_WH", "seen_HW"),
    [
        ((640, 480), (240, 320)),
        ((320, 240), (240, 320)),
        ((4000, 3000), (240, 320)),
        ((480, 640), (320, 240)),
        ((1600, 900), (208, 370)),
        ((1, 1), (277, 277)),
        ((800, 100), (98, 784)),
    ],
)
def test_pictures_are_scaled_to_the_area_of_the_training(by_red, size_WH, seen_HW):
    rgb_HWC = np.zeros((size_WH[1], size_WH[0], 3), np.uint8)
    depth_HW = predict_image(by_red, rgb_HWC, size_WH=(320, 240))
    assert by_red.seen == [(1, 3, *seen_HW)]
    assert depth_HW.shape == rgb_HWC.shape[:2]
    assert depth_HW.dtype == np.float32


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size_HW", [(240, 320), (480, 640), (120, 160), (333, 500)])
def test_depth_lies_where_the_picture_shows_it(by_red, size_HW, mirror):
    rgb_HWC = smooth_picture(*size_HW)
    depth_HW = predict_image(by_red, rgb_HWC, size_WH=(320, 240), mirror=mirror)
    wanted_HW = 1 + rgb_HWC[..., 0] * (8 / 255)
    inside = np.s_[4:-4, 4:-4]
    step = 8 / size_HW[1]
    assert np.abs(depth_HW[inside] - wanted_HW[inside]).max() < step + 8 / 255
    assert len(by_red.seen) == 1 + mirror


def test_mirror_is_the_mean_of_both(net):
    rgb_HWC = smooth_picture(64, 96)
    plain = predict_image(net, rgb_HWC, size_WH=(96, 64))
    turned = predict_image(net, np.ascontiguousarray(rgb_HWC[:, ::-1]), size_WH=(96, 64))[:, ::-1]
    both = predict_image(net, rgb_HWC, size_WH=(96, 64), mirror=True)
    np.testing.assert_allclose(both, (plain + turned) / 2, rtol=1e-5)
    assert not np.allclose(plain, turned, rtol=1e-5)


def test_a_picture_of_the_trainings_size_is_what_the_network_predicts(net):
    rgb_HWC = smooth_picture(64, 96)
    whole = net.predict(torch.from_numpy(rgb_HWC).permute(2, 0, 1)[None] / 255)
    depth_HW = predict_image(net, rgb_HWC, size_WH=(96, 64))
    wanted = torch.nn.functional.interpolate(whole, (64, 96), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(depth_HW, wanted[0, 0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5, 3), (10, 81, 3), (900, 100, 3)])
def test_strips_are_refused(net, shape):
    with pytest.raises(TrainError, match=rf"^picture: {shape[1]} x {shape[0]} pixels, wanted sides of at most 8 to 1"):
        predict_image(net, np.zeros(shape, np.uint8), size_WH=(96, 64))


# Writing -------------------------------------------------------------------------------------------------------------


def test_a_prediction_is_written_in_millimetres_metres_and_colours(tmp_path):
    depth_HW = np.array([[0.1, 1.2344, 9.9996], [65.535, 80, np.nan]], np.float32)
    png, colour, npy = write_prediction(depth_HW, tmp_path / "room-0.5-depth")
    assert [path.name for path in (png, colour, npy)] == [
        *("room-0.5-depth.png", "room-0.5-depth-colour.png", "room-0.5-depth.npy"),
    ]
    with Image.open(png) as opened:
        assert opened.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(opened), [[100, 1234, 10000], [65535, 65535, 0]])
    np.testing.assert_array_equal(np.load(npy, allow_pickle=False), depth_HW)
    np.testing.assert_array_equal(read_image(colour), depth_picture(depth_HW))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (png, colour, npy))
    assert MAX_PNG_M == 65.535


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(TrainError, match=r"none/room\.png: No such file or directory, wanted a folder that can be"):
        write_prediction(np.ones((4, 4), np.float32), tmp_path / "none" / "room")


def test_near_is_bright_and_holes_are_grey():
    depth_HW = np.tile(np.geomspace(1, 8, 400, dtype=np.float32), (200, 1))
    depth_HW[:20, :20] = [[np.nan], [0], [-1], [np.inf]] * 5
    picture = depth_picture(depth_HW)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == 200
    assert (picture[:20, :20] == 96).all()
    lightness_W = cv2.cvtColor(picture[50:51, :400], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness_W) <= 1).all()
    assert lightness_W[0] - lightness_W[-1] > 150


def test_the_legend_shows_the_same_colours_at_its_metres():
    depth_HW = np.tile(np.geomspace(1, 8, 400, dtype=np.float32), (480, 1))
    picture = depth_picture(depth_HW)
    legend = picture[:, 400:]
    bar = legend[:, 15].astype(int)
    rows = np.flatnonzero((bar != 255).any(-1))
    # Top of the bar is far, bottom is near, and the middle of a logarithmic scale is the geometric mean.
    for row, column in ((rows[0], 399), (rows[-1], 0), (rows[len(rows) // 2], 200)):
        assert np.abs(bar[row] - picture[240, column]).max() <= 8


@given(near=st.floats(1e-3, 100), ratio=st.floats(1, 1000), height=st.integers(1, 600), width=st.integers(1, 40))
@settings(max_examples=40)
def test_any_depth_makes_a_picture(near, ratio, height, width):
    depth_HW = np.geomspace(near, near * ratio, height * width).reshape(height, width).astype(np.float32)
    picture = depth_picture(depth_HW)
    assert picture.shape[0] == height
    assert picture.shape[1] > width


def test_no_depth_at_all_is_grey():
    assert (depth_picture(np.full((5, 7), np.nan, np.float32)) == 96).all()


def test_no_two_pictures_write_to_one_place(tmp_path):
    one, other = Path("a/room.jpg"), Path("b/room.jpg")
    assert prediction_stems([one, other, one], None) == {one: Path("a/room-depth"), other: Path("b/room-depth")}
    twin = Path("a/room.png")
    stems = prediction_stems([one, twin], tmp_path)
    assert stems == {one: tmp_path / "room.jpg-depth", twin: tmp_path / "room.png-depth"}
    with pytest.raises(TrainError, match=r"a/room.jpg and b/room.jpg: one name.*--out"):
        prediction_stems([one, other], tmp_path)
