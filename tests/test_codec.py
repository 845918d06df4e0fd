"""One chunk there and back, and every single flipped bit noticed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gfield.codec import CODEC_NAMES, ChecksumError, codec_for

ARRAYS = [("rgb", "u1"), ("gradient", "f2"), ("depth", "f4"), ("label", "u2")]


def stored_bytes(codec, chunk):
    payload, crc = codec.encode(chunk)
    return np.frombuffer(bytes(payload) + crc, dtype=np.uint8).copy()


@pytest.mark.parametrize("name", CODEC_NAMES)
@pytest.mark.parametrize(("array", "dtype"), ARRAYS)
@given(data=st.data())
def test_decoding_gives_back_what_was_encoded(name, array, dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=40))
    chunk = data.draw(hnp.arrays(dtype, shape))
    codec = codec_for(array, name, chunk.itemsize)
    out = np.empty_like(chunk)
    codec.decode(stored_bytes(codec, chunk), out)
    assert out.tobytes() == chunk.tobytes()


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_every_flipped_bit_is_noticed(name):
    chunk = np.arange(24, dtype=np.float32).reshape(4, 6)
    codec = codec_for("depth", name, 4)
    good = stored_bytes(codec, chunk)
    out = np.empty_like(chunk)
    for bit in range(good.size * 8):
        bad = good.copy()
        bad[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ChecksumError):
            codec.decode(bad, out)


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_a_chunk_of_another_size_is_refused(name):
    codec = codec_for("rgb", name, 1)
    stored = stored_bytes(codec, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ChecksumError):
        codec.decode(stored, np.empty((3, 4, 3), np.uint8))


def test_too_few_bytes_are_refused():
    with pytest.raises(ChecksumError, match="too few"):
        codec_for("rgb", "lz4", 1).decode(np.zeros(3, np.uint8), np.empty((1, 1, 3), np.uint8))


def test_an_unknown_codec_is_named():
    with pytest.raises(ValueError, match="'gzip' is unknown, wanted one of lz4, zstd, raw"):
        codec_for("rgb", "gzip", 1)
