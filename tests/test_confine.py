"""Files that crash, hold up or inflate their parser cost themselves alone, and no process is left behind."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from gfield import confine
from gfield.confine import call
from gfield.formats.framebytes import Damage
from gfield.formats.hdf5 import contents_of
from gfield.formats.jpeg import decode_jpeg, read_jpeg
from gfield.frame import InputError

ROOT = Path(__file__).parents[1]
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted by Linux's /proc")


@pytest.fixture
def no_process():
    """Begin and end with no process at hand."""
    confine._each_idle(confine._Process.end)
    yield
    confine._each_idle(confine._Process.end)


@pytest.fixture
def jpeg(tmp_path) -> Path:
    """A small picture."""
    path = tmp_path / "small.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    return path


def crashing(path: Path) -> Path:
    """An HDF5 file whose fill value is said to have 2 GiB: HDF5 2.0 reads on, far beyond the end of its buffer."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (3, 4, 5), "f4", chunks=(1, 4, 5), fillvalue=3)
    data = path.read_bytes()
    value = struct.pack("<f", 3)
    assert data.count(b"\1\4\0\0\0" + value) == 1, "HDF5 writes fill values otherwise"
    path.write_bytes(data.replace(b"\1\4\0\0\0" + value, b"\1\4\0\0\x80" + value))
    return path


def many_scans(repeats: int) -> bytes:
    """A progressive JPEG of 64 megapixels and some kilobytes, whose last scan comes again and again."""
    grey = np.zeros((8000, 8000), np.uint8)
    whole = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * repeats + whole[-2:]


def children() -> set[int]:
    """Processes of `gfield.confined` that this one has started and that run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if b"gfield.confined" in command and int(parent) == os.getpid() and state != "Z":
            found.add(int(stat.parent.name))
    return found


def test_after_a_file_that_crashes_hdf5_the_next_is_read(tmp_path):
    with suppress(InputError):  # other versions of HDF5 may read it
        contents_of(crashing(tmp_path / "crash.mat"), sets=["x"])
    with h5py.File(tmp_path / "sound.mat", "w") as file:
        file["x"] = np.ones((3, 4, 5))
    assert contents_of(tmp_path / "sound.mat", sets=["x"]).sets["x"].shape == (3, 4, 5)


def test_a_crash_is_said_to_be_one(tmp_path):
    here = subprocess.run(
        [sys.executable, "-c", f"import h5py; h5py.File({str(crashing(tmp_path / 'a'))!r})['x'].fillvalue"],
        check=False,
        capture_output=True,
    )
    if here.returncode != -signal.SIGSEGV:
        pytest.skip("this HDF5 does not crash on the file")
    with pytest.raises(InputError, match=r"/a: crashes its parser \(SIGSEGV\); an undamaged file wanted"):
        contents_of(tmp_path / "a", sets=["x"])


def test_a_picture_that_takes_for_ever_is_given_up(monkeypatch, no_process):
    data = many_scans(190)
    assert len(data) < 1_000_000
    monkeypatch.setattr(confine, "SECONDS", 1)
    began = time.thread_time()
    with pytest.raises(InputError, match=r"slow\.jpg: takes more than 1 s to parse"):
        decode_jpeg(data, "slow.jpg")
    assert time.thread_time() - began < 1, "it is another process that takes the time"


def test_a_chunk_that_is_larger_than_the_memory_is_damage(tmp_path):
    path = tmp_path / "large.mat"
    with h5py.File(path, "w") as file:  # of which the first frame alone is written, in 5 MB
        large = file.create_dataset("x", (2, 500 << 20), "u1", chunks=(1, 500 << 20), compression="lzf")
        large[0] = 0
    frames = contents_of(path, sets=["x"]).sets["x"]
    assert frames.mode == "h5py"
    (seen,) = frames.read_frames(0, 1)
    assert isinstance(seen, Damage)
    assert str(path) in seen.reason


def test_more_than_the_shared_memory_holds_is_refused(monkeypatch, no_process):
    monkeypatch.setattr(confine, "SHARED_BYTES", 1000)
    with pytest.raises(InputError, match=r"x\.jpg: 1001 bytes; at most 1000 wanted"):
        decode_jpeg(bytes(1001), "x.jpg")


@needs_proc
def test_a_process_that_somebody_ended_is_replaced(jpeg, no_process):
    before = read_jpeg(jpeg)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(read_jpeg(jpeg), before)
    assert children() != {pid}


def test_a_process_that_does_not_start_is_no_fault_of_the_file(jpeg, monkeypatch, no_process):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match=r"the process that parses it ended by status 1.*small\.jpg"):
        read_jpeg(jpeg)


def test_an_error_of_ours_is_none_of_the_file():
    with pytest.raises(RuntimeError, match=r"x: TypeError: .*'strange'"):
        call("jpeg", "x", {"strange": 1}, b"data")


@needs_proc
def test_threads_have_a_process_each_and_no_more(jpeg, no_process):
    wanted = read_jpeg(jpeg)
    with ThreadPoolExecutor(4) as pool:
        for seen in pool.map(read_jpeg, [jpeg] * 200):
            np.testing.assert_array_equal(seen, wanted)
    assert 1 <= len(children()) <= 4


FORKS = """
import os, sys
from gfield.formats.jpeg import read_jpeg
from pathlib import Path
path = Path(sys.argv[1])
wanted = read_jpeg(path)
pids = []
for _ in range(3):
    if not (pid := os.fork()):
        os._exit(not all((read_jpeg(path) == wanted).all() for _ in range(20)))
    pids.append(pid)
assert all((read_jpeg(path) == wanted).all() for _ in range(20))
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
"""


def test_forks_do_not_share_a_process(jpeg):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS, str(jpeg)], cwd=ROOT, check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


WAITS = """
import sys, time
from gfield.formats.jpeg import read_jpeg
from gfield import confine
from pathlib import Path
read_jpeg(Path(sys.argv[1]))
print(confine._idle[0]._child.pid, flush=True)
time.sleep(60)
"""


@needs_proc
def test_no_process_outlives_the_one_that_started_it(jpeg):
    parent = subprocess.Popen([sys.executable, "-c", WAITS, str(jpeg)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end, "the process goes on"
        time.sleep(0.01)


def test_a_relative_path_is_that_of_the_folder_one_is_in_by_now(nyu_mat, tmp_path, monkeypatch, no_process):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        contents_of(Path(nyu_mat.name))
    monkeypatch.chdir(nyu_mat.parent)
    assert "images" in contents_of(Path(nyu_mat.name), sets=["images"]).sets


def test_it_says_what_it_is_to_somebody_who_starts_it():
    done = subprocess.run([sys.executable, "-m", "gfield.confined"], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 1
    assert b"started by gfield.confine" in done.stderr
