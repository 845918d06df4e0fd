"""Pieces of furniture as boxes and balls.

Each function builds one piece in its own axes: x along the wall that it stands at, centred; y from 0 at the
wall into the room; z up from the floor. A piece comes with the floor that it takes, (width, depth) in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from gfield.sample.scene import LABELS, Ball, Box, Material, Solid, placed
from gfield.sample.texture import Colour, draw_colour, paint


class Piece(NamedTuple):
    """Solids in the piece's own axes, and the floor (width, depth) in metres that they stand on."""

    solids: list[Solid]
    width: float
    depth: float


# A builder draws from the generator; its colours keep away from the colours given (those of the room).
Build: TypeAlias = Callable[[np.random.Generator, list[Colour]], Piece]


def block(
    name: str,
    material: Material,
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    *,
    front: Material | None = None,
) -> Box:
    """A box by its extents; ``front`` is the face into the room (+y)."""
    centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
    half = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (z[1] - z[0]) / 2)
    faces = (material, material, material, front or material, material, material)
    return Box(centre, half, 0.0, LABELS[name], faces)


def table(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A top on four legs, with things on it."""
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(0.6, 0.95), rng.uniform(0.68, 0.78)
    return Piece([*_table_frame(rng, room, w, d, h), *_things(rng, room, w, d, h)], w, d)


def desk(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A table with a screen on it and a chair before it."""
    w, d, h = rng.uniform(1.1, 1.7), rng.uniform(0.6, 0.8), rng.uniform(0.7, 0.76)
    solids = [*_table_frame(rng, room, w, d, h), *_screen(rng, rng.uniform(0.2, 0.3), h, 0.3)]
    solids += placed(chair(rng, room).solids, (rng.uniform(-0.2, 0.2), d + 0.55, 0.0), 3.1 + rng.uniform(-0.5, 0.5))
    return Piece(solids, w, d + 0.65)


def dining_table(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A table with a chair at each long side or two."""
    w, d, h = rng.uniform(1.2, 1.9), rng.uniform(0.8, 1.0), rng.uniform(0.7, 0.76)
    solids = placed([*_table_frame(rng, room, w, d, h), *_things(rng, room, w, d, h)], (0.0, 0.55, 0.0), 0.0)
    seat = chair(rng, room).solids
    for x in (-0.25 * w, 0.25 * w) if w > 1.4 else (0.0,):
        solids += placed(seat, (x, 0.2, 0.0), rng.uniform(-0.2, 0.2))
        solids += placed(seat, (x, d + 0.9, 0.0), np.pi + rng.uniform(-0.2, 0.2))
    return Piece(solids, w, d + 1.1)


def chair(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A seat on four legs with a back at the wall's side."""
    colour = draw_colour(rng, unlike=room)
    cover = paint(rng, str(rng.choice(["plain", "mottled", "wood"])), colour, span_m=0.5)
    frame = paint(rng, "plain", draw_colour(rng, saturation=(0.0, 0.4), value=(0.1, 0.5), unlike=room))
    w, d, h, top = 0.22, 0.44, 0.45, rng.uniform(0.82, 1.0)
    solids: list[Solid] = [
        block("chair", cover, (-w, w), (0, d), (h - 0.05, h)),
        block("chair", cover, (-w, w), (0, 0.04), (h + 0.12, top)),
        block("chair", frame, (-w, -w + 0.04), (0, 0.04), (0, h + 0.2)),
        block("chair", frame, (w - 0.04, w), (0, 0.04), (0, h + 0.2)),
        block("chair", frame, (-w, -w + 0.04), (d - 0.04, d), (0, h - 0.05)),
        block("chair", frame, (w - 0.04, w), (d - 0.04, d), (0, h - 0.05)),
    ]
    return Piece(solids, 2 * w, d)


def cabinet(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A cupboard, low with things on it or high."""
    w, d = rng.uniform(0.6, 1.5), rng.uniform(0.38, 0.6)
    h = rng.uniform(0.7, 1.1) if rng.random() < 0.6 else rng.uniform(1.5, 2.0)
    colour = draw_colour(rng, saturation=(0.1, 0.65), unlike=room)
    side = paint(rng, str(rng.choice(["plain", "wood"])), colour, span_m=0.8)
    front = paint(rng, "doors", colour, span_m=None)
    solids: list[Solid] = [block("cabinet", side, (-w / 2, w / 2), (0, d), (0.06, h), front=front)]
    solids.append(block("cabinet", paint(rng, "plain", 0.3 * colour), (-w / 2, w / 2), (0, d - 0.05), (0, 0.06)))
    if h < 1.2:
        solids += _things(rng, room, w, d, h)
    return Piece(solids, w, d)


def bookshelf(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """Boards with rows of books between them."""
    w, d, h = rng.uniform(0.7, 1.3), rng.uniform(0.28, 0.36), rng.uniform(1.2, 2.0)
    colour = draw_colour(rng, saturation=(0.1, 0.6), hue=(0.02, 0.14), unlike=room)
    wood = paint(rng, "wood", colour, span_m=0.9)
    rows = int(h / 0.36)
    step = (h - 0.1) / rows
    solids: list[Solid] = [
        block("bookshelf", wood, (-w / 2, -w / 2 + 0.03), (0, d), (0, h)),
        block("bookshelf", wood, (w / 2 - 0.03, w / 2), (0, d), (0, h)),
        block("bookshelf", paint(rng, "plain", 0.5 * colour), (-w / 2, w / 2), (0, 0.02), (0, h)),
    ]
    for row in range(rows + 1):
        z = 0.06 + row * step
        solids.append(block("bookshelf", wood, (-w / 2, w / 2), (0, d), (z, z + 0.03)))
        if row < rows and rng.random() < 0.85:
            left, right = -w / 2 + 0.04, w / 2 - 0.04 - rng.uniform(0, 0.4) * w
            books = paint(rng, "books", colour, span_m=None)
            z_book = (z + 0.03, z + 0.03 + step * rng.uniform(0.62, 0.8))
            edges = paint(rng, "plain", draw_colour(rng, saturation=(0.0, 0.2), unlike=[colour]))
            solids.append(
                block("books", edges, (left, right), (0.02, d - rng.uniform(0.03, 0.09)), z_book, front=books)
            )
    return Piece(solids, w, d)


def bed(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A base, a mattress with a cover, pillows and a headboard at the wall."""
    w, d, h = rng.uniform(1.0, 1.7), rng.uniform(1.9, 2.1), rng.uniform(0.42, 0.6)
    colour = draw_colour(rng, unlike=room)
    cover = paint(rng, str(rng.choice(["stripes", "checker", "mottled", "plain"])), colour, span_m=0.9)
    wood = paint(rng, "wood", draw_colour(rng, hue=(0.02, 0.12), value=(0.25, 0.6), unlike=[colour, *room]))
    linen = paint(rng, "mottled", draw_colour(rng, saturation=(0.0, 0.3), value=(0.7, 1.0), unlike=[colour]))
    solids: list[Solid] = [
        block("bed", wood, (-w / 2, w / 2), (0.05, d), (0.1, h - 0.2)),
        block("bed", linen, (-w / 2 + 0.02, w / 2 - 0.02), (0.06, d - 0.02), (h - 0.2, h)),
        block("bed", cover, (-w / 2 - 0.02, w / 2 + 0.02), (0.65, d + 0.01), (h - 0.26, h + 0.03)),
        block("bed", wood, (-w / 2 - 0.03, w / 2 + 0.03), (0, 0.05), (0, h + rng.uniform(0.3, 0.6))),
    ]
    for x in (-0.25 * w, 0.25 * w) if w > 1.3 else (0.0,):
        pillow = block("pillow", linen, (x - 0.24, x + 0.24), (0.12, 0.48), (h, h + 0.11))
        solids += placed([pillow], (0.0, 0.0, 0.0), rng.uniform(-0.04, 0.04))
    return Piece(solids, w, d)


def sofa(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """Seat, back, two arms and cushions."""
    w, d, h = rng.uniform(1.4, 2.2), rng.uniform(0.8, 0.95), rng.uniform(0.38, 0.46)
    colour = draw_colour(rng, unlike=room)
    pattern = str(rng.choice(["plain", "mottled", "stripes"]))
    cover, seat = paint(rng, pattern, colour, span_m=0.6), paint(rng, pattern, 0.88 * colour, span_m=0.6)
    solids: list[Solid] = [
        block("sofa", seat, (-w / 2, w / 2), (0, d), (0.06, h)),
        block("sofa", cover, (-w / 2, w / 2), (0, 0.22), (h, h + 0.42)),
        block("sofa", cover, (-w / 2, -w / 2 + 0.2), (0.22, d + 0.02), (h, h + 0.2)),
        block("sofa", cover, (w / 2 - 0.2, w / 2), (0.22, d + 0.02), (h, h + 0.2)),
    ]
    for x in np.linspace(-0.25 * w, 0.25 * w, int(rng.integers(1, 4))):
        cushion = paint(rng, str(rng.choice(["checker", "plain"])), draw_colour(rng, unlike=[colour]), span_m=0.3)
        turned = block("pillow", cushion, (-0.2, 0.2), (-0.07, 0.07), (h, h + 0.36))
        solids += placed([turned], (float(x), 0.34, 0.0), rng.uniform(-0.35, 0.35))
    return Piece(solids, w, d)


def television(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A low cupboard with a screen on it."""
    w, d, h = rng.uniform(1.2, 1.8), rng.uniform(0.4, 0.5), rng.uniform(0.35, 0.55)
    colour = draw_colour(rng, saturation=(0.1, 0.6), value=(0.2, 0.8), unlike=room)
    side, front = paint(rng, "wood", colour), paint(rng, "doors", colour, span_m=None)
    stand = block("cabinet", side, (-w / 2, w / 2), (0, d), (0, h), front=front)
    return Piece([stand, *_screen(rng, rng.uniform(0.42, 0.6), h, 0.22)], w, d)


def counter(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A kitchen's worktop over cupboards, with more cupboards on the wall above."""
    w, d, h = rng.uniform(1.4, 2.6), 0.62, 0.9
    colour = draw_colour(rng, saturation=(0.05, 0.6), value=(0.4, 0.95), unlike=room)
    side, front = paint(rng, "plain", colour), paint(rng, "doors", colour, span_m=None)
    stone = paint(rng, "mottled", draw_colour(rng, saturation=(0.0, 0.3), unlike=[colour, *room]), span_m=0.5)
    solids: list[Solid] = [
        block("counter", side, (-w / 2, w / 2), (0, d - 0.04), (0, h - 0.04), front=front),
        block("counter", stone, (-w / 2, w / 2), (0, d), (h - 0.04, h)),
        *_things(rng, room, w, 0.5, h),
    ]
    if rng.random() < 0.7:
        top = (1.45, rng.uniform(1.95, 2.2))
        solids.append(
            block(
                "cabinet",
                side,
                (-w / 2, w / 2),
                (0, 0.34),
                top,
                front=paint(rng, "doors", colour, span_m=None),
            )
        )
    return Piece(solids, w, d)


def refrigerator(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A tall box with a gap between its two doors."""
    w, d, h = rng.uniform(0.6, 0.8), rng.uniform(0.6, 0.7), rng.uniform(1.5, 1.9)
    colour = draw_colour(rng, saturation=(0.0, 0.12), value=(0.45, 0.98), unlike=room)
    skin, dark = paint(rng, "plain", colour), paint(rng, "plain", 0.25 * colour)
    solids: list[Solid] = [
        block("refrigerator", dark, (-w / 2 + 0.01, w / 2 - 0.01), (0, d - 0.06), (0, h - 0.01)),
        block("refrigerator", skin, (-w / 2, w / 2), (0.02, d), (0.05, 0.36 * h)),
        block("refrigerator", skin, (-w / 2, w / 2), (0.02, d), (0.37 * h, h)),
        block("refrigerator", dark, (w / 2 - 0.09, w / 2 - 0.06), (d, d + 0.03), (0.45 * h, 0.65 * h)),
    ]
    return Piece(solids, w, d)


def floor_lamp(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A glowing ball on a pole."""
    h = rng.uniform(1.3, 1.7)
    metal = paint(rng, "plain", draw_colour(rng, saturation=(0.0, 0.3), value=(0.1, 0.4)))
    shade = paint(rng, "plain", np.array([255, 236, 196], np.float32), glow=1.6)
    solids: list[Solid] = [
        block("lamp", metal, (-0.14, 0.14), (0.06, 0.34), (0, 0.03)),
        block("lamp", metal, (-0.015, 0.015), (0.185, 0.215), (0.03, h)),
        Ball((0.0, 0.2, h + 0.12), 0.14, LABELS["lamp"], shade),
    ]
    return Piece(solids, 0.4, 0.4)


def crates(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A stack of one to three boxes, each turned a little."""
    side, z = rng.uniform(0.35, 0.6), 0.0
    solids: list[Solid] = []
    for _ in range(int(rng.integers(1, 4))):
        h, half = rng.uniform(0.2, 0.4), side / 2 * rng.uniform(0.7, 0.95)
        colour = draw_colour(rng, unlike=room)
        material = paint(rng, str(rng.choice(["plain", "stripes", "checker", "wood"])), colour, span_m=0.7)
        crate = block("box", material, (-half, half), (-half, half), (z, z + h))
        solids += placed([crate], (0.0, side / 2 + 0.05, 0.0), rng.uniform(-0.3, 0.3))
        z += h
    return Piece(solids, side + 0.2, side + 0.15)


def ball(rng: np.random.Generator, room: list[Colour]) -> Piece:
    """A ball on the floor."""
    r = rng.uniform(0.1, 0.33)
    pattern = str(rng.choice(["plain", "stripes", "mottled"]))
    material = paint(rng, pattern, draw_colour(rng, saturation=(0.5, 0.95), unlike=room), span_m=None)
    return Piece([Ball((0.0, r, r), r, LABELS["ball"], material)], 2 * r, 2 * r)


def _table_frame(rng: np.random.Generator, room: list[Colour], w: float, d: float, h: float) -> list[Solid]:
    colour = draw_colour(rng, saturation=(0.1, 0.7), hue=(0.0, 0.2), unlike=room)
    top = paint(rng, str(rng.choice(["wood", "plain", "wood"])), colour, span_m=1.1)
    leg = paint(rng, "plain", colour * rng.uniform(0.35, 0.9))
    solids: list[Solid] = [block("table", top, (-w / 2, w / 2), (0, d), (h - 0.05, h))]
    for x in (-w / 2 + 0.02, w / 2 - 0.08):
        for y in (0.02, d - 0.08):
            solids.append(block("table", leg, (x, x + 0.06), (y, y + 0.06), (0, h - 0.05)))
    return solids


def _things(rng: np.random.Generator, room: list[Colour], w: float, d: float, h: float) -> list[Solid]:
    """Small boxes and balls in a row on a surface of height ``h``."""
    solids: list[Solid] = []
    x = -w / 2 + rng.uniform(0.05, 0.3)
    while True:
        r = rng.uniform(0.05, 0.13)
        if x + 2 * r > w / 2 - 0.03:
            return solids
        y = rng.uniform(r + 0.05, max(r + 0.06, d - r - 0.05))
        colour = draw_colour(rng, saturation=(0.2, 0.95), unlike=room)
        if rng.random() < 0.35:
            solids.append(Ball((x + r, y, h + r), r, LABELS["ball"], paint(rng, "mottled", colour, span_m=None)))
        else:
            pattern = str(rng.choice(["plain", "stripes", "checker", "mottled"]))
            thing = block("box", paint(rng, pattern, colour, span_m=0.25), (-r, r), (-0.7 * r, 0.7 * r), (0, 3 * r))
            solids += placed([thing], (x + r, y, h), rng.uniform(-0.6, 0.6))
        x += 2 * r + rng.uniform(0.1, 0.6)


def _screen(rng: np.random.Generator, half: float, z: float, y: float) -> list[Solid]:
    """A flat screen on a foot; on or off."""
    black = paint(rng, "plain", np.array([22, 22, 26], np.float32))
    face = black
    if rng.random() < 0.5:
        face = paint(rng, "painting", draw_colour(rng, saturation=(0.3, 0.9)), span_m=None, glow=0.5)
    return [
        block("television", black, (-0.12, 0.12), (y - 0.1, y + 0.1), (z, z + 0.02)),
        block("television", black, (-0.03, 0.03), (y - 0.03, y), (z + 0.02, z + 0.1)),
        block("television", black, (-half, half), (y, y + 0.04), (z + 0.08, z + 0.08 + 1.15 * half), front=face),
    ]
