"""Every input of `tests.trust.hostile` through the command line, in bounded time and memory."""

from __future__ import annotations

import importlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfield.commandline.main import gfield as gfield_command
from gfield.worker import settle_worker
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import Child, ChildDied
from tests.trust.guard import LETTERS, limited, untouched
from tests.trust.hostile.archives import ARCHIVES
from tests.trust.hostile.folders import FOLDERS
from tests.trust.hostile.hdf5 import HDF5
from tests.trust.hostile.kit import SECRET, Arguments, Hostile, Kit, kit
from tests.trust.hostile.mat5 import MAT5
from tests.trust.hostile.pictures import PICTURES
from tests.trust.hostile.stores import STORES
from tests.trust.hostile.studies import STUDIES
from train.commands import train as train_command

TABLE: dict[str, Hostile] = {
    f"{kind}: {name}": hostile
    for kind, table in (
        ("MATLAB 7.3", HDF5),
        ("MATLAB 5", MAT5),
        ("picture", PICTURES),
        ("archive", ARCHIVES),
        ("store", STORES),
        ("folder", FOLDERS),
        ("study", STUDIES),
    )
    for name, hostile in table.items()
}
_COMMANDS = {"gfield": gfield_command, "train": train_command}
_MOST_LINES = 30
_SECONDS = 30  # what is parsed apart is given up after 10 s of its processor's time


@dataclass(frozen=True)
class _Ended:
    status: int
    text: str
    seconds: float


def _prepare(folder: Path) -> Kit:
    settle_worker()
    for module in ("gfield.cluster.dispatch", "train.study.jobs", "train.study.plan"):  # once, and not in each child
        importlib.import_module(module)
    return kit(folder)


def _case(prepared: Kit, number: int, rng: np.random.Generator, folder: Path) -> str:
    name, hostile = [*TABLE.items()][number]
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    arguments = hostile.make(prepared, inside, outside)
    before = {path.name for path in inside.iterdir()}
    with untouched(outside, outside / "secret"):
        ended = _run(arguments, folder)
    problems = [*_problems(ended, hostile, arguments)]
    made = {path.name for path in inside.iterdir()} - before
    if made - {"x.zarr", "out", "s.zarr.png"}:
        problems.append(f"leaves {sorted(made)}")
    if problems:
        raise Wrong(f"{name}: {'; '.join(problems)}; it says\n{ended.text[:LETTERS]}")
    return f"{name.partition(':')[0]}: {'refused' if hostile.status else 'used without what is bad in it'}"


def _run(arguments: Arguments, folder: Path) -> _Ended:
    """What a command says and how it ends, in a process that has so much memory more than this one and no more."""
    began = time.monotonic()
    child = Child(_command, [os.fspath(argument) for argument in arguments], folder, says=folder / "text")
    try:
        status = child.result(_SECONDS)
    except TimeoutError as error:
        raise Wrong(f"{' '.join(map(ascii, arguments))}: {error}") from error
    except ChildDied as died:
        raise Wrong(f"{' '.join(map(ascii, arguments))}: {died}") from died
    text = (folder / "text").read_bytes().decode(errors="backslashreplace")
    return _Ended(status, text, time.monotonic() - began)


def _command(arguments: list[str], folder: Path) -> int:
    os.chdir(folder)
    with limited():
        try:
            _COMMANDS[arguments[0]].main(arguments[1:], prog_name=arguments[0])
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def _problems(ended: _Ended, hostile: Hostile, arguments: Arguments) -> list[str]:
    found = []
    lines = ended.text.splitlines()
    if ended.status != hostile.status:
        found.append(f"ends with {ended.status}, and not {hostile.status}")
    found += [f"does not say {part!r}" for part in hostile.said if part not in " ".join(ended.text.split())]
    if not all(line.isprintable() for line in lines):
        found.append("says what is no text")
    if "Traceback" in ended.text or SECRET.decode().strip() in ended.text:
        found.append("says what nobody wants to know")
    if len(lines) > _MOST_LINES or max(map(len, lines), default=0) > LETTERS:
        found.append(f"says {len(lines)} lines of up to {max(map(len, lines))} letters")
    if ended.status == 1 and sum(line.startswith("Error: ") for line in lines) != 1:
        found.append("says no error, or several")
    return found


CAMPAIGNS = [
    Campaign(
        "hostile",
        "crafted files of every kind, through the command line",
        "bounded time and memory, a line that names the file, an exit status other than 0; nothing outside is opened",
        quick=len(TABLE),
        soak=len(TABLE),
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
