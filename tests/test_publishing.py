"""How a store gets its name: on the disk before, whole, and with the older one back where that fails."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from gfield import folder_build
from gfield.build import build_store
from gfield.field import FieldParams
from gfield.manifest import StoreError
from gfield.specify import make_spec
from gfield.staging import Staging
from gfield.store import open_store

from .trees import tree


@pytest.mark.parametrize("before", ["nothing", "a store", "an unfinished build"])
@pytest.mark.parametrize("links", [True, False])
def test_all_is_on_the_disk_before_the_store_has_its_name(source, built, tmp_path, monkeypatch, before, links):
    """Every file, and every folder's entries as they are when the folder is renamed."""

    def no_links(*arguments):
        raise PermissionError(errno.EPERM, "this file system knows no hard links")

    target = tmp_path / "s"
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    files: set[int] = set()
    entries: dict[int, list[str]] = {}
    fsync, swap_in = os.fsync, folder_build.swap_in

    def noting_fsync(descriptor):
        status = os.fstat(descriptor)
        seen = sorted(os.listdir(descriptor)) if stat.S_ISDIR(status.st_mode) else None
        fsync(descriptor)
        if seen is None:
            files.add(status.st_ino)
        else:
            entries[status.st_ino] = seen

    def checking_swap_in(staging):
        for folder, names, inside in os.walk(staging.store):
            assert entries.get(os.stat(folder).st_ino) == sorted(names + inside), folder
            for name in inside:
                assert os.stat(os.path.join(folder, name)).st_ino in files, (folder, name)
        checked.append(staging)
        swap_in(staging)

    checked: list[Staging] = []
    monkeypatch.setattr(os, "fsync", noting_fsync)
    if before == "a store":
        build_store(source, target, other)
    elif before == "an unfinished build":
        build_store(source, target, other, part=(1, 2))
    entries.clear()
    if not links:
        files.clear()
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(folder_build, "swap_in", checking_swap_in)
    build_store(source, target, make_spec(source, frames_per_shard=2))
    assert len(checked) == 1
    assert tree(target) == tree(built)


def test_the_folders_above_a_new_store_are_on_the_disk_too(source, tmp_path, monkeypatch):
    """Or a power cut would take with them a store that was reported as built."""
    synced: set[int] = set()
    fsync = os.fsync

    def noting_fsync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    build_store(source, tmp_path / "new" / "folder" / "s", make_spec(source, frames_per_shard=2))
    assert {folder.stat().st_ino for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "folder")} <= synced


@pytest.fixture
def killed_while_it_removes(monkeypatch):
    """Runs a build that ends, once the store has its name, where it would remove what that has replaced."""

    def killing(_staging):
        raise KeyboardInterrupt

    def run(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(folder_build, "remove", killing)
            with pytest.raises(KeyboardInterrupt):
                build_store(*arguments, **options)

    return run


def test_what_a_killed_build_has_moved_aside_does_not_stop_the_next(source, built, tmp_path, killed_while_it_removes):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2)
    build_store(source, target, make_spec(source, frames_per_shard=5))
    killed_while_it_removes(source, target, spec, overwrite=True)
    assert list(tmp_path.glob("s.building-*/*.tmp"))
    assert build_store(source, target, spec, overwrite=True).state == "built"
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_unfinished_builds_that_a_store_replaces_go_with_its_own(source, built, tmp_path, killed_while_it_removes):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=2)
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=20, high=90))
    build_store(source, target, other, part=(1, 2))
    killed_while_it_removes(source, target, spec)
    build_store(source, target, spec)
    assert tree(target) == tree(built)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_older_store_comes_back_where_the_new_one_cannot_take_its_place(source, built, tmp_path, monkeypatch):
    target, spec = tmp_path / "s", make_spec(source, frames_per_shard=5)
    shutil.copytree(built, target)
    rename = Path.rename

    def failing(path, place):
        if path == Staging(target, spec).store:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return rename(path, place)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            build_store(source, target, spec, overwrite=True)
    assert tree(target) == tree(built)
    build_store(source, target, spec, overwrite=True)
    assert open_store(target).spec == spec
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_unfinished_store_cannot_be_opened(source, tmp_path):
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=2), part=(1, 2))
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "s")
    (staging,) = tmp_path.glob("s.building-*")
    with pytest.raises(StoreError, match="wanted a store"):
        open_store(staging / "store")
