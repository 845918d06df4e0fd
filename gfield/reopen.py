"""With which options a source is opened again, so that it has the frames of a store that was built of it.

Heavy things are imported inside the functions, as in `gfield.commandline.build`, which names these there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfield.store import Store

Options = dict[str, Any]


def as_densedepth_was_opened(store: Store, path: Path) -> Options:
    """With nyu_test.zip, from beside the archive, where the store was made of it too."""
    from gfield.manifest import StoreError

    others = [entry["name"] for entry in store.attributes["source_files"][1:]]
    test = path.parent / others[0] if others else None
    if test is not None and not test.exists():
        raise StoreError(f"{test}: No such file or directory; {store.path} is of it too, wanted beside {path.name}")
    return {"test": test, "keep_frame": store.spec.valid_region is None}


def as_nyu_raw_was_opened(store: Store, path: Path) -> Options:
    """The very frames that a store has, however they were chosen."""
    from gfield.manifest import StoreError

    try:
        splits = set(store.splits.tolist()) - {"excluded"}
        only = frozenset(store.names.tolist())
    except StoreError:
        return _as_nyu_raw_left_out(store, path)
    return {"only": only, "max_gap": float("inf"), "split": min(splits, default="unlabeled")}


def _as_nyu_raw_left_out(store: Store, path: Path) -> Options:
    """The same where names or splits are damaged: all frames but those that the store says were left out."""
    from gfield.manifest import StoreError
    from gfield.publish import text_columns
    from gfield.sources.nyu_raw import open_nyu_raw
    from gfield.spec import digest

    everything = open_nyu_raw(path, max_gap=float("inf"))
    left_out = {entry["name"] for entry in store.attributes["left_out"]}
    files = zip(everything.names, everything.scenes, everything.files.depth, strict=True)
    only = frozenset(name for name, scene, file in files if not left_out & {scene, file})
    for split in ("train", "unlabeled"):
        options: Options = {"only": only, "max_gap": float("inf"), "split": split}
        if digest(text_columns(open_nyu_raw(path, **options))) == store.spec.text:
            return options
    raise StoreError(
        f"{store.path}: name/ or split/ is damaged, and the frames below {path} are not all that it was built of; "
        "the same folder, and a store built without --every, can be repaired"
    )
