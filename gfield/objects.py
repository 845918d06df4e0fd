"""Objects of a bucket or web server: read, by ranges too, list, put and remove. Errors are `OSError`, as of files."""

from __future__ import annotations

import errno
import io
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gfield.object_client import BrokenAnswer, Refused, client, errors_of, library, longest_wait_s
from gfield.object_path import ObjectPath

T = TypeVar("T")

THREADS = 16  # requests that wait side by side
_LONGEST_PAUSE_S = 10.0
PIECE = 8 << 20
_GAP_BYTES = 1 << 16  # which cost less than a request
_AHEAD_BYTES = 16 << 20
_LISTED = 1000
_BLOCK_BYTES = 1 << 18
_BLOCKS = 128


class ObjectStamp(NamedTuple):
    """Size of an object in bytes, and the tag by which the server tells it from another one that takes its place."""

    size: int
    tag: str


def read(path: ObjectPath, most: int) -> bytes:
    """All of an object.

    Raises
    ------
    OSError
        If there is none, it cannot be had, or it has more than ``most`` bytes.
    """

    def ask() -> bytes:
        answer = library(path.root).get(client(path.root), path.key)
        if answer.meta["size"] > most:
            raise OSError(errno.EFBIG, f"More than {most} bytes", str(path))
        data = bytes(answer.bytes())
        if len(data) != answer.meta["size"]:
            raise BrokenAnswer(errno.EIO, f"{len(data)} bytes came, {answer.meta['size']} wanted", str(path))
        return data

    return _patiently(path, ask)


def read_range(path: ObjectPath, start: int, length: int, tag: str = "") -> memoryview:
    """Bytes of an object from ``start`` on, ``length`` of them, 1 or more.

    Raises
    ------
    OSError
        If they cannot be had; ESTALE where the object is not the one of this tag any more.
    """

    def ask() -> memoryview:
        options: Any = {"range": (start, start + length)}
        if tag and not tag.startswith("W/"):
            options["if_match"] = tag
        data = memoryview(library(path.root).get(client(path.root), path.key, options=options).bytes())
        if len(data) != length:
            raise BrokenAnswer(errno.EIO, f"{len(data)} bytes came, {length} wanted", str(path))
        return data

    return _patiently(path, ask)


def read_end(path: ObjectPath, length: int) -> tuple[memoryview, ObjectStamp]:
    """The last ``length`` bytes of an object, or all where it is shorter, and what it is."""

    def ask() -> tuple[memoryview, ObjectStamp]:
        answer = library(path.root).get(client(path.root), path.key, options={"range": {"suffix": length}})
        data, found = memoryview(answer.bytes()), _stamp_of(answer.meta)
        if len(data) != min(length, found.size):
            raise BrokenAnswer(errno.EIO, f"{len(data)} bytes came, {length} wanted", str(path))
        return data, found

    return _patiently(path, ask)


def pieces(path: ObjectPath, tag: str = "") -> Iterator[memoryview]:
    """All of an object, in pieces of `PIECE` bytes, each asked for when it is wanted and again where it breaks off."""
    found = stamp(path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for start in range(0, found.size, PIECE):
        yield read_range(path, start, min(PIECE, found.size - start), tag or found.tag)


def stamp(path: ObjectPath) -> ObjectStamp | None:
    """Size and tag of an object; None where there is none."""
    try:
        with errors_of(path):
            return _stamp_of(library(path.root).head(client(path.root), path.key))
    except FileNotFoundError as error:
        if error.filename == path.root:  # no such bucket
            raise
        return None


def listing(prefix: ObjectPath) -> dict[str, ObjectStamp]:
    """Every object below a prefix by its path there, but for the marks of folders.

    Those are empty objects ``folder/``, which consoles and file systems put there, and which obstore lists without
    their slash: what is empty is asked after by name.
    """
    below = f"{prefix.key}/" if prefix.key else ""

    def ask() -> dict[str, ObjectStamp]:
        pages = library(prefix.root).list(client(prefix.root), below or None, chunk_size=_LISTED)
        listed = (each for page in pages for each in page if each["path"] != prefix.key)  # which is its own mark
        return {each["path"].removeprefix(below): _stamp_of(each) for each in listed}

    found = _patiently(prefix, ask)
    marks = {path for path, stamped in found.items() if not stamped.size and stamp(prefix / path) is None}
    return {path: stamped for path, stamped in found.items() if path not in marks}


def put(path: ObjectPath, data: bytes | Path) -> str:
    """Write an object whole, from memory or from a file, over what is there; its tag."""
    large = isinstance(data, Path) and data.stat().st_size > 2 * PIECE

    def ask() -> str:
        answer = library(path.root).put(
            client(path.root), path.key, data, use_multipart=large, chunk_size=PIECE, max_concurrency=4
        )
        tag = answer["e_tag"]
        return tag if tag is not None else _stamp_of(library(path.root).head(client(path.root), path.key)).tag

    return _patiently(path, ask)


def create(path: ObjectPath, data: bytes) -> bool:
    """Write a small object where there is none; False where there is one.

    Where a server knows no conditions, or passes over them in silence, who comes last of two at once wins.
    """
    if stamp(path) is not None:
        return False
    try:
        with errors_of(path):
            try:
                library(path.root).put(client(path.root), path.key, data, mode="create")
            except library(path.root).exceptions.NotSupportedError:
                library(path.root).put(client(path.root), path.key, data)
    except FileExistsError:
        return False
    return True


def remove(paths: Sequence[ObjectPath]) -> None:
    """Remove objects of one bucket; those that are not there are no error.

    Many go by one request; each by its own where the server does not know that one (Google's storage), or answers it
    with what is no answer (JuiceFS's gateway).
    """
    if not paths:
        return
    try:
        _remove(client(paths[0].root), paths)
    except (BrokenAnswer, Refused):
        each = client(paths[0].root, bulk_delete=False)
        for _ in side_by_side(lambda path: _remove(each, [path]), paths):
            pass


def _remove(store: Any, paths: Sequence[ObjectPath]) -> None:
    with errors_of(paths[0]):
        try:
            library(paths[0].root).delete(store, [path.key for path in paths])
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise


def side_by_side(call: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    """Call a function that waits for a server with each of the items, many at once; results in the items' order."""
    return _waiting().map(call, items)


class ReadAhead:
    """Ranges of one object in the order in which they are told, some asked for before they are wanted.

    Those that follow close upon each other are one request.

    Parameters
    ----------
    path, tag
        The object.
    ranges
        Start and length of each.
    """

    def __init__(self, path: ObjectPath, tag: str, ranges: Iterable[tuple[int, int]]) -> None:
        self._path, self._tag = path, tag
        self._ahead = _joined(ranges)
        self._asked: deque[tuple[int, int, Future[memoryview]]] = deque()
        self._bytes = 0  # asked for and not let go

    def read(self, start: int, length: int) -> memoryview:
        """The bytes of a range; those told before it are let go."""
        while True:
            while self._bytes < _AHEAD_BYTES and (wanted := next(self._ahead, None)) is not None:
                self._asked.append((*wanted, _waiting().submit(read_range, self._path, *wanted, self._tag)))
                self._bytes += wanted[1]
            if not self._asked:
                return read_range(self._path, start, length, self._tag)
            first, size, future = self._asked[0]
            if first <= start and start + length <= first + size:
                return future.result()[start - first : start - first + length]
            self._asked.popleft()
            self._bytes -= size

    def close(self) -> None:
        """Let go of what was asked for and is not wanted any more."""
        while self._asked:
            self._asked.pop()[2].cancel()


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges as they are to be asked for: those that follow close upon each other together, up to a piece."""
    first = size = 0
    for start, length in ranges:
        gap = start - first - size
        if size and 0 <= gap <= _GAP_BYTES and start + length - first <= PIECE:
            size = start + length - first
            continue
        if size:
            yield first, size
        first, size = start, length
    if size:
        yield first, size


class RangedFile(io.RawIOBase):
    """An object as a file that is read here and there, by blocks, of which the last used are kept.

    Parameters
    ----------
    path
        The object.
    stamp
        Of the object as it is to be.
    """

    def __init__(self, path: ObjectPath, stamp: ObjectStamp) -> None:
        self.name = str(path)
        self._path, self._stamp, self._at = path, stamp, 0
        self._blocks: OrderedDict[int, memoryview] = OrderedDict()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stamp.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as there are, as far as the buffer's end."""
        into = memoryview(buffer).cast("B")
        length = max(0, min(len(into), self._stamp.size - self._at))
        done = 0
        while done < length:
            number, skip = divmod(self._at + done, _BLOCK_BYTES)
            if skip == 0 and length - done >= _BLOCK_BYTES:  # much is wanted at once, and surely not again
                taken = (length - done) // _BLOCK_BYTES * _BLOCK_BYTES
                into[done : done + taken] = read_range(self._path, self._at + done, taken, self._stamp.tag)
            else:
                piece = self._block(number)[skip:]
                taken = min(len(piece), length - done)
                into[done : done + taken] = piece[:taken]
            done += taken
        self._at += done
        return done

    def _block(self, number: int) -> memoryview:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * _BLOCK_BYTES
        length = min(_BLOCK_BYTES, self._stamp.size - start)
        self._blocks[number] = read_range(self._path, start, length, self._stamp.tag)
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[number]


def _patiently(path: ObjectPath, ask: Callable[[], T]) -> T:
    """Ask again where an answer has broken off, which the client does not; what the server refuses is refused."""
    end, pause_s = time.monotonic() + longest_wait_s(), 0.05
    while True:
        try:
            with errors_of(path):
                return ask()
        except BrokenAnswer:
            if time.monotonic() + pause_s > end:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _stamp_of(meta: Any) -> ObjectStamp:
    modified: datetime = meta["last_modified"]
    return ObjectStamp(meta["size"], meta["e_tag"] or modified.isoformat())


def _waiting() -> ThreadPoolExecutor:
    """The threads of this process; one that was forked has none of its parent's. Nothing that waits for others here."""
    return _threads(os.getpid())


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
