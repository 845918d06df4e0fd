"""Malicious pickles in the place of everything that is loaded: none is executed, and one line names the file."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.small_studies import write_study
from tests.test_checkpoint_damage import forge
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.payloads import FORMS, PLACES, STYLES, calls, careless, pickled
from tests.trust.training import SMALL, Ended, Ground, arguments_of, ground, run, whole_run
from train.checkpoint import save_checkpoint

_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class _Prepared:
    """A store; a trained run and a finished study, to put pickles into; and a picture."""

    ground: Ground
    trained: Path
    study: Path
    picture: Path


def _prepare(folder: Path) -> _Prepared:
    shared = ground(folder)
    trained, study = folder / "trained", folder / "study"
    whole_run((*arguments_of(shared, "fcrn"), "--out", trained), folder, trained)
    whole_run(("study", write_study(folder, shared.store), "--out", study), folder, study)
    in_child(_write_pictures, folder)
    return _Prepared(shared, trained, study, folder / "room.png")


def _write_pictures(folder: Path) -> None:
    """A picture, and an archive of pictures; in a process that is not forked again, for OpenCV may start threads."""
    from tests.test_densedepth import archive_files

    cv2.imwrite(str(folder / "room.png"), np.zeros((60, 80, 3), np.uint8))
    with zipfile.ZipFile(folder / "nyu_data.zip", "w") as archive:
        for name, data in archive_files().items():
            archive.writestr(name, data)


@dataclass(frozen=True)
class _Attack:
    """A command that meets the file, and the path that its error has to name."""

    arguments: tuple[Any, ...]
    names: Path
    program: str = "train"


_Loader = Callable[[_Prepared, bytes, Path, np.random.Generator], _Attack]


def _by_init(command: str) -> _Loader:
    def load(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
        file = _file(data, folder, rng)
        return _Attack((command, prepared.ground.store, "--out", folder / "out", "--init", file, *SMALL), file)

    return load


def _by_weights(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    file = _file(data, folder, rng)
    start = "--init", "imagenet", "--weights", file
    return _Attack(("finetune", prepared.ground.store, "--out", folder / "out", *start, *SMALL), file)


def _by_import(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    file = _file(data, folder, rng)
    return _Attack(("import", file, "--out", folder / "out"), file)


def _file(data: bytes, folder: Path, rng: np.random.Generator) -> Path:
    file = folder / f"resnet18{_SUFFIXES[rng.integers(len(_SUFFIXES))]}"
    file.write_bytes(data)
    return file


def _in_a_run(*arguments: Any) -> _Loader:
    """A command on a run whose checkpoint holds the pickle, with the size and hash that fit."""

    def load(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
        out = folder / "run"
        out.mkdir()
        shutil.copy(prepared.trained / "meta.json", out)
        forge(save_checkpoint(out, 5, {"model": {}}, {}), data)
        places = {"RUN": out, "STORE": prepared.ground.store, "PICTURE": prepared.picture, "OUT": folder / "out"}
        return _Attack(tuple(places.get(argument, argument) for argument in arguments), out)

    return load


def _resumed(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    attack = _in_a_run()(prepared, data, folder, rng)
    return _Attack((*arguments_of(prepared.ground, "fcrn"), "--out", attack.names, "--resume"), attack.names)


def _in_a_study(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    """A study that has lost its cells, and whose pre-training is another's work."""
    out = folder / "out"
    shutil.copytree(prepared.study, out, ignore=shutil.ignore_patterns("runs", "cells"), copy_function=os.link)
    (path,) = out.glob("pretrained/*/checkpoints/*")
    for name in ("state.pt", "meta.json"):  # which are the finished study's too
        data_before = (path / name).read_bytes()
        (path / name).unlink()
        (path / name).write_bytes(data_before)
    forge(path, data)
    return _Attack(("study", write_study(folder, prepared.ground.store), "--out", out), path.parents[1])


def _as_a_picture(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    picture = folder / f"room{('.png', '.jpg', '.npy')[rng.integers(3)]}"
    picture.write_bytes(data)
    return _Attack(("predict", picture, "--run", prepared.trained, "--out", folder / "out"), picture)


def _in_a_data_set(prepared: _Prepared, data: bytes, folder: Path, rng: np.random.Generator) -> _Attack:
    archive = folder / "nyu_test.zip"
    archive.write_bytes(data)
    return _Attack(
        ("build", "densedepth", prepared.ground.folder / "nyu_data.zip", folder / "out.zarr", "--test", archive),
        archive,
        "gfield",
    )


_LOADERS: dict[str, _Loader] = {
    "finetune --init FILE": _by_init("finetune"),
    "import FILE": _by_import,
    "predict --run RUN": _in_a_run("predict", "PICTURE", "--run", "RUN", "--out", "OUT"),
    "build densedepth --test ZIP": _in_a_data_set,
    "finetune --resume": _resumed,
    "pretrain --init FILE": _by_init("pretrain"),
    "finetune --weights FILE": _by_weights,
    "evaluate STORE RUN": _in_a_run("evaluate", "STORE", "RUN", "--protocol", "nyu-full"),
    "export RUN": _in_a_run("export", "RUN", "--to", "torchvision", "--out", "OUT"),
    "finetune --init RUN": _in_a_run("finetune", "STORE", "--out", "OUT", "--init", "RUN", *SMALL),
    "study with a run": _in_a_study,
    "predict PICTURE": _as_a_picture,
}


def _case(prepared: _Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    loader = [*_LOADERS][number % len(_LOADERS)]
    canary = folder / "canary"
    makes = [*calls(canary).values()]
    style, place, form = (names[rng.integers(len(names))] for names in ([*STYLES], [*PLACES], [*FORMS]))
    if loader.startswith("build"):
        form = "NumPy's arrays in a zip"
    data = pickled(makes[rng.integers(len(makes))], style, place, int(rng.integers(6)))
    file = FORMS[form].write(data)
    what = f"{form}, {style}, {place}, {data!r}"
    with suppress(Exception):  # what it makes of the rest is no matter
        in_child(careless, form, data, file)
    if not canary.exists():
        raise Wrong(f"the canary is dead: {what}")
    canary.rmdir() if canary.is_dir() else canary.unlink()
    attack = _LOADERS[loader](prepared, file, folder, rng)
    ended = run(attack.arguments, folder / "said", folder, program=attack.program)
    if canary.exists():
        raise Wrong(f"{loader}: executed {what}; said {ended.said}")
    _told(loader, attack, ended, what)
    return f"{loader}: refused"


def _told(loader: str, attack: _Attack, ended: Ended, what: str) -> None:
    """The error is one line that names the file, after those of damaged checkpoints; of a study, one of its."""
    lines = [line for line in ended.said.splitlines() if not re.match(r"\S+step-\d+: damaged: \S", line)]
    naming = [line for line in lines if str(attack.names) in line and ("Error: " in line or "failed: " in line)]
    alone = len(lines) == 1 or loader == "study with a run"
    wrong = "Traceback" in ended.said or "Warning" in ended.said or "Weights only" in ended.said
    if ended.code != 1 or not naming or not alone or wrong:
        raise Wrong(f"{loader} of {what} ended with {ended.code} and said\n{ended.said}")


CAMPAIGNS = [
    Campaign(
        "pickles",
        "a pickle that runs code, in any of twelve kinds of file, in the place of everything that is loaded",
        "nothing is executed, though the same file does run its code when it is loaded without care; the error is "
        "one line that names the file",
        quick=12,
        soak=300,
        prepare=_prepare,
        case=_case,
        seconds=60,
    )
]
