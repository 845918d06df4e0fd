"""Depth of one picture of any size, by a network that was trained at one.

Legend: H W pixels of the picture, h w of the network's output.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch

from train.depth import DepthNet, mirrored_mean
from train.errors import PictureError

# Beyond, a picture scaled to the training's area is a strip in which the network sees nothing that it knows.
_MAX_RATIO = 8


def predict_image(
    net: DepthNet,
    rgb_HWC: npt.NDArray[np.uint8],
    *,
    size_WH: tuple[int, int],
    device: torch.device | str = "cpu",
    mirror: bool = False,
    name: object = "picture",
) -> npt.NDArray[np.float32]:
    """Predict the depth of a picture.

    A network tells distance by how large things are in pixels, so it is right only near the size that it was trained
    at. The picture is scaled, in its own proportions, to the area of that size: one of the training's proportions to
    exactly that size, lying or standing, and others to as many pixels. The camera's angle of view is taken to be that
    of the training's pictures; with k times their focal length, things look k times nearer.

    Parameters
    ----------
    net
        The network, in evaluation mode.
    rgb_HWC
        (H, W, 3) uint8.
    size_WH
        Width and height of the pictures that it was trained on.
    device
        Where the network is.
    mirror
        Whether to give the mean with the mirrored prediction of the mirrored picture.
    name
        What an error calls the picture.

    Returns
    -------
    ndarray
        (H, W) float32 metres, enlarged bilinearly from the network's output.

    Raises
    ------
    PictureError
        If the picture is empty, one side is more than 8 times the other, or the network gives no finite depth.
    """
    assert not net.training
    height, width = rgb_HWC.shape[:2]
    if not min(height, width) or max(height, width) > _MAX_RATIO * min(height, width):
        raise PictureError(f"{name}: {width} x {height} pixels, wanted sides of at most {_MAX_RATIO} to 1")
    scale = math.sqrt(size_WH[0] * size_WH[1] / (width * height))
    scaled_WH = max(1, round(width * scale)), max(1, round(height * scale))
    # Levels of a store are made by area too.
    rule = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled_HWC = cv2.resize(rgb_HWC, scaled_WH, interpolation=rule)
    rgb_13HW = torch.from_numpy(scaled_HWC).to(device).permute(2, 0, 1)[None].float() / 255
    depth_11hw = mirrored_mean(net, rgb_13HW) if mirror else net.predict(rgb_13HW)
    depth_hw = depth_11hw[0, 0].cpu().numpy()
    if not np.isfinite(depth_hw).all():
        raise PictureError(f"{name}: the network's depth is not finite, wanted a run whose weights are whole")
    return cv2.resize(depth_hw, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
