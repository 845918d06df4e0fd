"""A store of any number of frames without a picture in it: all that opening and choosing frames reads.

``large_store.py STORE`` opens one and prints the seconds that it took, without imports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from gfield.field import FieldParams
from gfield.files import write_atomically
from gfield.manifest import MANIFEST_PATH, Entry, Manifest
from gfield.spec import FORMAT_VERSION, StoreSpec, default_frames_per_shard, digest
from gfield.store import open_store

_FRAMES_A_SCENE = 180
_TEST = 654


def write_large_store(folder: Path, frames: int) -> None:
    """Metadata, text columns and manifest as a build of DenseDepth's archive writes them, with no shard behind them."""
    from gfield.publish import write_metadata  # loads OpenCV, which opening does without

    scenes = [f"living_room_{row // _FRAMES_A_SCENE:04d}a" for row in range(frames)]
    columns = {
        "name": [f"data/nyu2_train/{scene}_out/{row % _FRAMES_A_SCENE}.jpg" for row, scene in enumerate(scenes)],
        "split": ["train"] * (frames - _TEST) + ["test"] * _TEST,
        "scene": scenes,
    }
    spec = StoreSpec(
        kind="densedepth",
        frames=frames,
        frames_per_shard=default_frames_per_shard(frames, 1),
        size_WH=(640, 480),
        levels_WH=((640, 480), (320, 240)),
        arrays=("rgb", "gradient", "depth"),
        depth_shape_HW=(480, 640),
        valid_region=None,
        operator=FieldParams().to_dict(),
        codec="lz4",
        source=digest("no pictures"),
        text=digest(columns),
        notes={},
    )
    attributes = {"title": "no pictures", "gfield_format": FORMAT_VERSION, "spec": spec.to_json(), "software": {}}
    attributes |= {"source_files": [], "left_out": [], "excluded": []}
    folder.mkdir(parents=True)
    files = write_metadata(folder, folder, spec, attributes, columns)
    for array in spec.array_specs().values():
        for shard in range(spec.shards):
            path = array.shard_path(shard)
            files[path] = Entry(50_000_000 + shard, digest(path) * 2, array.fingerprint)
    (folder / MANIFEST_PATH).parent.mkdir()
    write_atomically(folder / MANIFEST_PATH, Manifest(attributes, dict(sorted(files.items()))).to_bytes())


def open_and_choose(folder: Path) -> dict[str, float]:
    """Seconds to open a store, and then to have its names, splits, scenes and rows."""
    started = time.perf_counter()
    store = open_store(folder)
    opened = time.perf_counter()
    assert len(store.names) == len(store.scenes) == len(store)
    assert len(store.rows("train")) + len(store.rows("test")) == len(store)
    done = time.perf_counter()
    return {"open": opened - started, "texts": done - opened, "seconds": done - started}


if __name__ == "__main__":
    print(json.dumps(open_and_choose(Path(sys.argv[1]))))
