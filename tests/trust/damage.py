"""Damaged stores: what was done to the files is named by verify, undone by repair, or refused and mended by a build.

What verify has to name is not foretold by what was done, but found by comparing the files with an undamaged store's.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfield.build import build_store
from gfield.field import FieldParams
from gfield.frame import Source
from gfield.manifest import MANIFEST_PATH, Manifest, StoreError, read_manifest
from gfield.repair import repair_store
from gfield.sources.nyuv2 import open_nyuv2
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from gfield.staging import BuildError
from gfield.store import Store, open_store
from gfield.verify import verify_store
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import Child, in_child
from tests.trust.harms import HARMS, Stores
from tests.trust.inputs import FRAMES_PER_SHARD, LEVELS_WH, small_mat

CODECS = ("lz4", "raw")  # where shards of equal shape are of equal size, sizes tell nothing
EARLIER = ("thresholds", "fewer")
# What the cases go round.
MANIFESTS = ("whole", "whole", "whole", "earlier", "damaged", "whole", "whole", "earlier", "forged")
_MANIFEST_HARMS = ("truncate", "empty", "delete", "zero a page", "append", "a folder", "a pipe", "a link to nowhere")


@dataclass(frozen=True)
class Prepared:
    """Undamaged stores of one input by name and codec, such as ``whole-lz4.zarr``, and what they were built of.

    ``whole`` is what gets damaged, ``thresholds`` and ``fewer`` are what it was earlier, ``other`` is of other frames.
    """

    folder: Path
    source: Source
    specs: dict[str, StoreSpec]

    def store(self, name: str, codec: str) -> Path:
        """The folder of a store."""
        return self.folder / f"{name}-{codec}.zarr"


def prepare(folder: Path) -> Prepared:
    """Build all stores, each in a process of its own."""
    (folder / "another").mkdir()
    source, another = open_nyuv2(small_mat(folder)), open_nyuv2(small_mat(folder / "another", seed=1))
    specs: dict[str, StoreSpec] = {}
    prepared = Prepared(folder, source, specs)
    for codec in CODECS:
        common = {"levels_WH": LEVELS_WH, "frames_per_shard": FRAMES_PER_SHARD, "codec": codec}
        specs[f"whole-{codec}"] = make_spec(source, optional=("label",), **common)
        specs[f"thresholds-{codec}"] = make_spec(source, optional=("label",), field=FieldParams(60, 180), **common)
        specs[f"fewer-{codec}"] = make_spec(source, **common)
        specs[f"other-{codec}"] = make_spec(another, optional=("label",), **common)
    children = [
        Child(build_store, another if name.startswith("other") else source, folder / f"{name}.zarr", spec)
        for name, spec in specs.items()
    ]
    for child in children:
        child.result()
    return prepared


def damage(prepared: Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    """One case: one to three harms to a copy of a store, and perhaps another manifest."""
    codec, manifest = CODECS[number % len(CODECS)], MANIFESTS[number % len(MANIFESTS)]
    stores = Stores(*(prepared.store(name, codec) for name in ("whole", "thresholds", "other")), folder / "copy.zarr")
    shutil.copytree(stores.whole, stores.copy, symlinks=True)
    if manifest == "forged":
        return _forged(prepared, stores, codec, rng)
    reference = "whole"
    if manifest == "earlier":
        reference = str(rng.choice(EARLIER))
        shutil.copy2(prepared.store(reference, codec) / MANIFEST_PATH, stores.copy / MANIFEST_PATH)
    files = [*read_manifest(stores.whole).files]
    harms = [str(rng.choice([*HARMS])) for _ in range(rng.integers(0 if manifest == "earlier" else 1, 4))]
    for harm in harms:
        HARMS[harm](stores, str(rng.choice(files)), rng)
    if manifest == "damaged":
        HARMS[str(rng.choice(_MANIFEST_HARMS))](stores, MANIFEST_PATH, rng)
    try:
        return _whole_again(prepared, stores, codec, reference, rng)
    except Wrong as wrong:
        raise Wrong(f"{codec}, manifest {manifest} ({reference}), {', '.join(harms)}: {wrong}") from wrong


def _whole_again(prepared: Prepared, stores: Stores, codec: str, reference: str, rng: np.random.Generator) -> str:
    try:
        store = open_store(stores.copy)
    except StoreError:
        return f"manifest damaged: refused; {_build_on(prepared, stores, codec)}"
    wanted = prepared.store(reference, codec)
    damaged, unknown = _differences(stores.copy, wanted)
    _read_all(store)
    findings = verify_store(store, sample=4).findings
    if {finding.path for finding in findings} != damaged | unknown or len(findings) != len(damaged | unknown):
        seen = Counter(finding.message for finding in findings)
        raise Wrong(f"verify says {seen}, wanted {sorted(damaged)} and as unknown {sorted(unknown)}")
    before = _statuses(stores.copy)
    which = "manifest of an earlier state: " if reference != "whole" else ""
    if reference != "whole" and rng.random() < 0.5:
        return f"{which}named; {_build_on(prepared, stores, codec)}"
    try:
        report = repair_store(store, findings, prepared.source)
    except StoreError as refusal:
        if not _in_the_way(stores.copy, damaged):
            raise Wrong(f"repair refuses: {refusal}") from refusal
        if _statuses(stores.copy) != before:
            raise Wrong("repair refuses, and has changed the store") from refusal
        return f"{which}named; repair refused; {_build_anew(prepared, stores, codec)}"
    if report.different or {*report.restored} != damaged:
        raise Wrong(f"repair restored {report.restored}, different {report.different}, wanted {sorted(damaged)}")
    _check_whole(stores.copy, wanted, unknown)
    after = _statuses(stores.copy)
    if touched := [path for path, status in before.items() if path not in damaged and after.get(path) != status]:
        raise Wrong(f"repair touched {touched}")
    return f"{which}{'named and repaired' if damaged else 'nothing of the store to repair'}"


def _forged(prepared: Prepared, stores: Stores, codec: str, rng: np.random.Generator) -> str:
    """A shard of other thresholds, with a manifest that knows it as such."""
    shards = [path for path in read_manifest(stores.whole).files if "/gradient/c/" in path]
    path = str(rng.choice(shards))
    shutil.copy2(stores.earlier / path, stores.copy / path)
    entry, manifest = read_manifest(stores.earlier).files[path], read_manifest(stores.whole)
    forged = Manifest(manifest.attributes, {**manifest.files, path: entry})
    (stores.copy / MANIFEST_PATH).write_bytes(forged.to_bytes())
    store = open_store(stores.copy)
    findings = verify_store(store, sample=4).findings
    if [(finding.kind, finding.path) for finding in findings] != [("stale", path)]:
        raise Wrong(f"{path} is of other thresholds, and verify says {findings}")
    try:
        repair_store(store, findings, prepared.source)
    except StoreError:
        return f"stale and in the manifest: named; repair refused; {_build_on(prepared, stores, codec)}"
    raise Wrong(f"{path} is of other thresholds, as the manifest says, and repair does not refuse")


def _build_on(prepared: Prepared, stores: Stores, codec: str) -> str:
    """The same build again mends it, or refuses, and anew it does."""
    try:
        in_child(build_store, prepared.source, stores.copy, prepared.specs[f"whole-{codec}"])
    except (BuildError, StoreError) as refusal:
        if not any(way in str(refusal) for way in ("verify --repair", "--overwrite", "left as it is")):
            raise Wrong(f"the build refuses without a way out: {refusal}") from refusal
        return _build_anew(prepared, stores, codec)
    if findings := verify_store(open_store(stores.copy), sample=4).findings:
        # Shards that are kept are told by size; those that then do not verify are for repair.
        repair_store(open_store(stores.copy), findings, prepared.source)
        _check_whole(stores.copy, stores.whole, set())
        return "mended by the same build and a repair"
    _check_whole(stores.copy, stores.whole, set())
    return "mended by the same build"


def _build_anew(prepared: Prepared, stores: Stores, codec: str) -> str:
    """What cannot be repaired can be built anew; where not even the root tells a store of ours, once it is removed."""
    spec, way = prepared.specs[f"whole-{codec}"], "mended by build --overwrite"
    try:
        in_child(lambda: build_store(prepared.source, stores.copy, spec, overwrite=True))
    except BuildError as refusal:
        if "left as it is" not in str(refusal):
            raise Wrong(f"the build refuses without a way out: {refusal}") from refusal
        shutil.rmtree(stores.copy)
        in_child(build_store, prepared.source, stores.copy, spec)
        way = "manifest and root gone, built again once removed"
    _check_whole(stores.copy, stores.whole, set())
    return way


def _differences(copy: Path, wanted: Path) -> tuple[set[str], set[str]]:
    """Files that are not what they should be, also by links that lead out of the store; and those of nobody."""
    files = {path.relative_to(wanted).as_posix() for path in wanted.rglob("*") if path.is_file()}
    damaged = {path for path in files if not _is_file_of(copy, path, (wanted / path).read_bytes())}
    folders = {parent.as_posix() for path in files for parent in Path(path).parents}
    others = {*_statuses(copy)} - files
    return damaged, {path for path in others if not (path in folders and (copy / path).is_dir())}


def _is_file_of(copy: Path, name: str, content: bytes) -> bool:
    path, root = copy / name, copy.resolve()
    if not path.is_file() or path.read_bytes() != content:
        return False
    return path.resolve() == root / name or not path.resolve().is_relative_to(root)


def _statuses(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of all that is in a store and is no folder; a link is none, wherever it leads."""
    found = {}
    for inside, folders, files in os.walk(folder):
        for name in (*files, *folders):
            path = Path(inside, name)
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                found[path.relative_to(folder).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return found


def _in_the_way(copy: Path, damaged: set[str]) -> bool:
    """Whether something stands where a damaged file goes, or where its folders go, that is not ours to remove."""
    for name in damaged:
        path = copy / name
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            return True
        folders = [copy / parent for parent in Path(name).parents if parent.name]
        if any(folder.is_symlink() or (folder.exists() and not folder.is_dir()) for folder in folders):
            return True
    return False


def _check_whole(copy: Path, wanted: Path, unknown: set[str]) -> None:
    """Every file is what it was, the root too, verify has nothing to say, and what was left alone is still there."""
    damaged, others = _differences(copy, wanted)
    if damaged or others != unknown:
        raise Wrong(f"afterwards {sorted(damaged)} differ, and there are {sorted(others)}, wanted {sorted(unknown)}")
    report = verify_store(open_store(copy), sample=4)
    if {finding.path for finding in report.findings} != unknown or report.root != read_manifest(wanted).root:
        raise Wrong(f"afterwards the root is {report.root}, and verify says {report.findings}")


def _read_all(store: Store) -> None:
    """Whatever stands where a file was, reading gives an array or says what is wrong."""
    for key in store.arrays:
        for row in range(len(store)):
            try:
                store.read(key, [row])
            except StoreError:
                continue
    for column in ("name", "split", "scene", "scene_type"):
        try:
            store.text(column)
        except StoreError:
            continue


CAMPAIGNS = [
    Campaign(
        "damage",
        "one to three harms to a store's files: cut, zeroed, swapped, of another store, of older parameters, links",
        "verify names each and nothing else; repair restores those alone, bit for bit, or a build mends it",
        quick=60,
        soak=2000,
        prepare=prepare,
        case=damage,
        seconds=60,
    )
]
