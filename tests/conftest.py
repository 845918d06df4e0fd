"""Tiny inputs in the real formats, built once a session, and the real sample where it is at hand."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

import gfield
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits

from .browser import chromium, complaints, page  # noqa: F401 (fixtures)

# Machines are shared and noisy: a slow example is not a wrong one.
settings.register_profile("gfield", deadline=None)
settings.load_profile("gfield")

# A shell tells its background jobs to ignore Ctrl-C, and what is told so goes on ignoring it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL = Path(__file__).parents[2] / "shared" / "data"


def labelled_frame(seed: int) -> LabelledFrame:
    """A frame of rectangles and discs, each at one depth, inside NYU's white frame."""
    rng = np.random.default_rng(seed)
    rgb = np.full((480, 640, 3), rng.integers(60, 200, 3), np.uint8)
    depth = np.full((480, 640), 6.0, np.float32)
    label = np.full((480, 640), 1, np.uint16)
    for distance in sorted(rng.uniform(1, 5, 8), reverse=True):
        x, y, w, h = (int(v) for v in rng.integers((20, 20, 30, 30), (560, 400, 200, 160)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        where = np.zeros((480, 640), np.uint8)
        if rng.random() < 0.5:
            cv2.rectangle(where, (x, y), (x + w, y + h), 1, -1)
        else:
            cv2.circle(where, (x, y), w // 2, 1, -1)
        rgb[where > 0], depth[where > 0], label[where > 0] = colour, distance, rng.integers(2, 9)
    noise = rng.integers(-4, 5, rgb.shape, dtype=np.int16)
    rgb = np.clip(rgb.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    inside = np.zeros((480, 640), bool)
    inside[8:473, 8:631] = True
    rgb[~inside] = 255
    raw = np.where(rng.random((480, 640)) < 0.1, 0, depth).astype(np.float32)
    return LabelledFrame(rgb, depth, raw, label)


@pytest.fixture(scope="session")
def frames() -> list[LabelledFrame]:
    """Ten labelled frames."""
    return [labelled_frame(seed) for seed in range(10)]


@pytest.fixture(scope="session")
def nyu_mat(tmp_path_factory, frames) -> Path:
    """A miniature of the labelled .mat with those ten frames, and splits.mat beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("nyu")
    scenes = [f"kitchen_{index // 3:04d}" for index in range(10)]
    write_nyu_mat(folder / "nyu_depth_v2_labeled.mat", frames, scenes, ["kitchen"] * 10)
    write_splits(folder / "splits.mat", [1, 2, 3, 4, 5, 6], [7, 8, 9])
    return folder / "nyu_depth_v2_labeled.mat"


@pytest.fixture(scope="session")
def source(nyu_mat) -> gfield.Source:
    """The miniature, open."""
    return gfield.open_nyuv2(nyu_mat)


@pytest.fixture(scope="session")
def built(source, tmp_path_factory) -> Path:
    """A store of it, of two frames a shard, built in one go; not to be changed."""
    target = tmp_path_factory.mktemp("built") / "nyu.zarr"
    gfield.build_store(source, target, gfield.make_spec(source, frames_per_shard=2))
    return target


@pytest.fixture(scope="session")
def real_nyu() -> Path:
    """32 real frames of NYU Depth v2 in the .mat layout."""
    mat = REAL / "nyu" / "nyu_depth_v2_labeled.mat"
    if not mat.is_file():
        pytest.skip("the real NYU sample is not at hand")
    return mat


@pytest.fixture(scope="session")
def real_make3d() -> Path:
    """Real pairs of Make3D."""
    folder = REAL / "make3d"
    if not folder.is_dir():
        pytest.skip("the real Make3D sample is not at hand")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: networks this small are done sooner, most of all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_store(nyu_mat, tmp_path_factory) -> Path:
    """A small store with small levels; not to be changed."""
    source = gfield.open_nyuv2(nyu_mat)
    target = tmp_path_factory.mktemp("store") / "nyu.zarr"
    gfield.build_store(source, target, gfield.make_spec(source, levels_WH=[(640, 480), (160, 120), (80, 60)]))
    return target


@pytest.fixture(scope="session")
def pretrained(small_store, tmp_path_factory) -> Path:
    """A run of four steps of pre-training."""
    from .small_runs import SMALL, train

    run = tmp_path_factory.mktemp("runs") / "pretrained"
    train("pretrain", small_store, "--out", run, *SMALL, "--steps", 4)
    return run


@pytest.fixture(scope="session")
def finetuned(small_store, pretrained) -> Path:
    """A run of four steps of fine-tuning that starts from it."""
    from .small_runs import SMALL, train

    run = pretrained.with_name("finetuned")
    train("finetune", small_store, "--out", run, "--init", pretrained, "--network", "fcrn", *SMALL, "--steps", 4)
    return run
