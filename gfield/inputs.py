"""Which input files a store was made of: a quick digest to recognise them by, and their full SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from gfield.files import open_file
from gfield.frame import InputError, printable
from gfield.object_path import Location, ObjectPath
from gfield.objects import PIECE
from gfield.places import file_size, ranges_of

_BLOCK = 64 * 1024
_BLOCKS = 1024
_LISTED = 2048


def quick_digest(files: Sequence[Location]) -> str:
    """A digest of the files' sizes and of evenly spread 64 KiB blocks, about 64 MiB in all.

    It is complete for inputs up to 64 MiB in up to 2,048 files. For larger ones it tells in milliseconds whether a
    build's input is the one that a store was made of, which a full hash of NYU's 3 GB would take seconds to say; the
    full hashes are taken once, during the build, and `gfield verify --repair` compares the rebuilt shards.
    Of more than 2,048 files every size counts, and the first block of 1,024 of them, evenly spread, by turns of even
    and odd places, since depth and colour files may lie so.
    Names and times are no part of it, so that a moved or copied input is the same input.
    """
    sizes = [_size(file) for file in files]
    hasher = blake3()
    if len(files) > _LISTED:
        for size in sizes:
            hasher.update(size.to_bytes(8, "little"))
        for block in range(_BLOCKS):
            place = block * len(files) // _BLOCKS
            place += (place + block) % 2
            for data in _blocks(files[place], sizes[place], [0]):
                hasher.update(data)
        return hasher.hexdigest(length=16)
    total = max(1, sum(sizes))
    for file, size in zip(files, sizes, strict=True):
        hasher.update(size.to_bytes(8, "little"))
        for data in _blocks(file, size, _block_offsets(size, max(1, _BLOCKS * size // total))):
            hasher.update(data)
    return hasher.hexdigest(length=16)


def _blocks(file: Location, size: int, offsets: Sequence[int]) -> Iterator[bytes | memoryview]:
    """The block at each of the offsets, shorter at the end of the file."""
    if isinstance(file, ObjectPath):
        ahead = [(offset, min(_BLOCK, size - offset)) for offset in offsets if offset < size]
        with ranges_of(file, ahead) as read:
            yield from (read(*wanted) for wanted in ahead)
        return
    with _open(file) as stream:
        for offset in offsets:
            stream.seek(offset)
            yield stream.read(_BLOCK)


def _block_offsets(size: int, blocks: int) -> list[int]:
    """Where to read ``blocks`` blocks of a file so that first and last byte are among them."""
    if size <= blocks * _BLOCK:
        return list(range(0, size, _BLOCK))
    if blocks == 1:
        return [0]
    return [(size - _BLOCK) * block // (blocks - 1) for block in range(blocks)]


def describe_files(files: Sequence[Location]) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of every file; more than 2,048 files are one entry, the hash of their listing."""
    sha256 = lru_cache(maxsize=8)(_sha256)  # a colour file may serve several depth files that follow each other
    if len(files) <= _LISTED:
        return [{"name": printable(file.name), "size": _size(file), "sha256": sha256(file)} for file in files]
    listing, size = hashlib.sha256(), 0
    for file in files:
        listing.update(f"{sha256(file)}  {printable(file.name)}\n".encode())
        size += _size(file)
    return [
        {
            "name": f"{len(files)} files, hash of their sha256sum listing",
            "size": size,
            "sha256": listing.hexdigest(),
        }
    ]


def _sha256(file: Location) -> str:
    if isinstance(file, ObjectPath):
        hasher, size = hashlib.sha256(), _size(file)
        ahead = [(start, min(PIECE, size - start)) for start in range(0, size, PIECE)]
        with ranges_of(file, ahead) as read:
            for wanted in ahead:
                hasher.update(read(*wanted))
        return hasher.hexdigest()
    with _open(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(file: Location) -> int:
    try:
        return file_size(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error


def _open(file: Path) -> Any:
    try:
        return open_file(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
