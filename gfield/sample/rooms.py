"""Furnished rooms and places to look at them from, each a pure function of its seed.

A room spans x from 0 to its width and y from 0 to its length. Furniture stands at the walls x = 0, x = width
and y = length and in the middle; the strip y < 1.35 is kept free, and the cameras are there or where there is
room. So no camera is ever nearer than 0.8 m to a solid or farther than 10 m from one.
"""

from __future__ import annotations

from math import atan2, pi
from typing import NamedTuple

import numpy as np

from gfield.sample import furniture
from gfield.sample.furniture import Build, Piece, block
from gfield.sample.scene import LABELS, Ball, Box, Camera, Lamp, Scene, Solid, Vec3, placed
from gfield.sample.texture import Colour, draw_colour, paint

# What stands in a room of each type: pieces at the walls, and pieces in the middle, if they fit.
KINDS: dict[str, tuple[tuple[Build, ...], tuple[Build, ...]]] = {
    "bedroom": (
        (furniture.bed, furniture.cabinet, furniture.floor_lamp, furniture.bookshelf, furniture.chair),
        (furniture.crates, furniture.ball),
    ),
    "living_room": (
        (furniture.sofa, furniture.television, furniture.floor_lamp, furniture.bookshelf, furniture.cabinet),
        (furniture.table, furniture.ball),
    ),
    "kitchen": (
        (furniture.counter, furniture.refrigerator, furniture.counter, furniture.cabinet),
        (furniture.dining_table, furniture.chair),
    ),
    "office": (
        (furniture.desk, furniture.bookshelf, furniture.desk, furniture.cabinet, furniture.crates),
        (furniture.crates, furniture.chair),
    ),
    "dining_room": (
        (furniture.cabinet, furniture.floor_lamp, furniture.cabinet, furniture.bookshelf),
        (furniture.dining_table, furniture.ball),
    ),
    "study": (
        (furniture.bookshelf, furniture.desk, furniture.bookshelf, furniture.sofa),
        (furniture.table, furniture.crates),
    ),
}
_FREE_STRIP_M = 1.35
_NEAREST_M = 0.8


class Room(NamedTuple):
    """A scene with its name, its type (a key of `KINDS`) and its width, length and height in metres."""

    name: str
    kind: str
    scene: Scene
    size: Vec3


class _Rectangle(NamedTuple):
    """A part of the floor."""

    left: float
    right: float
    low: float
    high: float

    def meets(self, other: _Rectangle, gap: float) -> bool:
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.low < other.high + gap
            and other.low < self.high + gap
        )


def name_room(seed: int) -> tuple[str, str]:
    """The scene's name and type of a seed's room, without furnishing it."""
    kind = list(KINDS)[int(np.random.default_rng((7, seed)).integers(len(KINDS)))]
    return f"{kind}_{seed:04d}", kind


def make_room(seed: int) -> Room:
    """The room of a seed; other seeds give other rooms."""
    name, kind = name_room(seed)
    rng = np.random.default_rng((0, seed))
    size = (float(rng.uniform(3.0, 7.0)), float(rng.uniform(3.6, 7.0)), float(rng.uniform(2.3, 2.9)))
    shell, colours = _shell(rng, size)
    solids = _furnish(rng, kind, size, colours)
    hung = _wall_pieces(rng, size, solids)
    rug = _rug(rng, size, colours) if rng.random() < 0.6 else []
    everything = [*solids, *hung, *rug]
    boxes = (shell, *(solid for solid in everything if isinstance(solid, Box)))
    balls = tuple(solid for solid in everything if isinstance(solid, Ball))
    lamps, ambient = _lamps(rng, size)
    scene = Scene(boxes, balls, lamps, ambient, reach=((0.0, 0.0, 0.0), size))
    return Room(name, kind, scene, size)


def make_camera(room: Room, seed: int, view: int) -> Camera:
    """A place to stand in a room, at eye height 1.0-1.8 m, looking in; each view number another place."""
    rng = np.random.default_rng((1, seed, view))
    width, length, _ = room.size
    for _ in range(40):
        eye = (rng.uniform(0.9, width - 0.9), rng.uniform(0.15, 0.4 * length), rng.uniform(1.0, 1.8))
        if all(_distance(solid, eye) > _NEAREST_M for solid in _solids(room.scene)):
            break
    else:
        eye = (width * rng.uniform(0.35, 0.65), 0.3, rng.uniform(1.0, 1.8))
    target = (width * rng.uniform(0.15, 0.85), length * rng.uniform(0.65, 1.0), rng.uniform(0.3, 1.1))
    across, along = target[0] - eye[0], target[1] - eye[1]
    pitch = atan2(target[2] - eye[2], float(np.hypot(across, along)))
    return Camera(eye, -atan2(across, along), pitch, rng.normal(0, 0.02))


def _solids(scene: Scene) -> list[Solid]:
    return [solid for solid in scene.solids() if not (isinstance(solid, Box) and solid.inside)]


def _distance(solid: Solid, eye: Vec3) -> float:
    """Metres from a point to a solid; for a turned box, to the upright cylinder round it."""
    x, y, z = (abs(e - c) for e, c in zip(eye, solid.centre, strict=True))
    if isinstance(solid, Ball):
        return float(np.sqrt(x * x + y * y + z * z)) - solid.radius
    above = max(0.0, z - solid.half[2])
    if abs(np.sin(2 * solid.yaw)) < 1e-6:
        a, b = solid.half[:2] if abs(np.sin(solid.yaw)) < 0.5 else (solid.half[1], solid.half[0])
        return float(np.hypot(np.hypot(max(0.0, x - a), max(0.0, y - b)), above))
    return float(np.hypot(max(0.0, np.hypot(x, y) - np.hypot(*solid.half[:2])), above))


def _shell(rng: np.random.Generator, size: Vec3) -> tuple[Box, list[Colour]]:
    """The room's own box, and the colours of its walls and floor."""
    wall = draw_colour(rng, saturation=(0.02, 0.3), value=(0.6, 0.98))
    floor = draw_colour(rng, saturation=(0.1, 0.6), value=(0.25, 0.7), hue=(0.02, 0.16), unlike=[wall])
    if rng.random() < 0.4:
        floor = draw_colour(rng, saturation=(0.05, 0.4), value=(0.25, 0.8), unlike=[wall])
    pattern = str(rng.choice(["plain", "plain", "mottled", "stripes", "bricks"], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
    walls = paint(rng, pattern, wall, span_m=rng.uniform(0.9, 1.6))
    accent = walls
    if rng.random() < 0.35:
        accent = paint(rng, "plain", draw_colour(rng, saturation=(0.1, 0.45), unlike=[wall, floor]), span_m=1.2)
    under = paint(rng, str(rng.choice(["planks", "tiles", "checker", "mottled", "planks"])), floor, span_m=1.2)
    over = paint(rng, "plain", draw_colour(rng, saturation=(0.0, 0.08), value=(0.85, 1.0)), span_m=2.0)
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    faces = (walls, walls, walls, accent, under, over)
    return Box(half, half, 0.0, LABELS["wall"], faces, inside=True), [wall, floor]


def _furnish(rng: np.random.Generator, kind: str, size: Vec3, colours: list[Colour]) -> list[Solid]:
    """Pieces at the walls and in the middle, where they fit without touching."""
    taken: list[_Rectangle] = []
    solids: list[Solid] = []
    at_walls, in_middle = KINDS[kind]
    builds = list(at_walls) + [at_walls[int(rng.integers(len(at_walls)))] for _ in range(4)]
    for build in builds:
        piece = build(rng, colours)
        for _ in range(8):
            at, yaw = _beside_wall(rng, piece, size)
            if _take(taken, piece, at, yaw, size, gap=0.08):
                solids += placed(piece.solids, at, yaw)
                break
    for build in (*in_middle, *in_middle):
        piece = build(rng, colours)
        for _ in range(6):
            at = (rng.uniform(0.6, size[0] - 0.6), rng.uniform(_FREE_STRIP_M, size[1] - 0.8), 0.0)
            if _take(taken, piece, at, 0.0, size, gap=0.25):
                middle = (at[0], at[1] + piece.depth / 2, 0.0)
                centred = placed(piece.solids, (0.0, -piece.depth / 2, 0.0), 0.0)
                solids += placed(centred, middle, rng.uniform(-0.2, 0.2))
                break
    return solids


def _beside_wall(rng: np.random.Generator, piece: Piece, size: Vec3) -> tuple[Vec3, float]:
    """A place with the piece's back at the far wall, or at the left or right one."""
    width, length, _ = size
    wall = rng.choice(3, p=[0.5, 0.25, 0.25])
    if wall == 0:
        return (
            rng.uniform(piece.width / 2, max(piece.width / 2, width - piece.width / 2)),
            length - 0.02,
            0.0,
        ), pi
    low, high = _FREE_STRIP_M + piece.width / 2, length - piece.width / 2
    y = rng.uniform(low, max(low, high))
    return ((0.02, y, 0.0), -pi / 2) if wall == 1 else ((width - 0.02, y, 0.0), pi / 2)


def _take(taken: list[_Rectangle], piece: Piece, at: Vec3, yaw: float, size: Vec3, *, gap: float) -> bool:
    """Whether the piece's floor is inside the room and free; if so it is taken."""
    c, s = round(np.cos(yaw)), round(np.sin(yaw))
    xs = [at[0] + c * x - s * y for x in (-piece.width / 2, piece.width / 2) for y in (0, piece.depth)]
    ys = [at[1] + s * x + c * y for x in (-piece.width / 2, piece.width / 2) for y in (0, piece.depth)]
    floor = _Rectangle(min(xs), max(xs), min(ys), max(ys))
    inside = floor.left > -0.01 and floor.right < size[0] + 0.01 and floor.high < size[1] + 0.01
    if not inside or floor.low < _FREE_STRIP_M or any(floor.meets(other, gap) for other in taken):
        return False
    taken.append(floor)
    return True


def _wall_pieces(rng: np.random.Generator, size: Vec3, solids: list[Solid]) -> list[Solid]:
    """A window, a door and pictures, where no tall furniture hides them; walls are cut into bays."""
    width, length, height = size
    bays = [((x, length - 0.001, 0.0), pi) for x in np.arange(0.7, width - 0.6, 1.25)]
    for y in np.arange(_FREE_STRIP_M + 0.7, length - 0.6, 1.25):
        bays += [((0.001, y, 0.0), -pi / 2), ((width - 0.001, y, 0.0), pi / 2)]
    rng.shuffle(bays)
    wanted = ["window", "door", *rng.choice(["picture", "picture", "window", "none"], len(bays))]
    hung: list[Solid] = []
    for (at, yaw), name in zip(bays, wanted, strict=False):
        spot = (float(at[0]), float(at[1]))
        tops = [s.centre[2] + s.half[2] for s in solids if isinstance(s, Box) and _near(s, spot)]
        if name == "none" or (name == "door" and tops) or max(tops, default=0.0) > 1.1:
            continue
        hung += placed(_hung(rng, name, height), (*spot, 0.0), yaw)
    return hung


def _near(box: Box, spot: tuple[float, float]) -> bool:
    return float(np.hypot(box.centre[0] - spot[0], box.centre[1] - spot[1])) < 0.55 + float(np.hypot(*box.half[:2]))


def _hung(rng: np.random.Generator, name: str, height: float) -> list[Solid]:
    if name == "picture":
        w, h, z = rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.4), rng.uniform(1.45, 1.6)
        art = paint(rng, "painting", draw_colour(rng), span_m=None)
        return [block("picture", art, (-w, w), (0, 0.025), (z - h, z + h))]
    if name == "window":
        w, low, top = rng.uniform(0.4, 0.6), rng.uniform(1.1, 1.2), min(height - 0.2, 2.15)
        frame = paint(rng, "plain", draw_colour(rng, saturation=(0.0, 0.3), value=(0.5, 0.95)))
        daylight = draw_colour(rng, saturation=(0.05, 0.3), value=(0.9, 1.0), hue=(0.5, 0.62))
        panes = paint(rng, "window", daylight, span_m=None, glow=rng.uniform(0.7, 1.4))
        return [block("window", frame, (-w, w), (0, 0.04), (low, top), front=panes)]
    colour = draw_colour(rng, saturation=(0.1, 0.7), value=(0.3, 0.9), hue=(0.0, 0.15))
    leaf, frame = paint(rng, "doors", colour, span_m=None), paint(rng, "plain", 0.6 * colour)
    return [
        block("door", frame, (-0.52, 0.52), (0, 0.02), (0, 2.12)),
        block("door", leaf, (-0.45, 0.45), (0.02, 0.05), (0, 2.05)),
    ]


def _rug(rng: np.random.Generator, size: Vec3, colours: list[Colour]) -> list[Solid]:
    w, d = min(0.4 * size[0], rng.uniform(0.7, 1.3)), min(0.3 * size[1], rng.uniform(0.5, 1.1))
    pattern = str(rng.choice(["stripes", "checker", "mottled", "painting"]))
    colour = draw_colour(rng, saturation=(0.3, 0.8), unlike=colours)
    rug = block("rug", paint(rng, pattern, colour, span_m=None), (-w, w), (-d, d), (0, 0.012))
    return placed([rug], (size[0] / 2, size[1] * 0.5, 0.0), rng.uniform(-0.3, 0.3))


def _lamps(rng: np.random.Generator, size: Vec3) -> tuple[tuple[Lamp, ...], Vec3]:
    """A lamp under the ceiling, a fainter one to a side, and the ambient light."""
    warm = rng.uniform(0.0, 1.0)
    tint = np.array([1.0, 0.97 - 0.12 * warm, 0.95 - 0.35 * warm])
    main = rng.uniform(1.9, 2.6) * tint
    side = rng.uniform(0.2, 0.6) * tint[::-1]
    at = (size[0] * rng.uniform(0.3, 0.7), size[1] * rng.uniform(0.3, 0.65), size[2] - 0.15)
    other = (float(rng.choice([0.1, size[0] - 0.1])), size[1] * rng.uniform(0.2, 0.5), rng.uniform(1.5, 2.0))
    ambient = rng.uniform(0.2, 0.32) * (0.6 + 0.4 * tint)
    lamps = (Lamp(at, _vec3(main), 0.22, radius=0.12), Lamp(other, _vec3(side), 0.15))
    return lamps, _vec3(ambient)


def _vec3(values: np.ndarray) -> Vec3:
    return float(values[0]), float(values[1]), float(values[2])
