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
    except (ValueError, KeyError, TypeError):
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
        encoded = zstd.decompress(chunk)
        told = int.from_bytes(encoded[:4], "little")  # the decoder makes room for so many before it sees that they lack
        if told != frames:
            raise ValueError(f"it holds {told} texts, {frames} wanted")
        texts = VLenUTF8().decode(encoded)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"does not decode ({error})") from error
    return np.array(texts.tolist(), dtype=str)
