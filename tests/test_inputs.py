"""How a build's input is recognised, from one file to 120,000."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from gfield import inputs
from gfield.frame import BadFrame, InputError
from gfield.input_record import InputRecord
from gfield.inputs import describe_files, quick_digest
from gfield.manifest import Entry
from gfield.records import Record, read_record, record_path, write_record


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number:04d}.jpg" for number in range(2100)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number % 251]) * (10 + number % 7))
    return paths


class Lazy(Sequence[Path]):
    """Makes its paths when they are asked for, as a source of many frames does."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self.asked = paths, 0

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place):
        self.asked += 1
        return Path(str(self._paths[place]))


def test_of_few_files_every_byte_counts_and_of_many_every_size(files: list[Path]):
    few = files[:100]
    before, many = quick_digest(few), quick_digest(files)
    assert quick_digest(few) == before
    few[57].write_bytes(b"x" * few[57].stat().st_size)
    assert quick_digest(few) != before
    assert quick_digest(files[::-1]) != many
    assert quick_digest([*files[:-1], files[0]]) != many
    files[1234].write_bytes(b"x" * 99)
    assert quick_digest(files) != many


def test_of_many_files_a_thousand_are_opened(files: list[Path], monkeypatch: pytest.MonkeyPatch):
    opened: list[Path] = []
    real = inputs._open
    monkeypatch.setattr(inputs, "_open", lambda file: opened.append(file) or real(file))
    lazy = Lazy(files)
    before = quick_digest(lazy)
    assert len(set(opened)) == len(opened) == 1024
    assert lazy.asked == 2101 + 1024
    assert opened[0] == files[0]
    opened[700].write_bytes(b"x" * opened[700].stat().st_size)
    assert quick_digest(files) != before


@pytest.mark.parametrize("count", [2049, 2050, 3072, 4096, 6144, 120_000])
def test_depth_and_colour_files_by_turns_are_both_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    monkeypatch.setattr(inputs, "_size", lambda file: 1)
    opened: list[int] = []

    class Files(Lazy):
        def __getitem__(self, place):
            opened.append(range(count)[place])
            return path

    files = Files(range(count))  # type: ignore[arg-type]
    quick_digest(files)
    places = opened[-1024:]
    assert len(set(places)) == 1024
    assert sum(place % 2 for place in places) == 512


def test_a_file_that_several_frames_share_is_hashed_once(files: list[Path], monkeypatch: pytest.MonkeyPatch):
    hashed: list[Path] = []
    real = inputs._sha256
    monkeypatch.setattr(inputs, "_sha256", lambda file: hashed.append(file) or real(file))
    shared = [files[0], files[9], files[1], files[9], files[2], files[9], files[3], files[8]]
    described = describe_files(shared)
    assert [entry["name"] for entry in described] == [file.name for file in shared]
    assert len(hashed) == len(set(shared)) == 6


def test_many_files_are_described_by_their_listing(files: list[Path]):
    few = describe_files(files[:3])
    assert [entry["name"] for entry in few] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert few[2]["sha256"] == hashlib.sha256(files[2].read_bytes()).hexdigest()
    listing = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    assert describe_files(Lazy(files)) == [
        {
            "name": "2100 files, hash of their sha256sum listing",
            "size": sum(path.stat().st_size for path in files),
            "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        }
    ]


def test_what_is_known_of_an_input_is_forgotten_with_its_content_and_not_with_its_time(tmp_path: Path):
    file, scratch = tmp_path / "in", tmp_path / "scratch"
    record = InputRecord(tmp_path / "records", scratch)
    for folder in (record.records, scratch):
        folder.mkdir()
    file.write_bytes(b"one")

    def shard() -> None:
        (record.records / "000000.json").write_text("{}")

    assert record.forget_others([file]) == 0, "nothing is known yet"
    shard()
    file.write_bytes(b"two")
    assert record.forget_others([file]) == 1, "what it was is not known, but that it has changed"
    record.describe([file])
    shard()
    os.utime(file, ns=(1, 1))
    assert record.forget_others([file]) == 0, "the same content"
    file.write_bytes(b"six")
    assert record.forget_others([file]) == 1
    record.keep("", [{"name": "in", "size": 3, "sha256": "of a finished store"}])
    shard()
    assert record.forget_others([file]) == 1
    assert not list(record.records.glob("0*"))


def test_damage_to_what_is_known_of_an_input_is_seen(tmp_path: Path):
    file, record = tmp_path / "in", InputRecord(tmp_path, tmp_path)
    file.write_bytes(b"one")
    record.describe([file])
    stamp, described = record.read()
    assert described is not None
    assert stamp
    whole = record.path.read_bytes()
    for damaged in (
        whole.replace(b'"size":3', b'"size":4'),
        whole.replace(stamp.encode(), stamp[::-1].encode()),
        whole[:-1],
        b"[" * 100_000,
        b"{}",
        b'{"note":{"stamp":"x","files":3},"digest":"x"}',
    ):
        record.path.write_bytes(damaged)
        assert record.read() == ("", None)


def test_a_record_whose_bad_frames_are_damaged_is_none(tmp_path: Path):
    record = Record({"x": Entry(3, "a", "b")}, (BadFrame(1, "torn"),))
    write_record(tmp_path, tmp_path, 7, record)
    assert read_record(tmp_path, 7) == record
    path = record_path(tmp_path, 7)
    whole = path.read_bytes()
    path.rename(record_path(tmp_path, 8))
    assert read_record(tmp_path, 8) == Record(), "the record of another shard"
    for damaged in (whole.replace(b'[1,"torn"]', b'[2,"torn"]'), whole[:40], b"[" * 100_000, b"null"):
        path.write_bytes(damaged)
        assert read_record(tmp_path, 7) == Record()


def test_a_name_that_is_no_text_has_a_description_that_is(tmp_path: Path):
    file = tmp_path / os.fsdecode(b"\xff\x1b.mat")
    file.write_bytes(b"one")
    (described,) = describe_files([file])
    assert described["name"] == r"\udcff\x1b.mat"


def test_a_file_that_is_gone_is_told(files: list[Path]):
    files[2000].unlink()
    for function in (quick_digest, describe_files):
        with pytest.raises(InputError, match=r"2000\.jpg: No such file"):
            function(files)
