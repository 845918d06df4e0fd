"""How one chunk of an array becomes bytes and back: Blosc (LZ4 or Zstandard) or nothing, then CRC-32C.

Every chunk ends in the CRC-32C of the bytes before it, whatever the compression, because Zarr's default
Zstandard frame carries no checksum and a flipped bit then reads back as a wrong picture without an error.
The metadata names only codecs of the Zarr v3 core (``bytes``, ``blosc``, ``crc32c``), which zarr-python,
TensorStore and zarrita all read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from gfield.chunks import crc32c, fetch, try_decode

CodecName = Literal["lz4", "zstd", "raw"]
CODEC_NAMES: tuple[CodecName, ...] = ("lz4", "zstd", "raw")

# Blosc's own thread pool is one a process and takes a lock: shards are compressed side by side instead.
blosc.use_threads = False

Bytes = npt.NDArray[np.uint8]

_CRC = struct.Struct("<I")
_SHUFFLE = {"noshuffle": 0, "bitshuffle": 2}


class ChecksumError(ValueError):
    """Stored bytes do not match their checksum."""


@dataclass(frozen=True, slots=True)
class Codec:
    """The encoding of one array's chunks.

    Attributes
    ----------
    compressor
        Blosc's inner compressor, ``"lz4"`` or ``"zstd"``; None stores the values as they are.
    level
        Compression level of the inner compressor.
    shuffle
        ``"bitshuffle"`` groups equal bits of neighbouring values, which helps pictures and depth;
        ``"noshuffle"`` suits gradient fields, 93 % of which are zeros.
    itemsize
        Bytes in one value, the unit of the shuffle.
    """

    compressor: Literal["lz4", "zstd"] | None
    level: int
    shuffle: Literal["noshuffle", "bitshuffle"]
    itemsize: int

    def encode(self, chunk: npt.NDArray[np.generic]) -> tuple[bytes | Bytes, bytes]:
        """Compress a chunk; returns the payload and its four checksum bytes."""
        chunk = np.ascontiguousarray(chunk)
        payload: bytes | Bytes
        if self.compressor is None:
            payload = chunk.reshape(-1).view(np.uint8)
        else:
            payload = blosc.compress(chunk, self.compressor.encode(), self.level, _SHUFFLE[self.shuffle], blocksize=0)
        return payload, _CRC.pack(crc32c(payload))

    def decode(self, stored: Bytes, out: npt.NDArray[np.generic], *, past_caches: bool = False) -> None:
        """Check and decompress one stored chunk into ``out``, a C-contiguous array of the chunk's shape.

        With ``past_caches``, ``out`` is written past the processor's caches, as suits a part of a large array.

        Raises
        ------
        ChecksumError
            If the bytes are not those that were written, or are of another length.
        OSError
            If they cannot be had: they are in a mapped file that has been cut short, or its disk fails.
        """
        if try_decode(stored, out, compressed=self.compressor is not None, past_caches=past_caches):
            return
        payload = check_crc(fetch(stored))
        if self.compressor is None:
            if payload.size != out.nbytes:
                raise ChecksumError(f"chunk has {payload.size} bytes, wanted {out.nbytes}")
            out.reshape(-1).view(np.uint8)[:] = payload
            return
        try:
            blosc.decompress(payload, out)
        except (RuntimeError, ValueError) as error:
            raise ChecksumError(f"chunk does not decompress to {out.nbytes} bytes: {error}") from error

    def metadata(self) -> list[dict[str, Any]]:
        """The chunk's codec chain as Zarr v3 metadata; zarr-python takes all but its first entry as compressors."""
        chain: list[dict[str, Any]] = [
            {"name": "bytes", "configuration": {"endian": "little"}} if self.itemsize > 1 else {"name": "bytes"}
        ]
        if self.compressor is not None:
            configuration = {
                "typesize": self.itemsize,
                "cname": self.compressor,
                "clevel": self.level,
                "shuffle": self.shuffle,
                "blocksize": 0,
            }
            chain.append({"name": "blosc", "configuration": configuration})
        return [*chain, {"name": "crc32c"}]


def codec_for(array: str, name: CodecName, itemsize: int) -> Codec:
    """The codec of the array called ``array`` in a store whose codec option is ``name``.

    The choice per array was measured on real NYUv2 frames (``make bench``, table "codecs").
    """
    if name not in CODEC_NAMES:
        raise ValueError(f"codec {name!r} is unknown, wanted one of {', '.join(CODEC_NAMES)}")
    if name == "raw":
        return Codec(None, 0, "noshuffle", itemsize)
    sparse = array == "gradient"
    level = 1 if sparse or name == "zstd" else 5
    return Codec(name, level, "noshuffle" if sparse else "bitshuffle", itemsize)


def check_crc(stored: Bytes) -> Bytes:
    """Return ``stored`` without its last four bytes, which must be the CRC-32C of the rest."""
    if stored.size < _CRC.size:
        raise ChecksumError(f"{stored.size} bytes are too few to hold a checksum")
    payload = stored[: -_CRC.size]
    (wanted,) = _CRC.unpack(stored[-_CRC.size :].tobytes())
    # An array, not a memoryview: google_crc32c takes only buffers without a release hook, and copies nothing then.
    seen = crc32c(payload)
    if seen != wanted:
        raise ChecksumError(f"checksum is {seen:08x}, wanted {wanted:08x}")
    return payload
