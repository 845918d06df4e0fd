"""Compiled checksums, decoding and copies beside google-crc32c, Blosc and NumPy, which define them."""

from __future__ import annotations

import errno
import itertools
import mmap
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from gfield import chunks
from gfield.codec import CODEC_NAMES, ChecksumError, codec_for

compiled_only = pytest.mark.skipif(not chunks.COMPILED, reason="the compiled code is not there")
_chunks = getattr(chunks, "_chunks", None)

GUARD = 128  # bytes on both sides of what is decoded, which nobody may write to
WORK = np.empty(1 << 20, np.uint8)


def with_checksum(payload):
    return np.frombuffer(bytes(payload) + google_crc32c.value(bytes(payload)).to_bytes(4, "little"), np.uint8)


def decoded(stored, size, compressed, *, past=False, base=False, shift=0):
    """What the compiled code makes of a chunk, or None; it may write nowhere else."""
    memory = np.full(size + 2 * GUARD, 0xA5, np.uint8)
    start = GUARD - GUARD // 2 + shift
    done = _chunks.decode(stored, memory[start : start + size], WORK, compressed, past, base)
    assert (memory[:start] == 0xA5).all()
    assert (memory[start + size :] == 0xA5).all()
    return memory[start : start + size] if done else None


@st.composite
def values(draw):
    """Bytes as LZ4 meets them: noise, runs, and what repeats at any distance, short and across blocks."""
    parts = []
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.sampled_from([1, 3, 7, 15, 16, 40, 300, 5000, 70_000]))
        period = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 100, 70_000]))
        seed = draw(st.integers(0, 1000))
        top = draw(st.sampled_from([2, 4, 256]))
        pattern = np.random.default_rng(seed).integers(0, top, min(period, count), dtype=np.uint8)
        parts.append(np.resize(pattern, count))
    return np.concatenate(parts)


@compiled_only
@pytest.mark.parametrize("base", [False, True])
@given(seed=st.integers(0, 1000), size=st.integers(0, 9000), start=st.integers(0, 70))
def test_checksum_is_googles(base, seed, size, start):
    data = np.random.default_rng(seed).integers(0, 256, start + size, dtype=np.uint8)[start:]
    assert _chunks.crc32c(data, base) == google_crc32c.value(data.tobytes())


@compiled_only
@pytest.mark.parametrize("keep", [0, 4096, 4097, 500_000])
def test_a_mapped_file_that_is_cut_short_is_an_error_of_whoever_reads_it(tmp_path, keep):
    """The system says so by SIGBUS, to the very instruction; others than us are to be told as before."""
    data = with_checksum(np.random.default_rng(0).integers(0, 256, 1_000_000, dtype=np.uint8))
    (tmp_path / "m").write_bytes(data)
    out = np.empty(1_000_000, np.uint8)
    with (tmp_path / "m").open("r+b") as file:
        stored = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        assert _chunks.decode(stored, out, WORK, False, True)
        file.truncate(keep)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                for compressed, past, base in itertools.product([False, True], repeat=3):
                    failed = pool.submit(_chunks.decode, stored, out, WORK, compressed, past, base).exception()
                    assert isinstance(failed, OSError)
                    assert failed.errno == errno.EIO
                assert isinstance(pool.submit(chunks.fetch, stored).exception(), OSError)
        file.write(data)
    assert _chunks.decode(stored, out, WORK, False, True)
    np.testing.assert_array_equal(chunks.fetch(stored), data)


@compiled_only
@pytest.mark.parametrize("fault", ["memoryview(mapped)[0]", "os.kill(os.getpid(), signal.SIGBUS)"])
@pytest.mark.parametrize("handlers", ["", "before", "after", "before and after"])
def test_a_bus_error_of_others_ends_the_process_as_it_would_without_us(tmp_path, fault, handlers):
    script = f"""
import faulthandler, mmap, os, resource, signal
from gfield.chunks import fetch
import numpy as np
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with open({str(tmp_path / "m")!r}, "w+b") as file:
    file.truncate(5000)
    mapped = mmap.mmap(file.fileno(), 5000)
    if "before" in {handlers!r}:
        faulthandler.enable()
    fetch(np.frombuffer(bytes(100), np.uint8))
    if "after" in {handlers!r}:
        faulthandler.enable()
    file.truncate(0)
    {fault}
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -signal.SIGBUS
    assert ended.stderr.count("Fatal Python error: Bus error") == (handlers != "")


@compiled_only
def test_checksum_of_the_standards_example():
    """RFC 3720, appendix B.4: of 32 zeros, and of 32 bytes of ones."""
    assert _chunks.crc32c(bytes(32)) == 0x8A9136AA
    assert _chunks.crc32c(b"\xff" * 32, True) == 0x62A8AB43


@compiled_only
@given(data=values(), base=st.booleans(), past=st.booleans(), shift=st.integers(0, 64))
def test_raw_chunks_are_copied(data, base, past, shift):
    got = decoded(with_checksum(data), data.size, False, base=base, past=past, shift=shift)
    np.testing.assert_array_equal(got, data)


@compiled_only
@settings(deadline=None)
@given(
    data=values(),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    shuffle=st.sampled_from([0, 2]),
    level=st.sampled_from([1, 5, 9]),
    base=st.booleans(),
    past=st.booleans(),
    shift=st.integers(0, 64),
)
def test_chunks_are_decoded_as_blosc_does(data, itemsize, shuffle, level, base, past, shift):
    data = data[: data.size // itemsize * itemsize]
    if not data.size:
        return
    payload = blosc.compress(data.view(f"u{itemsize}"), b"lz4", level, shuffle, blocksize=0)
    got = decoded(with_checksum(payload), data.size, True, base=base, past=past, shift=shift)
    stored_as_it_is, whole_bytes = payload[2] & 2, data.size % (8 * itemsize) == 0
    if got is not None:
        np.testing.assert_array_equal(got, data)
    else:
        assert stored_as_it_is or (shuffle and (itemsize == 8 or not whole_bytes))


@compiled_only
@settings(deadline=None, max_examples=400)
@given(data=values(), itemsize=st.sampled_from([1, 2, 4]), shuffle=st.sampled_from([0, 2]), draw=st.data())
def test_a_damaged_chunk_with_a_right_checksum_does_no_harm(data, itemsize, shuffle, draw):
    """It is decoded as Blosc decodes it, or not at all, and nothing else is written to."""
    data = data[: data.size // (8 * itemsize) * 8 * itemsize]
    if not data.size:
        return
    payload = bytearray(blosc.compress(data.view(f"u{itemsize}"), b"lz4", 5, shuffle, blocksize=0))
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, min(len(payload), 60) - 1) | st.integers(0, len(payload) - 1))
        payload[place] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        del payload[draw.draw(st.integers(0, len(payload))) :]
    got = decoded(with_checksum(payload), data.size, True)
    if got is not None:
        expected = np.empty_like(data)
        blosc.decompress(bytes(payload), expected)
        np.testing.assert_array_equal(got, expected)


@compiled_only
def test_what_is_not_known_is_left_to_blosc():
    data = np.repeat(np.arange(500, dtype=np.uint16), 8)
    others = {
        "zstd": blosc.compress(data, b"zstd", 1, 2, blocksize=0),
        "shuffled bytes": blosc.compress(data, b"lz4", 5, 1, blocksize=0),
        "not compressible": blosc.compress(np.random.default_rng(0).bytes(999), b"lz4", 5, 0, blocksize=0),
    }
    for name, payload in others.items():
        assert decoded(with_checksum(payload), data.nbytes, True) is None, name
    known = blosc.compress(data, b"lz4", 5, 2, blocksize=0)
    assert decoded(with_checksum(known), data.nbytes, True) is not None
    assert decoded(with_checksum(known), data.nbytes - 2, True) is None
    out = np.empty(data.nbytes, np.uint8)
    assert not _chunks.decode(with_checksum(known), out, np.empty(8, np.uint8), True, False), "no room for a block"
    for wrong in (np.empty(0, np.uint8), np.zeros(3, np.uint8), with_checksum(b"")):
        assert decoded(wrong, 5, True) is None
        assert decoded(wrong, 5, False) is None


def blosc_chunk(lz4, size, *, start=20, length=None):
    """A chunk of Blosc with one block of LZ4's, as the two formats say it, or with another start or length of it."""
    numbers = [size, size, 16 + 8 + len(lz4), start, len(lz4) if length is None else length]
    return bytes([2, 1, 1 << 5, 1]) + np.array(numbers, "<u4").tobytes() + lz4


def literals(data, match=0):
    """An LZ4 sequence's beginning: a token and fewer than 15 bytes."""
    return bytes([len(data) << 4 | match]) + data


@compiled_only
def test_blocks_made_by_hand():
    def of(lz4, size, **changes):
        got = decoded(with_checksum(blosc_chunk(lz4, size, **changes)), size, True)
        return None if got is None else got.tobytes()

    assert of(literals(b"abc", 2) + b"\3\0" + literals(b"defgh"), 14) == b"abcabcabcdefgh"
    assert of(literals(b"abc", 15) + b"\1\0" + b"\xff\0" + literals(b"defgh"), 282) == b"ab" + b"c" * 275 + b"defgh"
    for why, lz4, size in [
        ("nothing", b"", 8),
        ("a distance of 0", literals(b"abc", 2) + b"\0\0" + literals(b"defgh"), 14),
        ("a distance to before the block", literals(b"abc", 2) + b"\4\0" + literals(b"defgh"), 14),
        ("half a distance", literals(b"abc", 2) + b"\3", 14),
        ("no end of a count", literals(b"abc", 15) + b"\1\0" + b"\xff", 282),
        ("a match up to the end", literals(b"abc", 7) + b"\3\0" + literals(b""), 14),
        ("a match into the last five bytes", literals(b"abc", 3) + b"\3\0" + literals(b"efgh"), 14),
        ("a match past the end", literals(b"abc", 12) + b"\3\0" + literals(b"defgh"), 14),
        ("literals past the end", literals(b"abc", 2) + b"\3\0" + literals(b"defghi"), 14),
        ("too few literals", literals(b"abc", 2) + b"\3\0" + literals(b"defg"), 14),
        ("fewer literals than are told", b"\xe0abc", 14),
    ]:
        assert of(lz4, size) is None, why
    assert of(literals(b"abcdefgh"), 8, start=1 << 31) is None
    assert of(literals(b"abcdefgh"), 8, start=27) is None
    assert of(literals(b"abcdefgh"), 8, length=10) is None


@compiled_only
def test_a_block_that_is_longer_than_its_chunk_is_not_read():
    """Its missing bytes would be the checksum's."""
    whole = blosc_chunk(literals(b"abcdefgh"), 8)
    cut = bytearray(whole[:-4])
    cut[12:16] = np.array([len(cut)], "<u4").tobytes()
    assert decoded(with_checksum(whole), 8, True) is not None
    assert decoded(with_checksum(cut), 8, True) is None


@pytest.mark.parametrize("name", CODEC_NAMES)
@pytest.mark.parametrize(("array", "dtype"), [("rgb", "u1"), ("gradient", "f2"), ("depth", "f4")])
def test_without_compiled_code_all_is_the_same(name, array, dtype, monkeypatch):
    chunk = (np.random.default_rng(0).integers(0, 9, (48, 64)) // 4).astype(dtype)
    codec = codec_for(array, name, chunk.itemsize)
    stored = []
    for compiled in {chunks.COMPILED, False}:
        monkeypatch.setattr(chunks, "COMPILED", compiled)
        payload, crc = codec.encode(chunk)
        stored.append(bytes(payload) + crc)
        for past in (False, True):
            out = np.zeros_like(chunk)
            codec.decode(np.frombuffer(stored[-1], np.uint8), out, past_caches=past)
            np.testing.assert_array_equal(out, chunk)
        damaged = np.frombuffer(stored[-1], np.uint8).copy()
        damaged[5] ^= 1
        with pytest.raises(ChecksumError, match=r"^checksum is [0-9a-f]{8}, wanted [0-9a-f]{8}$"):
            codec.decode(damaged, out)
    assert len(set(stored)) == 1


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(3,), (63, 61), (480, 640), (1,)])
def test_frames_are_taken_as_numpy_takes_them(shape, compiled, monkeypatch):
    monkeypatch.setattr(chunks, "COMPILED", compiled and chunks.COMPILED)
    monkeypatch.setattr(chunks, "_CACHES_BYTES", 0)
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.float16, np.float32):
        frames_L = rng.integers(0, 200, (9, *shape)).astype(dtype)
        places_N = np.array([3, 0, 8, 8, 5])
        memory = np.full(5 * frames_L[0].size + 40, 77, dtype)
        for start in (0, 1, 20, 40):
            memory.fill(77)
            out_N = memory[start : start + 5 * frames_L[0].size].reshape(5, *shape)
            chunks.take_frames(frames_L, places_N, out_N)
            np.testing.assert_array_equal(out_N, frames_L[places_N])
            assert (memory[:start] == 77).all()
            assert (memory[start + out_N.size :] == 77).all()


@compiled_only
@pytest.mark.parametrize("change", ["place", "negative", "out", "frame", "odd places"])
def test_frames_that_do_not_fit_are_refused(change):
    frames, places, out, size = np.zeros((4, 100), np.uint8), np.array([0, 3]), np.zeros((2, 100), np.uint8), 100
    _chunks.take(frames, places, out, size)
    if change == "place":
        places = np.array([0, 4])
    elif change == "negative":
        places = np.array([0, -1])
    elif change == "out":
        out = np.zeros(199, np.uint8)
    elif change == "frame":
        size = 0
    else:
        places = np.zeros(15, np.uint8)
    with pytest.raises(ValueError, match="do not fit together"):
        _chunks.take(frames, places, out, size)
