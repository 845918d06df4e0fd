"""Builds to be disturbed: from nothing, over a finished store, beside an unfinished one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import gfield.cluster.dispatch  # noqa: F401  loaded before the children are forked, not in each of them
from gfield.build import BuildReport, build_store
from gfield.field import FieldParams
from gfield.files import TEMPORARY
from gfield.frame import Source
from gfield.manifest import StoreError
from gfield.records import read_record
from gfield.shard import hash_file
from gfield.sources.nyuv2 import open_nyuv2
from gfield.spec import StoreSpec
from gfield.specify import make_spec
from gfield.staging import Staging
from gfield.store import open_store
from gfield.verify import verify_store
from tests.trust.campaign import Wrong
from tests.trust.children import in_child
from tests.trust.inputs import FRAMES, FRAMES_PER_SHARD, small_mat

FIELD = FieldParams(low=20, high=90)
LEVELS_WH = ((80, 60),)  # one, since a second one's files meet with nothing that the first one's do not


@dataclass(frozen=True)
class Scene:
    """A build, and the disk that it finds.

    Attributes
    ----------
    name
        In a few words.
    source, spec
        What is built.
    begin
        A folder as it is before; not to be changed.
    inside
        Where in such a folder the store goes.
    before, root
        Root hashes of the store that is there before ("" without one) and of the one that is to be.
    tree
        All names in the finished store.
    overwrite
        Whether the build replaces what is there.
    """

    name: str
    source: Source
    spec: StoreSpec
    begin: Path
    inside: str
    before: str
    root: str
    tree: frozenset[str]
    overwrite: bool = False

    def set(self, disk: Path) -> None:
        """Make a folder as it is before the build."""
        shutil.copytree(self.begin, disk)

    def build(self, disk: Path) -> BuildReport:
        """Build, or go on."""
        return build_store(self.source, disk / self.inside, self.spec, overwrite=self.overwrite)

    def seen(self, disk: Path) -> str:
        """The root hash of the store in a folder, "" where none opens.

        Raises
        ------
        Wrong
            If one opens and anything in it is not as it was written, or it is neither the old store nor the new one;
            if none does, and the old one does not lie aside.
        """
        store = disk / self.inside
        root = _root(store)
        if root not in {"", self.before, self.root}:
            raise Wrong(f"root {root}, wanted {self.before or 'none'} or {self.root}")
        aside = Staging(store, self.spec).folder.glob(f"*{TEMPORARY}")
        if not root and self.before and self.before not in map(_root, aside):
            raise Wrong("the store from before is lost")
        return root

    def whole_shards(self, disk: Path) -> int:
        """How many shard numbers have a record of all their files in an unfinished build, and those files."""
        staging = Staging(disk / self.inside, self.spec)
        paths = [array.shard_path for array in self.spec.array_specs().values()]
        records = [(shard, read_record(staging.records, shard).files) for shard in range(self.spec.shards)]
        return sum(
            all(
                (entry := files.get(path(shard))) is not None
                and (staging.store / path(shard)).exists()
                and hash_file(staging.store / path(shard)) == entry[:2]
                for path in paths
            )
            for shard, files in records
        )


def finish(scene: Scene, disk: Path) -> BuildReport:
    """Build once more, undisturbed; say what is wrong with what comes of it.

    Raises
    ------
    Wrong
        Unless the store is the one of the uninterrupted build, no shard that was whole was made again, and nothing
        else is left.
    """
    whole, opens = scene.whole_shards(disk), scene.seen(disk)
    report = scene.build(disk)
    if report.root != scene.root or scene.seen(disk) != scene.root:
        raise Wrong(f"root {report.root} after the second build, wanted {scene.root}")
    published = opens == scene.root and not scene.overwrite
    wanted = 0 if published else scene.spec.shards - whole
    if report.shards_written != wanted and not (opens == scene.root and scene.overwrite):
        raise Wrong(f"{report.shards_written} shards written again, wanted {wanted}: {whole} were whole")
    store = disk / scene.inside
    left = [path.name for path in store.parent.iterdir() if path != store]
    if left:
        raise Wrong(f"left beside the store: {', '.join(left)}")
    if (tree := _tree(store)) != scene.tree:
        raise Wrong(f"names in the store that differ: {', '.join(sorted(tree ^ scene.tree)[:5])}")
    return report


def scenes(folder: Path) -> list[Scene]:
    """All scenes, in a folder for what they begin with."""
    version("numpy")  # what it has to look for stays found, in all processes that are forked
    source = open_nyuv2(small_mat(folder))
    begins = {name: folder / name for name in ("nothing", "store", "part")}
    for each in begins.values():
        each.mkdir()
    spec = make_spec(source, levels_WH=LEVELS_WH, frames_per_shard=FRAMES_PER_SHARD)
    old = replace(spec, operator=FIELD.to_dict())
    # Shards of more than a block, which are written while they are filled.
    large = make_spec(source, levels_WH=[(320, 240)], frames_per_shard=FRAMES, codec="raw")
    before = in_child(build_store, source, begins["store"] / "nyu.zarr", old).root
    in_child(_part, source, begins["part"] / "nyu.zarr", old)

    def scene(
        name: str, begin: str, spec: StoreSpec = spec, inside: str = "nyu.zarr", before: str = "", **how: bool
    ) -> Scene:
        whole = folder / f"{spec.fingerprint}.zarr"
        root = in_child(build_store, source, whole, spec).root
        return Scene(name, source, spec, begins[begin], inside, before, root, _tree(whole), **how)

    return [
        scene("from nothing", "nothing", inside="new/folder/nyu.zarr"),
        scene("other thresholds over a store", "store", before=before),
        scene("overwriting a store", "store", large, before=before, overwrite=True),
        scene("beside an unfinished build", "part"),
    ]


def _root(store: Path) -> str:
    """The root hash of a store that is found whole, "" where none opens."""
    try:
        opened = open_store(store)
    except StoreError:
        return ""
    found = verify_store(opened, sample=None).findings
    if found:
        raise Wrong(f"a store that opens: {found[0].message} ({len(found)} findings)")
    return opened.manifest.root


def _part(source: Source, target: Path, spec: StoreSpec) -> None:
    build_store(source, target, spec, part=(1, 2))


def _tree(store: Path) -> frozenset[str]:
    return frozenset(path.relative_to(store).as_posix() for path in store.rglob("*"))
