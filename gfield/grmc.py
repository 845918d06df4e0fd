"""What the released code of the paper computes in place of the gradient's magnitude: a defect, kept apart.

Its data loader (github.com/dsshim0125/grmc, data.py) filters Pillow's grey picture with two Sobel kernels
into 8 bits, so that negative responses are lost and large ones saturate, and squares and adds in 8 bits, so
that the sums wrap modulo 256. Edges get near-random strengths, many of them zero, and the picture's own
maximum scales them to 255. Published weights were trained on such fields, which `gfield.field` names
``"grmc"``. (For a picture with no edge the loader also blanks the RGB; that is not repeated.)
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def pil_grey(rgb_HWC: npt.NDArray[np.uint8], grey_HW: npt.NDArray[np.uint8]) -> None:
    """Pillow's ``convert("L")`` of a picture, into ``grey_HW``.

    It is ITU-R 601 luma in 16-bit fixed point, ``(19595 R + 38470 G + 7471 B + 32768) >> 16``; OpenCV's grey
    differs from it by one level here and there.
    """
    # Every partial sum is an integer below 2^24, exact in float32.
    luma_HW = cv2.transform(rgb_HWC.astype(np.float32), np.array([[19595, 38470, 7471]], np.float32))
    fixed_HW = luma_HW.reshape(grey_HW.shape).astype(np.uint32)
    fixed_HW += 0x8000
    fixed_HW >>= 16
    grey_HW[...] = fixed_HW


def wrapped_field_bits(
    dx: npt.NDArray[np.int16], dy: npt.NDArray[np.int16], mask: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint16]:
    """The float16 bits of the released code's field.

    Parameters
    ----------
    dx, dy
        (n,) int16 Sobel responses of Pillow's grey picture.
    mask
        (n,) uint8, 255 on Canny's edges and 0 off them; every edge of the picture must be among the n pixels,
        for its maximum is the scale.
    """
    v, h = np.clip(dy, 0, 255).astype(np.uint8), np.clip(dx, 0, 255).astype(np.uint8)
    v *= v
    h *= h
    v += h  # all three modulo 256
    v &= mask
    strongest = v.max(initial=0)
    if strongest == 0:
        return np.zeros(v.shape, np.uint16)
    # NumPy's root of uint8 is float16; the released code goes on in float64, and Pillow makes float32 of it.
    edge_of = np.sqrt(np.arange(256, dtype=np.float16)).astype(np.float64) * 255
    scaled_of = edge_of[: strongest + 1] / edge_of[strongest] * 255
    table: npt.NDArray[np.uint16] = scaled_of.astype(np.float32).astype(np.float16).view(np.uint16)
    return table.take(v)
