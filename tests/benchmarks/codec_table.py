"""Size and speed of the codecs that were considered for each array: the table that chose the defaults."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Zstd, blosc

from gfield.codec import CODEC_NAMES, Codec, codec_for
from gfield.frame import BadFrame
from gfield.layers import FrameLayers
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from gfield.worker import settle_worker

SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


@dataclass(frozen=True, slots=True)
class Variant:
    """One codec for one array: its name, the option that gives a store with it, and both directions.

    What is encoded comes in parts; ``join``, which is not timed, makes of them what is decoded.
    """

    name: str
    option: str
    encode: Callable[[Any], Any]
    join: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]


def variants(array: str, itemsize: int) -> list[Variant]:
    """What an array could be stored with; all of them find flipped bits."""
    ours = {
        (one.compressor, one.level, one.shuffle): name
        for name in CODEC_NAMES
        for one in [codec_for(array, name, itemsize)]
    }
    found = [_of_package("raw", "--codec raw", Codec(None, 0, "noshuffle", itemsize))]
    levels = [("lz4", 1), ("lz4", 5), ("lz4", 9), ("zstd", 1), ("zstd", 3), ("zstd", 5)]
    for (compressor, level), (shuffle, number) in itertools.product(levels, SHUFFLES.items()):
        if shuffle == "shuffle" and itemsize == 1:
            continue  # of single bytes, it changes nothing
        name = ours.get((compressor, level, shuffle))
        option, title = f"--codec {name}" if name else "", f"{compressor}-{level} {shuffle}"
        if shuffle == "shuffle":
            found.append(_of_blosc(title, compressor, level, number))
        else:
            found.append(_of_package(title, option, Codec(compressor, level, shuffle, itemsize)))
    zstd = Zstd(level=1, checksum=True)
    return [*found, Variant("Zarr's zstd-1, checksum", "", zstd.encode, lambda stored: stored, zstd.decode)]


def _of_package(name: str, option: str, codec: Codec) -> Variant:
    """As a store is written and read."""
    return Variant(name, option, codec.encode, _joined, codec.decode)


def _joined(stored: Any) -> Any:
    return np.concatenate([np.frombuffer(part, np.uint8) for part in stored])


def _of_blosc(name: str, compressor: str, level: int, shuffle: int) -> Variant:
    """By Blosc and google-crc32c, for what no store has."""

    def encode(values: Any) -> Any:
        data = blosc.compress(values, compressor.encode(), level, shuffle, blocksize=0)
        return data, google_crc32c.value(data).to_bytes(4, "little")

    def decode(stored: Any, out: Any) -> None:
        data = stored[:-4]
        assert google_crc32c.value(data).to_bytes(4, "little") == stored[-4:].tobytes()
        blosc.decompress(data, out)

    return Variant(name, "", encode, _joined, decode)


def codec_table(mat: Path, frames: int, tell: Callable[[str], None]) -> tuple[list[str], list[dict[str, Any]]]:
    """The table as lines of text, and its rows. Every codec gets each frame in turn."""
    settle_worker()
    arrays = _arrays(mat, frames)
    text = [f"  {'array':9}{'codec':27}{'of raw':>8}{'encode ms':>11}{'decode ms':>11}  a store has it with"]
    rows: list[dict[str, Any]] = []
    for array, frames_of in arrays.items():
        tell(f"codecs of {array}")
        known = variants(array, frames_of[0].dtype.itemsize)
        times: dict[str, list[tuple[float, float, float]]] = {variant.name: [] for variant in known}
        out = np.zeros_like(frames_of[0])  # written once, so that no page of it is new when the clock runs
        for values in frames_of:
            for variant in known:
                times[variant.name].append(_once(variant, values, out))
        for variant in known:
            share, encode, decode = (statistics.median(column) for column in zip(*times[variant.name], strict=True))
            rows.append(
                {
                    "array": array,
                    "codec": variant.name,
                    "share_of_raw": share,
                    "encode_ms": encode,
                    "decode_ms": decode,
                    "option": variant.option,
                }
            )
            text.append(f"  {array:9}{variant.name:27}{share:8.3f}{encode:11.2f}{decode:11.2f}  {variant.option}")
    return text, rows


def _once(variant: Variant, values: Any, out: Any) -> tuple[float, float, float]:
    """Share of the raw size, and milliseconds to encode and to decode."""
    started = time.perf_counter()
    stored = variant.encode(values)
    seconds = time.perf_counter() - started
    whole = variant.join(stored)
    started = time.perf_counter()
    variant.decode(whole, out)
    decoded = time.perf_counter() - started
    assert np.array_equal(out.view(np.uint8), values.view(np.uint8)), variant.name
    return len(whole) / values.nbytes, 1000 * seconds, 1000 * decoded


def _arrays(mat: Path, frames: int) -> dict[str, list[Any]]:
    source = open_nyuv2(mat)
    spec = make_spec(source, levels_WH=[source.size_WH])
    layers = FrameLayers(spec, spec.array_specs().values())
    arrays: dict[str, list[Any]] = {array.name: [] for array in spec.array_specs().values()}
    for frame in source.read(0, frames, frozenset({"rgb", "depth"})):
        assert not isinstance(frame, BadFrame)
        for key, values in layers.of(frame).items():
            arrays[key.rsplit("/", 1)[-1]].append(np.array(values))
    return arrays
