"""A text column of a store: Zarr v3's ``string`` in one chunk, ``vlen-utf8`` in a Zstandard frame with a checksum.

Read here without zarr-python, whose import alone takes longer than to open a store of 120,000 frames and have all its
names. `gfield.hierarchy` writes them by zarr-python.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
from numcodecs import zstd
from numcodecs.vlen import VLenUTF8

_CODECS = ["vlen-utf8", "zstd"]


def is_text_column(metadata: bytes, frames: int) -> bool:
    """Whether an array's ``zarr.json`` says that it is one, of so many frames in one chunk."""
    try:
        array = json.loads(metadata)
        return (
            array["data_type"] == "string"
            and array["shape"] == [frames]
            and array["chunk_grid"]["configuration"]["chunk_shape"] == [frames]
            and [codec["name"] for codec in array["codecs"]] == _CODECS
        )
    except (ValueError, KeyError, TypeError):
        return False


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
