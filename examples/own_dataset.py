"""A store of a camera's own recording: FOLDER/rgb/NAME.png, and FOLDER/depth/NAME.png in 16-bit millimetres."""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import gfield


@dataclass(frozen=True)
class Recording:  # what each name means stands in gfield.Source
    root: Path
    names: tuple[str, ...]
    splits: tuple[str, ...]
    scenes: tuple[str, ...]
    columns, notes = {}, {"depth": "metres; NaN where the camera has 0"}
    kind, reading, provides = "recording", "PNG by OpenCV", frozenset({"rgb", "depth"})
    size_WH, depth_shape_HW, valid_region = (640, 480), (480, 640), None
    left_out, warnings, frames_per_chunk = (), (), 1

    def inputs(self):
        return [self.root / kind / f"{name}.png" for name in self.names for kind in ("rgb", "depth")]

    def read(self, start, stop, arrays):
        for index in range(start, stop):
            pair = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in self.inputs()[2 * index : 2 * index + 2]]
            if [picture is not None and picture.shape for picture in pair] != [(480, 640, 3), (480, 640)]:
                yield gfield.BadFrame(index, f"{self.names[index]}: no pair of PNGs of 640x480")
                continue
            depth_HW = np.where(pair[1] > 0, pair[1] / np.float32(1000), np.float32("nan"))
            yield gfield.Frame(index, {"rgb": np.ascontiguousarray(pair[0][..., ::-1]), "depth": depth_HW})


folder, store = map(Path, sys.argv[1:])
names = tuple(sorted(path.stem for path in folder.glob("rgb/*.png")))
splits = tuple("train" if index % 10 else "test" for index in range(len(names)))
gfield.build_store(Recording(folder, names, splits, scenes=("",) * len(names)), store)
