"""Damaged and forged checkpoints: one wrong bit is noticed, the one before is taken, nothing is executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from train.checkpoint import load_checkpoint, load_module_state, save_checkpoint
from train.errors import TrainError

from .test_checkpoint import META, load, names, state_of
from .test_checkpoint_kills import in_a_process


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with checkpoints of steps 5 and 10."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (5, 10):
        save_checkpoint(folder, step, state_of(step), META)
    return folder


def truncate(path: Path) -> None:
    os.truncate(path / "state.pt", (path / "state.pt").stat().st_size // 2)


def append(path: Path) -> None:
    with (path / "state.pt").open("ab") as file:
        file.write(b"x")


def replaced_by(what: str, name: str):
    def damage(path: Path) -> None:
        moved = path.parent.parent / "moved"
        (path / name).rename(moved)
        if what == "folder":
            (path / name).mkdir()
        elif what == "link":
            (path / name).symlink_to(moved)
        elif what == "pipe":
            os.mkfifo(path / name)

    return damage


def folder_behind_a_link(path: Path) -> None:
    moved = path.parent.parent / "moved"
    path.rename(moved)
    path.symlink_to(moved)


def of_the_other_step(path: Path) -> None:
    other = path.with_name("step-000000005")
    for name in ("meta.json", "state.pt"):
        (path / name).write_bytes((other / name).read_bytes())


DAMAGES = {
    "truncated": (truncate, "state.pt has .* bytes, wanted"),
    "longer": (append, "state.pt has .* bytes, wanted"),
    "empty state": (lambda path: os.truncate(path / "state.pt", 0), "state.pt has 0 bytes, wanted"),
    "empty meta": (lambda path: os.truncate(path / "meta.json", 0), "meta.json is not readable"),
    "no state": (replaced_by("nothing", "state.pt"), "state.pt: No such file"),
    "no meta": (replaced_by("nothing", "meta.json"), "meta.json: No such file"),
    "folder for state": (replaced_by("folder", "state.pt"), "state.pt: Is a directory"),
    "folder for meta": (replaced_by("folder", "meta.json"), "meta.json: Is a directory"),
    "link for state": (replaced_by("link", "state.pt"), "state.pt: a link leads there"),
    "link for meta": (replaced_by("link", "meta.json"), "meta.json: a link leads there"),
    "pipe for state": (replaced_by("pipe", "state.pt"), "state.pt is no file"),
    "pipe for meta": (replaced_by("pipe", "meta.json"), "meta.json is no file"),
    "folder behind a link": (folder_behind_a_link, "a link leads there"),
    "another step's": (of_the_other_step, "meta.json is of step 5, wanted 10"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_aloud_and_the_checkpoint_before_is_taken(run, damage):
    hurt, message = DAMAGES[damage]
    newest = run / "checkpoints" / "step-000000010"
    hurt(newest)
    step, said = load(run)
    assert step == 5
    assert len(said) == 2
    assert said[0].startswith(f"{newest}: damaged: ")
    assert "\n" not in "".join(said)
    assert re.search(message, said[0])
    assert said[1] == f"{newest.with_name('step-000000005')}: taken instead, with 5 steps done"


FORBIDDEN = """
import os, sys
from pathlib import Path
from tests.trust.children import drop_powers
from train.checkpoint import load_checkpoint

drop_powers()
newest = Path(sys.argv[1])
os.chmod(newest, 0)
print(load_checkpoint(newest.parents[1], say=print).step)
"""


def test_a_checkpoint_that_may_not_be_read_is_damaged(run):
    newest = run / "checkpoints" / "step-000000010"
    said = in_a_process(FORBIDDEN, newest).splitlines()
    assert said[0] == f"{newest}: damaged: meta.json: Permission denied"
    assert said[2] == "5"


def test_training_goes_on_after_damage_and_the_damaged_one_goes(run):
    truncate(run / "checkpoints" / "step-000000010")
    assert load(run)[0] == 5
    save_checkpoint(run, 8, state_of(8), META)
    assert names(run) == ["step-000000005", "step-000000008"]
    assert load(run) == (8, [])


def test_if_all_are_damaged_each_is_named(run):
    truncate(run / "checkpoints" / "step-000000010")
    (run / "checkpoints" / "step-000000005" / "meta.json").unlink()
    with pytest.raises(
        TrainError, match=r"no checkpoint is whole: step-000000010: state.pt has .*; step-000000005: me"
    ):
        load(run)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A checkpoint that is damaged and mended, over and over."""
    run = tmp_path_factory.mktemp("small")
    return save_checkpoint(run, 1, {"x": torch.arange(30), "y": [1, "z"]}, META)


@given(data=st.data(), name=st.sampled_from(["state.pt", "meta.json"]))
def test_one_flipped_bit_anywhere_is_noticed(small, data, name):
    whole = (small / name).read_bytes()
    position = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position // 8] ^= 1 << position % 8
    try:
        (small / name).write_bytes(damaged)
        with pytest.raises(TrainError, match="no checkpoint is whole"):
            load_checkpoint(small.parents[1], say=lambda text: None)
    finally:
        (small / name).write_bytes(whole)
    assert load_checkpoint(small.parents[1], say=pytest.fail).step == 1


# Malice: whoever can compute a hash can make it fit.


def sign(path: Path, **changes: object) -> None:
    """Write ``meta.json`` anew with some changes, and with the digest that fits."""
    content = json.loads((path / "meta.json").read_bytes())
    del content["digest"]
    content.update(changes)
    digest = blake3(json.dumps(content).encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps({**content, "digest": digest}, indent=2) + "\n")


def forge(path: Path, data: bytes) -> None:
    (path / "state.pt").write_bytes(data)
    sign(path, size=len(data), blake3=blake3(data).hexdigest())


class Canary:
    """Whoever unpickles it without care makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def zip_with(pickled: bytes) -> bytes:
    """A file of torch.save whose data.pkl is another one."""
    buffer, whole = io.BytesIO(), io.BytesIO()
    torch.save({"x": torch.zeros(3)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(buffer, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, pickled if item.filename.endswith("data.pkl") else old.read(item))
    return buffer.getvalue()


def legacy(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


MALICE = {
    "bare pickle": pickle.dumps,
    "torch's old format": legacy,
    "zip": lambda value: zip_with(pickle.dumps(value, protocol=2)),
    "zip, inside a dict": lambda value: zip_with(pickle.dumps({"model": {"weight": value}}, protocol=2)),
}


@pytest.mark.parametrize("kind", MALICE)
def test_a_malicious_pickle_with_the_right_hash_is_never_executed(run, kind):
    canary = run / "canary"
    data = MALICE[kind](Canary(canary))
    torch.load(io.BytesIO(data), weights_only=False) if kind != "bare pickle" else pickle.loads(data)
    assert canary.is_dir(), "the canary is dead"
    canary.rmdir()

    newest = run / "checkpoints" / "step-000000010"
    forge(newest, data)
    step, said = load(run)
    assert step == 5
    assert not canary.exists()
    assert "state.pt: " in said[0]
    assert "\n" not in said[0]
    with pytest.raises(TrainError, match=r"damaged: state.pt: "):
        load_module_state(newest, say=pytest.fail)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_not_loaded_is_told_without_advice_to_load_it(run, protocol):
    """Of a pickle of protocol 3 torch warns, too, before it refuses it."""
    data = zip_with(pickle.dumps({"model": Canary(run / "canary")}, protocol=protocol))
    forge(run / "checkpoints" / "step-000000010", data)
    _, said = load(run)
    assert said[0].endswith(
        "state.pt: holds a Python object, posix.mkdir, which is not loaded, since that may run code"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "12"},
        {"size": 1 << 60},
        {"size": -1},
        {"blake3": 12},
        {"blake3": ""},
        {"step": "10"},
        {"step": True},
        {"meta": [1]},
        {"format": 2},
        {"stranger": 1},
    ],
    ids=str,
)
def test_a_forged_meta_is_damage_and_no_crash(run, changes):
    sign(run / "checkpoints" / "step-000000010", **changes)
    assert load(run)[0] == 5


@pytest.mark.parametrize("data", [b"[" * 200_000, b"null", b"[1]", b"\xff\xfe", b'{"digest": 1}', b"9" * 5000])
def test_any_other_meta_is_damage_and_no_crash(run, data):
    (run / "checkpoints" / "step-000000010" / "meta.json").write_bytes(data)
    assert load(run)[0] == 5


def test_a_harmless_file_of_another_format_is_damage_too(run):
    forge(run / "checkpoints" / "step-000000010", legacy(state_of(10)))
    step, said = load(run)
    assert step == 5
    assert "state.pt: is no file of torch.save" in said[0]


def test_a_state_that_is_no_dict_is_damage(run):
    buffer = io.BytesIO()
    torch.save(torch.zeros(3), buffer)
    forge(run / "checkpoints" / "step-000000010", buffer.getvalue())
    step, said = load(run)
    assert step == 5
    assert "holds a Tensor, wanted a dict" in said[0]
