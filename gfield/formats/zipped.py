"""Members of a ZIP archive as byte ranges, by any thread or process, without unpacking it.

Only what is needed to read data sets safely: one volume, members stored or deflated, ZIP64, CRC-32. The central
directory is what counts; names that lead out of the archive, links, encryption, overlapping members and sizes that
deflate cannot reach are refused before a byte is inflated. `open_zip` reads the directory once; what it returns are
plain tables and a path, which pickle.

Source of the layout: PKWARE's APPNOTE.TXT 6.3.9, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import deflate
import numpy as np
import numpy.typing as npt

from gfield.files import open_file
from gfield.frame import InputError

STORED, DEFLATED = 0, 8
_END, _END64, _LOCATOR64, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES, _ENTRY_BYTES, _LOCAL_BYTES = 22, 20, 56, 46, 30
_NEEDS_64 = 0xFFFFFFFF
_ENCRYPTED, _UTF8 = 1 << 0 | 1 << 6 | 1 << 13, 1 << 11
_MOST_MEMBERS = 1_000_000
_MOST_DIRECTORY_BYTES = 256 * 1024 * 1024
_MOST_RATIO = 1032  # deflate's best: 258 bytes from two bits
_BLOCK = 1 << 20


class Member(NamedTuple):
    """One file of an archive.

    Attributes
    ----------
    offset
        First byte of its local header in the archive.
    stored, size
        Bytes in the archive, and inflated.
    crc
        CRC-32 of the inflated bytes.
    method
        `STORED` or `DEFLATED`.
    """

    offset: int
    stored: int
    size: int
    crc: int
    method: int


def open_zip(path: Path) -> dict[str, Member]:
    """The members of an archive by name, in the order of its directory; folders are no members.

    Raises
    ------
    InputError
        The file cannot be read or is no whole ZIP archive; a name is absolute, has ``..``, or stands there twice; a
        member is a link, encrypted, compressed in another way than by deflate, or of an impossible size; members
        overlap; there are over a million of them.
    """
    try:
        with open_file(path) as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            count, start, length = _directory_place(path, fd, size)
            directory = os.pread(fd, length, start)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; a ZIP archive wanted") from error
    members = _members(path, directory, count)
    _check_ranges(path, members, start)
    return members


def _directory_place(path: Path, fd: int, size: int) -> tuple[int, int, int]:
    """Number of entries, first byte and length of the central directory (APPNOTE 4.3.14 to 4.3.16)."""
    tail_at = max(0, size - 0xFFFF - _END_BYTES)
    tail = os.pread(fd, size - tail_at, tail_at)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES or tail[at + 20 :][:2] != struct.pack("<H", len(tail) - at - _END_BYTES):
        raise InputError(f"{path}: no ZIP archive, or not all of it, in {size} bytes; a whole archive wanted")
    disk, first_disk, here, count, length, start = struct.unpack_from("<4H2I", tail, at + 4)
    end = tail_at + at
    locator = os.pread(fd, _LOCATOR_BYTES, end - _LOCATOR_BYTES) if end >= _LOCATOR_BYTES else b""
    if locator[:4] == _LOCATOR64:
        (end,) = struct.unpack_from("<Q", locator, 8)
        record = os.pread(fd, _END64_BYTES, end) if end < size else b""
        if len(record) < _END64_BYTES or record[:4] != _END64:
            raise InputError(f"{path}: no ZIP64 end record where its locator points; a whole archive wanted")
        disk, first_disk, here, count, length, start = struct.unpack_from("<2I4Q", record, 16)
    if disk or first_disk or here != count:
        raise InputError(f"{path}: one of several volumes; an archive in one file wanted")
    if count > _MOST_MEMBERS or length > _MOST_DIRECTORY_BYTES:
        raise InputError(f"{path}: {count} members, a directory of {length} bytes; at most {_MOST_MEMBERS} wanted")
    if start + length != end:
        raise InputError(f"{path}: its directory ends at byte {start + length}, not at {end}; a whole archive wanted")
    return count, start, length


def _members(path: Path, directory: bytes, count: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    folders = at = 0
    for number in range(count):
        if directory[at : at + 4] != _ENTRY or len(directory) < at + _ENTRY_BYTES:
            raise InputError(f"{path}: its directory breaks off at entry {number} of {count}; a whole archive wanted")
        made_by, flags, method, crc, stored, size, name_len, extra_len, comment_len, attributes, offset = (
            struct.unpack_from("<4xHxxHH4xIIIHHH4xII", directory, at)
        )
        raw = directory[at + _ENTRY_BYTES : at + _ENTRY_BYTES + name_len]
        extra = directory[at + _ENTRY_BYTES + name_len : at + _ENTRY_BYTES + name_len + extra_len]
        at += _ENTRY_BYTES + name_len + extra_len + comment_len
        name = _checked_name(path, raw, flags)
        if name.endswith("/"):
            folders += 1
            continue
        if made_by >> 8 == 3 and stat.S_ISLNK(attributes >> 16):
            raise InputError(f"{path}: {name} is a link; plain files wanted")
        if flags & _ENCRYPTED:
            raise InputError(f"{path}: {name} is encrypted; plain files wanted")
        if method not in (STORED, DEFLATED):
            raise InputError(f"{path}: {name} is compressed by method {method}; 0 (stored) or 8 (deflate) wanted")
        if _NEEDS_64 in (size, stored, offset):
            size, stored, offset = _sizes_64(path, name, extra, size, stored, offset)
        member = Member(offset, stored, size, crc, method)
        if size > stored * _MOST_RATIO if method == DEFLATED else size != stored:
            raise InputError(f"{path}: {name} is said to hold {size} bytes in {stored}; a size that can be wanted")
        if members.setdefault(name, member) is not member:
            raise InputError(f"{path}: {name} is in the archive twice; once wanted")
    if at != len(directory):
        raise InputError(f"{path}: {len(directory) - at} bytes after the directory's {count} entries; none wanted")
    return members


def _checked_name(path: Path, raw: bytes, flags: int) -> str:
    """A member's name with slashes, though some archivers of Windows write backslashes, and without a first ``./``."""
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the name {raw!r} in it is no UTF-8, as the archive says it is") from error
    slashed = name.replace("\\", "/")
    slashed = slashed.removeprefix("./") or slashed
    absolute = slashed.startswith("/") or slashed[1:2] == ":"
    if not name or absolute or not name.isprintable() or ".." in slashed.split("/"):
        raise InputError(f"{path}: a member named {name!a}; printable relative names without '..' wanted")
    return slashed


def _sizes_64(path: Path, name: str, extra: bytes, size: int, stored: int, offset: int) -> tuple[int, int, int]:
    """Those of the three that do not fit 32 bits stand, in this order, in the extra field of ZIP64 (APPNOTE 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1 and at + 4 + length <= len(extra):
            large = list(struct.unpack(f"<{length // 8}Q", extra[at + 4 : at + 4 + length // 8 * 8]))
            wanted = [value == _NEEDS_64 for value in (size, stored, offset)]
            if len(large) >= sum(wanted):
                size, stored, offset = (
                    large.pop(0) if is_large else value
                    for is_large, value in zip(wanted, (size, stored, offset), strict=True)
                )
                return size, stored, offset
            break
        at += 4 + length
    raise InputError(f"{path}: {name} has no ZIP64 sizes where they are needed; a whole archive wanted")


def _check_ranges(path: Path, members: dict[str, Member], directory_start: int) -> None:
    """Members that share bytes are how small archives hold petabytes (D. Fifield, "A better zip bomb", WOOT 2019)."""
    if not members:
        return
    names = list(members)
    ranges_N2 = np.array([(m.offset, m.offset + _LOCAL_BYTES + m.stored) for m in members.values()], dtype=np.float64)
    order_N = np.argsort(ranges_N2[:, 0], kind="stable")
    following_N = np.append(ranges_N2[order_N[1:], 0], directory_start)
    wrong = np.flatnonzero(ranges_N2[order_N, 1] > following_N)
    if wrong.size:
        name = names[int(order_N[wrong[0]])]
        raise InputError(f"{path}: {name} runs into what follows it; members that lie apart wanted")


def read_member(path: Path, name: str, member: Member, most: int) -> bytes:
    """All bytes of a member, whole and checked against its CRC-32.

    Parameters
    ----------
    path, name, member
        The archive, and an entry of `open_zip`.
    most
        Bytes that a member may hold; larger ones are refused before they are read.

    Raises
    ------
    InputError
        The file is gone, or the member is too large or damaged.
    """
    if (larger := max(member.size, member.stored)) > most:
        raise InputError(f"{path}: {name} holds {larger} bytes; at most {most} wanted")
    try:
        with open_file(path) as file:
            start = _data_start(path, name, member, file.fileno())
            data = os.pread(file.fileno(), member.stored, start)
    except OSError as error:
        raise InputError(f"{path}: {name}: {error.strerror}") from error
    if member.method == DEFLATED and len(data) == member.stored:
        try:
            data = bytes(deflate.deflate_decompress(data, member.size)) if member.size else b""
        except (deflate.DeflateError, ValueError) as error:
            raise InputError(f"{path}: {name} does not inflate ({error}); a whole archive wanted") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise InputError(f"{path}: {name} does not match its size and CRC-32; a whole archive wanted")
    return data


def stream_member(path: Path, name: str, member: Member) -> Generator[bytes, None, None]:
    """Yield a member's bytes in pieces of up to a few MiB, from its first; memory does not grow with it.

    Its size and CRC-32 are checked after the last piece. Who stops earlier has unchecked bytes.

    Raises
    ------
    InputError
        The file is gone, or the member is damaged; perhaps after some pieces.
    """
    crc = given = 0
    try:
        with open_file(path) as file:
            at = _data_start(path, name, member, file.fileno())
            for piece in _pieces(path, name, member, file.fileno(), at):
                crc, given = zlib.crc32(piece, crc), given + len(piece)
                yield piece
    except OSError as error:
        raise InputError(f"{path}: {name}: {error.strerror}") from error
    if given != member.size or crc != member.crc:
        raise InputError(f"{path}: {name} does not match its size and CRC-32; a whole archive wanted")


def _pieces(path: Path, name: str, member: Member, fd: int, at: int) -> Generator[bytes, None, None]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
    end, given = at + member.stored, 0
    while at < end and (data := os.pread(fd, min(_BLOCK, end - at), at)):
        at += len(data)
        if inflate is None:
            yield data
            continue
        while data and not inflate.eof:
            try:
                piece = inflate.decompress(data, 4 * _BLOCK)
            except zlib.error as error:
                raise InputError(f"{path}: {name} does not inflate ({error}); a whole archive wanted") from error
            data = inflate.unconsumed_tail
            given += len(piece)
            if given > member.size:
                raise InputError(f"{path}: {name} holds more than the {member.size} bytes that it is said to hold")
            yield piece


def data_start(path: Path, name: str, member: Member) -> int:
    """Where a member's bytes begin in the archive: for a `STORED` member, where they can be read as they are.

    Raises
    ------
    InputError
        The file is gone, or its local header is not where the directory says.
    """
    try:
        with open_file(path) as file:
            return _data_start(path, name, member, file.fileno())
    except OSError as error:
        raise InputError(f"{path}: {name}: {error.strerror}") from error


def _data_start(path: Path, name: str, member: Member, fd: int) -> int:
    header = os.pread(fd, _LOCAL_BYTES, member.offset)
    if len(header) < _LOCAL_BYTES or header[:4] != _LOCAL:
        raise InputError(
            f"{path}: {name} is not at byte {member.offset}, where the directory says; the same file wanted"
        )
    name_len, extra_len = struct.unpack_from("<HH", header, 26)
    return int(member.offset) + _LOCAL_BYTES + int(name_len) + int(extra_len)


Table = npt.NDArray[np.int64]


def as_table(members: list[Member]) -> Table:
    """Members as an (N, 5) array, which takes a tenth of their memory and pickles as one piece."""
    return np.array(members, dtype=np.int64).reshape(-1, len(Member._fields))
