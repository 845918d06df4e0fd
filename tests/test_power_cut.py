"""What the disk of `tests.trust.disk` may forget in a power cut, and what it must not."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from .trust.disk import Disk
from .trust.shim import Kind, Operation

DATA = bytes(range(1, 101))


@pytest.fixture
def disk(tmp_path) -> Disk:
    """A folder with a file ``old`` in a folder ``a``, and a folder ``b``."""
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "old").write_bytes(b"old")
    return Disk(tmp_path)


@pytest.fixture
def after(disk, tmp_path):
    """Different trees that cuts leave after operations: ``(kind, path, other, inode, data)``, inodes our own."""
    folders = {name: (tmp_path / name).stat().st_ino for name in "ab"}

    def trees(*operations):
        trace = [
            Operation(kind, f"{tmp_path}/{path}", f"{tmp_path}/{other}", folders.get(inode, inode), 0, data)
            for kind, path, other, inode, data in operations
        ]
        found = []
        for seed in range(300):
            cut = copy.deepcopy(disk)
            cut.run(trace)
            cut.cut_power(np.random.default_rng(seed))
            tree = {str(path): content for path, content in cut.tree().items() if content is not None}
            if tree not in found:
                found.append(tree)
        return found

    return trees


def made(path: str, inode: int = -1):
    return [(Kind.CREATE, path, "", inode, b""), (Kind.WRITE, "", "", inode, DATA)]


def synced(inode):
    return (Kind.SYNC, "", "", inode, b"")


def test_what_was_forced_is_there(after):
    assert after(*made("a/x"), synced(-1), synced("a")) == [{"a/old": b"old", "a/x": DATA}]


def test_a_name_that_was_not_forced_may_be_missing(after):
    both = after(*made("a/x"), synced(-1))
    assert sorted(both, key=len) == [{"a/old": b"old"}, {"a/old": b"old", "a/x": DATA}]


def test_data_that_was_not_forced_may_be_missing_torn_or_zeros(after):
    contents = {tree["a/x"] for tree in after(*made("a/x"), synced("a"))}
    assert {b"", DATA, bytes(100)} < contents
    assert all(content in (DATA[: len(content)], bytes(100)) for content in contents)
    assert len(contents) > 10


def test_a_rename_is_in_both_folders_or_in_neither(after):
    trees = after((Kind.RENAME, "a/old", "b/new", 0, b""))
    assert sorted(map(str, trees)) == ["{'a/old': b'old'}", "{'b/new': b'old'}"]
    assert after((Kind.RENAME, "a/old", "b/new", 0, b""), synced("b")) == [{"b/new": b"old"}]


def test_changes_of_one_folder_are_there_in_order_and_those_of_two_in_any(after):
    def names(first, second):
        pair = (Kind.LINK, "a/old", first, 0, b""), (Kind.LINK, "a/old", second, 0, b"")
        return {tuple(sorted(tree.keys() - {"a/old"})) for tree in after(*pair)}

    assert names("b/1", "b/2") == {(), ("b/1",), ("b/1", "b/2")}
    assert names("a/1", "b/2") == {(), ("a/1",), ("b/2",), ("a/1", "b/2")}


def test_a_disk_is_written_with_its_links(disk, tmp_path):
    disk.run([Operation(Kind.LINK, f"{tmp_path}/a/old", f"{tmp_path}/b/too", 0, 0, b"")])
    disk.sync()
    new: Path = tmp_path / "new"
    new.mkdir()
    disk.write(new)
    assert (new / "a" / "old").samefile(new / "b" / "too")
    assert (new / "b" / "too").read_bytes() == b"old"
