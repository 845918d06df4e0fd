"""Slow definitions of the gradient field, in NumPy from the formulas; they share no code with the package.

Run as a script, it writes the golden vectors of tests/golden from these definitions.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

GOLDEN = Path(__file__).with_name("golden") / "field.npz"


def luminance(rgb_HWC: np.ndarray) -> np.ndarray:
    """OpenCV's 8-bit luminance: ITU-R 601 weights in 15-bit fixed point."""
    return ((rgb_HWC.astype(np.int64) @ [9798, 19235, 3735] + 2**14) >> 15).astype(np.uint8)


def pillow_grey(rgb_HWC: np.ndarray) -> np.ndarray:
    """Pillow's ``convert("L")``: the same weights in 16-bit fixed point."""
    return ((rgb_HWC.astype(np.int64) @ [19595, 38470, 7471] + 2**15) >> 16).astype(np.uint8)


def sobel(grey_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 Sobel derivatives along columns and rows, with the rim repeated outwards."""
    padded = np.pad(grey_HW.astype(np.int64), 1, mode="edge")
    smooth_rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return smooth_rows[:, 2:] - smooth_rows[:, :-2], smooth_columns[2:] - smooth_columns[:-2]


def sobel_field(rgb_HWC: np.ndarray, low: int = 50, high: int = 200, *, l2_gradient: bool = False) -> np.ndarray:
    """``G = B_canny * sqrt(I_u^2 + I_v^2)`` in float64, rounded to float16 once."""
    grey_HW = luminance(rgb_HWC)
    du_HW, dv_HW = sobel(grey_HW)
    canny_HW = cv2.Canny(grey_HW, low, high, L2gradient=l2_gradient) // 255
    return (canny_HW * np.sqrt(du_HW**2 + dv_HW**2)).astype(np.float16)


def grmc_field(rgb_HWC: np.ndarray, low: int = 50, high: int = 200) -> np.ndarray:
    """The field of the released code, float32: its steps one by one, in its dtypes."""
    grey_HW = pillow_grey(rgb_HWC)
    down_HW = cv2.filter2D(grey_HW, -1, np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]))
    right_HW = cv2.filter2D(grey_HW, -1, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]))
    total_HW = down_HW * down_HW + right_HW * right_HW
    assert total_HW.dtype == np.uint8
    edge_HW = np.sqrt(total_HW).astype(np.float64) * cv2.Canny(np.ascontiguousarray(rgb_HWC), low, high)
    if edge_HW.max() > 0:
        edge_HW = edge_HW / edge_HW.max() * 255
    return edge_HW.astype(np.float32)


def synthetic_picture(height: int, width: int, seed: int) -> np.ndarray:
    """A shaded wall with overlapping flat boxes and discs and a little noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = np.repeat((60 + 90 * columns / width + 60 * rows / height)[..., None], 3, axis=2)
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        size = int(rng.integers(3, max(4, min(height, width) // 2)))
        box = (abs(rows - top) < size) & (abs(columns - left) < size)
        disc = (rows - top) ** 2 + (columns - left) ** 2 < size**2
        picture[box if rng.random() < 0.5 else disc] = rng.integers(0, 256, 3)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def write_golden() -> None:
    """Write pictures of two sizes and their fields, so that all later versions can be held against them."""
    arrays = {}
    for height, width in ((48, 64), (37, 51)):
        rgb_HWC = synthetic_picture(height, width, seed=height)
        name = f"{width}x{height}"
        arrays[f"{name}/rgb"] = rgb_HWC
        arrays[f"{name}/sobel"] = sobel_field(rgb_HWC)
        arrays[f"{name}/grmc"] = grmc_field(rgb_HWC).astype(np.float16)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    write_golden()
