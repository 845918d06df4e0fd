"""Temporary folders of builds into buckets: each its process's own, and gone with it or soon after."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from gfield.bucket.workroom import workroom

USE_ONE = """
import sys
from gfield.bucket.workroom import workroom
with workroom() as folder:
    (folder / "big").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def top(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_with_its_block(top):
    with workroom() as folder:
        (folder / "a" / "b").mkdir(parents=True)
        assert folder.parent == top
    assert not list(top.iterdir())


def test_a_folder_is_gone_with_an_exception(top):
    with suppress(KeyError), workroom() as folder:
        (folder / "a").touch()
        raise KeyError
    assert not list(top.iterdir())


def test_what_a_killed_process_has_left_is_removed_and_what_another_one_uses_is_not(top):
    processes = [
        subprocess.Popen([sys.executable, "-c", USE_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                         env={"TMPDIR": str(top), "PATH": "/usr/bin:/bin"})
        for _ in range(2)
    ]  # fmt: skip
    folders = [process.stdout.readline().strip() for process in processes]
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    with workroom() as mine:
        left = {str(path) for path in top.iterdir()}
    assert left == {folders[1], str(mine)}
    processes[1].communicate("")
    assert not list(top.iterdir())
    processes[0].communicate()


def test_an_empty_folder_of_a_killed_process_is_removed(top):
    (top / "gfield-work-x").mkdir()
    with workroom():
        pass
    assert not list(top.iterdir())


def test_many_at_once_do_not_take_each_other_for_abandoned(top):
    def use(number):
        with workroom() as folder:
            (folder / str(number)).write_text(str(number))
            return (folder / str(number)).read_text()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(200))) == [str(number) for number in range(200)]
    assert not list(top.iterdir())
