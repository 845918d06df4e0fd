"""What a store must hold, worked out without the package: by plain definitions, from what its input was written of.

And what the store's files must be: those of an uninterrupted build.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gfield.build import build_store
from gfield.field import FieldParams
from gfield.frame import Source
from gfield.manifest import read_manifest
from gfield.sample.nyu_mat import LabelledFrame
from gfield.sources.images import open_images
from gfield.sources.nyuv2 import open_nyuv2
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from tests.reference_field import sobel_field
from tests.trust.children import in_child
from tests.trust.inputs import rooms, small_mat

Array = npt.NDArray[np.generic]
FRAMES, FRAMES_PER_SHARD = 4, 2
KINDS = ("images", "nyu")
# Of each kind the largest level that is built, and the one below it.
LEVELS_WH = {"images": ((32, 24), (16, 12)), "nyu": ((80, 60), (160, 120))}


class Choice(NamedTuple):
    """The parameters of a build.

    Attributes
    ----------
    low, high
        Canny's thresholds.
    levels
        How many of `LEVELS_WH`.
    codec
        Of `gfield.codec.CODEC_NAMES`.
    label, splits
        Whether with the optional array, and with the splits; of nyu alone.
    """

    low: int
    high: int
    levels: int
    codec: str
    label: bool = False
    splits: bool = False

    def cannot_become(self, other: Choice) -> bool:
        """Whether a store of these parameters is not brought to others, since that would drop or replace something."""
        return self.codec != other.codec or self.levels > other.levels or self.label > other.label


CHOICES = {
    "images": [Choice(50, *rest) for rest in product((120, 200), (1, 2), ("lz4", "raw", "zstd"))],
    "nyu": [Choice(50, *rest) for rest in product((120, 200), (1, 2), ("lz4", "raw"), (False, True), (False, True))],
}


@dataclass(frozen=True)
class Built:
    """What an uninterrupted build makes: all files by path, and the root hash."""

    files: dict[str, bytes]
    root: str


@dataclass
class Model:
    """One kind of input in ``folder``, made by `write`, and what stores of it must be.

    What is asked for is worked out once for each choice, and kept.
    """

    kind: str
    folder: Path

    def __post_init__(self) -> None:
        self._built: dict[Choice, Built] = {}
        self._arrays: dict[tuple[str, tuple[int, int] | None], Array] = {}

    def write(self) -> None:
        """Write the input."""
        if self.kind == "nyu":
            small_mat(self.folder, FRAMES)
            (self.folder / "splits.mat").rename(self.folder / "splits-elsewhere.mat")
            return
        rng = np.random.default_rng(0)
        for number in range(FRAMES):
            rgb_HWC = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
            cv2.circle(rgb_HWC, (int(rng.integers(8, 24)), 12), 8, rng.integers(90, 255, 3).tolist(), -1)
            path = self.folder / f"pictures/room-{number // 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), rgb_HWC[..., ::-1])

    def source(self, choice: Choice) -> Source:
        """The input, opened."""
        return self._sources[choice.splits]

    @cached_property
    def _sources(self) -> dict[bool, Source]:
        if self.kind == "images":
            return {False: open_images(self.folder / "pictures", size_WH=LEVELS_WH["images"][0])}
        mat = self.folder / "nyu_depth_v2_labeled.mat"
        return {False: open_nyuv2(mat), True: open_nyuv2(mat, self.folder / "splits-elsewhere.mat")}

    def spec(self, choice: Choice) -> StoreSpec:
        """The spec of a choice."""
        settings: dict[str, Any] = {"codec": choice.codec, "field": FieldParams(choice.low, choice.high)}
        return make_spec(
            self.source(choice),
            levels_WH=LEVELS_WH[self.kind][: choice.levels],
            optional=("label",) if choice.label else (),
            frames_per_shard=FRAMES_PER_SHARD,
            **settings,
        )

    def built(self, choice: Choice, scratch: Path) -> Built:
        """What an uninterrupted build of a choice makes, in a process of its own."""
        if choice not in self._built:
            target = scratch / "uninterrupted.zarr"
            in_child(build_store, self.source(choice), target, self.spec(choice))
            self._built[choice] = Built(files_of(target), read_manifest(target).root)
            shutil.rmtree(target)
        return self._built[choice]

    def array(self, choice: Choice, key: str) -> Array:
        """An array of a store, by plain definitions."""
        thresholds = (choice.low, choice.high) if key.endswith("/gradient") else None
        if (key, thresholds) not in self._arrays:
            level, _, name = key.partition("/")
            width, height = map(int, level.split("x"))
            frames = [self._frame(choice, name, (width, height), number) for number in range(FRAMES)]
            self._arrays[key, thresholds] = np.stack(frames)
        return self._arrays[key, thresholds]

    def text(self, choice: Choice, column: str) -> list[str]:
        """A text column."""
        if self.kind == "images":
            rooms_of = [f"room-{number // 2}" for number in range(FRAMES)]
            names = [f"{room}/{number}.png" for number, room in enumerate(rooms_of)]
            return {"name": names, "split": ["unlabeled"] * FRAMES, "scene": rooms_of}[column]
        splits = [*["train"] * (FRAMES - 1), "test"] if choice.splits else ["unlabeled"] * FRAMES
        names = [f"{number:04d}" for number in range(1, FRAMES + 1)]
        return {"name": names, "split": splits, "scene": [f"den_{n // 2:04d}" for n in range(FRAMES)]}[column]

    def _frame(self, choice: Choice, name: str, level_WH: tuple[int, int], number: int) -> Array:
        width, height = level_WH
        if name in ("depth", "label"):
            grid_HW = self._rooms[number].depth_HW if name == "depth" else self._rooms[number].label_HW
            step = grid_HW.shape[0] // height
            return np.ascontiguousarray(grid_HW[(step - 1) // 2 :: step, (step - 1) // 2 :: step])
        rgb_HWC = self._rgb(number)
        if rgb_HWC.shape[:2] != (height, width):
            rgb_HWC = cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_AREA)
        if name == "rgb":
            return rgb_HWC
        field_HW = np.zeros((height, width), np.float16)
        region = self.spec(choice).level_region(level_WH)
        top, bottom, left, right = region or (0, height, 0, width)
        part_HWC = np.ascontiguousarray(rgb_HWC[top:bottom, left:right])
        field_HW[top:bottom, left:right] = sobel_field(part_HWC, choice.low, choice.high)
        return field_HW

    def _rgb(self, number: int) -> npt.NDArray[np.uint8]:
        if self.kind == "nyu":
            return self._rooms[number].rgb_HWC
        picture = cv2.imread(str(self.folder / "pictures" / self.text(Choice(0, 0, 1, "raw"), "name")[number]))
        return np.ascontiguousarray(picture[..., ::-1])

    @cached_property
    def _rooms(self) -> list[LabelledFrame]:
        return rooms(FRAMES, seed=0)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by path, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
