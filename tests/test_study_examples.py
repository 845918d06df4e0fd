"""Pictures of predictions, by networks that are known to the last pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

import gfield
from train.errors import TrainError
from train.study.examples import SCALE_W, TILE_WH, png_bytes, read_tiles, write_examples

SIZE_WH = (80, 60)


class Constant(torch.nn.Module):
    """Predicts one depth everywhere, at half the size, and remembers in which mode it was asked."""

    def __init__(self, metres):
        super().__init__()
        self.metres, self.modes = metres, []

    def predict(self, rgb_N3HW):
        self.modes.append(self.training)
        assert 0 <= rgb_N3HW.min() <= rgb_N3HW.max() <= 1
        return torch.full((len(rgb_N3HW), 1, rgb_N3HW.shape[2] // 2, rgb_N3HW.shape[3] // 2), self.metres)


@pytest.fixture(scope="module")
def store(small_store):
    return gfield.open_store(small_store)


def written(net, store, folder, rows=(6, 7, 8)):
    paths = write_examples(net, store, list(rows), folder, size_WH=SIZE_WH)
    assert paths == [folder / f"{number}.png" for number in range(len(rows))]
    return [read_tiles(path) for path in paths]


def test_a_picture_is_rgb_truth_prediction_and_scale(store, tmp_path):
    net = Constant(3.0).train()
    tiles = written(net, store, tmp_path / "a" / "cell")
    assert len(tiles) == 3
    for row, tile in zip((6, 7, 8), tiles, strict=True):
        assert tile.rgb.shape == tile.truth.shape == tile.prediction.shape == (TILE_WH[1], TILE_WH[0], 3)
        assert tile.scale.shape == (TILE_WH[1], SCALE_W, 3)
        (rgb_hwC,) = store.read("80x60/rgb", [row])
        small = cv2.resize(tile.rgb, SIZE_WH, interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(float) - rgb_hwC).mean() < 4
    assert net.modes == [False] * 3
    assert net.training


def test_near_is_bright_and_far_is_dark_in_truth_and_prediction(store, tmp_path):
    (tile,) = written(Constant(1.5), store, tmp_path / "near", rows=[6])
    (depth_hw,) = store.read("80x60/depth", [6])
    depth_HW = cv2.resize(depth_hw, TILE_WH, interpolation=cv2.INTER_NEAREST)
    light_HW = cv2.cvtColor(np.ascontiguousarray(tile.truth), cv2.COLOR_RGB2GRAY)
    # Every depth has one lightness, and what is farther is darker.
    lights = [np.unique(light_HW[depth_HW == metres]).tolist() for metres in np.unique(depth_HW)]
    assert all(len(light) == 1 for light in lights)
    assert sorted(lights, reverse=True) == lights
    assert len(lights) > 3
    (far,) = written(Constant(5.0), store, tmp_path / "far", rows=[6])
    assert tile.prediction.mean() > far.prediction.mean() + 40
    assert np.ptp(tile.prediction.reshape(-1, 3), axis=0).max() == 0


def test_all_networks_of_a_store_have_one_scale(store, tmp_path):
    one, other = (written(Constant(metres), store, tmp_path / str(metres)) for metres in (0.2, 9.0))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.truth, second.truth)
        np.testing.assert_array_equal(first.scale, second.scale)
    # Beyond the scale, a prediction has the colour of its end.
    depths = store.read("80x60/depth", [6, 7, 8])
    far = written(Constant(float(depths.max())), store, tmp_path / "far")
    np.testing.assert_array_equal(far[0].prediction, other[0].prediction)


def test_pictures_are_the_same_bytes_again(store, tmp_path):
    written(Constant(2.0), store, tmp_path / "a")
    written(Constant(2.0), store, tmp_path / "b")
    written(Constant(2.0), store, tmp_path / "b")
    assert [(tmp_path / "a" / f"{n}.png").read_bytes() for n in range(3)] == [
        (tmp_path / "b" / f"{n}.png").read_bytes() for n in range(3)
    ]
    assert len([*(tmp_path / "b").iterdir()]) == 3


def test_no_depth_is_grey(real_make3d, tmp_path):
    """Make3D's pictures stand upright, and its laser leaves holes."""
    source = gfield.open_make3d(real_make3d)
    gfield.build_store(source, tmp_path / "m.zarr", gfield.make_spec(source, levels_WH=[(60, 80)]))
    store = gfield.open_store(tmp_path / "m.zarr")
    (path,) = write_examples(Constant(20.0), store, [0], tmp_path / "x", size_WH=(60, 80))
    tile = read_tiles(path)
    assert tile.rgb.shape == (144, 108, 3)
    (depth_hw,) = store.read("60x80/depth", [0])
    grey = (tile.truth == 96).all(-1).mean()
    assert grey == pytest.approx((~np.isfinite(depth_hw) | (depth_hw <= 0)).mean(), abs=0.02)


def test_slips_are_told_in_one_line(store, tmp_path):
    with pytest.raises(TrainError, match="no level 90x70"):
        write_examples(Constant(1.0), store, [0], tmp_path, size_WH=(90, 70))
    (tmp_path / "file").touch()
    with pytest.raises(TrainError, match="wanted a folder that can be written"):
        write_examples(Constant(1.0), store, [0], tmp_path / "file", size_WH=SIZE_WH)
    with pytest.raises(TrainError, match="No such file"):
        read_tiles(tmp_path / "0.png")
    for number, data in enumerate((b"", b"text", png_bytes(np.zeros((4, SCALE_W + 4, 3), np.uint8)))):
        (tmp_path / f"{number}.png").write_bytes(data)
        with pytest.raises(TrainError, match="wanted a PNG of three tiles"):
            read_tiles(tmp_path / f"{number}.png")
