"""What a synthetic scene is made of: boxes, balls, materials, lamps and a camera. Data only, no drawing.

World axes in metres: x and y lie on the floor, z points up. A yaw turns counter-clockwise seen from above;
a camera of yaw 0 looks along +y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, sin
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from gfield.frame import Region

Vec3: TypeAlias = tuple[float, float, float]
F4: TypeAlias = npt.NDArray[np.float32]
U1: TypeAlias = npt.NDArray[np.uint8]

# Label n is CLASS_NAMES[n - 1]; 0 stands for no label (the sky, and NYU's white frame).
CLASS_NAMES = (
    "wall", "floor", "ceiling", "table", "cabinet", "bookshelf", "books", "bed", "pillow", "sofa", "chair",
    "box", "ball", "lamp", "picture", "window", "door", "television", "counter", "refrigerator", "rug",
    "ground", "building", "tree", "column",
)  # fmt: skip
LABELS = {name: number for number, name in enumerate(CLASS_NAMES, start=1)}

# The part of a 640 x 480 NYU picture that is scene; round it the pictures are white.
NYU_SCENE = Region(top=8, bottom=473, left=8, right=631)


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """A surface: a square colour tile and how it lies on the faces.

    Attributes
    ----------
    levels
        The tile (n, n, 3) uint8, display-referred, and its halvings, for surfaces far away.
    span_m
        Side of the tile in metres, repeated over the face; None stretches one tile over the face.
    glow
        Light given off, as a multiple of the tile's colour.
    """

    levels: tuple[U1, ...]
    span_m: float | None
    glow: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A box turned about the vertical axis.

    ``materials`` are those of the faces -x, +x, -y, +y, -z, +z of the box's own axes. A box with
    ``inside`` is seen from within only: a room.
    """

    centre: Vec3
    half: Vec3
    yaw: float
    label: int
    materials: tuple[Material, ...]
    inside: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Ball:
    """A sphere."""

    centre: Vec3
    radius: float
    label: int
    material: Material


Solid: TypeAlias = Box | Ball


@dataclass(frozen=True, slots=True)
class Lamp:
    """A light: irradiance ``rgb / (1 + falloff * r^2)`` at r metres.

    ``radius`` in metres softens the shadows; a lamp without one casts none.
    """

    position: Vec3
    rgb: Vec3
    falloff: float
    radius: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """All that a camera can look at.

    ``reach`` bounds the places that a shadow can fall on (low corner, high corner). ``sky`` holds the colours
    at the horizon and overhead, linear light, for a scene without a shell.
    """

    boxes: tuple[Box, ...]
    balls: tuple[Ball, ...]
    lamps: tuple[Lamp, ...]
    ambient: Vec3
    reach: tuple[Vec3, Vec3]
    sky: tuple[Vec3, Vec3] | None = None

    def solids(self) -> tuple[Solid, ...]:
        """Boxes, then balls."""
        return (*self.boxes, *self.balls)


class Camera(NamedTuple):
    """A place to stand and a way to look; angles in radians, pitch upwards, roll clockwise in the picture."""

    eye: Vec3
    yaw: float
    pitch: float
    roll: float = 0.0


class Lens(NamedTuple):
    """A pinhole's focal lengths and principal point in pixels; the first pixel's centre is 0."""

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, from_WH: tuple[int, int], to_WH: tuple[int, int]) -> Lens:
        """The same view on a grid of another size."""
        x, y = to_WH[0] / from_WH[0], to_WH[1] / from_WH[1]
        return Lens(self.fx * x, self.fy * y, (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5)


# NYU Depth v2's colour camera, from the toolbox's camera_params.m.
NYU_LENS = Lens(518.857901, 519.469611, 325.582449, 253.736166)


def placed(solids: Sequence[Solid], at: Vec3, yaw: float) -> list[Solid]:
    """Solids given in a piece's own axes, turned by ``yaw`` and moved to ``at``."""
    c, s = cos(yaw), sin(yaw)
    out: list[Solid] = []
    for solid in solids:
        x, y, z = solid.centre
        centre = (at[0] + c * x - s * y, at[1] + s * x + c * y, at[2] + z)
        if isinstance(solid, Box):
            out.append(replace(solid, centre=centre, yaw=solid.yaw + yaw))
        else:
            out.append(replace(solid, centre=centre))
    return out


def corners(box: Box) -> npt.NDArray[np.float64]:
    """The eight corners (8, 3) of a box in world axes."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
    local = signs * box.half
    c, s = cos(box.yaw), sin(box.yaw)
    x, y, z = local.T
    return np.stack([c * x - s * y, s * x + c * y, z], axis=1) + box.centre
