"""The operator beside what could stand in for it, picture after picture on one thread: ``operators.py MAT ROUNDS``.

Prints milliseconds a picture by size and contender, one value a round, and how many pictures were compared with the
definition: grey, integer Sobel, ``cv2.Canny``, and the exact root rounded once to float16. The contenders are not
equal: scikit-image and kornia smooth by a Gaussian first, and so find other edges; what is compared is the cost of the
same kinds of steps. Both get four pictures a round; kornia one at a time, as float32.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from peers import why_absent
from plain_script import field_of

from gfield.field import FieldKernel
from gfield.frame import BadFrame
from gfield.sources.nyuv2 import open_nyuv2

SIZES_WH = ((640, 480), (320, 240))
LOW, HIGH = 50, 200
Contender = Callable[[Any, Any], Any]


def definition(rgb_HWC: Any) -> Any:
    """(H, W) float16: what the field is, in plain steps, through integers of 64 bits and the root in float64."""
    grey_HW = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    dx_HW, dy_HW = (
        cv2.Sobel(grey_HW, cv2.CV_16S, *order, borderType=cv2.BORDER_REPLICATE).astype(np.int64)
        for order in ((1, 0), (0, 1))
    )
    # The root in float64 is the exact one rounded to 53 bits: rounding it again to float16's 11 bits goes wrong only
    # beside a tie, and a tie is the root of no integer: its square would have digits behind the point.
    magnitude_HW = np.sqrt((dx_HW**2 + dy_HW**2).astype(np.float64)).astype(np.float16)
    return np.where(cv2.Canny(grey_HW, LOW, HIGH) > 0, magnitude_HW, np.float16(0))


def contenders(size_WH: tuple[int, int]) -> dict[str, Contender]:
    """What is timed, each a function of a picture's RGB and of its grey."""
    kernel, out_HW = FieldKernel(), np.zeros(size_WH[::-1], np.float16)
    edges_HW = np.empty(size_WH[::-1], np.uint8)
    known: dict[str, Contender] = {
        "ours, RGB to field": lambda rgb_HWC, grey_HW: kernel(rgb_HWC, out=out_HW),
        "cvtColor and cv2.Canny": lambda rgb_HWC, grey_HW: cv2.Canny(
            cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY), LOW, HIGH, edges=edges_HW
        ),
        "cv2.Canny alone, of the grey picture": lambda rgb_HWC, grey_HW: cv2.Canny(grey_HW, LOW, HIGH, edges=edges_HW),
        "released code's operator": lambda rgb_HWC, grey_HW: field_of(rgb_HWC),
    }
    if not why_absent("scikit-image"):
        known["scikit-image: canny, sobel"] = _skimage_field
    if not why_absent("kornia"):
        known["kornia: canny, spatial_gradient"] = _kornia_field()
    return known


def _skimage_field(rgb_HWC: Any, grey_HW: Any) -> Any:
    from skimage.color import rgb2gray
    from skimage.feature import canny
    from skimage.filters import sobel_h, sobel_v

    # Its Sobel is a quarter of ours, and its grey 255 times smaller.
    level_HW = rgb2gray(rgb_HWC)
    edges_HW = canny(level_HW, sigma=1, low_threshold=LOW / 1020, high_threshold=HIGH / 1020)
    magnitude_HW = 1020 * np.hypot(sobel_h(level_HW), sobel_v(level_HW))
    return np.where(edges_HW, magnitude_HW, 0).astype(np.float16)


def _kornia_field() -> Contender:
    import torch
    from kornia.color import rgb_to_grayscale
    from kornia.filters import canny, spatial_gradient

    torch.set_num_threads(1)

    def field(rgb_HWC: Any, grey_HW: Any) -> Any:
        with torch.inference_mode():
            rgb_13hw = torch.from_numpy(rgb_HWC).permute(2, 0, 1)[None].float() / 255
            grey_11hw = rgb_to_grayscale(rgb_13hw)
            _, edges_11hw = canny(grey_11hw, low_threshold=LOW / 1020, high_threshold=HIGH / 1020)
            magnitude_11hw = spatial_gradient(grey_11hw, normalized=False).square().sum(2).sqrt() * 255
            return (edges_11hw * magnitude_11hw)[0, 0].half().numpy()

    return field


def measure(mat: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds by size and contender, and the number of pictures that were compared."""
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    source = open_nyuv2(mat)
    pictures = [
        np.array(frame.arrays["rgb"])
        for frame in source.read(0, len(source.names), frozenset({"rgb"}))
        if not isinstance(frame, BadFrame)
    ]
    told: dict[str, Any] = {"compared": 0}
    for size_WH in SIZES_WH:
        sized = [
            rgb_HWC if size_WH == source.size_WH else cv2.resize(rgb_HWC, size_WH, interpolation=cv2.INTER_AREA)
            for rgb_HWC in pictures
        ]
        grey = [cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY) for rgb_HWC in sized]
        known = contenders(size_WH)
        for rgb_HWC in sized:
            seen_HW, wanted_HW = FieldKernel()(rgb_HWC), definition(rgb_HWC)
            assert np.array_equal(seen_HW.view(np.uint16), wanted_HW.view(np.uint16)), "not the definition's bits"
            told["compared"] += 1
        times: dict[str, list[float]] = {name: [] for name in known}
        for number in range(rounds + 1):  # the first is not counted
            for name, contender in known.items():
                few = slice(None) if "kornia" not in name and "scikit" not in name else slice(4)
                started = time.perf_counter()
                for rgb_HWC, grey_HW in zip(sized[few], grey[few], strict=True):
                    contender(rgb_HWC, grey_HW)
                ms = 1000 * (time.perf_counter() - started) / len(sized[few])
                times[name] += [ms] if number else []
        told[f"{size_WH[0]}x{size_WH[1]}"] = times
    return told


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
