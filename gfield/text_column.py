"""A text column of a store: Zarr v3's ``string`` in one chunk, ``vlen-utf8`` in a Zstandard frame with a checksum.

Read and written here without zarr-python, whose import alone takes longer than to open a store of 120,000 frames and
have all its names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import zstd
from numcodecs.vlen import VLenUTF8

MOST_BYTES = 1 << 29  # of a column's texts, decoded in whichever form
_ZSTD_LEVEL = 3


def text_codecs() -> list[dict[str, Any]]:
    """The chunk's codec chain as Zarr v3 metadata."""
    return [
        {"name": "vlen-utf8", "configuration": {}},
        {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": True}},
    ]


def is_text_column(metadata: bytes, frames: int) -> bool:
    """Whether an array's ``zarr.json`` says that it is one, of so many frames in one chunk."""
    try:
        array = json.loads(metadata)
        return (
            array["data_type"] == "string"
            and array["shape"] == [frames]
            and array["chunk_grid"]["configuration"]["chunk_shape"] == [frames]
            and [codec["name"] for codec in array["codecs"]] == [codec["name"] for codec in text_codecs()]
        )
    except (ValueError, RecursionError, KeyError, TypeError):
        return False


def encode_texts(texts: Sequence[str]) -> bytes:
    """The one chunk of the texts, in zarr-python's bytes."""
    encoded = VLenUTF8().encode(np.asarray(texts, dtype=object))
    compressed: bytes = zstd.compress(encoded, _ZSTD_LEVEL, checksum=True)
    return compressed


def decode_texts(chunk: bytes, frames: int) -> npt.NDArray[np.str_]:
    """The texts of the one chunk.

    Raises
    ------
    ValueError
        If it does not decode to so many texts.
    """
    try:
        if (size := _decompressed_size(chunk)) > MOST_BYTES:
            raise ValueError(f"{size} bytes of text; at most {MOST_BYTES} wanted")
        encoded = zstd.decompress(chunk)
        told = int.from_bytes(encoded[:4], "little")  # the decoder makes room for so many before it sees that they lack
        if told != frames:
            raise ValueError(f"it holds {told} texts, {frames} wanted")
        texts = VLenUTF8().decode(encoded).tolist()
        check_lengths(texts)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"does not decode ({error})") from error
    return np.array(texts, dtype=str)


def check_lengths(texts: Sequence[str]) -> None:
    """Refuse a column in which one text is so long that as much room for each is more than `MOST_BYTES`.

    Raises
    ------
    ValueError
        It is.
    """
    if (size := 4 * len(texts) * max(map(len, texts), default=0)) > MOST_BYTES:
        raise ValueError(f"{len(texts)} texts as long as the longest take {size} bytes; at most {MOST_BYTES} wanted")


def _decompressed_size(chunk: bytes) -> int:
    """What the head of a Zstandard frame says, 0 if nothing (RFC 8878, 3.1.1.1); the decoder makes room for that."""
    if chunk[:4] != b"\x28\xb5\x2f\xfd" or len(chunk) < 5:
        return 0
    flags = chunk[4]
    one_piece = flags >> 5 & 1
    start = 5 + (1 - one_piece) + (0, 1, 2, 4)[flags & 3]
    width = (one_piece, 2, 4, 8)[flags >> 6]
    return int.from_bytes(chunk[start : start + width], "little") + (256 if width == 2 else 0)
