"""Synthetic streets and the Make3D files of them: a portrait JPEG, and a laser's grid of positions."""

from __future__ import annotations

from math import pi
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gfield.formats.matv5 import write_numeric
from gfield.sample.furniture import block
from gfield.sample.render import face_normals, shade
from gfield.sample.scene import LABELS, U1, Ball, Box, Camera, Lamp, Lens, Scene, Solid, placed
from gfield.sample.sensor import colour_camera
from gfield.sample.texture import draw_colour, paint
from gfield.sample.trace import make_view, trace

SIZE_WH = (1704, 2272)
GRID_WH = (305, 55)
FARTHEST_M = 80.0  # where the laser's range ends: such points have exactly this distance
# Fitted to the directions in real grids: columns reach 17.9 degrees to a side, rows 23 degrees up and down.
_LENS = Lens(2636.0, 2636.0, (SIZE_WH[0] - 1) / 2, (SIZE_WH[1] - 1) / 2)
_DRAWN_AT = 4  # pictures are drawn at a quarter of their size
_RANGE_STEP_M = 0.005


class OutdoorFrame(NamedTuple):
    """``rgb_HWC`` (2272, 1704, 3) uint8; ``grid_HW4`` (55, 305, 4) float64 metres: up, right, ahead, far."""

    rgb_HWC: U1
    grid_HW4: npt.NDArray[np.float64]


def render_street(seed: int) -> OutdoorFrame:
    """Render the street that belongs to a seed, at the size and with the field of view of Make3D.

    The distance is along the ray, in steps of 5 mm, and exactly 80 m for the sky and whatever is farther.
    """
    scene, camera = _make_street(seed)
    drawn_WH = (SIZE_WH[0] // _DRAWN_AT, SIZE_WH[1] // _DRAWN_AT)
    view = make_view(camera, _LENS.scaled(SIZE_WH, drawn_WH), drawn_WH)
    hits = trace(scene, view)
    light_HWC = shade(scene, view, hits, face_normals(scene, view, hits))
    small_HWC = colour_camera(light_HWC, np.random.default_rng((4, seed)))
    rgb_HWC = np.asarray(cv2.resize(small_HWC, SIZE_WH, interpolation=cv2.INTER_CUBIC), np.uint8)
    return OutdoorFrame(rgb_HWC, _position_grid(scene, camera))


def write_pair(frame: OutdoorFrame, image: Path, depth: Path | None) -> None:
    """Write one picture as Make3D has it, and its grid unless ``depth`` is None."""
    bgr_HWC = frame.rgb_HWC[..., ::-1]
    _, jpeg = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, 90])
    image.write_bytes(jpeg.tobytes())
    if depth is not None:
        write_numeric(depth, {"Position3DGrid": frame.grid_HW4})


def _position_grid(scene: Scene, camera: Camera) -> npt.NDArray[np.float64]:
    lens = _LENS.scaled(SIZE_WH, GRID_WH)
    forward = trace(scene, make_view(camera, lens, GRID_WH)).depth_HW.astype(np.float64)
    right = ((np.arange(GRID_WH[0]) - lens.cx) / lens.fx)[None, :]
    up = -((np.arange(GRID_WH[1]) - lens.cy) / lens.fy)[:, None]
    length = np.sqrt(1 + right * right + up * up)
    distance = np.round(np.minimum(forward * length, FARTHEST_M) / _RANGE_STEP_M) * _RANGE_STEP_M
    ahead = distance / length
    return np.stack([up * ahead, right * ahead, ahead, distance], axis=2)


def _make_street(seed: int) -> tuple[Scene, Camera]:
    rng = np.random.default_rng((3, seed))
    meadow = draw_colour(rng, saturation=(0.15, 0.5), value=(0.35, 0.6), hue=(0.08, 0.32))
    grass = paint(rng, "mottled", meadow, span_m=6.0)
    ground = block("ground", grass, (-400, 400), (-50, 750), (-2, 0))
    road = paint(rng, "mottled", draw_colour(rng, saturation=(0, 0.08), value=(0.35, 0.5)), span_m=3.0)
    solids: list[Solid] = [ground, block("ground", road, (-3.2, 3.2), (-50, 400), (-0.01, 0.01))]
    for side in (-1, 1):
        y = rng.uniform(8, 16)
        while y < 75:
            width = rng.uniform(7, 16)
            solids += placed(_house(rng, width), (side * rng.uniform(9, 16), y + width / 2, 0.0), -side * pi / 2)
            y += width + rng.uniform(1.5, 9)
        for y in np.cumsum(rng.uniform(4, 9, 6)) + 4:
            build = _tree if rng.random() < 0.65 else _column
            solids += placed(build(rng), (side * rng.uniform(4.2, 6.0), float(y), 0.0), 0.0)
    if rng.random() < 0.6:
        solids += placed(_house(rng, rng.uniform(20, 34)), (0.0, rng.uniform(45, 78), 0.0), 0.0)
    sun = rng.uniform(2.0, 2.6)
    at = (float(rng.uniform(-250, 250)), float(rng.uniform(-220, -60)), float(rng.uniform(180, 260)))
    scene = Scene(
        boxes=tuple(solid for solid in solids if isinstance(solid, Box)),
        balls=tuple(solid for solid in solids if isinstance(solid, Ball)),
        lamps=(Lamp(at, (sun, 0.95 * sun, 0.85 * sun), 0.0, radius=2.0),),
        ambient=(0.5, 0.55, 0.62),
        reach=((-150.0, -50.0, 0.0), (150.0, 200.0, 40.0)),
        sky=((0.75, 0.82, 0.9), (0.22, 0.4, 0.78)),
    )
    eye = (float(rng.uniform(-2.5, 2.5)), 0.0, float(rng.uniform(1.3, 1.7)))
    return scene, Camera(eye, float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.01, 0.04)))


def _house(rng: np.random.Generator, width: float) -> list[Solid]:
    """A block of flats and its roof, its front at y = 0 and facing -y."""
    depth, height = rng.uniform(7, 12), rng.uniform(3.5, 10)
    colour = draw_colour(rng, saturation=(0.05, 0.45), value=(0.45, 0.9), hue=(0.0, 0.16))
    front = paint(rng, "facade", colour, span_m=rng.uniform(9, 13))
    top = paint(rng, "plain", draw_colour(rng, saturation=(0.1, 0.5), value=(0.2, 0.5), hue=(0.0, 0.1)), span_m=4.0)
    return [
        block("building", front, (-width / 2, width / 2), (0, depth), (0, height)),
        block("building", top, (-width / 2 - 0.4, width / 2 + 0.4), (-0.4, depth + 0.4), (height, height + 0.7)),
    ]


def _tree(rng: np.random.Generator) -> list[Solid]:
    bark = paint(rng, "wood", draw_colour(rng, hue=(0.05, 0.1), value=(0.2, 0.4)))
    green = draw_colour(rng, saturation=(0.4, 0.75), value=(0.25, 0.55), hue=(0.2, 0.38))
    leaves = paint(rng, "mottled", green, span_m=None)
    height, half = rng.uniform(2.0, 3.4), rng.uniform(0.12, 0.22)
    solids: list[Solid] = [block("tree", bark, (-half, half), (-half, half), (0, height + 0.5))]
    for _ in range(int(rng.integers(3, 6))):
        x, y, z = rng.uniform((-0.7, -0.7, 0.3), (0.7, 0.7, 1.8))
        centre = (float(x), float(y), height + float(z))
        solids.append(Ball(centre, float(rng.uniform(0.8, 1.35)), LABELS["tree"], leaves))
    return solids


def _column(rng: np.random.Generator) -> list[Solid]:
    stone = paint(rng, "mottled", draw_colour(rng, saturation=(0, 0.2), value=(0.5, 0.9)))
    half, height = rng.uniform(0.15, 0.35), rng.uniform(2.5, 4.5)
    return [
        block("column", stone, (-half, half), (-half, half), (0, height)),
        block("column", stone, (-1.4 * half, 1.4 * half), (-1.4 * half, 1.4 * half), (height, height + 0.3)),
        Ball((0.0, 0.0, height + 0.3 + half), half, LABELS["column"], stone),
    ]
