"""The store's Zarr metadata and text columns as bytes, by path; no pixel passes through here, and no file is touched.

They are the bytes that zarr-python 3.1 writes for such a store; the tests write one by it and compare. Made here, they
need not be read back to be hashed, and a build does without loading zarr, which takes longer than all of this.
Source: Zarr v3 specification; for consolidated metadata, which is no part of it, zarr-python.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gfield.spec import ArraySpec, StoreSpec, canonical, level_name
from gfield.text_column import encode_texts, text_codecs

Node = dict[str, Any]


def hierarchy_files(
    spec: StoreSpec, attributes: Mapping[str, Any], columns: Mapping[str, Sequence[str]]
) -> dict[str, bytes]:
    """Every file of a store but its shards and its manifest.

    Parameters
    ----------
    spec
        The store's spec.
    attributes
        Attributes of the root group.
    columns
        Text arrays of one entry a frame, such as ``name`` and ``split``.

    Returns
    -------
    dict
        Content by path inside the store.
    """
    arrays = {array.key: _array(spec, array) for array in spec.array_specs().values()}
    arrays |= {name: _text_column(len(texts)) for name, texts in columns.items()}
    groups, members = {}, dict(arrays)
    for level_WH in spec.levels_WH:
        name, facts = level_name(level_WH), _level_attributes(spec, level_WH)
        inside = {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
        groups[name] = _group(facts, inside)
        members[name] = _group(facts, {})
    nodes = {"": _group(attributes, members), **groups, **arrays}
    files = {f"{name}/zarr.json".lstrip("/"): json.dumps(node, indent=2).encode() for name, node in nodes.items()}
    # Of nothing but empty texts Zarr writes no chunk, since that is what a reader takes a missing one for.
    return files | {f"{name}/c/0": encode_texts(texts) for name, texts in columns.items() if any(texts)}


def _group(attributes: Mapping[str, Any], members: Mapping[str, Node]) -> Node:
    """Metadata of a group, with those of all below it, which xarray looks for first: top down, in order of names."""
    ordered = sorted(members, key=lambda name: (name.count("/"), name))
    return {
        "attributes": _ordered(attributes),
        "zarr_format": 3,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: members[name] for name in ordered},
        },
        "node_type": "group",
    }


def _level_attributes(spec: StoreSpec, level_WH: tuple[int, int]) -> dict[str, Any]:
    region = spec.level_region(level_WH)
    return {"width": level_WH[0], "height": level_WH[1], "valid_region": region._asdict() if region else None}


def _array(spec: StoreSpec, array: ArraySpec) -> Node:
    index_codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": (1, *array.frame_shape),
        "codecs": array.codec.metadata(),
        "index_codecs": index_codecs,
        "index_location": "end",
    }
    return _array_metadata(
        shape=(spec.frames, *array.frame_shape),
        data_type=array.dtype,
        chunk_shape=(spec.frames_per_shard, *array.frame_shape),
        fill_value="NaN" if math.isnan(array.fill) else array.fill,
        codecs=[{"name": "sharding_indexed", "configuration": sharding}],
        attributes={**array.attributes, "fingerprint": array.fingerprint},
        dims=array.dims,
    )


def _text_column(frames: int) -> Node:
    return _array_metadata((frames,), "string", (frames,), "", text_codecs(), {}, ("frame",))


def _array_metadata(
    shape: Sequence[int],
    data_type: str,
    chunk_shape: Sequence[int],
    fill_value: float | str,
    codecs: Sequence[Node],
    attributes: Mapping[str, Any],
    dims: Sequence[str],
) -> Node:
    return {
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value,
        "codecs": codecs,
        "attributes": _ordered(attributes),
        "dimension_names": dims,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _ordered(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in one order, whether they come from the code or were read back from a manifest."""
    ordered: dict[str, Any] = json.loads(canonical(attributes))
    return ordered
