"""What `tests.trust.damage` does to the files of a store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

_PAGE = 4096


class Stores(NamedTuple):
    """A store, an earlier state of it, one of other frames, all undamaged; and the copy that is damaged."""

    whole: Path
    earlier: Path
    other: Path
    copy: Path

    def shards(self, path: str) -> list[str]:
        """The shards of the array that a file belongs to, or of some array."""
        key = path.partition("/c/")[0] if path.count("/") > 2 else "160x120/rgb"
        files = [file for file in (self.whole / key).rglob("0") if file.is_file()]
        return sorted(file.relative_to(self.whole).as_posix() for file in files)


Harm = Callable[[Stores, str, np.random.Generator], None]


def _freed(path: Path) -> Path:
    """A path at which nothing is any more, and whose folder is there, perhaps by a link."""
    for folder in reversed(path.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            folder.unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b"x" * 100


def _rewrite(path: Path, data: bytes) -> None:
    _freed(path).write_bytes(data)


def _truncate(stores: Stores, path: str, rng: np.random.Generator) -> None:
    data = _content(stores.copy / path)
    _rewrite(stores.copy / path, data[: rng.integers(len(data) or 1)])


def _zero_page(stores: Stores, path: str, rng: np.random.Generator) -> None:
    data = bytearray(_content(stores.copy / path))
    start = int(rng.integers(len(data) // _PAGE + 1)) * _PAGE
    data[start : start + _PAGE] = bytes(len(data[start : start + _PAGE]))
    _rewrite(stores.copy / path, data)


def _append(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _rewrite(stores.copy / path, _content(stores.copy / path) + rng.bytes(int(rng.integers(1, 5000))))


def _swap(stores: Stores, path: str, rng: np.random.Generator) -> None:
    one, other = rng.choice(stores.shards(path), 2, replace=False)
    contents = _content(stores.copy / other), _content(stores.copy / one)
    for name, content in zip((one, other), contents, strict=True):
        _rewrite(stores.copy / name, content)


def _duplicate(stores: Stores, path: str, rng: np.random.Generator) -> None:
    one, other = rng.choice(stores.shards(path), 2, replace=False)
    _rewrite(stores.copy / one, _content(stores.copy / other))


def _of_other_store(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _rewrite(stores.copy / path, _content(stores.other / path))


def _of_old_parameters(stores: Stores, path: str, rng: np.random.Generator) -> None:
    shard = str(rng.choice(stores.shards("160x120/gradient/c/0/0/0")))
    _rewrite(stores.copy / shard, _content(stores.earlier / shard))


def _metadata_of_other_store(stores: Stores, path: str, rng: np.random.Generator) -> None:
    for name in ("zarr.json", "160x120/zarr.json", "160x120/gradient/zarr.json"):
        _rewrite(stores.copy / name, _content(stores.earlier / name))


def _folder(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _freed(stores.copy / path).mkdir()


def _full_folder(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _folder(stores, path, rng)
    (stores.copy / path / "mine.txt").write_text("mine")


def _pipe(stores: Stores, path: str, rng: np.random.Generator) -> None:
    os.mkfifo(_freed(stores.copy / path))


def _link_nowhere(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _freed(stores.copy / path).symlink_to("nowhere")


def _link_to_itself(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _freed(stores.copy / path).symlink_to(Path(path).name)


def _link_to_copy(stores: Stores, path: str, rng: np.random.Generator) -> None:
    _freed(stores.copy / path).symlink_to(stores.whole / path)


def _link_to_sibling(stores: Stores, path: str, rng: np.random.Generator) -> None:
    one, other = rng.choice(stores.shards(path), 2, replace=False)
    _freed(stores.copy / one).symlink_to(stores.copy / other)


def _folder_link(stores: Stores, path: str, rng: np.random.Generator) -> None:
    """A shard's folder is a link to another shard's."""
    one, other = (stores.copy / shard for shard in rng.choice(stores.shards(path), 2, replace=False))
    while one.parent.name != "c":
        one, other = one.parent, other.parent
    _freed(one).symlink_to(other)


def _file_for_folder(stores: Stores, path: str, rng: np.random.Generator) -> None:
    if "/" in path:  # else it is the store's own
        _freed((stores.copy / path).parent).write_bytes(b"no folder")


def _rename_column(stores: Stores, path: str, rng: np.random.Generator) -> None:
    column = str(rng.choice(["name", "split", "scene"]))
    if (stores.copy / column).is_dir():
        (stores.copy / column).rename(_freed(stores.copy / f"{column}s"))


def _extra_file(stores: Stores, path: str, rng: np.random.Generator) -> None:
    folder = (stores.copy / path).parent
    if folder.is_dir():
        _freed(folder / f"extra-{rng.integers(9)}").write_bytes(rng.bytes(9))


def _extra_link(stores: Stores, path: str, rng: np.random.Generator) -> None:
    folder = (stores.copy / path).parent
    if folder.is_dir():
        _freed(folder / f"extra-{rng.integers(9)}").symlink_to(stores.whole)


HARMS: dict[str, Harm] = {
    "truncate": _truncate,
    "zero a page": _zero_page,
    "append": _append,
    "delete": lambda stores, path, rng: _freed(stores.copy / path) and None,
    "empty": lambda stores, path, rng: _rewrite(stores.copy / path, b""),
    "swap shards": _swap,
    "duplicate a shard": _duplicate,
    "a file of another store": _of_other_store,
    "a shard of old parameters": _of_old_parameters,
    "metadata of old parameters": _metadata_of_other_store,
    "a folder": _folder,
    "a full folder": _full_folder,
    "a pipe": _pipe,
    "a link to nowhere": _link_nowhere,
    "a link to itself": _link_to_itself,
    "a link to a copy": _link_to_copy,
    "a link to another shard": _link_to_sibling,
    "a link for a folder": _folder_link,
    "a file for a folder": _file_for_folder,
    "a column renamed": _rename_column,
    "an extra file": _extra_file,
    "an extra link": _extra_link,
}
