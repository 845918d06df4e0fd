"""Colour tiles for surfaces: plain, checker, stripes, wood, noise, and drawn ones such as books and windows.

Tiles are square, repeat without a seam, and come with halvings of themselves, so that far surfaces do not
shimmer. Colours are display-referred, 0 to 255.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from gfield.sample.scene import F4, U1, Material

Colour: TypeAlias = npt.NDArray[np.float32]
Draw: TypeAlias = Callable[[np.random.Generator, Colour, Colour], F4]
TILE = 128
_CLEAR_GAP = 170.0  # sum of differences of the three channels at which two colours are told apart


def paint(
    rng: np.random.Generator, pattern: str, colour: Colour, *, span_m: float | None = 1.0, glow: float = 0.0
) -> Material:
    """A material of one pattern (a key of `PATTERNS`) and a main colour; the second colour is drawn."""
    other = np.clip(colour * rng.uniform(0.55, 0.8) + rng.normal(0, 8, 3), 5, 250).astype(np.float32)
    tile_HWC = np.clip(PATTERNS[pattern](rng, colour, other), 0, 255).astype(np.uint8)
    return Material(_halvings(tile_HWC), span_m, glow)


def draw_colour(
    rng: np.random.Generator,
    *,
    saturation: tuple[float, float] = (0.1, 0.6),
    value: tuple[float, float] = (0.25, 0.9),
    hue: tuple[float, float] = (0.0, 1.0),
    unlike: Sequence[Colour] = (),
) -> Colour:
    """A colour (3,) float32, 0-255, that tells from all of ``unlike``, or the best of eight draws."""
    best, best_gap = np.zeros(3, np.float32), -1.0
    for _ in range(8):
        rgb = colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
        colour = 255 * np.array(rgb, np.float32)
        gap = min((float(np.abs(colour - other).sum()) for other in unlike), default=np.inf)
        if gap > best_gap:
            best, best_gap = colour, gap
        if best_gap > _CLEAR_GAP:
            break
    return best


def _halvings(tile_HWC: U1) -> tuple[U1, ...]:
    levels = [tile_HWC]
    while levels[-1].shape[0] > 4:
        half = levels[-1].shape[0] // 2
        levels.append(np.asarray(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA), np.uint8))
    return tuple(levels)


@lru_cache(maxsize=16)
def _smooth_noise(cells_x: int, cells_y: int) -> F4:
    """Value noise (TILE, TILE), -1 to 1, of so many lattice cells a side; the same in every process."""
    lattice = np.random.default_rng((cells_x, cells_y)).uniform(-1, 1, (cells_y, cells_x)).astype(np.float32)
    x, y = (np.arange(TILE, dtype=np.float32) * np.float32(n / TILE) for n in (cells_x, cells_y))
    map_x, map_y = np.meshgrid(x, y)
    padded = np.pad(lattice, 2, mode="wrap")
    noise = cv2.remap(padded, map_x + np.float32(2), map_y + np.float32(2), cv2.INTER_LINEAR)
    return np.asarray(noise, np.float32)


def _noise(rng: np.random.Generator, cells_x: int, cells_y: int) -> F4:
    shift = rng.integers(0, TILE, 2)
    return np.roll(_smooth_noise(cells_x, cells_y), (int(shift[0]), int(shift[1])), (0, 1))


def _flat(colour: Colour) -> F4:
    return np.broadcast_to(colour, (TILE, TILE, 3)).astype(np.float32)


def _shaded(colour: Colour, by_HW: npt.NDArray[np.floating]) -> F4:
    """The colour made brighter (above 0) or darker (below)."""
    return np.asarray(colour * (1 + by_HW[..., None]), np.float32)


def _choose(where_HW: npt.NDArray[np.bool_], yes: npt.ArrayLike, no: npt.ArrayLike) -> F4:
    return np.asarray(np.where(where_HW[..., None], yes, no), np.float32)


def _blend(share_HW: npt.NDArray[np.floating], low: Colour, high: Colour) -> F4:
    """``low`` where the share is 0, ``high`` where it is 1."""
    return (low + share_HW[..., None].astype(np.float32) * (high - low)).astype(np.float32)


def _plain(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    grain = 0.5 * _noise(rng, 8, 8) + 0.5 * _noise(rng, 32, 32)
    return _shaded(colour, 0.035 * grain)


def _mottled(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    octaves = 0.5 * _noise(rng, 4, 4) + 0.3 * _noise(rng, 16, 16) + 0.4 * _noise(rng, 64, 64)
    return _blend(np.clip(0.5 + 0.6 * octaves, 0, 1), colour, other)


def _checker(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    cells = np.indices((TILE, TILE)) // (TILE // 4)
    return _blend((cells[0] + cells[1]) % 2 + 0.06 * _noise(rng, 32, 32), colour, other)


def _stripes(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    columns = np.arange(TILE) // (TILE // int(rng.choice([4, 8, 16]))) % 2
    return _blend(np.broadcast_to(columns, (TILE, TILE)) + 0.04 * _noise(rng, 32, 32), colour, other)


def _tiles(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    inside = np.arange(TILE) % (TILE // 4) >= 2
    shade = np.kron(rng.uniform(-0.09, 0.09, (4, 4)), np.ones((TILE // 4, TILE // 4)))
    body = _shaded(colour, shade + 0.03 * _noise(rng, 16, 16))
    return _choose(inside[:, None] & inside[None, :], body, other)


def _bricks(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    rows, columns = np.indices((TILE, TILE))
    course = rows // (TILE // 8)
    along = (columns + (course % 2) * (TILE // 8)) % TILE
    shade = rng.uniform(-0.18, 0.12, (8, 4))[course, along // (TILE // 4)]
    mortar = (rows % (TILE // 8) < 2) | (along % (TILE // 4) < 2)
    body = _shaded(colour, shade + 0.05 * _noise(rng, 64, 64))
    return _choose(mortar, 0.4 * body + 110, body)


def _wood(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    warp = 1.6 * _noise(rng, 2, 4) + 0.5 * _noise(rng, 4, 32)
    rings = np.sin(2 * np.pi * (np.arange(TILE)[:, None] * (5 / TILE) + warp))
    return _blend(np.clip(0.4 + 0.25 * rings + 0.25 * _noise(rng, 4, 64), 0, 1), colour, other)


def _planks(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    rows, columns = np.indices((TILE, TILE))
    plank = rows // (TILE // 8)
    ends = rng.integers(0, TILE, 8)[plank]
    half = (columns - ends) % TILE // (TILE // 2)
    shade = rng.uniform(-0.16, 0.12, (8, 2))[plank, half]
    gap = (rows % (TILE // 8) == 0) | ((columns - ends) % (TILE // 2) == 0)
    grain = _blend(np.clip(0.35 + 0.3 * _noise(rng, 4, 64), 0, 1), colour, other)
    return np.asarray(grain * (1 + shade - 0.45 * gap)[..., None], np.float32)


def _doors(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    """Cupboard fronts, to be stretched over a face: panels with a dark gap and a handle each."""
    across, down = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    y, x = np.indices((TILE, TILE))
    u, v = x * across % TILE, y * down % TILE
    edge = np.minimum(np.minimum(u, TILE - u) / across, np.minimum(v, TILE - v) / down)
    picture = _wood(rng, colour, 0.7 * colour + 0.3 * other)
    picture = picture * np.where(edge < 1.5, 0.35, np.where(edge < 6, 0.93, 1.0))[..., None]
    handle = (np.abs(u - 0.82 * TILE) < 2.5 * across) & (np.abs(v - 0.5 * TILE) < 5 * down)
    return _choose(handle, 0.3 * other + 25, picture)


def _books(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    """A row of spines, to be stretched over a face."""
    picture = _flat(colour) * np.float32(0.15)
    x = 0
    while x < TILE:
        width, top = int(rng.integers(4, 11)), int(rng.integers(0, TILE // 3))
        spine = draw_colour(rng, saturation=(0.1, 0.8), value=(0.2, 0.9))
        picture[top:, x : x + width - 1] = spine
        band = int(rng.integers(top + 8, TILE - 16))
        picture[band : band + 8, x : x + width - 1] = 0.4 * spine + 130
        x += width
    return picture


def _painting(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    """A framed picture, to be stretched over a face."""
    picture = _blend(np.linspace(0, 1, TILE)[:, None] * np.ones(TILE), colour, other)
    for _ in range(int(rng.integers(4, 9))):
        x, y, r = (int(n) for n in rng.integers((0, 0, 6), (TILE, TILE, TILE // 3)))
        tone = [float(c) for c in draw_colour(rng, value=(0.2, 1.0))]
        if rng.random() < 0.5:
            cv2.circle(picture, (x, y), r, tone, -1)
        else:
            cv2.rectangle(picture, (x, y), (x + r, y + r), tone, -1)
    picture = picture * (1 + 0.06 * _noise(rng, 32, 32))[..., None]
    cv2.rectangle(picture, (0, 0), (TILE - 1, TILE - 1), [240.0, 236.0, 228.0], 16)
    cv2.rectangle(picture, (0, 0), (TILE - 1, TILE - 1), [float(c) for c in 0.35 * other], 7)
    return np.asarray(picture, np.float32)


def _window(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    """Panes with daylight behind them and a frame, to be stretched over a face."""
    picture = _blend(np.linspace(0, 1, TILE)[:, None] ** 2 * np.ones(TILE), colour, 0.75 * colour)
    hills = TILE * (0.7 + 0.1 * _smooth_noise(4, 1)[0])
    picture = _choose(np.arange(TILE)[:, None] > hills, (96, 128, 84), picture)
    panes = int(rng.integers(2, 4))
    y, x = np.indices((TILE, TILE))
    bars = (np.abs((x * panes) % TILE - TILE / 2) > TILE / 2 - 3.5 * panes) | (np.abs(y % 64 - 32) > 29)
    return _choose(bars, (150, 146, 138), picture)


def _facade(rng: np.random.Generator, colour: Colour, other: Colour) -> F4:
    """A house front: one tile is four windows wide and high."""
    y, x = np.indices((TILE, TILE)) % (TILE // 4)
    glass = (np.abs(x - 16) < 7) & (np.abs(y - 15) < 9)
    sill = (np.abs(x - 16) < 9) & (np.abs(y - 15) < 11)
    shade = np.kron(rng.uniform(-0.75, -0.25, (4, 4)), np.ones((TILE // 4, TILE // 4)))
    wall = _shaded(colour, 0.08 * _noise(rng, 64, 64) + 0.05 * _noise(rng, 4, 4))
    panes = _shaded(np.array((90, 110, 130), np.float32), shade)
    return _choose(glass, panes, _choose(sill, 0.5 * other + 110, wall))


PATTERNS: dict[str, Draw] = {
    "plain": _plain,
    "mottled": _mottled,
    "checker": _checker,
    "stripes": _stripes,
    "tiles": _tiles,
    "bricks": _bricks,
    "wood": _wood,
    "planks": _planks,
    "doors": _doors,
    "books": _books,
    "painting": _painting,
    "window": _window,
    "facade": _facade,
}
