"""What sensors make of a scene: a colour camera's picture, and the depth of a Kinect with its holes."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from gfield.sample.scene import F4, NYU_SCENE, U1

T = TypeVar("T", bound=np.generic)
_STEPS = 4096  # of linear light, in the table of display values
_WHITE = 4.0  # linear light at the table's end
_DISPLAY = (255 * (1 - np.exp(-1.6 * np.linspace(0, _WHITE, _STEPS))) ** (1 / 2.2)).astype(np.float32)
# Kinect: raw = 1092.5 - 351.3 / metres, a whole number, and the focal length (NYU toolbox); baseline 75 mm.
_RAW_ZERO, _RAW_METRES = 1092.5, 351.3
_BASELINE_M, _FOCAL_PX = 0.075, 582.624482


def colour_camera(light_HWC: F4, rng: np.random.Generator) -> U1:
    """Expose, develop, blur and digitise linear light (H, W, 3), with a vignette and a little noise."""
    H, W, _ = light_HWC.shape
    bright = float(np.percentile(light_HWC[::4, ::4].max(axis=2), 85))
    y, x = np.ogrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    exposure = 0.62 / max(bright, 0.05) * rng.uniform(0.85, 1.15) * (1 - 0.1 * (x * x + y * y))
    scaled = light_HWC * (exposure.astype(np.float32) * np.float32(_STEPS / _WHITE))[..., None]
    shown = _DISPLAY[np.minimum(scaled, _STEPS - 1).astype(np.uint16)]
    shown = np.asarray(cv2.GaussianBlur(shown, (0, 0), 0.6), np.float32)
    noise = rng.standard_normal((H, W), np.float32)[..., None] * np.float32(1.3)
    noise = noise + rng.integers(-2, 3, shown.shape, dtype=np.int8)
    return np.asarray(np.clip(shown + noise + np.float32(0.5), 0, 255), np.uint8)


def depth_camera(depth_HW: F4, facing_HW: F4, glowing_HW: npt.NDArray[np.bool_], rng: np.random.Generator) -> F4:
    """Depth as a Kinect measures it.

    Parameters
    ----------
    depth_HW
        True depth, metres.
    facing_HW
        Cosine between the surface's normal and the way to the sensor.
    glowing_HW
        Where a surface's own light drowns the sensor's.
    rng
        Source of the holes' places.

    Returns
    -------
    ndarray
        (H, W) float32 metres in the sensor's steps; 0 where the projector's light is hidden by something
        nearer, grazes the surface, is drowned or comes from too far, and in random patches.
    """
    H, W = depth_HW.shape
    raw = np.rint(_RAW_ZERO - _RAW_METRES / depth_HW)
    measured = (_RAW_METRES / (_RAW_ZERO - raw)).astype(np.float32)
    # From the projector, right of the camera, near things appear shifted left; what they cover is in shadow.
    column = np.arange(W, dtype=np.float32) - np.float32(_BASELINE_M * _FOCAL_PX * W / 640) / depth_HW
    covers = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    coarse = rng.random((H // 24 + 2, W // 24 + 2), np.float32)
    patches = np.asarray(cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC), np.float32)
    loss = 0.06 + 0.35 * np.clip(depth_HW - 4, 0, 5) / 5 + np.where(facing_HW < 0.3, 0.3, 0)
    hole = (column > covers + 1) | (facing_HW < 0.08) | glowing_HW | (patches < loss)
    return np.where(hole, np.float32(0), measured)


def white_frame(picture: npt.NDArray[T], value: int) -> npt.NDArray[T]:
    """Set the rim that NYU's pictures have (all but rows 8:473, columns 8:631) to a value, in place."""
    H, W = picture.shape[:2]
    scene = NYU_SCENE.scaled((640, 480), (W, H))
    picture[: scene.top] = value
    picture[scene.bottom :] = value
    picture[:, : scene.left] = value
    picture[:, scene.right :] = value
    return picture
