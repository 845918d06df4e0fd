"""Metadata of a store in MLCommons' Croissant format 1.1: one JSON-LD file that names and describes the files.

Croissant knows no Zarr, so its readers get the store's files with their SHA-256, a record set of the arrays and one of
the frames' texts, both held in the file itself; pixels are for Zarr's readers.

Source: Croissant Format Specification 1.1, MLCommons; the context is the one that it wants to be there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield.exports.chosen import Chosen
from gfield.files import open_file, write_atomically
from gfield.frame import UserError
from gfield.manifest import MANIFEST_PATH, Entry, StoreError
from gfield.object_path import Location
from gfield.places import read_file

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_CITE_AS = (
    "K. Shim and J. Kim, Learning a Geometric Representation for Data-Efficient Depth Estimation via Gradient Field "
    "and Contrastive Loss, ICRA 2021, arXiv:2011.03207"
)
_OF_CROISSANT = (
    "citeAs column conformsTo data dataType equivalentProperty examples extract field fileProperty fileObject fileSet "
    "format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform arrayShape containedIn isArray"
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OF_CROISSANT.split()},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}


def write_croissant(chosen: Chosen, out: Path, advance: Callable[[int], None]) -> None:
    """Write the metadata of a whole store as one file, with paths relative to that file, or a bucket's URLs.

    Every file of the store is read for its SHA-256, and checked against the manifest on the way.

    Parameters
    ----------
    chosen
        What to describe: the frames' texts are those of its rows.
    out
        The JSON file; its folder exists.
    advance
        Told how many bytes of the store are done.

    Raises
    ------
    StoreError
        If a file of the store is missing or damaged.
    """
    store = chosen.store
    base = store.path
    if isinstance(base, Path):
        base = Path(os.path.relpath(base.resolve(), out.parent.resolve()))
    files = [_file_object(store.path, base, path, entry, advance) for path, entry in store.manifest.files.items()]
    manifest = store.file(MANIFEST_PATH)
    files.append(_described(base, MANIFEST_PATH, len(manifest), hashlib.sha256(manifest).hexdigest()))
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": store.path.name,
        "description": f"{store.attributes['title']}: RGB, gradient field and, where there is one, depth of "
        f"{chosen.frames} frames, as a Zarr v3 store that gfield has built.",
        "license": "The terms of those who gave the source files away; the store holds their pictures.",
        "citeAs": _CITE_AS,
        "version": f"{store.attributes['gfield_format']}.0.0",
        "identifier": store.manifest.root,
        "isBasedOn": [entry["name"] for entry in store.attributes["source_files"]],
        "distribution": files,
        "recordSet": [_arrays(chosen), _frames(chosen)],
    }
    text = json.dumps(described, indent=1, ensure_ascii=False)
    write_atomically(out, f"{text}\n".encode())


def check_file(out: Path, *, overwrite: bool) -> None:
    """Refuse an ``out`` that is there, but for a Croissant file that may be replaced."""
    if not os.path.lexists(out):
        return
    try:
        with open_file(out) as file:
            ours = CONFORMS_TO in file.read(1 << 16).decode(errors="replace")
    except OSError:
        ours = False
    if not ours:
        raise UserError(f"{out}: is there and is no Croissant file of version 1.1, wanted a name that is free")
    if not overwrite:
        raise UserError(f"{out}: is there; --overwrite replaces it")


def _file_object(
    store: Location, base: Location, path: str, entry: Entry, advance: Callable[[int], None]
) -> dict[str, Any]:
    data = read_file(store / path, entry.size)
    advance(len(data))
    if (len(data), blake3(data).hexdigest()) != (entry.size, entry.blake3):
        raise StoreError(f"{store}: {path} is not what the manifest says; `gfield verify` finds out")
    return _described(base, path, len(data), hashlib.sha256(data).hexdigest())


def _described(base: Location, path: str, size: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": str(base / path),
        "contentSize": f"{size} B",
        "encodingFormat": "application/json" if path.endswith("zarr.json") else "application/octet-stream",
        "sha256": sha256,
    }


def _arrays(chosen: Chosen) -> dict[str, Any]:
    records = [
        {
            "arrays/key": array.key,
            "arrays/dtype": array.dtype,
            "arrays/shape": ",".join(map(str, (len(chosen.store), *array.frame_shape))),
            "arrays/dimensions": ",".join(array.dims),
            "arrays/units": array.attributes["units"],
            "arrays/holds": array.attributes["long_name"],
        }
        for array in chosen.store.arrays.values()
    ]
    about = "The Zarr arrays of the store; each is one chunk a frame, in the files whose names begin with its key."
    return _record_set("arrays", about, records, key="arrays/key")


def _frames(chosen: Chosen) -> dict[str, Any]:
    rows = sorted(int(row) for rows in chosen.rows.values() for row in rows)
    records = [
        {"frames/row": row, **{f"frames/{name}": text for name, text in chosen.texts(row).items()}} for row in rows
    ]
    about = "The frames that could be read: their row in every array, and their texts."
    return _record_set("frames", about, records, key="frames/row")


def _record_set(name: str, about: str, records: Sequence[Mapping[str, Any]], *, key: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": about,
        "key": {"@id": key},
        "field": [
            {
                "@type": "cr:Field",
                "@id": field,
                "name": field.partition("/")[2],
                "dataType": "sc:Integer" if isinstance(value, int) else "sc:Text",
            }
            for field, value in records[0].items()
        ],
        "data": records,
    }
