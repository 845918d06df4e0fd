"""The map-style data set, alone and in a DataLoader's processes."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gfield import StoreError, build_store, make_spec, open_nyuv2, open_store
from train.dataset import FrameDataset
from train.errors import TrainError

SMALL = (320, 240)
ALL = ("rgb", "gradient", "depth")


@pytest.fixture(scope="module")
def path(nyu_mat, tmp_path_factory):
    """A store of four frames a shard; not to be changed."""
    source = open_nyuv2(nyu_mat)
    target = tmp_path_factory.mktemp("dataset") / "nyu.zarr"
    build_store(source, target, make_spec(source, levels_WH=[SMALL], frames_per_shard=4))
    return target


def assert_sample(path, sample, row, arrays=ALL):
    store = open_store(path)
    assert {*sample} == {*arrays, "index"}
    for name in arrays:
        np.testing.assert_array_equal(sample[name].numpy(), store.read(f"320x240/{name}", [row])[0])


def test_samples_are_the_stores_frames(path):
    data = FrameDataset([path], ALL, SMALL, split="test")
    assert len(data) == 3
    for index, row in enumerate((6, 7, 8)):
        assert data[index]["index"] == index
        assert_sample(path, data[index], row)
    assert data[0]["rgb"].dtype == torch.uint8
    assert data[0]["gradient"].dtype == torch.float16
    with pytest.raises(IndexError):
        data[3]


def test_a_batch_is_read_in_one_go(path):
    data = FrameDataset([path, str(path)], size_WH=SMALL)
    assert len(data) == 20
    samples = data.__getitems__([12, 0, 12, 19])
    assert [sample["index"] for sample in samples] == [12, 0, 12, 19]
    for sample, row in zip(samples, (2, 0, 2, 9), strict=True):
        assert_sample(path, sample, row, ("rgb", "gradient"))
    assert samples[0]["rgb"].untyped_storage().data_ptr() == samples[3]["rgb"].untyped_storage().data_ptr()


def test_it_pickles_as_paths(path):
    data = FrameDataset([path], ALL, SMALL)
    data[4]
    pickled = pickle.dumps(data)
    assert len(pickled) < 1000
    assert_sample(path, pickle.loads(pickled)[4], 4)


def test_spawned_workers_read_each_frame_once(path):
    data = FrameDataset([path], size_WH=SMALL)
    data[0]
    loader = DataLoader(data, batch_size=3, shuffle=True, num_workers=2, multiprocessing_context="spawn")
    seen = []
    for batch in loader:
        assert batch["rgb"].shape[1:] == (240, 320, 3)
        for place, index in enumerate(batch["index"].tolist()):
            sample = {name: values[place] for name, values in batch.items()}
            assert_sample(path, sample, index, ("rgb", "gradient"))
            seen.append(index)
    assert sorted(seen) == list(range(10))


def test_what_cannot_be_read_is_said_before_the_first_frame(path, tmp_path):
    with pytest.raises(TrainError, match="no level 640x480, it has 320x240"):
        FrameDataset([path])
    with pytest.raises(TrainError, match="no label in the store, it has rgb, gradient, depth"):
        FrameDataset([path], ("rgb", "label"), SMALL)
    with pytest.raises(StoreError, match="no frame of split 'val', it has test, train, unlabeled"):
        FrameDataset([path], size_WH=SMALL, split="val")
    with pytest.raises(StoreError, match="no such store"):
        FrameDataset([tmp_path / "x.zarr"])
    with pytest.raises(TrainError, match="wanted a list of stores"):
        FrameDataset(path, size_WH=SMALL)
    shutil.copytree(path, tmp_path / "nyu.zarr")
    (tmp_path / "nyu.zarr/320x240/rgb/c/2/0/0/0").unlink()
    with pytest.raises(StoreError, match="320x240/rgb/c/2/0/0/0 is missing"):
        FrameDataset([tmp_path / "nyu.zarr"], size_WH=SMALL)
