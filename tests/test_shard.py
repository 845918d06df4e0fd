"""The shard file: the layout that zarr-python and TensorStore read, hashes, and damage."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorstore
import zarr

from gfield.codec import CODEC_NAMES, ChecksumError, codec_for
from gfield.shard import Shard, ShardWriter, hash_file


@pytest.fixture
def frames_NHWC():
    return np.random.default_rng(3).integers(0, 9, (5, 12, 16, 3), dtype=np.uint8)


def write(path, frames, frames_per_shard, codec):
    writer = ShardWriter(path, frames_per_shard, codec)
    for frame in frames:
        writer.append(frame)
    return writer.finish()


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_zarr_and_tensorstore_read_what_the_writer_wrote(tmp_path, frames_NHWC, name):
    codec = codec_for("rgb", name, 1)
    zarr.create_array(
        tmp_path / "a",
        shape=frames_NHWC.shape,
        chunks=(1, 12, 16, 3),
        shards=(2, 12, 16, 3),
        dtype="u1",
        compressors=codec.metadata()[1:],
        fill_value=0,
    )
    for shard in range(3):
        path = tmp_path / "a" / "c" / str(shard) / "0" / "0" / "0"
        path.parent.mkdir(parents=True)
        write(path, frames_NHWC[2 * shard : 2 * shard + 2], 2, codec)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], frames_NHWC)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), frames_NHWC)


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_the_metadata_chain_is_the_one_that_zarr_writes(name):
    for array, dtype in (("rgb", "u1"), ("gradient", "f2"), ("depth", "f4")):
        codec = codec_for(array, name, np.dtype(dtype).itemsize)
        made = zarr.create_array(
            {}, shape=(2, 4), chunks=(1, 4), shards=(2, 4), dtype=dtype, compressors=codec.metadata()[1:]
        )
        sharding = made.metadata.to_dict()["codecs"][0]
        assert list(sharding["configuration"]["codecs"]) == codec.metadata()


def test_size_and_hash_are_those_of_the_file(tmp_path, frames_NHWC):
    written = write(tmp_path / "s", frames_NHWC, 8, codec_for("rgb", "lz4", 1))
    assert written == hash_file(tmp_path / "s")
    assert written.size == (tmp_path / "s").stat().st_size


def test_any_order_of_reading_gives_the_frames(tmp_path, frames_NHWC):
    codec = codec_for("rgb", "lz4", 1)
    write(tmp_path / "s", frames_NHWC, 8, codec)
    out = np.empty_like(frames_NHWC[0])
    with Shard(tmp_path / "s", 8, codec) as shard:
        for slot in (4, 0, 2, 2, 3, 1):
            shard.read(slot, out)
            np.testing.assert_array_equal(out, frames_NHWC[slot])
        with pytest.raises(ChecksumError, match="no frame at place 5"):
            shard.read(5, out)


def test_every_flipped_byte_is_noticed_by_opening_or_reading(tmp_path, frames_NHWC):
    codec = codec_for("rgb", "lz4", 1)
    write(tmp_path / "s", frames_NHWC[:2, :4, :4], 2, codec)
    good = (tmp_path / "s").read_bytes()
    out = np.empty((4, 4, 3), np.uint8)

    def read_all():
        with Shard(tmp_path / "s", 2, codec) as shard:
            shard.read(0, out)
            shard.read(1, out)

    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x10
        (tmp_path / "s").write_bytes(bad)
        with pytest.raises(ChecksumError):
            read_all()


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_shard_is_refused(tmp_path, frames_NHWC, keep):
    codec = codec_for("rgb", "lz4", 1)
    write(tmp_path / "s", frames_NHWC, 8, codec)
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:keep])
    with pytest.raises(ChecksumError):
        Shard(tmp_path / "s", 8, codec)


def test_open_shards_leave_addresses_to_others(tmp_path):
    """As many as there may be, where that is less than all of them have bytes."""
    codec = codec_for("rgb", "raw", 1)
    for number in range(30):
        write(tmp_path / str(number), np.full((1, 1024, 1024, 8), number, np.uint8), 1, codec)
    script = f"""
import mmap, resource
import numpy as np
from pathlib import Path
from gfield.codec import codec_for
from gfield.shard import OpenShards, Shard
kept, out, codec = OpenShards(), np.empty((1024, 1024, 8), np.uint8), codec_for("rgb", "raw", 1)
now = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
most = (now + (40 << 20)) * 8 // 7
assert most - now < 30 << 23, "all of them fit"
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for number in [*range(30)] * 2:
    shard = kept.get(str(number))
    if shard is None:
        shard = Shard(Path({str(tmp_path)!r}) / str(number), 1, codec)
        kept.keep(str(number), shard)
    shard.read(0, out)
    assert (out == number).all()
"""
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each of its threads takes addresses
    subprocess.run([sys.executable, "-c", script], env=one_thread, check=True)


def test_a_writer_does_not_write_over_a_file(tmp_path):
    (tmp_path / "s").write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        ShardWriter(tmp_path / "s", 1, codec_for("rgb", "raw", 1))
