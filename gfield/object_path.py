"""Where a store or an input lies: a path of this machine's file system, or an object behind a URL. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit

from gfield.errors import InputError

SCHEMES = ("s3", "https", "http")
READ_ONLY = ("https", "http")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # a drive letter is one letter, and a `Path` has one slash of two


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object of an S3 bucket or behind a web server, or the prefix of many; used as a `pathlib.Path` is.

    Attributes
    ----------
    root
        Scheme and bucket or host, such as ``"s3://bucket"``.
    key
        The rest, without a slash at either end.
    """

    root: str
    key: str

    @property
    def scheme(self) -> str:
        """``"s3"``, ``"https"`` or ``"http"``."""
        return self.root.partition(":")[0]

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there."""
        return self.scheme in READ_ONLY

    @cached_property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """`name` without its last suffix."""
        return self._pure.stem

    @property
    def parent(self) -> ObjectPath:
        """Without the last part."""
        return ObjectPath(self.root, "" if len(self._pure.parts) < 2 else str(self._pure.parent))

    @property
    def parents(self) -> Sequence[ObjectPath]:
        """`parent`, its parent, and so on."""
        return [ObjectPath(self.root, "" if str(each) == "." else str(each)) for each in self._pure.parents]

    def with_name(self, name: str) -> ObjectPath:
        """Another one beside this one."""
        return self.parent / name

    def resolve(self) -> ObjectPath:
        """Itself: a URL means the same everywhere."""
        return self

    def absolute(self) -> ObjectPath:
        """Itself."""
        return self

    def __truediv__(self, below: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{below}".strip("/"))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"


Location: TypeAlias = Path | ObjectPath


def location(text: str | Path | ObjectPath) -> Location:
    """What a user's path or URL means.

    Raises
    ------
    InputError
        If it is a URL of another kind than `SCHEMES`, has no bucket or host, carries a password, or its key is no key.
    """
    if isinstance(text, ObjectPath):
        return text
    found = _URL.match(str(text))
    if found is None:
        return Path(text)
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise InputError(
            f"{text}: {scheme}:// is not read here; a path, {', '.join(f'{one}://' for one in SCHEMES)} wanted"
        )
    # Split by hand where it is S3's: a key may hold ? and #, which urlsplit takes for something else.
    rest = str(text)[found.end() :].removeprefix("/")
    place, _, key = rest.partition("/")
    if "@" in place:
        raise InputError(
            f"{scheme}://...@{place.rpartition('@')[2]}: a URL with a password; credentials are taken from "
            "the environment, or from a profile"
        )
    if not place:
        raise InputError(f"{text}: no {'bucket' if scheme == 's3' else 'host'}; {scheme}://NAME/... wanted")
    if scheme != "s3" and urlsplit(f"{scheme}://{rest}").query:
        raise InputError(f"{text}: a URL with a query; the address of a folder or file wanted")
    key = key.strip("/")
    if any(part in ("", ".", "..") for part in key.split("/")) and key:
        raise InputError(f"{text}: a part of the key is empty or made of dots")
    return ObjectPath(f"{scheme}://{place}", key)
