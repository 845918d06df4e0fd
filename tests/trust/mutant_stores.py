"""Mutants of a store's own files and of an unfinished build's: never read wrongly, never followed out of the store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfield.adopt import adopt_store
from gfield.build import build_store
from gfield.frame import UserError
from gfield.info import store_facts
from gfield.manifest import MANIFEST_PATH, StoreError, read_manifest
from gfield.spec import canonical, digest
from gfield.staging import Staging, finished_store
from gfield.store import Store, open_store
from gfield.verify import verify_store
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import ChildDied, in_child
from tests.trust.guard import outcome, refused, untouched
from tests.trust.inputs import Small, small
from tests.trust.mutate import mutated, mutated_json

_ROWS = 6
_TEXTS = ("name", "split", "scene", "scene_type")
_WORDS = (b"NaN", b"1e999", b"9" * 5000, b"[" * 5000, b'"../../outside"', b"null", b"\\ud800", b'{"a":', b"-1", b"\xff")


@dataclass(frozen=True)
class Prepared:
    """A store, all that is in it, and a build of it that is all but finished.

    Attributes
    ----------
    content
        Every file of the store by its path in it.
    values
        What is to be read from it, by array or column.
    staging
        Folder of the unfinished build.
    """

    small: Small
    content: Mapping[str, bytes]
    values: Mapping[str, npt.NDArray[np.generic]]
    staging: Path


def _prepare(folder: Path) -> Prepared:
    made = small(folder)
    files = {file.relative_to(made.store).as_posix(): file for file in made.store.rglob("*") if file.is_file()}
    store = open_store(made.store)
    values = {key: store.read(key, range(len(store))) for key in store.arrays}
    values |= {column: store.text(column) for column in _TEXTS}
    target = folder / "unfinished.zarr"
    for part in (1, 2):  # of three, which leaves one shard to do
        in_child(_build_part, made, target, part)
    return Prepared(
        made, {name: file.read_bytes() for name, file in files.items()}, values, Staging(target, made.spec).folder
    )


def _build_part(made: Small, target: Path, part: int) -> None:
    build_store(made.source, target, made.spec, part=(part, 3))


def _copied(store: Path, to: Path) -> Path:
    """A copy whose files are the same ones: whoever changes one puts another in its place."""
    shutil.copytree(store, to, copy_function=os.link)
    return to


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _of_a_store(prepared: Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    """One file of a store is a mutant. What is read is what was written, and a verification finds it."""
    names = [name for name in prepared.content if name != MANIFEST_PATH]
    kinds = {
        "zarr.json": [n for n in names if n.endswith("zarr.json")],
        "text": [n for n in names if n.endswith("/c/0")],
    }
    kinds["shard"] = [name for name in names if name not in kinds["zarr.json"] + kinds["text"]]
    kind = ("zarr.json", "text", "shard")[number % 3]
    name = kinds[kind][int(rng.integers(len(kinds[kind])))]
    others, data = [prepared.content[other] for other in kinds[kind]], prepared.content[name]
    index = ((max(0, len(data) - 40), len(data)),) if kind == "shard" else ()
    if kind == "zarr.json" and rng.random() < 0.5:
        changed = mutated_json(json.loads(data), rng)
    else:
        changed = mutated(data, rng, others=others, hot=index, words=_WORDS if kind == "zarr.json" else ())
    store = _copied(prepared.small.store, folder / "s.zarr")
    _put(store / name, changed)
    told = outcome(lambda: _unchanged(store, prepared, changed != data), folder, "s.zarr")
    return f"{kind}: {told}"


def _unchanged(store: Path, prepared: Prepared, damaged: bool) -> str:
    opened = open_store(store)
    refusals = 0
    for key, wanted in prepared.values.items():
        try:
            seen = opened.text(key) if key in _TEXTS else opened.read(key, range(_ROWS))
        except StoreError as error:
            refusals += 1
            refused(str(error), "s.zarr")
            continue
        if not np.array_equal(seen, wanted, equal_nan=wanted.dtype.kind == "f"):
            raise Wrong(f"{key} is read otherwise than it was written")
    findings = verify_store(opened, sample=2).findings
    if bool(findings) != damaged:
        raise Wrong(f"{len(findings)} findings in a store that is {'damaged' if damaged else 'as it was'}")
    for finding in findings:
        refused(finding.message, finding.path)
    return "refused" if refusals else "found" if damaged else "as it was"


def _of_a_manifest(prepared: Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    kinds = (_damaged, _forged, _damaged, _forged, _staged)
    return kinds[number % 5](prepared, rng, folder)


def _damaged(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    """A manifest with any change is none."""
    data = prepared.content[MANIFEST_PATH]
    by_values = rng.random() < 0.4
    changed = mutated_json(json.loads(data), rng) if by_values else mutated(data, rng, words=_WORDS)
    store = folder / "s.zarr"
    _put(store / MANIFEST_PATH, changed)
    told = outcome(lambda: f"read as {read_manifest(store).root}", folder, "s.zarr")
    if told != (wanted := "refused" if changed != data else f"read as {prepared.small.root}"):
        raise Wrong(f"{told}, and not {wanted}")
    return "damaged: refused" if changed != data else "damaged: as it was"


def _forged(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    """A manifest that somebody has changed, with the root hash that belongs to it, is believed as far as it can be."""
    wrapped = json.loads(prepared.content[MANIFEST_PATH])["attributes"]
    try:
        inner = json.loads(mutated_json({key: wrapped[key] for key in ("attributes", "files")}, rng))
        attributes = {"gfield_manifest": 1, **inner, "root": digest([inner["attributes"], inner["files"]])}
        forged = canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})
    except (ValueError, KeyError, TypeError, RecursionError):
        return "forged: nothing that a hash can be taken of"
    store = _copied(prepared.small.store, folder / "s.zarr")
    _put(store / MANIFEST_PATH, forged)
    outside = folder / "outside"
    outside.write_bytes(b"not of the store")
    with untouched(outside):
        told = outcome(lambda: _used(store, prepared), folder, "s.zarr")
    return f"forged: {told}"


def _used(store: Path, prepared: Prepared) -> str:
    opened = open_store(store)
    refusals = 0
    if len(opened) != opened.spec.frames or not all(isinstance(key, str) for key in opened.arrays):
        raise Wrong("a store of another length than it says")
    for use in (lambda: _texts(opened), lambda: _pixels(opened), opened.check_files, lambda: store_facts(opened)):
        try:
            use()
        except UserError as error:
            refusals += 1
            refused(str(error), "s.zarr")
    for finding in verify_store(opened, sample=2).findings[:100]:
        refused(finding.message, finding.path[:100])
    try:  # and by those who build on it
        staging = Staging(store, prepared.small.spec)
        if (kept := finished_store(store, staging.spec, overwrite=False)) is not None:
            staging.create()
            adopt_store(staging, kept)
    except UserError as error:
        refused(str(error), "s.zarr")
    return "opened, and refused in part" if refusals else "opened"


def _texts(opened: Store) -> None:
    for column in _TEXTS:
        if opened.text(column).shape != (len(opened),):
            raise Wrong(f"{column} is {opened.text(column).shape}")
    opened.rows()


def _pixels(opened: Store) -> None:
    rows = sorted({0, len(opened) - 1})
    for key, array in opened.arrays.items():
        if opened.read(key, rows).shape != (len(rows), *array.frame_shape):
            raise Wrong(f"{key} is of another shape than it says")


def _staged(prepared: Prepared, rng: np.random.Generator, folder: Path) -> str:
    """What an unfinished build has noted of itself is a mutant; the store that it ends in is the same."""
    staging = folder / prepared.staging.name.replace("unfinished", "s")
    shutil.copytree(prepared.staging, staging)
    notes = sorted(file for file in staging.rglob("*.json") if "store" not in file.relative_to(staging).parts)
    note = notes[int(rng.integers(len(notes)))]
    data = note.read_bytes()
    if rng.random() < 0.5:
        note.write_bytes(mutated_json(json.loads(data), rng))
    else:
        note.write_bytes(mutated(data, rng, others=[other.read_bytes() for other in notes], words=_WORDS))
    skips = rng.random() < 0.5
    try:
        root = in_child(_root_of, prepared.small, folder / "s.zarr", skips, seconds=30)
    except ChildDied as died:
        raise Wrong(f"{note.name}: the build {died}") from died
    if root != prepared.small.root:
        raise Wrong(f"{note.name}: the store's root is {root}, and not {prepared.small.root}")
    if [path.name for path in folder.iterdir()] != ["s.zarr"]:
        raise Wrong(f"{note.name}: {[path.name for path in folder.iterdir()]} are left")
    return f"{note.parent.name if note.parent != staging else note.name}: the same store"


def _root_of(made: Small, target: Path, skips: bool) -> str:
    build_store(made.source, target, made.spec, on_error="skip" if skips else "stop")
    return read_manifest(target).root


CAMPAIGNS = [
    Campaign(
        "mutants-zarr",
        "damaged or crafted metadata, texts and shards of a store",
        "what is read is what was written, or refused in one line; verification finds it",
        60, 5000, _prepare, _of_a_store, 60,
    ),
    Campaign(
        "mutants-manifest",
        "damaged and forged manifests; damaged notes of an unfinished build",
        "a damaged one is refused, a forged one leads nowhere outside, and the build ends in the same store",
        60, 5000, _prepare, _of_a_manifest, 60,
    ),
]  # fmt: skip
