"""The operator's numbers: the same by every setting of OpenCV, by compiled code or not, and by other versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfield.build import build_store
from gfield.codec import CODEC_NAMES
from gfield.sources.nyuv2 import open_nyuv2
from gfield.specify import make_spec
from tests.trust.campaign import Campaign, Wrong
from tests.trust.children import in_child
from tests.trust.golden_fields import REAL_FRAMES, SETTINGS, differences, is_rendered_otherwise, pictures, real_frames
from tests.trust.inputs import FRAMES_PER_SHARD, LEVELS_WH, small_mat
from tests.trust.read_by_zarr import hashes_by_us

ROOT = Path(__file__).parents[2]
# What is installed beside the versions that the tests run with: another major of OpenCV, another minor of zarr.
_OTHER_OPENCV = {"4": "opencv-python-headless>=5,<6", "5": "opencv-python-headless>=4.10.0.84,<5"}
_OTHER_ZARR = {"3.1": "zarr>=3.0.8,<3.1"}
_NEEDED_BY_ZARR = "crc32c>=2.3"  # by versions before 3.1
_VERSIONS = ("opencv", "zarr")


class Prepared(NamedTuple):
    """The pictures by name, the real frames where they are at hand, and stores in all codecs."""

    synthetic: dict[str, npt.NDArray[np.uint8]]
    real: dict[str, npt.NDArray[np.uint8]]
    stores: list[Path]


def prepare(folder: Path) -> Prepared:
    """Render the rooms and build small stores, in processes of their own."""
    source = open_nyuv2(small_mat(folder, frames=3))
    stores = []
    for codec in CODEC_NAMES:
        stores.append(folder / f"{codec}.zarr")
        spec = make_spec(source, levels_WH=LEVELS_WH[1:], frames_per_shard=FRAMES_PER_SHARD, codec=codec)
        in_child(build_store, source, stores[-1], spec)
    return Prepared(in_child(pictures), dict(in_child(lambda: list(real_frames()))), stores)


def quick(prepared: Prepared) -> int:
    """Every synthetic picture by every setting, then every real frame by one."""
    return len(prepared.synthetic) * len(SETTINGS) + REAL_FRAMES


def soak(prepared: Prepared) -> int:
    """Every picture by every setting, and other versions."""
    return (len(prepared.synthetic) + REAL_FRAMES) * len(SETTINGS) + len(_VERSIONS)


def golden(prepared: Prepared, number: int, rng: np.random.Generator, folder: Path) -> str:
    """One case: a picture by a setting; the last ones are other versions."""
    synthetic = [*prepared.synthetic]
    setting = SETTINGS[(number + number // REAL_FRAMES) % len(SETTINGS)]
    if number < len(synthetic) * len(SETTINGS):
        name, every = synthetic[number % len(synthetic)], prepared.synthetic
    elif (real := number - len(synthetic) * len(SETTINGS)) < REAL_FRAMES * len(SETTINGS):
        name, every = f"real-{real % REAL_FRAMES:02d}", prepared.real
        if name not in every:
            return "real frames: not at hand, not looked at"
    elif real == REAL_FRAMES * len(SETTINGS):
        return _other_opencv(folder)
    else:
        return _other_zarr(prepared, folder)
    if wrong := differences({name: every[name]}, setting):
        raise Wrong(f"{setting}: {', '.join(wrong)} are not the kept ones")
    if is_rendered_otherwise(name, every[name]):
        return f"a room that is rendered otherwise here, by the definitions alone: {setting}"
    return f"{'a real frame' if every is prepared.real else 'a picture'}: {setting}"


def _other_opencv(folder: Path) -> str:
    """All pictures by all settings under another major version of OpenCV."""
    what = _OTHER_OPENCV[version("opencv-python-headless").partition(".")[0]]
    if why := _install([what], folder):
        return f"{what}: not installed, not looked at ({why})"
    seen = json.loads(_run("tests.trust.golden_fields", [], folder))
    wrong = {setting: found for setting, found in seen["differences"].items() if found}
    if wrong or seen["opencv"].partition(".")[0] == version("opencv-python-headless").partition(".")[0]:
        raise Wrong(f"OpenCV {seen['opencv']}: {wrong}")
    return f"OpenCV {seen['opencv']} as well: {seen['pictures']} pictures by {len(seen['differences'])} settings"


def _other_zarr(prepared: Prepared, folder: Path) -> str:
    """Stores of all codecs as another minor version of zarr reads them."""
    here = ".".join(version("zarr").split(".")[:2])
    what = _OTHER_ZARR.get(here, "zarr>=3.1,<3.2")
    if why := _install([what, _NEEDED_BY_ZARR], folder):
        return f"{what}: not installed, not looked at ({why})"
    seen = json.loads(_run("tests.trust.read_by_zarr", [str(store) for store in prepared.stores], folder))
    wanted = {str(store): hashes_by_us(store) for store in prepared.stores}
    if seen["stores"] != wanted or seen["zarr"].startswith(f"{here}."):
        raise Wrong(f"zarr {seen['zarr']} reads {seen['stores']}, wanted {wanted}")
    return f"zarr {seen['zarr']} as well: {len(wanted)} stores, {sum(map(len, wanted.values()))} arrays"


def _install(what: list[str], folder: Path) -> str:
    """Install packages into a folder, without what they need, which is there; why not, where that fails."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _run(module: str, arguments: list[str], packages: Path) -> str:
    """What a module prints that finds the packages of a folder before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    if done.returncode:
        raise Wrong(f"{module} under other versions: {done.stderr.strip()}")
    return done.stdout


CAMPAIGNS = [
    Campaign(
        "goldens",
        "OpenCV's threads and IPP, compiled code or not, another version of OpenCV, another of zarr",
        "fields at two levels are those of the definitions, kept as hashes, and stores are read to the same bytes",
        quick=quick,
        soak=soak,
        prepare=prepare,
        case=golden,
        seconds=300,
    )
]
