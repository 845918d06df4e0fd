"""A folder of Parquet that Hugging Face's `datasets` loads by ``load_dataset(OUT)``, with its features.

Pictures are PNG, so that no value changes; fields and depths are two-dimensional arrays of the store's own types.

Legend: K frames of a block; other letters as in `gfield.frame`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gfield.exports.chosen import Chosen, library

Block = npt.NDArray[np.generic]


def write_hf(chosen: Chosen, folder: Path, advance: Callable[[int], None]) -> None:
    """Write ``data/SPLIT-00000-of-00002.parquet`` and a card, ``README.md``, into a folder.

    Parameters
    ----------
    chosen
        What to write.
    folder
        An empty folder.
    advance
        Told how many frames are done.

    Raises
    ------
    UserError
        If `datasets` is not installed.
    StoreError
        If a frame cannot be read.
    """
    datasets, parquet = library("datasets"), library("pyarrow.parquet")
    features = features_of(chosen, datasets)
    schema = features.arrow_schema
    (folder / "data").mkdir()
    for split in chosen.rows:
        files = chosen.files(split)
        for number, rows in enumerate(files):
            path = folder / "data" / f"{split}-{number:05d}-of-{len(files):05d}.parquet"
            with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
                for some, arrays in chosen.blocks(rows):
                    writer.write_table(_table(chosen, some, arrays, schema))
                    advance(len(some))
    (folder / "README.md").write_text(_card(chosen), encoding="utf-8")


def features_of(chosen: Chosen, datasets: Any) -> Any:
    """The `datasets.Features` of an export: row, text columns, and the level's arrays."""
    features = {"row": datasets.Value("int64")}
    features |= {name: datasets.Value("string") for name in chosen.columns}
    for name, array in chosen.arrays.items():
        is_picture = name == "rgb"
        features[name] = datasets.Image() if is_picture else datasets.Array2D(array.frame_shape, array.dtype)
    return datasets.Features(features)


def _table(chosen: Chosen, rows: list[int], arrays: dict[str, Block], schema: Any) -> Any:
    pyarrow = library("pyarrow")
    columns = [pyarrow.array(rows, pyarrow.int64())]
    columns += [pyarrow.array(texts[rows].tolist(), pyarrow.string()) for texts in chosen.columns.values()]
    for name, array in arrays.items():
        if name == "rgb":
            pictures = [
                {"bytes": png(rgb_HWC), "path": f"{row:06d}.png"} for row, rgb_HWC in zip(rows, array, strict=True)
            ]
            columns.append(pyarrow.array(pictures, schema.field(name).type))
        else:
            kind = schema.field(name).type
            columns.append(pyarrow.ExtensionArray.from_storage(kind, _lists(array, pyarrow)))
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _lists(array_KHW: Block, pyarrow: Any) -> Any:
    """The values as Arrow's lists of lists, which `datasets` keeps two-dimensional arrays as."""
    count, height, width = array_KHW.shape
    lists = pyarrow.array(array_KHW.reshape(-1))
    for length, lists_of in ((width, count * height), (height, count)):
        offsets = np.arange(lists_of + 1, dtype=np.int32) * np.int32(length)
        lists = pyarrow.ListArray.from_arrays(offsets, lists)
    return lists


def png(rgb_HWC: Block) -> bytes:
    """A picture as PNG, the same values when it is read."""
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(rgb_HWC[..., ::-1]))
    assert encoded, "OpenCV encodes any 8-bit picture as PNG"
    return data.tobytes()


def _card(chosen: Chosen) -> str:
    """What `datasets` and its hub read first: which files make which split; and, for people, the columns."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in chosen.rows:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    lines += ["---", "", f"# {chosen.store.attributes['title']}, {chosen.level}", ""]
    lines += [f"Exported by gfield from a store with root hash {chosen.store.manifest.root}.", ""]
    lines += ["| column | holds |", "|---|---|", "| row | row in the store |"]
    lines += [f"| {name} | text |" for name in chosen.columns]
    for name, array in chosen.arrays.items():
        shape = " x ".join(map(str, array.frame_shape))
        about = f"{array.attributes['long_name']}; {array.dtype}, {shape}, unit {array.attributes['units']}"
        lines.append(f"| {name} | {about}{', as PNG' if name == 'rgb' else ''} |")
    return "\n".join(lines) + "\n"
