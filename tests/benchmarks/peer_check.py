"""Whether a peer wrote what it should have: ``peer_check.py zarr|litdata PATH STORE`` compares with our store.

RGB and depth of both levels have to be the same values, in the first, middle and last frame and at every 16th; the
fields are those of the plain script's operator. Exits with an error where one differs; prints how many were compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from plain_script import field_of

from gfield import open_store

LEVELS, EVERY = ("640x480", "320x240"), 16
Frame = Callable[[int, str], Any]


def zarr_frames(path: Path) -> tuple[int, Frame]:
    """Length, and a frame of an array by row and key."""
    import zarr

    root = zarr.open_group(path, mode="r")
    return root["640x480/rgb"].shape[0], lambda row, key: root[key][row]


def litdata_frames(path: Path) -> tuple[int, Frame]:
    """Length, and a frame of an array by row and key; frames lie in the order in which its processes made them."""
    from litdata import StreamingDataset

    data = StreamingDataset(str(path), shuffle=False)
    place_of = {data[place]["row"]: place for place in range(len(data))}
    assert sorted(place_of) == list(range(len(data))), "a frame is missing or there twice"
    return len(data), lambda row, key: data[place_of[row]][key].numpy()


def compare(frame_of: Frame, frames: int, store_path: Path) -> int:
    """Number of frames compared; raises where one differs."""
    store = open_store(store_path)
    assert frames == len(store), f"{frames} frames, wanted {len(store)}"
    rows = sorted({*range(0, frames, EVERY), frames // 2, frames - 1})
    for row in rows:
        for level in LEVELS:
            for name in ("rgb", "depth"):
                key = f"{level}/{name}"
                np.testing.assert_array_equal(frame_of(row, key), store.read(key, [row])[0], f"{key}, frame {row}")
            rgb_HWC = frame_of(row, f"{level}/rgb")
            np.testing.assert_array_equal(frame_of(row, f"{level}/gradient"), field_of(np.array(rgb_HWC)), f"{row}")
    return len(rows)


if __name__ == "__main__":
    length, frame = {"zarr": zarr_frames, "litdata": litdata_frames}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"compared": compare(frame, length, Path(sys.argv[3]))}))
