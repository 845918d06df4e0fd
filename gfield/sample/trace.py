"""Where rays meet a scene: visible faces, true depth, and the share of each lamp that reaches a point.

Arrays are planes (H, W) of float32, one for each axis, so that every step is one pass over memory. A solid is
tested only in the rectangle of the picture that it can touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import cos, sin
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from gfield.sample.scene import F4, Ball, Box, Camera, Lamp, Lens, Scene, Solid, Vec3, corners

Planes: TypeAlias = tuple[F4, F4, F4]
Window: TypeAlias = tuple[slice, slice]
NO_FACE = -1
_NEAR_M = 0.05
_LIFT_M = 0.004  # how far shadow rays start above their surface


class View(NamedTuple):
    """A camera with a lens: axes of the picture in the world, and one ray for each pixel.

    Rays have length 1 along the optical axis, so that the multiple at which a ray hits is the depth z.
    """

    camera: Camera
    lens: Lens
    size_WH: tuple[int, int]
    axes: npt.NDArray[np.float64]  # rows: right, down, forward
    rays: Planes


class Hits(NamedTuple):
    """``depth_HW`` float32 metres along the optical axis, infinite where nothing is; ``face_HW`` int32."""

    depth_HW: F4
    face_HW: npt.NDArray[np.int32]


def make_view(camera: Camera, lens: Lens, size_WH: tuple[int, int]) -> View:
    """Rays through the centres of all pixels."""
    cy, sy, cp, sp = cos(camera.yaw), sin(camera.yaw), cos(camera.pitch), sin(camera.pitch)
    forward = np.array([-sy * cp, cy * cp, sp])
    level_right = np.array([cy, sy, 0.0])
    level_down = np.cross(forward, level_right)
    right = cos(camera.roll) * level_right + sin(camera.roll) * level_down
    down = cos(camera.roll) * level_down - sin(camera.roll) * level_right
    across = ((np.arange(size_WH[0]) - lens.cx) / lens.fx)[None, :]
    along = ((np.arange(size_WH[1]) - lens.cy) / lens.fy)[:, None]
    x, y, z = ((across * right[axis] + along * down[axis] + forward[axis]).astype(np.float32) for axis in range(3))
    return View(camera, lens, size_WH, np.stack([right, down, forward]), (x, y, z))


def face_number(scene: Scene, solid: int, face: int = 0) -> int:
    """Number of a face of box ``solid``, or, counting on from the boxes, of a ball."""
    boxes = len(scene.boxes)
    return 6 * solid + face if solid < boxes else 6 * boxes + solid - boxes


def trace(scene: Scene, view: View) -> Hits:
    """The nearest face along each ray."""
    shape = view.rays[0].shape
    depth_HW = np.full(shape, np.inf, np.float32)
    face_HW = np.full(shape, NO_FACE, np.int32)
    for number, solid in enumerate(scene.solids()):
        window = window_of(_extent(solid), view)
        if window is None:
            continue
        rays = _cut(view.rays, window)
        depth, face = _meet(solid, view.camera.eye, rays)
        nearer = depth < depth_HW[window]
        np.copyto(depth_HW[window], depth, where=nearer)
        np.copyto(face_HW[window], face + np.int32(face_number(scene, number)), where=nearer)
    return Hits(depth_HW, face_HW)


def points(view: View, depth_HW: F4) -> Planes:
    """World coordinates of what the rays meet."""
    x, y, z = (np.float32(o) + depth_HW * ray for o, ray in zip(view.camera.eye, view.rays, strict=True))
    return x, y, z


def lit_share(scene: Scene, lamp: Lamp, view: View, at: Planes, normals: Planes) -> F4:
    """Share of a lamp's disc that points see, 0 to 1.

    Parameters
    ----------
    scene, lamp
        What stands in the way of what.
    view
        A view whose pixels the points are; only tells where in the picture a shadow can fall.
    at, normals
        World coordinates (H, W) of the points and of the unit normals there.
    """
    x, y, z = (p + np.float32(_LIFT_M) * n for p, n in zip(at, normals, strict=True))
    # Four points of the disc: enough for an edge that is not hard.
    part = 0.6 * lamp.radius
    spots = [_moved(lamp.position, (a, b)) for a in (-part, part) for b in (-part, part)]
    dark = [np.zeros(at[0].shape, bool) for _ in spots]
    for solid in scene.solids():
        if isinstance(solid, Box) and solid.inside:
            continue
        window = window_of(_shadow_extent(solid, lamp, scene.reach), view)
        if window is None:
            continue
        for hidden, blocked in zip(dark, _blocked(solid, _cut((x, y, z), window), spots), strict=True):
            hidden[window] |= blocked
    share = np.zeros(at[0].shape, np.float32)
    for hidden in dark:
        share += ~hidden
    return share / np.float32(len(spots))


def _cut(planes: Planes, window: Window) -> Planes:
    return planes[0][window], planes[1][window], planes[2][window]


def _moved(position: Vec3, by: tuple[float, float]) -> Vec3:
    return position[0] + by[0], position[1] + by[1], position[2]


def _extent(solid: Solid) -> npt.NDArray[np.float64]:
    """Points (n, 3) whose hull holds the solid."""
    if isinstance(solid, Box):
        return corners(solid)
    r = solid.radius
    return corners(Box(solid.centre, (r, r, r), 0.0, 0, ()))


def _shadow_extent(solid: Solid, lamp: Lamp, reach: tuple[Vec3, Vec3]) -> npt.NDArray[np.float64]:
    """The solid's hull and its shadow's: each corner moved away from the lamp until it leaves ``reach``."""
    near = _extent(solid)
    radius = lamp.radius
    hull = [near]
    for spot in product((-radius, radius), repeat=2):
        away = near - _moved(lamp.position, (spot[0], spot[1]))
        steps = np.where(away > 0, np.array(reach[1]) - near, near - np.array(reach[0]))
        times = np.maximum(steps, 0) / np.maximum(np.abs(away), 1e-6)
        hull.append(near + away * np.minimum(times.min(axis=1, keepdims=True), 50))
    return np.concatenate(hull)


def window_of(hull: npt.NDArray[np.float64], view: View) -> Window | None:
    """Rows and columns of the picture that the hull of some points can touch; None where it touches none."""
    # Written out rather than as a matrix product: BLAS may sum in another order with other threads.
    offsets = hull - view.camera.eye
    right, down, forward = (np.sum(offsets * axis, axis=1) for axis in view.axes)
    if (forward < _NEAR_M).all():
        return None
    W, H = view.size_WH
    if (forward < _NEAR_M).any():
        return slice(0, H), slice(0, W)
    u = right / forward * view.lens.fx + view.lens.cx
    v = down / forward * view.lens.fy + view.lens.cy
    left, top = max(0, int(np.floor(u.min()))), max(0, int(np.floor(v.min())))
    last_column, last_row = min(W - 1, int(np.ceil(u.max()))), min(H - 1, int(np.ceil(v.max())))
    if left > last_column or top > last_row:
        return None
    return slice(top, last_row + 1), slice(left, last_column + 1)


def to_local(box: Box, vector: Planes | Vec3) -> Planes:
    """A vector in the box's own axes."""
    c, s = np.float32(cos(box.yaw)), np.float32(sin(box.yaw))
    x, y, z = (np.asarray(v, np.float32) for v in vector)
    if box.yaw == 0:
        return x, y, z
    return c * x + s * y, c * y - s * x, z


def _meet(solid: Solid, eye: Vec3, rays: Planes) -> tuple[F4, npt.NDArray[np.int32]]:
    if isinstance(solid, Box):
        return _meet_box(solid, eye, rays)
    depth = _meet_ball(solid, eye, rays)
    return depth, np.zeros(depth.shape, np.int32)


def _meet_box(box: Box, eye: Vec3, rays: Planes) -> tuple[F4, npt.NDArray[np.int32]]:
    """Depth and face 0-5 by the slab method (Kay and Kajiya 1986); infinite where the ray misses."""
    direction = to_local(box, rays)
    offset = to_local(box, (eye[0] - box.centre[0], eye[1] - box.centre[1], eye[2] - box.centre[2]))
    shape = rays[0].shape
    enter, leave = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    face = np.zeros(shape, np.int32)
    for axis, (o, d, h) in enumerate(zip(offset, direction, box.half, strict=True)):
        inverse = 1 / np.where(d == 0, np.float32(1e-12), d)
        middle, reach = -o * inverse, np.float32(h) * np.abs(inverse)
        if box.inside:
            np.copyto(face, np.int32(2 * axis) + (d > 0), where=middle + reach < leave)
        else:
            np.copyto(face, np.int32(2 * axis) + (d < 0), where=middle - reach > enter)
            np.maximum(enter, middle - reach, out=enter)
        np.minimum(leave, middle + reach, out=leave)
    if box.inside:
        return leave, face
    hit = (enter < leave) & (enter > _NEAR_M)
    return np.where(hit, enter, np.float32(np.inf)), face


def _meet_ball(ball: Ball, eye: Vec3, rays: Planes) -> F4:
    offset = [np.float32(o - c) for o, c in zip(eye, ball.centre, strict=True)]
    a = rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2]
    b = offset[0] * rays[0] + offset[1] * rays[1] + offset[2] * rays[2]
    c = np.float32(sum(float(o) ** 2 for o in offset) - ball.radius**2)
    root = b * b - a * c
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root > 0) & (depth > _NEAR_M), depth, np.float32(np.inf))


def _blocked(solid: Solid, origin: Planes, lamps: list[Vec3]) -> Iterator[npt.NDArray[np.bool_]]:
    """For each lamp, whether the solid lies between it and the points."""
    x, y, z = (p - np.float32(c) for p, c in zip(origin, solid.centre, strict=True))
    start = to_local(solid, (x, y, z)) if isinstance(solid, Box) else (x, y, z)
    for lamp in lamps:
        end: Planes | Vec3 = (lamp[0] - solid.centre[0], lamp[1] - solid.centre[1], lamp[2] - solid.centre[2])
        if isinstance(solid, Box):
            end = to_local(solid, end)
        dx, dy, dz = (np.asarray(to, np.float32) - p for to, p in zip(end, start, strict=True))
        if isinstance(solid, Box):
            yield _crosses_box(solid.half, start, (dx, dy, dz))
        else:
            yield _crosses_ball(solid.radius, start, (dx, dy, dz))


def _crosses_box(half: Vec3, start: Planes, way: Planes) -> npt.NDArray[np.bool_]:
    first, last = np.zeros(start[0].shape, np.float32), np.ones(start[0].shape, np.float32)
    for o, d, h in zip(start, way, half, strict=True):
        inverse = 1 / np.where(d == 0, np.float32(1e-12), d)
        middle, reach = -o * inverse, np.float32(h) * np.abs(inverse)
        np.maximum(first, middle - reach, out=first)
        np.minimum(last, middle + reach, out=last)
    return first < last


def _crosses_ball(radius: float, start: Planes, way: Planes) -> npt.NDArray[np.bool_]:
    a = way[0] ** 2 + way[1] ** 2 + way[2] ** 2
    b = start[0] * way[0] + start[1] * way[1] + start[2] * way[2]
    c = start[0] ** 2 + start[1] ** 2 + start[2] ** 2 - np.float32(radius**2)
    hit: npt.NDArray[np.bool_] = (b < 0) & (b * b > a * c) & (-b < a)
    return hit
