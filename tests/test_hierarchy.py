"""The metadata and text columns of a store: byte for byte those that zarr-python writes of the same description."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, ZstdCodec

from gfield.codec import CODEC_NAMES
from gfield.field import FieldParams
from gfield.frame import Region
from gfield.hierarchy import hierarchy_files
from gfield.spec import StoreSpec, canonical, level_name

NYU = StoreSpec(
    kind="nyu",
    frames=256,
    frames_per_shard=11,
    size_WH=(640, 480),
    levels_WH=((640, 480), (320, 240)),
    arrays=("rgb", "gradient", "depth", "raw_depth", "label"),
    depth_shape_HW=(480, 640),
    valid_region=Region(top=8, bottom=473, left=8, right=631),
    operator=FieldParams().to_dict(),
    codec="lz4",
    source="0" * 32,
    text="1" * 32,
    notes={"depth": "metres; „geschätzt“", "label": "0 = unlabelled"},
)
MAKE3D = replace(
    NYU,
    kind="make3d",
    frames=3,
    frames_per_shard=8,
    size_WH=(480, 640),
    levels_WH=((480, 640), (240, 320), (120, 160)),
    arrays=("rgb", "gradient", "depth", "depth_native"),
    depth_shape_HW=(55, 305),
    valid_region=None,
)
PICTURES = replace(NYU, kind="images", levels_WH=((80, 60),), arrays=("rgb", "gradient"), depth_shape_HW=None, notes={})
ATTRIBUTES = {"title": "Straße „7“", "excluded": [], "nothing": None, "share": 0.1, "spec": {"b": [[1, 2]], "a": True}}


def written_by_zarr(folder: Path, spec: StoreSpec, attributes: dict, columns: dict[str, list[str]]) -> dict[str, bytes]:
    def ordered(values):
        return json.loads(canonical(values))

    root = zarr.create_group(folder, zarr_format=3, attributes=ordered(attributes))
    for level_WH in spec.levels_WH:
        region = spec.level_region(level_WH)
        facts = {"width": level_WH[0], "height": level_WH[1], "valid_region": region._asdict() if region else None}
        root.create_group(level_name(level_WH), attributes=ordered(facts))
    for array in spec.array_specs().values():
        dtype = np.dtype(array.dtype)
        root.create_array(
            array.key,
            shape=(spec.frames, *array.frame_shape),
            shards=(spec.frames_per_shard, *array.frame_shape),
            chunks=(1, *array.frame_shape),
            dtype=dtype,
            serializer=BytesCodec(endian="little") if dtype.itemsize > 1 else BytesCodec(endian=None),
            compressors=array.codec.metadata()[1:],
            fill_value=dtype.type(array.fill),
            dimension_names=array.dims,
            attributes=ordered({**array.attributes, "fingerprint": array.fingerprint}),
        )
    for name, texts in columns.items():
        column = root.create_array(
            name,
            shape=(len(texts),),
            chunks=(len(texts),),
            dtype=str,
            compressors=ZstdCodec(level=3, checksum=True),
            dimension_names=("frame",),
        )
        column[:] = np.asarray(texts, dtype=np.dtypes.StringDType())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        for level_WH in spec.levels_WH:
            zarr.consolidate_metadata(folder, path=level_name(level_WH))
        zarr.consolidate_metadata(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("spec", [NYU, MAKE3D, PICTURES], ids=["nyu", "make3d", "pictures"])
def test_files_are_those_that_zarr_writes(tmp_path, spec, codec):
    spec = replace(spec, codec=codec)
    columns = {
        "name": [f"{row:04d}" for row in range(spec.frames)],
        "split": ["train"] * spec.frames,
        "raw_depth_filename": [""] * (spec.frames - 1) + ["küche_0004/d-1.pgm"],
        "scene": [""] * spec.frames,
    }
    expected = written_by_zarr(tmp_path, spec, ATTRIBUTES, columns)
    assert hierarchy_files(spec, ATTRIBUTES, columns) == expected
    assert "name/c/0" in expected
    assert "scene/c/0" not in expected


@settings(max_examples=20)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9), min_size=1)
)
def test_text_columns_are_those_that_zarr_writes(tmp_path_factory, texts):
    spec = replace(PICTURES, frames=len(texts))
    expected = written_by_zarr(tmp_path_factory.mktemp("texts"), spec, {}, {"name": texts})
    assert hierarchy_files(spec, {}, {"name": texts}) == expected
