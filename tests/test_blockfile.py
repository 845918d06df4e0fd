"""Files written past the system's cache: any pieces, on any file system, whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield import blockfile
from gfield.blockfile import BLOCK_BYTES, BlockFile

SHARED_MEMORY = Path("/dev/shm")
lengths = st.lists(st.one_of(st.integers(0, 9000), st.sampled_from([4096, BLOCK_BYTES - 1, BLOCK_BYTES, 3_000_000])))


@pytest.fixture(scope="module", params=["disk", "memory"])
def folder(request, tmp_path_factory):
    """A folder of the disk, and one of a file system that may know no way past the cache."""
    if request.param == "disk":
        yield tmp_path_factory.mktemp("blocks")
        return
    if not SHARED_MEMORY.is_dir():
        pytest.skip("no /dev/shm here")
    folder = SHARED_MEMORY / f"gfield-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


@given(lengths, st.integers(0, 2**32))
def test_a_file_is_its_pieces(folder, lengths, seed):
    rng = np.random.default_rng(seed)
    pieces = [rng.bytes(length) for length in lengths]
    path = folder / "file"
    file = BlockFile(path)
    try:
        for number, piece in enumerate(pieces):
            file.append(memoryview(piece) if number % 2 else piece)
        assert file.size == sum(lengths)
        file.finish()
        assert path.read_bytes() == b"".join(pieces)
    finally:
        file.close()
        path.unlink()


def test_arrays_of_any_type_are_taken_as_bytes(tmp_path):
    values = np.arange(300_000, dtype=np.float32).reshape(300, 1000)
    file = BlockFile(tmp_path / "file")
    file.append(values.data)
    file.finish()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "file", np.float32), values.ravel())


def test_a_file_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(FileExistsError):
        BlockFile(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_file_may_be_given_up(tmp_path):
    file = BlockFile(tmp_path / "file")
    file.append(b"lost")
    file.close()
    file.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        file.finish()


@pytest.mark.skipif(not blockfile._DIRECT, reason="this system has no O_DIRECT")
def test_a_disk_that_wants_larger_pages_gets_its_bytes_through_the_cache(tmp_path, monkeypatch):
    """Writes past the cache must begin and end at pages; 512 bytes are no page of any disk that asks for more."""
    monkeypatch.setattr(blockfile, "_ALIGNMENT", 1)
    file = BlockFile(tmp_path / "file")
    file.append(b"x" * 1001)
    file.finish()
    assert (tmp_path / "file").read_bytes() == b"x" * 1001


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error(tmp_path):
    file = BlockFile(tmp_path / "file")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    os.dup2(descriptor, file._file)
    os.close(descriptor)
    file.append(b"x" * BLOCK_BYTES)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.append(b"x" * BLOCK_BYTES)
    file.close()
    file = BlockFile(tmp_path / "other")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    os.dup2(descriptor, file._file)
    os.close(descriptor)
    file.append(b"x" * BLOCK_BYTES)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.finish()
    file.close()
