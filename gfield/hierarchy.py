"""The store's Zarr metadata and text columns, written by zarr-python; no pixel passes through here."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, ZstdCodec

from gfield.spec import ArraySpec, StoreSpec, canonical, level_name


def write_hierarchy(
    folder: Path, spec: StoreSpec, attributes: Mapping[str, Any], columns: Mapping[str, Sequence[str]]
) -> None:
    """Write groups, array metadata and text columns of a store into an empty folder.

    Parameters
    ----------
    folder
        A folder that the shards are put into, before or after.
    spec
        The store's spec.
    attributes
        Attributes of the root group.
    columns
        Text arrays of one entry a frame, such as ``name`` and ``split``.
    """
    root = zarr.create_group(folder, zarr_format=3, attributes=_ordered(attributes))
    for level_WH in spec.levels_WH:
        region = spec.level_region(level_WH)
        facts = {
            "width": level_WH[0],
            "height": level_WH[1],
            "valid_region": region._asdict() if region else None,
        }
        root.create_group(level_name(level_WH), attributes=_ordered(facts))
    for array in spec.array_specs().values():
        _create_array(root, spec, array)
    for name, texts in columns.items():
        column = root.create_array(
            name,
            shape=(len(texts),),
            chunks=(max(1, len(texts)),),
            dtype=str,
            compressors=ZstdCodec(level=3, checksum=True),
            dimension_names=("frame",),
        )
        column[:] = np.asarray(texts, dtype=np.dtypes.StringDType())
    with warnings.catch_warnings():
        # xarray looks for consolidated metadata and warns where there is none; zarr warns where there is some.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        for level_WH in spec.levels_WH:
            zarr.consolidate_metadata(folder, path=level_name(level_WH))
        zarr.consolidate_metadata(folder)


def _create_array(root: zarr.Group, spec: StoreSpec, array: ArraySpec) -> None:
    dtype = np.dtype(array.dtype)
    root.create_array(
        array.key,
        shape=(spec.frames, *array.frame_shape),
        shards=(spec.frames_per_shard, *array.frame_shape),
        chunks=(1, *array.frame_shape),
        dtype=dtype,
        serializer=BytesCodec(endian="little") if dtype.itemsize > 1 else BytesCodec(endian=None),
        compressors=array.codec.zarr_compressors(),
        fill_value=dtype.type(array.fill),
        dimension_names=array.dims,
        attributes=_ordered({**array.attributes, "fingerprint": array.fingerprint}),
    )


def _ordered(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in one order, whether they come from the code or were read back from a manifest."""
    ordered: dict[str, Any] = json.loads(canonical(attributes))
    return ordered
