"""Lists in an archive that say which picture goes with which depth: CSV, two names of members a line, no heading."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gfield.formats.zipped import Member, read_member
from gfield.frame import InputError, LeftOut

_MOST_BYTES = 64 * 1024 * 1024
_MOST_LINES = 1_000_000


class Pair(NamedTuple):
    """One line: where it stands, as ``list:line``, and the two names."""

    where: str
    picture: str
    depth: str


def as_published(members: Mapping[str, Member], list_name: str) -> Mapping[str, Member]:
    """Members by their names in an archive as it was published, whatever folder they were packed into since.

    Parameters
    ----------
    members
        Of an archive.
    list_name
        A list's name in the published one, such as ``data/train.csv``: what goes before it, or before ``train.csv``
        alone, goes before all members that count. Where it is not there, or twice, all names stay.
    """
    folder, _, alone = list_name.rpartition("/")
    for ending, in_front in ((list_name, ""), (alone, f"{folder}/")):
        roots = [name[: -len(ending)] for name in members if f"/{name}".endswith(f"/{ending}")]
        if "" in roots and not in_front:
            return members
        if len(roots) == 1:
            return {in_front + name[len(roots[0]) :]: members[name] for name in members if name.startswith(roots[0])}
    return members


def read_pairs(archive: Path, name: str, members: Mapping[str, Member]) -> list[Pair]:
    """The lines of a list that is a member of an archive; blank ones are passed over.

    Names may have backslashes for slashes, or ``./`` in front.

    Raises
    ------
    InputError
        It is not there, is damaged, is no UTF-8, has a line of another number of names than two or with characters
        that cannot be printed, or over a million lines.
    """
    if name not in members:
        raise InputError(f"{archive}: no {name} among {len(members)} members; DenseDepth's nyu_data.zip wanted")
    try:
        text = read_member(archive, name, members[name], _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{archive}: {name} is no UTF-8 ({error.reason} at byte {error.start}); UTF-8 wanted"
        ) from error
    pairs = []
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        for written in lines:
            where = f"{name}:{lines.line_num}"
            names = [member.strip().replace("\\", "/").removeprefix("./") for member in written]
            if len(names) == 2 and all(names):
                if not all(map(str.isprintable, names)):
                    raise InputError(f"{archive}: {where} has {','.join(names)!a}; printable names wanted")
                pairs.append(Pair(where, *names))
            elif names not in ([], [""]):
                raise InputError(f"{archive}: {where} has {len(names)} names; a picture's and its depth's wanted")
            if len(pairs) > _MOST_LINES:
                raise InputError(f"{archive}: {where} and more lines; at most {_MOST_LINES} wanted")
    except csv.Error as error:
        raise InputError(f"{archive}: {name}:{lines.line_num}: {error}; two names a line wanted") from error
    return pairs


class Checked(NamedTuple):
    """The lines of some lists that can be used by list, those that cannot, and members that no line names."""

    pairs: dict[str, list[Pair]]
    faults: list[LeftOut]
    repeated: list[LeftOut]
    unnamed: list[LeftOut]


def check_pairs(archive: Path, lists: Mapping[str, list[Pair]], members: Mapping[str, Member]) -> Checked:
    """Tell lines that name members which are there from those that do not, or that stand there twice.

    Raises
    ------
    InputError
        A picture has two depths, or stands in two lists: test pictures must not be trained on.
    """
    checked = Checked({}, [], [], [])
    seen: dict[str, tuple[str, Pair]] = {}
    for name, pairs in lists.items():
        sound = checked.pairs[name] = []
        for pair in pairs:
            gone = [member for member in (pair.picture, pair.depth) if member not in members]
            first_list, first = seen.setdefault(pair.picture, (name, pair))
            if (first_list, first.depth) != (name, pair.depth):
                told = f"{archive}: {pair.where} has {pair.picture} with {pair.depth}, {first.where} with {first.depth}"
                raise InputError(f"{told}; one depth and one list a picture wanted")
            if first is not pair:
                checked.repeated.append(LeftOut(pair.where, f"the same as {first.where}"))
            elif gone:
                checked.faults.append(LeftOut(pair.where, f"{' and '.join(gone)} not in the archive"))
            else:
                sound.append(pair)
    named = {member for _, pair in seen.values() for member in (pair.picture, pair.depth)}
    checked.unnamed.extend(
        LeftOut(member, "no line names it")
        for member in members
        if member not in named and member not in lists and not _of_a_file_manager(member)
    )
    return checked


def _of_a_file_manager(member: str) -> bool:
    """Whether a member is what macOS puts into the archives that it makes, or a hidden file."""
    return member.startswith("__MACOSX/") or member.rpartition("/")[2].startswith(".")
