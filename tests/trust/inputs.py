"""The small inputs that most campaigns build from: real formats, a fraction of a second a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfield.build import build_store
from gfield.frame import Source
from gfield.manifest import read_manifest
from gfield.sample.nyu_mat import LabelledFrame, write_nyu_mat, write_splits
from gfield.sources.nyuv2 import open_nyuv2
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from tests.trust.children import in_child

FRAMES, FRAMES_PER_SHARD = 6, 2
LEVELS_WH = ((160, 120), (80, 60))


@dataclass(frozen=True)
class Small:
    """A miniature of NYU's labelled file, a store built of it in one go, and what that store has to be.

    Attributes
    ----------
    folder
        Holds ``nyu_depth_v2_labeled.mat``, ``splits.mat`` and ``whole.zarr``; not to be changed.
    source, spec
        The opened file, and the spec of its store.
    root
        The root hash of the uninterrupted build.
    """

    folder: Path
    source: Source
    spec: StoreSpec
    root: str

    @property
    def mat(self) -> Path:
        """The file that is built from."""
        return self.folder / "nyu_depth_v2_labeled.mat"

    @property
    def store(self) -> Path:
        """The store of the uninterrupted build."""
        return self.folder / "whole.zarr"


def small_mat(folder: Path, frames: int = FRAMES, seed: int = 0) -> Path:
    """Write a labelled file of blocky rooms, and splits.mat beside it."""
    mat = folder / "nyu_depth_v2_labeled.mat"
    write_nyu_mat(mat, rooms(frames, seed), [f"den_{i // 2:04d}" for i in range(frames)], ["den"] * frames)
    write_splits(folder / "splits.mat", range(1, frames), [frames])
    return mat


def rooms(frames: int, seed: int) -> list[LabelledFrame]:
    """The frames that `small_mat` writes."""
    rng = np.random.default_rng(seed)
    return [_room(rng) for _ in range(frames)]


def small(folder: Path, frames: int = FRAMES, frames_per_shard: int = FRAMES_PER_SHARD) -> Small:
    """A small input, and the store of an uninterrupted build of it."""
    source = open_nyuv2(small_mat(folder, frames))
    spec = make_spec(source, levels_WH=LEVELS_WH, frames_per_shard=frames_per_shard)
    in_child(build_store, source, folder / "whole.zarr", spec)
    return Small(folder, source, spec, read_manifest(folder / "whole.zarr").root)


def _room(rng: np.random.Generator) -> LabelledFrame:
    """Rectangles at distances, each of one colour and class; pictures that compress as real ones do not."""
    rgb_HWC = np.full((480, 640, 3), rng.integers(60, 200, 3), np.uint8)
    depth_HW, label_HW = np.full((480, 640), 6, np.float32), np.full((480, 640), 1, np.uint16)
    for distance in sorted(rng.uniform(1, 5, 6), reverse=True):
        x, y, w, h = rng.integers((20, 20, 40, 40), (500, 380, 200, 160)).tolist()
        part = slice(y, y + h), slice(x, x + w)
        rgb_HWC[part], depth_HW[part], label_HW[part] = rng.integers(0, 256, 3), distance, rng.integers(2, 9)
    raw_HW = np.where(rng.random((480, 640)) < 0.01, 0, depth_HW).astype(np.float32)
    return LabelledFrame(rgb_HWC, depth_HW, raw_HW, label_HW)
