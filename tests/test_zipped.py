"""`gfield.formats.zipped` on archives by Python's `zipfile`, and on the same with bytes changed."""

from __future__ import annotations

import pickle
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfield.formats import zipped
from gfield.formats.zipped import Member, as_table, open_zip, read_member, stream_member
from gfield.frame import InputError

MOST = 1 << 20


def write(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment
        for name, data in members:
            archive.writestr(name, data)
    return path


def entry_at(data: bytes, number: int = 0) -> int:
    """Where an entry of the central directory begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\1\2", at + 1)
    return at


def change(path: Path, at: int, fmt: str, value: int) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(fmt, data, at, value)
    path.write_bytes(data)
    return path


def changed_entry(path: Path, offset: int, fmt: str, value: int, number: int = 0) -> Path:
    return change(path, entry_at(path.read_bytes(), number) + offset, fmt, value)


@settings(max_examples=30)
@given(
    contents=st.lists(st.binary(max_size=300), max_size=6),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    comment=st.binary(max_size=30).filter(lambda text: b"PK" not in text),
)
def test_members_are_those_that_zipfile_wrote(tmp_path_factory, contents, method, comment):
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    named = {f"folder/{number} ü.bin": data for number, data in enumerate(contents)}
    write(path, ("folder/", b""), *named.items(), method=method, comment=comment)
    members = pickle.loads(pickle.dumps(open_zip(path)))
    assert list(members) == list(named)
    for name, data in named.items():
        assert read_member(path, name, members[name], MOST) == data
        assert b"".join(stream_member(path, name, members[name])) == data


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_large_members_come_in_pieces(tmp_path, method):
    data = np.random.default_rng(0).integers(0, 4, 12_000_000, np.uint8).tobytes()
    path = write(tmp_path / "a.zip", ("x", data), ("zeros", bytes(12_000_000)), method=method)
    members = open_zip(path)
    pieces = list(stream_member(path, "x", members["x"]))
    assert b"".join(pieces) == data
    assert max(map(len, [*pieces, *stream_member(path, "zeros", members["zeros"])])) <= 4 << 20


def test_zip64(tmp_path, monkeypatch):
    """`zipfile` writes ZIP64 for what is larger than a limit, here made small."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abc":
            archive.writestr(name, name.encode() * 100)
    members = open_zip(path)
    assert zipped._LOCATOR64 in path.read_bytes()
    assert {name: read_member(path, name, member, MOST) for name, member in members.items()} == {
        name: name.encode() * 100 for name in "abc"
    }


def test_a_sparse_archive_of_over_4_gib(tmp_path):
    """One stored member of 5 GiB of nothing, and one behind it, whose offset needs 64 bits."""
    path = tmp_path / "a.zip"
    size = 5 << 30
    with path.open("wb") as file:
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a")
        file.seek(31 + size)
        data = b"behind"
        offset = file.tell()
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, zlib.crc32(data), 6, 6, 1, 0) + b"b" + data)
        start = file.tell()
        for name, crc, member, at in ((b"a", 0, size, 0), (b"b", zlib.crc32(data), 6, offset)):
            large = [value for value in (member, member, at) if value >= 1 << 32]
            extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large)
            short = [min(value, 0xFFFFFFFF) for value in (member, member, at)]
            file.write(
                struct.pack("<4s6H3I2H", b"PK\1\2", 45, 45, 0, 0, 0, 0, crc, *short[:2], 1, len(extra))
                + struct.pack("<3H2I", 0, 0, 0, 0, short[2])
                + name + extra
            )  # fmt: skip
        end = file.tell()
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - start, start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, end - start, 0xFFFFFFFF, 0))
    members = open_zip(path)
    assert members["a"] == Member(0, size, size, 0, 0)
    assert read_member(path, "b", members["b"], MOST) == data
    with pytest.raises(InputError, match=f"a holds {size} bytes; at most {MOST} wanted"):
        read_member(path, "a", members["a"], MOST)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "C:/x", "a\nb", ".."])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = write(tmp_path / "a.zip", ("x" * len(name), b"data"))
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
    with pytest.raises(
        InputError, match=r"a\.zip: a member named .*; printable relative names without '\.\.'"
    ) as caught:
        open_zip(path)
    assert "\n" not in str(caught.value)


def test_names_may_have_backslashes_or_a_dot_in_front(tmp_path):
    path = write(tmp_path / "a.zip", ("./a/x", b"1"), ("b?c?y", b"2"), ("b?", b""), ("./", b""))
    path.write_bytes(path.read_bytes().replace(b"?", b"\\"))
    members = open_zip(path)
    assert list(members) == ["a/x", "b/c/y"]
    assert read_member(path, "b/c/y", members["b/c/y"], MOST) == b"2"


def test_a_member_is_refused_for_what_it_fills_in_the_archive_too(tmp_path):
    path = write(tmp_path / "a.zip", ("x", b"1"))
    with pytest.raises(InputError, match=f"x holds {MOST + 1} bytes; at most {MOST} wanted"):
        read_member(path, "x", open_zip(path)["x"]._replace(stored=MOST + 1), MOST)


def test_links_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="link is a link; plain files wanted"):
        open_zip(path)


CHANGES = {
    "encrypted": (8, "<H", 1, "x is encrypted"),
    "strongly encrypted": (8, "<H", 1 << 6, "x is encrypted"),
    "bzip2": (10, "<H", 12, "compressed by method 12"),
    "a bomb": (24, "<I", 1 << 30, "said to hold 1073741824 bytes in"),
    "stored bytes beyond the next member": (20, "<I", 5000, "runs into what follows it"),
    "an offset in the next member": (42, "<I", 40, "runs into what follows it"),
    "64-bit sizes that are not there": (24, "<I", 0xFFFFFFFF, "no ZIP64 sizes"),
    "a longer name": (28, "<H", 9, "its directory breaks off|a member named"),
    "no UTF-8": (46, "B", 0xFF, "no UTF-8"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_entries_that_cannot_be_are_refused(tmp_path, case):
    offset, fmt, value, said = CHANGES[case]
    path = write(tmp_path / "a.zip", ("x", b"one" * 99), ("y", b"two" * 99))
    if case == "no UTF-8":
        changed_entry(path, 8, "<H", 1 << 11)
    changed_entry(path, offset, fmt, value)
    with pytest.raises(InputError, match=said):
        open_zip(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="x is in the archive twice"):
        open_zip(write(tmp_path / "a.zip", ("x", b"1"), ("x", b"2")))


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "_MOST_MEMBERS", 2)
    with pytest.raises(InputError, match="3 members, a directory of"):
        open_zip(write(tmp_path / "a.zip", ("a", b""), ("b", b""), ("c", b"")))


def test_what_is_no_archive_or_not_whole_is_refused(tmp_path):
    whole = write(tmp_path / "a.zip", ("x", b"data" * 99), ("y", b"data")).read_bytes()
    path = tmp_path / "b.zip"
    for data in (b"", b"PK\5\6", b"<html>404</html>", *(whole[:length] for length in range(0, len(whole), 7))):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"b\.zip: "):
            open_zip(path)
    for data in (b"in front" + whole, whole + b"behind"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="whole archive wanted"):
            open_zip(path)
    with pytest.raises(InputError, match=r"gone\.zip: No such file"):
        open_zip(tmp_path / "gone.zip")
    with pytest.raises(InputError, match="Is a directory"):
        open_zip(tmp_path)


def test_any_changed_byte_is_refused_or_does_no_harm(tmp_path):
    """Whatever is read is what was written, or an InputError; nothing else is raised."""
    named = {"x": b"some text " * 30, "y/z": bytes(range(200))}
    whole = write(tmp_path / "a.zip", *named.items()).read_bytes()
    path = tmp_path / "b.zip"
    rng = np.random.default_rng(1)
    told = []
    for at in rng.permutation(len(whole)).tolist():
        data = bytearray(whole)
        data[at] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            for name, member in open_zip(path).items():
                read = read_member(path, name, member, MOST)
                assert read in named.values()
        except InputError as error:
            told.append(str(error))
    assert len(told) > len(whole) / 2
    assert not [message for message in told if "\n" in message]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bytes_are_told_by_both_ways_of_reading(tmp_path, method):
    path = write(tmp_path / "a.zip", ("x", b"some text " * 300), method=method)
    members = open_zip(path)
    change(path, 45, "B", path.read_bytes()[45] ^ 0x10)
    said = "x does not (inflate|match its size and CRC-32)"
    with pytest.raises(InputError, match=said):
        read_member(path, "x", members["x"], MOST)
    with pytest.raises(InputError, match=said):
        list(stream_member(path, "x", members["x"]))


def test_more_than_a_member_is_said_to_hold_is_never_made(tmp_path):
    path = write(tmp_path / "a.zip", ("x", bytes(50_000_000)))
    said = open_zip(path)["x"]._replace(size=1000)
    with pytest.raises(InputError):
        read_member(path, "x", said, MOST)
    pieces = []
    with pytest.raises(InputError, match="more than the 1000 bytes"):
        pieces.extend(stream_member(path, "x", said))
    assert sum(map(len, pieces)) == 0


def test_a_file_that_was_changed_after_it_was_opened_is_told(tmp_path):
    path = write(tmp_path / "a.zip", ("x", b"1" * 100), ("y", b"2" * 100))
    members = open_zip(path)
    path.write_bytes(b"another file, longer than the first one was" * 9)
    for read in (
        lambda: read_member(path, "y", members["y"], MOST),
        lambda: list(stream_member(path, "y", members["y"])),
    ):
        with pytest.raises(InputError, match=r"y is not at byte \d+, where the directory says"):
            read()
    path.unlink()
    with pytest.raises(InputError, match="y: No such file"):
        read_member(path, "y", members["y"], MOST)


def test_tables_hold_members(tmp_path):
    members = list(open_zip(write(tmp_path / "a.zip", ("x", b"1" * 100), ("y", b"2"))).values())
    assert [Member(*row) for row in as_table(members).tolist()] == members
    assert as_table([]).shape == (0, 5)
