"""A disk that loses its power: what may be left of a trace of operations, by the least that POSIX promises.

What was written to a file since its last fsync is there, or not, or as zeros, or torn, each write by itself. What
happened to a folder's entries since that folder's last fsync is there up to some point and not from there on; folders
are independent of each other, but a rename is there in both of its folders or in neither. What was forced is there.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.trust.shim import Kind, Operation

_AT_THE_END = 0.1  # share of the power cuts after the last operation
_FATES = ("missing", "zeros", "torn", "whole")


@dataclass(eq=False)
class File:
    """What is on the disk for certain, and each write or cut (a size) that is not."""

    content: bytes = b""
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            self.content = _changed(self.content, change)
        self.pending.clear()


@dataclass(eq=False)
class Folder:
    """Entries as the system shows them, those on the disk for certain, and the changes between the two."""

    entries: dict[str, File | Folder] = field(default_factory=dict)
    certain: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)


@dataclass(eq=False)
class Change:
    """What one operation does to entries of one folder, or of two: new nodes, or None, by folder and name."""

    number: int
    entries: list[tuple[Folder, str, File | Folder | None]]

    def apply(self) -> None:
        for folder, name, node in self.entries:
            _set(folder.certain, name, node)


class Disk:
    """The part of a disk below one folder.

    Parameters
    ----------
    root
        The folder, of which all that is in it now is on the disk for certain.
    """

    def __init__(self, root: Path) -> None:
        self._prefix = f"{root}/"
        self._nodes: dict[int, File | Folder] = {}
        self._root = self._load(root)
        self._changes = 0

    def run(self, operations: Iterable[Operation]) -> None:
        """Let operations happen, without a power cut."""
        for operation in operations:
            self._run(operation)

    def sync(self) -> None:
        """Put everything on the disk."""
        for node in {*self._nodes.values()}:
            self._sync(node)

    def cut_power(self, rng: np.random.Generator) -> None:
        """Lose by chance what may be lost."""
        folders = [node for node in self._nodes.values() if isinstance(node, Folder)]
        stops = {folder: _how_many(len(folder.pending), rng) for folder in folders}
        places = {(folder, change): place for folder in folders for place, change in enumerate(folder.pending)}
        lost: set[Folder] = set()
        changes = {change for folder in folders for change in folder.pending}
        for change in sorted(changes, key=lambda one: one.number):
            concerned = {folder for folder, _, _ in change.entries}
            if any(folder in lost or places[folder, change] >= stops[folder] for folder in concerned):
                lost |= concerned
            else:
                change.apply()
        for node in self._nodes.values():
            if isinstance(node, File):
                _lose(node, rng)

    def write(self, root: Path) -> None:
        """Make the files and folders that are on the disk for certain, with their hard links, in an empty folder."""
        names: dict[File, Path] = {}
        for path, node in _walk(root, self._root):
            if isinstance(node, Folder):
                path.mkdir(exist_ok=True)
            elif node in names:
                os.link(names[node], path)
            else:
                path.write_bytes(node.content)
                names[node] = path

    def tree(self) -> dict[Path, bytes | None]:
        """What is on the disk for certain: content by path, None for a folder."""
        return {path: node.content if isinstance(node, File) else None for path, node in _walk(Path(), self._root)}

    def _load(self, folder: Path) -> Folder:
        loaded = Folder()
        self._nodes[folder.stat().st_ino] = loaded
        for path in folder.iterdir():
            inode = path.stat().st_ino
            if path.is_dir():
                node: File | Folder = self._load(path)
            else:
                node = self._nodes.setdefault(inode, File(path.read_bytes()))
            loaded.entries[path.name] = loaded.certain[path.name] = node
        return loaded

    def _place(self, path: str) -> tuple[Folder, str]:
        *folders, name = path.removeprefix(self._prefix).split("/")
        folder = self._root
        for each in folders:
            inside = folder.entries[each]
            assert isinstance(inside, Folder), path
            folder = inside
        return folder, name

    def _run(self, operation: Operation) -> None:
        match operation.kind:
            case Kind.CREATE:
                self._nodes[operation.inode] = file = File()
                self._change((*self._place(operation.path), file))
            case Kind.MKDIR:
                self._nodes[operation.inode] = made = Folder()
                self._change((*self._place(operation.path), made))
            case Kind.UNLINK | Kind.RMDIR:
                self._change((*self._place(operation.path), None))
            case Kind.LINK:
                folder, name = self._place(operation.path)
                self._change((*self._place(operation.other), folder.entries[name]))
            case Kind.RENAME:
                folder, name = self._place(operation.path)
                self._change((folder, name, None), (*self._place(operation.other), folder.entries[name]))
            case Kind.WRITE:
                self._file(operation).pending.append((operation.offset, operation.data))
            case Kind.TRUNCATE:
                self._file(operation).pending.append(operation.offset)
            case Kind.SYNC:
                self._sync(self._nodes[operation.inode])

    def _file(self, operation: Operation) -> File:
        file = self._nodes[operation.inode]
        assert isinstance(file, File), operation
        return file

    def _change(self, *entries: tuple[Folder, str, File | Folder | None]) -> None:
        change = Change(self._changes, [*entries])
        self._changes += 1
        for folder, name, node in entries:
            _set(folder.entries, name, node)
        for concerned in {folder for folder, _, _ in entries}:
            concerned.pending.append(change)

    def _sync(self, node: File | Folder) -> None:
        if isinstance(node, File):
            node.sync()
            return
        # A rename takes with it what came before it in its other folder.
        forced: set[Change] = set()
        _gather(node, len(node.pending), forced)
        for change in sorted(forced, key=lambda one: one.number):
            change.apply()
            for concerned in {folder for folder, _, _ in change.entries}:
                concerned.pending.remove(change)


def _gather(folder: Folder, count: int, forced: set[Change]) -> None:
    for change in folder.pending[:count]:
        if change not in forced:
            forced.add(change)
            for other in {concerned for concerned, _, _ in change.entries} - {folder}:
                _gather(other, other.pending.index(change) + 1, forced)


def _set(entries: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        del entries[name]
    else:
        entries[name] = node


def _walk(path: Path, folder: Folder) -> Iterator[tuple[Path, File | Folder]]:
    yield path, folder
    for name, node in folder.certain.items():
        if isinstance(node, Folder):
            yield from _walk(path / name, node)
        else:
            yield path / name, node


def _changed(content: bytes, change: tuple[int, bytes] | int) -> bytes:
    if isinstance(change, int):
        return content[:change].ljust(change, b"\0")
    offset, data = change
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _how_many(most: int, rng: np.random.Generator) -> int:
    """None and all are as likely as something between."""
    return (0, most, int(rng.integers(most + 1)))[rng.integers(3)]


def _lose(file: File, rng: np.random.Generator) -> None:
    """Lose some of what was written to a file since its last fsync: all of it, nothing, or of each write something."""
    loses = rng.integers(4)
    for change in file.pending if loses else ():
        fate = _FATES[rng.integers(len(_FATES))] if loses > 1 else "whole"
        if fate == "missing":
            continue
        if not isinstance(change, int) and fate != "whole":
            offset, data = change
            change = offset, (bytes(len(data)) if fate == "zeros" else data[: rng.integers(len(data) + 1)])  # noqa: PLW2901
        file.content = _changed(file.content, change)
    file.pending.clear()


def check_film(before: Disk, trace: Sequence[Operation], root: Path) -> None:
    """Check that a disk and all that was done to it give what is in its folder now: that the trace lacks nothing."""
    after = copy.deepcopy(before)
    after.run(trace)
    after.sync()
    seen = {path.relative_to(root): None if path.is_dir() else path.read_bytes() for path in (root, *root.rglob("*"))}
    tree = after.tree()
    differ = [str(path) for path in {**seen, **tree} if seen.get(path, 0) != tree.get(path, 0)]
    assert not differ, f"the trace does not lead to {', '.join(differ[:5])}"


def power_cut(
    before: Disk, trace: Sequence[Operation], rng: np.random.Generator, root: Path, *, worst: bool = False
) -> int:
    """Make what a power cut leaves in a new folder.

    Returns
    -------
    int
        After how many operations it came: any number, now and then all; the worst comes after all of them, and then
        nothing is left but what was forced.
    """
    cut = len(trace) if worst or rng.random() < _AT_THE_END else int(rng.integers(len(trace)))
    state = copy.deepcopy(before)
    state.run(trace[:cut])
    if not worst:
        state.cut_power(rng)
    root.mkdir()
    state.write(root)
    return cut


def told(trace: Sequence[Operation], cut: int) -> str:
    """The moment of a power cut, for a message: the operations of two runs come in different orders."""
    last = [each for each in trace[:cut] if each.path][-4:]
    names = "; ".join(f"{each.kind.name} {'/'.join(each.path.rsplit('/', 3)[1:])}" for each in last)
    return f"after {cut} of {len(trace)} operations ({names})"
