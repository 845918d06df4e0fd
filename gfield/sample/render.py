"""Pictures of scenes: surface colours, light and shadow; and whole NYU-like frames of furnished rooms."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gfield.sample.rooms import make_camera, make_room
from gfield.sample.scene import F4, LABELS, NYU_LENS, U1, Ball, Box, Lamp, Material, Scene, corners
from gfield.sample.sensor import colour_camera, depth_camera, white_frame
from gfield.sample.trace import (
    NO_FACE,
    Hits,
    Planes,
    View,
    Window,
    face_number,
    lit_share,
    make_view,
    points,
    to_local,
    trace,
    window_of,
)

U2 = npt.NDArray[np.uint16]
# Display value 0-255 to linear light 0-1.
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_CREASE_M = 0.18  # how far the gloom of a room's edges reaches
_CONTACT_M = 0.1  # and that of things on the floor


class RenderedFrame(NamedTuple):
    """One upright NYU-like frame.

    ``rgb_HWC`` uint8; ``depth_HW`` float32 metres along the optical axis, exact and without holes;
    ``raw_depth_HW`` float32 metres as a structured-light sensor gives them, 0 = no return; ``label_HW``
    uint16, label n is ``CLASS_NAMES[n - 1]``, 0 in the white frame.
    """

    rgb_HWC: U1
    depth_HW: F4
    raw_depth_HW: F4
    label_HW: U2
    scene: str
    scene_type: str


class TilePlace(NamedTuple):
    """Each pixel's place ``u``, ``v`` (H, W) on its material's tile, in tiles right and down."""

    u: F4
    v: F4
    material: Material
    side_m: float


def render_room(seed: int, view: int = 0, *, size_WH: tuple[int, int] = (640, 480)) -> RenderedFrame:
    """Render one view of the room that belongs to a seed, with NYU's colour camera and its white frame.

    Parameters
    ----------
    seed
        The room, and with it the scene's name. Not negative.
    view
        Which of the cameras in that room. Not negative.
    size_WH
        Width and height of the picture; the field of view stays that of 640 x 480.
    """
    room = make_room(seed)
    lens = NYU_LENS.scaled((640, 480), size_WH)
    camera_view = make_view(make_camera(room, seed, view), lens, size_WH)
    rng = np.random.default_rng((2, seed, view))
    hits = trace(room.scene, camera_view)
    normals = face_normals(room.scene, camera_view, hits)
    light_HWC = shade(room.scene, camera_view, hits, normals)
    rgb_HWC = white_frame(colour_camera(light_HWC, rng), 255)
    facing = _facing(camera_view, normals)
    glowing = _glowing(room.scene)[hits.face_HW]
    raw_depth_HW = white_frame(depth_camera(hits.depth_HW, facing, glowing, rng), 0)
    label_HW = white_frame(face_labels(room.scene)[hits.face_HW], 0)
    return RenderedFrame(rgb_HWC, hits.depth_HW, raw_depth_HW, label_HW, room.name, room.kind)


def face_labels(scene: Scene) -> U2:
    """Label of each face number, with 0 for `NO_FACE` at the end."""
    labels: list[int] = []
    for box in scene.boxes:
        labels += [box.label] * 6
        if box.inside:
            labels[-2:] = [LABELS["floor"], LABELS["ceiling"]]
    return np.array([*labels, *(ball.label for ball in scene.balls), 0], np.uint16)


def face_normals(scene: Scene, view: View, hits: Hits) -> Planes:
    """Unit normals (H, W) at what the rays meet, towards the viewer; 0 in the sky."""
    table = np.zeros((6 * len(scene.boxes) + len(scene.balls) + 1, 3), np.float32)
    for number, box in enumerate(scene.boxes):
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        outwards = np.array([(-c, -s, 0), (c, s, 0), (s, -c, 0), (-s, c, 0), (0, 0, -1), (0, 0, 1)])
        table[6 * number : 6 * number + 6] = -outwards if box.inside else outwards
    x, y, z = (table[:, axis][hits.face_HW] for axis in range(3))
    for number, ball in enumerate(scene.balls):
        window, seen = _where(hits, face_number(scene, len(scene.boxes) + number))
        if window is None:
            continue
        for normal, o, ray, c in zip((x, y, z), view.camera.eye, view.rays, ball.centre, strict=True):
            at = np.float32(o) + hits.depth_HW[window] * ray[window]
            np.copyto(normal[window], (at - np.float32(c)) / np.float32(ball.radius), where=seen)
    return x, y, z


def shade(scene: Scene, view: View, hits: Hits, normals: Planes) -> F4:
    """Linear light (H, W, 3) that comes back along each ray, with Lambert's law and shadows."""
    at = points(view, np.where(hits.face_HW == NO_FACE, np.float32(1), hits.depth_HW))
    albedo_HWC, glow_HW = _surface(scene, view, hits, at)
    gloom_HW = _gloom(scene, view, hits, at)
    arriving = [np.float32(a) * gloom_HW * (np.float32(0.8) + np.float32(0.2) * normals[2]) for a in scene.ambient]
    for lamp in scene.lamps:
        toward = [np.float32(to) - p for to, p in zip(lamp.position, at, strict=True)]
        squared = toward[0] ** 2 + toward[1] ** 2 + toward[2] ** 2
        cosine = toward[0] * normals[0] + toward[1] * normals[1] + toward[2] * normals[2]
        strength = np.maximum(cosine, 0) / (np.sqrt(squared) * (1 + np.float32(lamp.falloff) * squared))
        if lamp.radius > 0:
            strength *= _shadow(scene, view, at, normals, lamp)
        for channel, power in enumerate(lamp.rgb):
            arriving[channel] += np.float32(power) * strength
    for channel in range(3):
        albedo_HWC[..., channel] *= arriving[channel] + glow_HW
    if scene.sky is not None:
        _paint_sky(albedo_HWC, scene.sky, view, hits)
    return albedo_HWC


def _shadow(scene: Scene, view: View, at: Planes, normals: Planes, lamp: Lamp) -> F4:
    """Share of a lamp that each pixel sees, found on every second row and column."""
    W, H = view.size_WH
    half_lens = view.lens._replace(fx=view.lens.fx / 2, fy=view.lens.fy / 2, cx=view.lens.cx / 2, cy=view.lens.cy / 2)
    half = view._replace(lens=half_lens, size_WH=((W + 1) // 2, (H + 1) // 2))
    sparse = (at[0][::2, ::2], at[1][::2, ::2], at[2][::2, ::2])
    sparse_normals = (normals[0][::2, ::2], normals[1][::2, ::2], normals[2][::2, ::2])
    share = lit_share(scene, lamp, half, sparse, sparse_normals)
    share = np.asarray(cv2.blur(share, (3, 3)), np.float32)
    return np.asarray(cv2.resize(share, (W, H), interpolation=cv2.INTER_LINEAR), np.float32)


def _surface(scene: Scene, view: View, hits: Hits, at: Planes) -> tuple[F4, F4]:
    """Colour (H, W, 3), linear, and glow (H, W) of what the rays meet."""
    shown_HWC = np.zeros((*hits.face_HW.shape, 3), np.uint8)
    glow_HW = np.zeros(hits.face_HW.shape, np.float32)
    for face in np.flatnonzero(np.bincount(hits.face_HW.ravel() + 1)[1:]):
        window, seen = _where(hits, int(face))
        assert window is not None
        u, v, material, side_m = _tile_place(scene, at, window, int(face))
        texel_m = side_m / material.levels[0].shape[0]
        footprint = np.where(seen, hits.depth_HW[window], 1) * np.float32(1.3 / view.lens.fx / texel_m)
        level = np.clip(np.log2(footprint), 0, len(material.levels) - 1).astype(np.int8)
        for number in range(int(level[seen].min()), int(level[seen].max()) + 1):
            tile = material.levels[number]
            n = np.float32(tile.shape[0])
            colour = cv2.remap(tile, u * n - 0.5, v * n - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            np.copyto(shown_HWC[window], colour, where=(seen & (level == number))[..., None])
        if material.glow:
            glow_HW[window][seen] = material.glow
    return _LINEAR[shown_HWC], glow_HW


def _tile_place(scene: Scene, at: Planes, window: Window, face: int) -> TilePlace:
    boxes = len(scene.boxes)
    solid: Box | Ball = scene.boxes[face // 6] if face < 6 * boxes else scene.balls[face - 6 * boxes]
    x, y, z = (p[window] - np.float32(c) for p, c in zip(at, solid.centre, strict=True))
    if isinstance(solid, Ball):
        turn: F4 = np.arctan2(y, x) * np.float32(0.5 / np.pi)
        rise: F4 = z / np.float32(2 * solid.radius)
        return TilePlace(turn, 0.5 - rise, solid.material, 2 * np.pi * solid.radius)
    local = to_local(solid, (x, y, z))
    across, up = ((1, 2), (0, 2), (0, 1))[face % 6 // 2]
    material = solid.materials[face % 6]
    if material.span_m is not None:
        side = np.float32(material.span_m)
        return TilePlace(local[across] / side, -local[up] / side, material, material.span_m)
    width, height = np.float32(2 * solid.half[across]), np.float32(2 * solid.half[up])
    u: F4 = local[across] / width + np.float32(0.5)
    v: F4 = np.float32(0.5) - local[up] / height
    return TilePlace(u, v, material, float(min(width, height)))


def _where(hits: Hits, face: int) -> tuple[Window | None, npt.NDArray[np.bool_]]:
    """The rectangle in which a face is seen, or None, and where in it."""
    mask = (hits.face_HW == face).view(np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return None, mask.view(np.bool_)
    window = slice(y, y + h), slice(x, x + w)
    return window, mask[window].view(np.bool_)


def _gloom(scene: Scene, view: View, hits: Hits, at: Planes) -> F4:
    """Share of the ambient light that is left near the shell's edges and behind the rims of near things."""
    near = np.reciprocal(hits.depth_HW)
    reach = (max(3, view.size_WH[0] // 26),) * 2
    wide = np.asarray(cv2.blur(cv2.blur(near, reach), reach), np.float32)
    share = np.asarray(1 - np.clip(2.2 * (wide - near), 0, 0.45), np.float32)
    for box in scene.boxes:
        if not box.inside and abs(box.centre[2] - box.half[2] - scene.reach[0][2]) < 0.1:
            _darken_round(share, box, view, at)
    if scene.sky is None:
        high = np.array(scene.reach[1], np.float32)
        for axis, p in enumerate(at):
            gap = np.minimum(p, high[axis] - p)
            share *= 1 - np.float32(0.3) / (1 + np.square(gap * np.float32(1 / _CREASE_M)))
    return share


def _darken_round(share: F4, box: Box, view: View, at: Planes) -> None:
    """Less light on the floor beside a box that stands on it."""
    reach = 2.2 * _CONTACT_M
    base = (box.centre[0], box.centre[1], 0.0)
    spread = Box(base, (box.half[0] + reach, box.half[1] + reach, 0.0), box.yaw, 0, ())
    window = window_of(corners(spread), view)
    if window is None:
        return
    offset = (at[0][window] - np.float32(base[0]), at[1][window] - np.float32(base[1]), at[2][window])
    x, y, z = to_local(box, offset)
    beside, before = np.maximum(np.abs(x) - box.half[0], 0), np.maximum(np.abs(y) - box.half[1], 0)
    gap = beside * beside + before * before + 4 * z * z
    share[window] *= 1 - np.float32(0.5) * np.exp(-gap / np.float32(_CONTACT_M**2))


def _paint_sky(light_HWC: F4, sky: tuple[tuple[float, ...], tuple[float, ...]], view: View, hits: Hits) -> None:
    up = view.rays[2] / np.sqrt(sum(ray * ray for ray in view.rays))
    share = np.clip(up * 2.2, 0, 1)[..., None]
    horizon, overhead = (np.array(colour, np.float32) for colour in sky)
    np.copyto(light_HWC, horizon + share * (overhead - horizon), where=(hits.face_HW == NO_FACE)[..., None])


def _facing(view: View, normals: Planes) -> F4:
    """Cosine between the surface's normal and the way back to the camera."""
    x, y, z = view.rays
    length = np.sqrt(x * x + y * y + z * z)
    return np.asarray(-(x * normals[0] + y * normals[1] + z * normals[2]) / length, np.float32)


def _glowing(scene: Scene) -> npt.NDArray[np.bool_]:
    """Whether each face number gives off light of its own."""
    glows = [material.glow > 0 for box in scene.boxes for material in box.materials]
    return np.array([*glows, *(ball.material.glow > 0 for ball in scene.balls), False])
