"""Single flipped bits, in everything that is kept for long: stores, checkpoints, exported weights.

A case flips one bit in a process's own copy, reads and verifies, and flips it back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from gfield.build import build_store
from gfield.codec import CODEC_NAMES
from gfield.manifest import MANIFEST_PATH, StoreError
from gfield.sources.images import open_images
from gfield.specify import make_spec
from gfield.store import Store, open_store
from gfield.verify import verify_store
from tests.trust import flipped_weights
from tests.trust.bits import flipped
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.flipped_weights import Weights

COLUMNS = ("name", "split", "scene")
_OWN: dict[Path, Path] = {}

# What the cases go round, so that each sort has its share.
ORDER = (
    *("shard", "index", "text", "shard", "array metadata", "shard", "manifest", "index", "shard", "group metadata"),
    *("state.pt", "shard", "index", "text", "shard", "text metadata", "shard", "manifest", "meta.json", "shard"),
    *("index", "shard", "export", "array metadata", "shard"),
)


@dataclass(frozen=True)
class Kept:
    """What is flipped in: a folder of stores and weights, and what they hold while they are whole.

    Attributes
    ----------
    folder
        Holds ``<codec>.zarr``, a run and exports.
    arrays, texts
        What the stores hold, by codec and then by key.
    weights
        What the run and the exports hold.
    """

    folder: Path
    arrays: dict[str, dict[str, npt.NDArray[np.generic]]]
    texts: dict[str, dict[str, list[str]]]
    weights: Weights


def prepare(folder: Path) -> Kept:
    """Small stores of pictures, one for each codec; a checkpoint; an encoder's exports."""
    _write_pictures(folder / "pictures")
    source = open_images(folder / "pictures", size_WH=(32, 24))
    arrays, texts = {}, {}
    kept = folder / "kept"
    kept.mkdir()
    for codec in CODEC_NAMES:
        in_child(build_store, source, kept / f"{codec}.zarr", make_spec(source, frames_per_shard=2, codec=codec))
        store = open_store(kept / f"{codec}.zarr")
        arrays[codec] = {key: store.read(key, range(len(store))) for key in store.arrays}
        texts[codec] = {column: store.text(column).tolist() for column in COLUMNS}
    return Kept(kept, arrays, texts, flipped_weights.prepare(kept))


def _write_pictures(folder: Path) -> None:
    """Three pictures of shapes and noise, in two folders, which are the scenes."""
    rng = np.random.default_rng(0)
    for name in ("bath/a.png", "bath/b.png", "den/c.png"):
        rgb_HWC = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
        cv2.circle(rgb_HWC, (int(rng.integers(8, 24)), 12), 8, rng.integers(90, 255, 3).tolist(), -1)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), rgb_HWC)


def flip(kept: Kept, number: int, rng: np.random.Generator, folder: Path) -> str:
    """One case: one bit."""
    sort = ORDER[number % len(ORDER)]
    turn = number // len(ORDER)
    own = _own_copy(kept, folder)
    if sort in flipped_weights.CHECKPOINT:
        return flipped_weights.flip_checkpoint(kept.weights, own, sort, rng)
    if sort == "export":
        return flipped_weights.flip_export(kept.weights, own, turn, rng)
    codec = CODEC_NAMES[turn % len(CODEC_NAMES)]
    if sort == "manifest":
        return _flip_manifest(own / f"{codec}.zarr", rng)
    return _flip_in_store(kept, own, codec, sort, by_others=turn % 4 == 0, rng=rng)


def _own_copy(kept: Kept, folder: Path) -> Path:
    """This process's copy of what is kept, beside the folder of its cases, so that it outlives a case."""
    if folder not in _OWN:
        copy = folder.with_name(f"{folder.name}-kept")
        shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed with a bit flipped
        shutil.copytree(kept.folder, copy)
        _OWN[folder] = copy
    return _OWN[folder]


def _flip_manifest(path: Path, rng: np.random.Generator) -> str:
    bit = int(rng.integers(8 * (path / MANIFEST_PATH).stat().st_size))
    with flipped(path / MANIFEST_PATH, bit):
        try:
            open_store(path)
        except StoreError:
            return "manifest: the store does not open"
    raise Wrong(f"{path.name}: bit {bit} of the manifest is flipped, and the store opens")


def _flip_in_store(kept: Kept, own: Path, codec: str, sort: str, *, by_others: bool, rng: np.random.Generator) -> str:
    store = open_store(own / f"{codec}.zarr")
    path = str(rng.choice(_files(store, sort)))
    first, last = _bytes_of(store, sort, path)
    bit = int(rng.integers(8 * first, 8 * last))
    with flipped(store.path / path, bit):
        try:
            refused = _read_all(kept, codec, store)
            _verify(store, path)
            others = _read_by_others(kept, codec, store, path) if by_others and sort in ("shard", "index") else ""
        except Wrong as wrong:
            raise Wrong(f"{store.path.name}: bit {bit} of {path} is flipped: {wrong}") from wrong
    if sort in ("shard", "index") and not refused:
        raise Wrong(f"{store.path.name}: bit {bit} of {path} is flipped, and no frame of it is refused")
    return f"{sort}: {'not read' if refused else 'read as it was'}{others}, and named by verify"


def _files(store: Store, sort: str) -> list[str]:
    """The files of a store of a sort."""
    names = [*store.manifest.files]
    arrays = [f"{key}/zarr.json" for key in store.arrays]
    columns = [f"{column}/zarr.json" for column in COLUMNS]
    shards = [array.shard_path(shard) for array in store.arrays.values() for shard in range(store.spec.shards)]
    sorts = {
        "shard": shards,
        "index": shards,
        "text": [name for name in names if name.endswith("/c/0") and name not in shards],
        "array metadata": arrays,
        "text metadata": columns,
        "group metadata": [name for name in names if name.endswith("zarr.json") and name not in (*arrays, *columns)],
    }
    return sorts[sort]


def _bytes_of(store: Store, sort: str, path: str) -> tuple[int, int]:
    """The part of a file that a sort is about: of a shard its frames, or its index."""
    size = store.manifest.files[path].size
    index = size - 16 * store.spec.frames_per_shard - 4
    return {"shard": (0, index), "index": (index, size)}.get(sort, (0, size))


def _read_all(kept: Kept, codec: str, store: Store) -> bool:
    """Read every frame and text; all must be as they were, or be refused. Whether any was refused."""
    refused = False
    for key, whole in kept.arrays[codec].items():
        for row in range(len(store)):
            try:
                seen = store.read(key, [row])[0]
            except StoreError:
                refused = True
                continue
            _same(f"{key}[{row}]", seen, whole[row])
    for column, texts in kept.texts[codec].items():
        try:
            read = store.text(column).tolist()
        except StoreError:
            refused = True
            continue
        if read != texts:
            raise Wrong(f"{column} reads as {read}, wanted {texts}")
    return refused


def _verify(store: Store, path: str) -> None:
    named = {finding.path for finding in verify_store(store, sample=0).findings}
    if named != {path}:
        raise Wrong(f"verify names {', '.join(sorted(named)) or 'nothing'}")


def _read_by_others(kept: Kept, codec: str, store: Store, path: str) -> str:
    """Read the frames of a shard by zarr-python and by TensorStore: none may be wrong, and one must be refused."""
    key, _, rest = path.partition("/c/")
    shard = int(rest.partition("/")[0])
    whole = kept.arrays[codec][key]
    for name, reader in (("zarr", _zarr_reader), ("TensorStore", _tensorstore_reader)):
        read, refused = reader(store.path / key), 0
        for row in store.spec.shard_frames(shard):
            try:
                seen = read(row)
            except Exception:  # they have many kinds
                refused += 1
                continue
            _same(f"by {name} {key}[{row}]", seen, whole[row])
        if not refused:
            raise Wrong(f"{name} refuses no frame of it")
    return ", nor by zarr and TensorStore"


def _zarr_reader(array: Path) -> Callable[[int], npt.NDArray[np.generic]]:
    import zarr

    opened = zarr.open_array(array, mode="r")
    return lambda row: np.asarray(opened[row])


def _tensorstore_reader(array: Path) -> Callable[[int], npt.NDArray[np.generic]]:
    import tensorstore  # here, since it starts threads, which do not outlive a fork

    opened = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{array}/"}, open=True).result()
    return lambda row: np.asarray(opened[row].read().result())


def _same(what: str, seen: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> None:
    if seen.dtype != whole.dtype or seen.tobytes() != whole.tobytes():
        raise Wrong(f"{what} is read with other values, silently")


CAMPAIGNS = [
    Campaign(
        "flips",
        "one bit flipped in a shard, its index, metadata, a text column, the manifest, a checkpoint or an export",
        "reading, loading or verify finds it, and no value is read that was not written",
        quick=500,
        soak=50_000,
        prepare=prepare,
        case=flip,
    )
]
