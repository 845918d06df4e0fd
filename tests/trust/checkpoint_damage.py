"""Checkpoints that are damaged in more ways than one flipped bit: the one before is taken, and said aloud."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import drop_powers, in_child
from tests.trust.training import Ground, arguments_of, ground, leftovers, result_of, run, uninterrupted, whole_run
from train.checkpoint import load_checkpoint, load_module_state, save_checkpoint
from train.errors import TrainError

_OLDER, _NEWER = 5, 10
_FILES = ("state.pt", "meta.json")


@dataclass(frozen=True)
class _Prepared:
    """A run with two small checkpoints; another one of the same steps; and a trained run that is resumed for real."""

    small: Path
    other: Path
    ground: Ground
    trained: Path


def _prepare(folder: Path) -> _Prepared:
    rng = np.random.default_rng(0)
    for name in ("small", "other"):
        (folder / name).mkdir()
        for step in (_OLDER, _NEWER):
            state = {"model": {"w": torch.from_numpy(rng.random(8000)), "b": torch.arange(step)}, "skipped": 0}
            save_checkpoint(folder / name, step, state, {"of": f"{name}, step {step}"})
    shared = ground(folder)
    trained = folder / "trained"
    whole_run((*arguments_of(shared, "fcrn"), "--out", trained, "--save-every", 2), folder, trained)
    return _Prepared(folder / "small", folder / "other", shared, trained)


# Damages. Each does one thing to a checkpoint, by chance, and says what; some need what lies beside it. -----------


@dataclass(frozen=True)
class _Hurt:
    """A checkpoint to be damaged; one of the same step and other content; and one of another step."""

    path: Path
    same_step: Path
    other_step: Path
    rng: np.random.Generator

    def file(self) -> Path:
        return self.path / _FILES[self.rng.integers(2)]

    def part_of(self, data: bytes, longest: int) -> slice:
        start = int(self.rng.integers(len(data)))
        return slice(start, start + int(self.rng.integers(1, longest + 1)))


def _rewritten(change: Callable[[_Hurt, bytearray], object]) -> Callable[[_Hurt], None]:
    """A damage that changes some bytes; one that happened to change none is done again."""

    def damage(hurt: _Hurt) -> None:
        file = hurt.file()
        data = before = file.read_bytes()
        while data == before:
            changed = bytearray(before)
            change(hurt, changed)
            data = bytes(changed)
        file.write_bytes(data)

    return damage


def _zero_pages(hurt: _Hurt, data: bytearray) -> None:
    size = int(hurt.rng.choice([512, 4096, 65536]))
    start = int(hurt.rng.integers(len(data))) // size * size
    data[start : start + size] = bytes(len(data[start : start + size]))


def _garbage(hurt: _Hurt, data: bytearray) -> None:
    part = hurt.part_of(data, 100)
    data[part] = hurt.rng.bytes(len(data[part]))


def _left_out(hurt: _Hurt, data: bytearray) -> None:
    del data[hurt.part_of(data, 100)]


def _twice(hurt: _Hurt, data: bytearray) -> None:
    part = hurt.part_of(data, 5000)
    data[part.start : part.start] = data[part]


def _exchanged(hurt: _Hurt, data: bytearray) -> None:
    one, other = hurt.part_of(data, 16), hurt.part_of(data, 16)
    if one.stop <= other.start and other.stop <= len(data):
        data[one], data[other] = data[other], data[one]


def _as_text(hurt: _Hurt, data: bytearray) -> None:
    """As a transfer in text mode leaves it."""
    data[:] = data.replace(b"\n", b"\r\n")


def _appended(hurt: _Hurt, data: bytearray) -> None:
    data += (b"\n", b"\0", data[:100], hurt.rng.bytes(50))[hurt.rng.integers(4)]


def _truncated(hurt: _Hurt) -> None:
    file = hurt.file()
    os.truncate(file, int(hurt.rng.integers(file.stat().st_size)))


def _tail_is_a_hole(hurt: _Hurt) -> None:
    file = hurt.file()
    size = file.stat().st_size
    os.truncate(file, int(hurt.rng.integers(size - 1)))
    os.truncate(file, size)


def _enormous(hurt: _Hurt) -> None:
    os.truncate(hurt.file(), 1 << 36)


def _of_another(hurt: _Hurt) -> None:
    """A file, or both, of another checkpoint; both of the same step would be that checkpoint, and whole."""
    other = (hurt.same_step, hurt.other_step)[hurt.rng.integers(2)]
    both = other == hurt.other_step and hurt.rng.random() < 0.3
    for name in _FILES if both else (hurt.file().name,):
        shutil.copyfile(other / name, hurt.path / name)


def _of_another_step_in_name(hurt: _Hurt) -> None:
    hurt.path.rename(hurt.path.with_name(f"step-{_NEWER + int(hurt.rng.integers(1, 10)):09d}"))


def _edited(hurt: _Hurt) -> None:
    """Numbers that somebody changed, and what an editor made of the rest; the digest is of what was there."""
    file = hurt.path / "meta.json"
    content = json.loads(file.read_bytes())
    changes = {"step": 11, "format": 2, "meta": {}, "size": content["size"] + 1, "blake3": "0" * 64, "digest": ""}
    names = [*changes, "nothing"]
    name = names[hurt.rng.integers(len(names))]
    content |= {name: changes[name]} if name in changes else {}
    file.write_text(json.dumps(content, indent=2 if name in changes else 4))


def _gone(hurt: _Hurt) -> None:
    hurt.file().unlink()


def _link(hurt: _Hurt) -> None:
    """A link in the place of a file or of the folder: to what was there, to nothing, to itself, to no end of zeros."""
    place = (hurt.file(), hurt.path)[hurt.rng.integers(2)]
    moved = hurt.path.parents[1] / "moved"
    place.rename(moved)
    place.symlink_to(str(hurt.rng.choice([str(moved), "nothing", place.name, "/dev/zero", str(hurt.other_step)])))


def _something_else(hurt: _Hurt) -> None:
    """A folder, a pipe or a socket in the place of a file, or a file in that of the folder."""
    kind = hurt.rng.integers(4)
    if kind == 3:
        shutil.rmtree(hurt.path)
        hurt.path.write_bytes(b"")
        return
    file = hurt.file()
    file.unlink()
    if kind == 0:
        file.mkdir()
    elif kind == 1:
        os.mkfifo(file)
    else:
        os.chdir(file.parent)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(file.name)


def _forbidden(hurt: _Hurt) -> None:
    os.chmod((hurt.file(), hurt.path)[hurt.rng.integers(2)], 0)


_DAMAGES: dict[str, Callable[[_Hurt], None]] = {
    "truncated": _truncated,
    "pages of zeros": _rewritten(_zero_pages),
    "garbage": _rewritten(_garbage),
    "bytes left out": _rewritten(_left_out),
    "bytes twice": _rewritten(_twice),
    "bytes exchanged": _rewritten(_exchanged),
    "lines ended as by Windows": _rewritten(_as_text),
    "more at its end": _rewritten(_appended),
    "a hole for its tail": _tail_is_a_hole,
    "of 64 GiB": _enormous,
    "another one's file": _of_another,
    "another step's name": _of_another_step_in_name,
    "an edited meta.json": _edited,
    "a file gone": _gone,
    "a link": _link,
    "no file": _something_else,
    "not to be read": _forbidden,
}


def _case(prepared: _Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    name = [*_DAMAGES][number % len(_DAMAGES)]
    if number % 50 == 7 and name != "not to be read":
        return _resumed(prepared, name, rng, folder)
    # To root nothing is forbidden: this is done without root's powers, in a process of its own that may lose them.
    return in_child(_loaded, prepared, name, number, rng, folder)


def _loaded(prepared: _Prepared, name: str, number: int, rng: np.random.Generator, folder: Path) -> str:
    """Load a run whose newest checkpoint is damaged, or both are."""
    drop_powers()
    shutil.copytree(prepared.small, folder / "run")
    older, newer = (folder / "run" / "checkpoints" / f"step-{step:09d}" for step in (_OLDER, _NEWER))
    beside = prepared.other / "checkpoints"
    hurt = _Hurt(newer, beside / newer.name, prepared.small / "checkpoints" / older.name, rng)
    _DAMAGES[name](hurt)
    if rng.random() < 0.2:
        second = [*_DAMAGES][rng.integers(len(_DAMAGES))]
        if second not in ("another step's name", "no file", "a link"):  # of which there may be one at a time
            _DAMAGES[second](_Hurt(older, beside / older.name, prepared.small / "checkpoints" / newer.name, rng))
            return _refused(folder / "run")
    _older_is_taken(folder / "run", older)
    return f"{name}: the one before is taken"


def _older_is_taken(run: Path, older: Path) -> None:
    said: list[str] = []
    checkpoint = load_checkpoint(run, say=said.append)
    if checkpoint is None or checkpoint.step != _OLDER or checkpoint.meta != {"of": f"small, step {_OLDER}"}:
        raise Wrong(f"loaded {checkpoint}, wanted step {_OLDER}; said {said}")
    if not torch.equal(checkpoint.state["model"]["b"], torch.arange(_OLDER)):
        raise Wrong(f"loaded {checkpoint.state['model']['b']} as step {_OLDER}'s")
    taken = f"{older}: taken instead, with {_OLDER} steps done"
    if len(said) != 2 or not re.fullmatch(rf"{older.parent}/step-\d+: damaged: \S[^\n]*", said[0]) or said[1] != taken:
        raise Wrong(f"said {said}")
    model, _ = load_module_state(run, say=said.append)
    if not torch.equal(model["b"], torch.arange(_OLDER)):
        raise Wrong(f"a network that starts from the run has {model['b']}")
    # What is saved next is found again, without a word of what was damaged.
    save_checkpoint(run, _OLDER + 1, {"model": {}}, {})
    again = load_checkpoint(run, say=said.append)
    if again is None or again.step != _OLDER + 1 or len(said) != 4:
        raise Wrong(f"after another save {again} is loaded, said {said[4:]}")


def _refused(run: Path) -> str:
    try:
        seen = load_checkpoint(run, say=lambda text: None)
    except TrainError as error:
        named = re.findall(r"step-\d+: (?=\S)", str(error))
        if len(named) != 2 or "\n" in str(error) or not str(error).startswith(f"{run}: no checkpoint is whole: "):
            raise Wrong(f"both are damaged, said {error}") from error
        return "both damaged: both named, and refused"
    raise Wrong(f"both are damaged, and {seen} is loaded")


def _resumed(prepared: _Prepared, name: str, rng: np.random.Generator, folder: Path) -> str:
    """Go on with a trained run whose newest checkpoint is damaged: it trains again what was lost."""
    out, says = folder / "run", folder / "said"
    shutil.copytree(prepared.trained, out)
    older, newer = sorted(out.glob("checkpoints/*"))
    _DAMAGES[name](_Hurt(newer, older, older, rng))
    ended = run((*arguments_of(prepared.ground, "fcrn"), "--out", out, "--resume"), says, out)
    wanted = uninterrupted(prepared.ground, "fcrn")
    got = result_of(out)
    if ended.code or any(got[what] != wanted[what] for what in got) or leftovers(out):
        raise Wrong(f"{name}: resumed, it ended with {ended.code}: {ended.said}\n{got}, wanted {wanted}")
    if ": damaged: " not in ended.said or f"{older}: taken instead" not in ended.said:
        raise Wrong(f"{name}: not said: {ended.said}")
    return "training goes on from the one before to the same end"


CAMPAIGNS = [
    Campaign(
        "checkpoint-damage",
        "the newest checkpoint of a run, or both, truncated, holed, overwritten, exchanged, replaced or locked away",
        "the one before is taken and said aloud, training goes on from it to the same end; where both are damaged, "
        "both are named and nothing is loaded",
        quick=20,
        soak=1_000,
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
