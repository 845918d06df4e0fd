"""Fields of 32 pictures at two levels as hashes, by plain definitions and by the package.

The hashes in tests/golden/fields.json are of the definitions: ``python -m tests.trust.golden_fields --write`` writes
them, and ``python -m tests.trust.golden_fields`` prints those of the package, under whatever OpenCV it finds, where
they are others.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.edges import COMPILED
from gfield.field import FieldKernel, FieldParams
from gfield.frame import Region
from gfield.levels import area_resize
from gfield.sample.render import render_room
from gfield.sources.nyuv2 import open_nyuv2
from tests.reference_field import grmc_field, luminance, sobel, sobel_field

GOLDEN = Path(__file__).parents[1] / "golden" / "fields.json"
REAL = Path(__file__).parents[3] / "shared" / "data" / "nyu" / "nyu_depth_v2_labeled.mat"
SYNTHETIC, ROOMS, REAL_FRAMES = 24, 8, 32
_SIZES_WH = ((320, 240), (318, 238), (64, 48), (322, 242))
_PARAMS = {
    "sobel": FieldParams(),
    "other thresholds": FieldParams(20, 90),
    "region": FieldParams(),
    "auto": FieldParams(auto=True),
    "l2": FieldParams(l2_gradient=True),
    "grmc": FieldParams(variant="grmc"),
}

UInt8 = npt.NDArray[np.uint8]
Hashes = dict[str, str]


class Setting(NamedTuple):
    """How OpenCV and the operator are set."""

    threads: int
    ipp: bool
    compiled: bool

    def __str__(self) -> str:
        ipp, operator = "IPP" if self.ipp else "no IPP", "compiled" if self.compiled else "by OpenCV"
        return f"{self.threads} threads, {ipp}, {operator}"


SETTINGS = [Setting(*choice) for choice in itertools.product((1, 4), (True, False), (True, False))]


def pictures() -> dict[str, UInt8]:
    """The pictures by name: integers alone, so that they are the same everywhere; and rendered rooms."""
    made = {f"synthetic-{number:02d}": _synthetic(number) for number in range(SYNTHETIC)}
    for number in range(ROOMS):
        made[f"room-{number}"] = render_room(number, size_WH=(320, 240)).rgb_HWC
    return made


def _synthetic(number: int) -> UInt8:
    """A slope, flat boxes and noise, more of it from picture to picture."""
    rng = np.random.default_rng(number)
    width, height = _SIZES_WH[number % len(_SIZES_WH)]
    rows, columns = np.mgrid[:height, :width]
    rgb_HWC = np.repeat((60 + 90 * columns // width + 60 * rows // height)[..., None], 3, axis=2)
    for _ in range(number):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        rgb_HWC[top : top + int(rng.integers(3, 80)), left : left + int(rng.integers(3, 80))] = rng.integers(0, 256, 3)
    noise = 1 + 2 * number
    return np.clip(rgb_HWC + rng.integers(-noise, noise + 1, rgb_HWC.shape), 0, 255).astype(np.uint8)


def real_frames() -> Iterator[tuple[str, UInt8]]:
    """The frames of NYU Depth v2 that are at hand beside the project, if they are."""
    if not REAL.exists():
        return
    for frame in open_nyuv2(REAL).read(0, REAL_FRAMES, frozenset({"rgb"})):
        yield f"real-{frame.index:02d}", frame.arrays["rgb"].copy()


def hashes(rgb_HWC: UInt8, setting: Setting) -> Hashes:
    """Hashes of a picture, of its second level, and of the fields of both by the package."""
    cv2.setNumThreads(setting.threads)
    cv2.ipp.setUseIPP(setting.ipp)
    half_HWC = area_resize(rgb_HWC, np.empty((rgb_HWC.shape[0] // 2, rgb_HWC.shape[1] // 2, 3), np.uint8))
    found: Hashes = {}
    for level, level_HWC in (("whole", rgb_HWC), ("half", half_HWC)):
        found[f"{level}/rgb"] = _hash(level_HWC)
        for name, params in _PARAMS.items():
            able = COMPILED and params.variant == "sobel" and not params.l2_gradient
            kernel = FieldKernel(params, compiled=setting.compiled and able)
            found[f"{level}/{name}"] = _hash(kernel(level_HWC, _region(level_HWC) if name == "region" else None))
    return found


def defined_hashes(rgb_HWC: UInt8) -> Hashes:
    """The same by definition; but for Canny, NumPy alone."""
    quarters = [rgb_HWC[row::2, column::2].astype(np.int64) for row in (0, 1) for column in (0, 1)]
    half_HWC = ((sum(quarters) + 2) // 4).astype(np.uint8)
    found: Hashes = {}
    for level, level_HWC in (("whole", rgb_HWC), ("half", half_HWC)):
        found[f"{level}/rgb"] = _hash(level_HWC)
        top, bottom, left, right = _region(level_HWC)
        inside_HW = np.zeros(level_HWC.shape[:2], np.float16)
        inside_HW[top:bottom, left:right] = sobel_field(np.ascontiguousarray(level_HWC[top:bottom, left:right]))
        fields = {
            "sobel": sobel_field(level_HWC),
            "other thresholds": sobel_field(level_HWC, 20, 90),
            "region": inside_HW,
            "auto": sobel_field(level_HWC, *_auto(level_HWC)),
            "l2": sobel_field(level_HWC, l2_gradient=True),
            "grmc": grmc_field(level_HWC).astype(np.float16),
        }
        found |= {f"{level}/{name}": _hash(field_HW) for name, field_HW in fields.items()}
    return found


def _auto(rgb_HWC: UInt8) -> tuple[int, int]:
    """The upper threshold is 32 at least, and 94 % of the gradients are no larger; the lower is a quarter of it."""
    du_HW, dv_HW = sobel(luminance(rgb_HWC))
    norms = np.sort((np.abs(du_HW) + np.abs(dv_HW)).ravel())
    high = max(32, int(norms[-(-94 * norms.size // 100) - 1]))
    return high // 4, high


def _region(rgb_HWC: UInt8) -> Region:
    height, width, _ = rgb_HWC.shape
    return Region(5, height - 7, 3, width - 2)


def _hash(array: npt.NDArray[np.generic]) -> str:
    return blake3(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest(length=8)


def read_golden() -> dict[str, Hashes]:
    """The hashes that are kept, by picture."""
    golden: dict[str, Hashes] = json.loads(GOLDEN.read_text())
    return golden


def write_golden() -> None:
    """Keep the hashes of the definitions."""
    cv2.setNumThreads(1)
    golden = {name: defined_hashes(rgb_HWC) for name, rgb_HWC in (*pictures().items(), *real_frames())}
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in golden.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def is_rendered_otherwise(name: str, rgb_HWC: UInt8) -> bool:
    """Whether a room has other colours here: they come of floating-point numbers, which another processor may round."""
    return name.startswith("room") and _hash(rgb_HWC) != read_golden()[name]["whole/rgb"]


def differences(names: dict[str, UInt8], setting: Setting) -> list[str]:
    """Which of the package's hashes are not those that are kept: "picture level/field", none if all is well."""
    golden = read_golden()
    found = []
    for name, rgb_HWC in names.items():
        seen, wanted = hashes(rgb_HWC, setting), golden[name]
        if is_rendered_otherwise(name, rgb_HWC):
            wanted = defined_hashes(rgb_HWC)
        found += [f"{name} {what}" for what in wanted if seen[what] != wanted[what]]
    return found


@click.command()
@click.option("--write", is_flag=True, help="Write the file.")
def main(write: bool) -> None:
    """Print what this OpenCV gives otherwise, as JSON, or write the file."""
    if write:
        write_golden()
        return
    every = pictures() | dict(real_frames())
    found = {str(setting): differences(every, setting) for setting in SETTINGS}
    click.echo(json.dumps({"opencv": cv2.__version__, "pictures": len(every), "differences": found}))


if __name__ == "__main__":
    main()
