"""`gfield.formats.npy`: frames of arrays that NumPy saved into archives."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gfield.formats.npy
from gfield.formats.npy import NpyFrames, open_npy
from gfield.formats.zipped import open_zip
from gfield.frame import InputError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def write(path: Path, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("before", b"x" * 1000)
        archive.writestr("a.npy", data)
        archive.writestr("after", b"y" * 1000)
    return path


def opened(path: Path) -> NpyFrames:
    return open_npy(path, "a.npy", open_zip(path)["a.npy"])


@settings(max_examples=40)
@given(
    frames=st.integers(1, 9),
    frame=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    dtype=st.sampled_from(["u1", "<f4", ">f8", "<i8", ">u2"]),
    version=st.sampled_from([None, (2, 0), (3, 0)]),
    method=st.sampled_from(METHODS),
    ends=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_any_range_of_frames_is_numpys(tmp_path_factory, frames, frame, dtype, version, method, ends):
    array = np.random.default_rng(frames).integers(0, 200, (frames, *frame)).astype(dtype)
    path = write(tmp_path_factory.mktemp("npy") / "a.zip", saved(array, version), method)
    start, stop = sorted(min(end, frames) for end in ends)
    read = pickle.loads(pickle.dumps(opened(path)))
    assert (read.shape, read.dtype) == (array.shape, array.dtype)
    for seen, wanted in zip(read.read_frames(start, stop), array[start:stop], strict=True):
        np.testing.assert_array_equal(seen, wanted)
        assert seen.dtype == array.dtype


@pytest.mark.parametrize("method", METHODS)
def test_memory_holds_a_few_frames_and_not_the_array(tmp_path, method):
    array = np.random.default_rng(0).integers(0, 8, (400, 100, 1000), np.uint8)
    frames = opened(write(tmp_path / "a.zip", saved(array), method))
    tracemalloc.start()
    total = sum(int(frame[0, 0]) for frame in frames.read_frames(0, 400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == int(array[:, 0, 0].sum())
    assert peak < array.nbytes / 2


def damaged(path: Path, at: int) -> Path:
    """A byte of the member's data is another, ``at`` bytes from its first."""
    member = open_zip(path)["a.npy"]
    data = bytearray(path.read_bytes())
    data[member.offset + 30 + len("a.npy") + at] ^= 0x55
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_damage_is_told_whichever_frame_is_asked_for(tmp_path, method):
    array = np.arange(5 * 300, dtype="<f4").reshape(5, 300)
    path = write(tmp_path / "a.zip", saved(array), method)
    frames = opened(path)
    damaged(path, 700 if method == zipfile.ZIP_STORED else 300)
    for start, stop in ((0, 1), (4, 5), (0, 5)):
        seen = []
        with pytest.raises(InputError, match=r"a\.npy does not (inflate|match its size and CRC-32)"):
            seen.extend(frames.read_frames(start, stop))
        assert seen == []


def test_a_sound_array_is_gone_over_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    passes = []
    whole = gfield.formats.npy.stream_member
    monkeypatch.setattr(gfield.formats.npy, "stream_member", lambda *of: passes.append(of) or whole(*of))
    path = write(tmp_path / "a.zip", saved(np.arange(5 * 300, dtype="<f4").reshape(5, 300)), zipfile.ZIP_STORED)
    frames = opened(path)
    passes.clear()
    for start in range(5):
        list(frames.read_frames(start, start + 1))
    assert len(passes) == 1
    damaged(path, 700)
    with pytest.raises(InputError, match=r"a\.npy does not match"):
        list(frames.read_frames(0, 1))


def test_an_archive_that_was_cut_off_since_is_told(tmp_path):
    array = np.zeros((5, 300), np.float32)
    path = write(tmp_path / "a.zip", saved(array), zipfile.ZIP_STORED)
    frames = opened(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"a\.npy does not match its size and CRC-32"):
        list(frames.read_frames(0, 4))
    path.unlink()
    with pytest.raises(InputError, match=r"a\.zip: No such file"):
        list(frames.read_frames(0, 2))


class Hostile:
    """Unpickling it would run a command."""

    def __reduce__(self):
        import os

        return os.system, ("touch /nonexistent/hostile",)


GOOD = saved(np.zeros((3, 4), np.float32))
BAD = {
    "no .npy": (b"<html>404</html>", "begins with b'<html>'; a .npy wanted"),
    "empty": (b"", "begins with b''"),
    "a version from the future": (GOOD.replace(b"NUMPY\1", b"NUMPY\4"), "version 4; 1, 2 or 3 wanted"),
    "pickled objects": (saved(np.array([Hostile()], dtype=object)), "an array of plain numbers wanted"),
    "fields": (saved(np.zeros(3, [("a", "<f4")])), "an array of plain numbers wanted"),
    "complex": (saved(np.zeros(3, "<c8")), "an array of plain numbers wanted"),
    "code for a header": (GOOD.replace(b"'<f4'", b"f(4) "), "an array of plain numbers wanted"),
    "Fortran's order": (saved(np.asfortranarray(np.zeros((3, 4)))), "in Fortran's order; C order wanted"),
    "short": (GOOD[:-1], "has 175 bytes, 176 wanted for float32 (3, 4)"),
    "long": (GOOD + b"x", "has 177 bytes, 176 wanted"),
    "a huge shape": (GOOD.replace(b"(3, 4)", b"(9999999, 9999999)"), "bytes, 399999"),
    "a huge header": (GOOD[:8] + b"\xff\xff" + GOOD[10:], "a header of 65535 bytes; at most 4096 wanted"),
    "cut in its header": (GOOD[:60], "a header of 118 bytes"),
}


BAD["a type that is none"] = (saved(np.zeros(3, np.uint8)).replace(b"'|u1'", b"'<f1'"), "plain numbers wanted")
BAD["a length of 4,000 digits"] = (
    b"\x93NUMPY\1\0\xff\x0f" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s,)}".ljust(4100) % (b"9" * 4000),
    "plain numbers wanted",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, case, method):
    data, said = BAD[case]
    path = write(tmp_path / "a.zip", data, method)
    with pytest.raises(InputError, match=r"a\.zip: a\.npy") as caught:
        opened(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frames_that_are_not_there(tmp_path):
    frames = opened(write(tmp_path / "a.zip", GOOD))
    with pytest.raises(IndexError, match="frames 2:4 wanted of 3"):
        list(frames.read_frames(2, 4))
