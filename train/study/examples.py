"""Pictures of what a network predicts, for people: picture, truth and prediction side by side with a scale in metres.

All networks of a store are shown the same frames in the same colours, so that their pictures may be compared.

Legend: H W pixels of a tile, h w of whatever is to become one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from gfield import Store
from train.depth import PredictsDepth
from train.depth_picture import coloured_depth, depth_ends
from train.errors import TrainError
from train.files import write_in_turn
from train.frames import level_of

TILE_WH = (192, 144)
"""The box that every tile fills as far as its picture's proportions allow."""
SCALE_W = 68
"""Width of the scale at the right of every picture."""

_Picture = npt.NDArray[np.uint8]
_Depth = npt.NDArray[np.float32]
_GROUND, _INK = 255, 32


class Tiles(NamedTuple):
    """The parts of a picture that `write_examples` wrote, each (H, any, 3) uint8 RGB."""

    rgb: _Picture
    truth: _Picture
    prediction: _Picture
    scale: _Picture


def write_examples(
    net: PredictsDepth,
    store: Store,
    rows: Sequence[int],
    folder: Path,
    *,
    size_WH: tuple[int, int],
    device: torch.device | str = "cpu",
) -> list[Path]:
    """Write a picture for each of some frames: RGB, truth, prediction and scale.

    Colours go from the 0.5th to the 99.5th percentile of these frames' true depths, by their logarithm; grey is where
    there is no depth. They depend on the store and the rows alone.

    Parameters
    ----------
    net
        On the device; a module is set to evaluation mode, and back.
    store
        With RGB and depth at the size.
    rows
        Frames of the store.
    folder
        Where ``0.png``, ``1.png`` and so on go, each written whole or not at all.
    size_WH
        Level of the store that the network is given.
    device
        Where the network is.

    Returns
    -------
    list of Path
        One a row.

    Raises
    ------
    TrainError
        If the store lacks the level or depth, or the files cannot be written.
    """
    level = level_of(store, size_WH)
    if f"{level}/depth" not in store.arrays:
        raise TrainError(f"{store.path}: no depth at {level}, it has {', '.join(store.spec.arrays)}")
    rgb_NhwC = np.ascontiguousarray(store.read(f"{level}/rgb", rows), np.uint8)
    truth_Nhw = np.ascontiguousarray(store.read(f"{level}/depth", rows), np.float32)
    predicted_Nhw = [_predicted(net, rgb_hwC, device) for rgb_hwC in rgb_NhwC]
    ends_m = depth_ends(truth_Nhw) or (1.0, 10.0)
    paths = [folder / f"{number}.png" for number in range(len(rows))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, rgb_hwC, truth_hw, predicted_hw in zip(paths, rgb_NhwC, truth_Nhw, predicted_Nhw, strict=True):
            write_in_turn(path, png_bytes(_strip(rgb_hwC, truth_hw, predicted_hw, ends_m)))
    except OSError as error:
        raise TrainError(f"{folder}: {error.strerror}, wanted a folder that can be written") from error
    return paths


def read_tiles(path: Path) -> Tiles:
    """Take a picture of `write_examples` apart.

    Raises
    ------
    TrainError
        If it is missing, or no such picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}, wanted an example of the study") from error
    bgr_HWC = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr_HWC is None or bgr_HWC.shape[1] <= SCALE_W or (bgr_HWC.shape[1] - SCALE_W) % 3:
        raise TrainError(f"{path}: wanted a PNG of three tiles and a scale of {SCALE_W} pixels")
    strip_HWC = np.asarray(bgr_HWC[..., ::-1], np.uint8)
    width = (strip_HWC.shape[1] - SCALE_W) // 3
    rgb, truth, prediction = (strip_HWC[:, start : start + width] for start in (0, width, 2 * width))
    return Tiles(rgb, truth, prediction, strip_HWC[:, 3 * width :])


def png_bytes(rgb_HWC: _Picture) -> bytes:
    """A picture as PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb_HWC[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


def _predicted(net: PredictsDepth, rgb_hwC: _Picture, device: torch.device | str) -> _Depth:
    training = isinstance(net, torch.nn.Module) and net.training
    if isinstance(net, torch.nn.Module):
        net.eval()
    try:
        with torch.inference_mode():
            rgb_13hw = torch.from_numpy(rgb_hwC).to(device).permute(2, 0, 1)[None].float() / 255
            depth_hw: _Depth = net.predict(rgb_13hw)[0, 0].float().cpu().numpy()
    finally:
        if isinstance(net, torch.nn.Module):
            net.train(training)
    return depth_hw


def _strip(rgb_hwC: _Picture, truth_hw: _Depth, predicted_hw: _Depth, ends_m: tuple[float, float]) -> _Picture:
    height, width = rgb_hwC.shape[:2]
    factor = min(TILE_WH[0] / width, TILE_WH[1] / height)
    tile_WH = max(1, round(width * factor)), max(1, round(height * factor))
    rule = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    rgb_HWC = cv2.resize(rgb_hwC, tile_WH, interpolation=rule)
    # Protocols enlarge predictions bilinearly too; of the truth, no depth is shown that the sensor did not give.
    truth_HW = cv2.resize(truth_hw, tile_WH, interpolation=cv2.INTER_NEAREST)
    predicted_HW = cv2.resize(predicted_hw, tile_WH, interpolation=cv2.INTER_LINEAR)
    tiles = [coloured_depth(np.asarray(depth_HW, np.float32), ends_m) for depth_HW in (truth_HW, predicted_HW)]
    return np.hstack((np.asarray(rgb_HWC, np.uint8), *tiles, _scale(tile_WH[1], ends_m)))


def _scale(height: int, ends_m: tuple[float, float]) -> _Picture:
    """A bar from near, below, to far, with the metres of both ends and of the middle."""
    near, far = ends_m
    scale_HWC = np.full((height, SCALE_W, 3), _GROUND, np.uint8)
    from_far_H = np.geomspace(far, near, height, dtype=np.float32)
    scale_HWC[:, 6:18] = coloured_depth(np.repeat(from_far_H[:, None], 12, axis=1), ends_m)
    for y, metres in ((11, far), (height // 2 + 4, math.sqrt(near * far)), (height - 3, near)):
        text = f"{metres:.1f} m" if metres < 100 else f"{metres:.0f} m"
        cv2.putText(scale_HWC, text, (22, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (_INK,) * 3, 1, cv2.LINE_AA)
    return scale_HWC
