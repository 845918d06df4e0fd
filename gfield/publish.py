"""The last step of a build: metadata, text columns and manifest around the shards that are there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield.files import side_by_side, sync_folder, write_atomically
from gfield.frame import BadFrame, Source, printable
from gfield.hierarchy import hierarchy_files
from gfield.manifest import MANIFEST_PATH, Entry, Manifest
from gfield.object_path import Location
from gfield.records import Record
from gfield.software import NAMED, version_of
from gfield.spec import FORMAT_VERSION, StoreSpec

EXCLUDED = "excluded"
_TITLES = {
    "densedepth": "NYU Depth v2, DenseDepth's frames",
    "images": "Pictures without depth",
    "make3d": "Make3D range image data",
    "nyu": "NYU Depth v2, labelled frames",
    "nyu-raw": "NYU Depth v2, raw scenes",
}


def text_columns(source: Source, excluded: Collection[int] = ()) -> dict[str, list[str]]:
    """The text arrays of a store by name; frames in ``excluded`` get the split ``"excluded"``."""
    splits = [EXCLUDED if index in excluded else split for index, split in enumerate(source.splits)]
    columns = {"name": list(source.names), "split": splits, "scene": list(source.scenes)}
    return columns | {name: list(texts) for name, texts in source.columns.items()}


def store_attributes(
    source: Source, spec: StoreSpec, source_files: Sequence[Mapping[str, Any]], bad: Sequence[BadFrame]
) -> dict[str, Any]:
    """Attributes of the root group: what the store is, and all that it was made of and by.

    No time, host or path is among them, so that two builds of one input have the same bytes.
    """
    folders = sorted({file.parent for file in source.inputs()}, reverse=True) if bad else []
    excluded = [
        {
            "frame": frame.index,
            "name": source.names[frame.index],
            "reason": _without_folders(frame.reason, folders),
        }
        for frame in bad
    ]
    return {
        "Conventions": "CF-1.11",
        "title": _TITLES.get(spec.kind, spec.kind),
        "gfield_format": FORMAT_VERSION,
        "spec": spec.to_json(),
        "fingerprints": {key: array.fingerprint for key, array in spec.array_specs().items()},
        "source_files": [dict(entry) for entry in source_files],
        "left_out": [{"name": left_out.name, "reason": left_out.reason} for left_out in source.left_out],
        "excluded": excluded,
        "software": {name: version for name in NAMED if (version := version_of(name))},
    }


def complete_store(
    store: Path,
    scratch: Path,
    source: Source,
    spec: StoreSpec,
    source_files: Sequence[Mapping[str, Any]],
    records: Mapping[int, Record],
) -> Manifest:
    """Put metadata, text columns and, last, the manifest beside a complete set of shards.

    Parameters
    ----------
    store, scratch
        Folder of the store, and a folder for temporary files on the same file system.
    source, spec
        What the store was made of, and what it is.
    source_files
        Name, size and SHA-256 of the input files.
    records
        Records of all shard numbers.
    """
    bad = sorted((frame for record in records.values() for frame in record.bad), key=lambda frame: frame.index)
    attributes = store_attributes(source, spec, source_files, bad)
    files = {path: entry for record in records.values() for path, entry in record.files.items()}
    files |= write_metadata(store, scratch, spec, attributes, text_columns(source, {frame.index for frame in bad}))
    manifest = Manifest(attributes, dict(sorted(files.items())))
    (store / MANIFEST_PATH).parent.mkdir(exist_ok=True)
    write_atomically(store / MANIFEST_PATH, manifest.to_bytes(), scratch)
    side_by_side(sync_folder, _common_folders(store))
    return manifest


def write_metadata(
    store: Path,
    scratch: Path,
    spec: StoreSpec,
    attributes: Mapping[str, Any],
    columns: Mapping[str, Sequence[str]],
) -> dict[str, Entry]:
    """Write Zarr metadata and text columns, each file atomically, and only those that are not there as they should be.

    Returns
    -------
    dict
        Manifest entries by path.
    """
    files = hierarchy_files(spec, attributes, columns)

    def write(name: str) -> None:
        path = store / name
        if not path.is_file() or path.read_bytes() != files[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name], scratch)

    side_by_side(write, files)
    return {name: Entry(len(data), blake3(data).hexdigest(), "") for name, data in files.items()}


def _common_folders(store: Path) -> Iterator[Path]:
    """All folders but those below a ``c``, which are one shard's each, and on the disk since its task has ended."""
    for folder, names, _ in os.walk(store):
        yield Path(folder)
        if os.path.basename(folder) == "c":
            names.clear()


def _without_folders(reason: str, folders: Iterable[Location]) -> str:
    """A reason with file names where it has paths, which depend on where the input lies."""
    for folder in folders:
        reason = reason.replace(printable(f"{folder}/"), "")
    return reason
