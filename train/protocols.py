"""Named ways to score a depth network. Published numbers differ by crop, range and averaging as much as by network."""

from __future__ import annotations

from dataclasses import dataclass

from gfield import Region
from train.errors import TrainError
from train.metrics import Averaging


@dataclass(frozen=True)
class Protocol:
    """One way to score; a change of any field counts the version up.

    Attributes
    ----------
    name, version, text
        What it is called, and every choice in words.
    kind
        Kind of the stores that it is for.
    images
        Pictures of the official test split.
    averaging
        ``"image"``: means of per-image values; ``"pixel"``: all pixels together.
    least_m, most_m
        Ground truth counts strictly between these, in metres.
    clip_m
        Predictions are clipped to this range.
    crop
        Rows and columns of the ground truth that count; None is all of it.
    input_rows
        Share of the picture's rows, from and to, that the network is given; None is all of it.
    mirror
        Whether the prediction is the mean with that of the mirrored picture.
    native
        Whether predictions are compared on the sensor's own grid instead of on the largest level.
    """

    name: str
    version: int
    text: str
    kind: str
    images: int
    averaging: Averaging
    least_m: float
    most_m: float
    clip_m: tuple[float, float]
    crop: Region | None = None
    input_rows: tuple[float, float] | None = None
    mirror: bool = False
    native: bool = False


_EIGEN = Region(45, 471, 41, 601)
_NYU_TEXT = (
    "ground truth: the store's filled depth at 640x480, pixels strictly between 0.001 and 10 m; predictions resized "
    "bilinearly to 640x480 (pixel centres, no corners aligned) and clipped to 0.1-10 m; "
)
_MAKE3D_TEXT = (
    "ground truth: the laser's own grid of 55 rows and 305 columns, distance along the ray; predictions resized "
    "bilinearly to that grid at its cells' centres and clipped to 1-80 m; per-image values, then means; "
)
_ALL = (
    Protocol(
        "nyu-eigen",
        1,
        _NYU_TEXT + "Eigen crop (rows 45:471, columns 41:601); mean with the mirrored picture's prediction; per-image "
        "values, then means: the paper's",
        "nyu",
        654,
        "image",
        1e-3,
        10.0,
        (0.1, 10.0),
        crop=_EIGEN,
        mirror=True,
    ),
    Protocol(
        "nyu-eigen-pooled",
        1,
        _NYU_TEXT + "Eigen crop (rows 45:471, columns 41:601); mean with the mirrored picture's prediction; all "
        "pixels of all images together",
        "nyu",
        654,
        "pixel",
        1e-3,
        10.0,
        (0.1, 10.0),
        crop=_EIGEN,
        mirror=True,
    ),
    Protocol(
        "nyu-full",
        1,
        _NYU_TEXT + "whole picture, one prediction, all pixels of all images together",
        "nyu",
        654,
        "pixel",
        1e-3,
        10.0,
        (0.1, 10.0),
    ),
    Protocol(
        "make3d-c1",
        1,
        _MAKE3D_TEXT + "cells below 70 m",
        "make3d",
        134,
        "image",
        0.0,
        70.0,
        (1.0, 80.0),
        native=True,
    ),
    Protocol(
        "make3d-c2",
        1,
        _MAKE3D_TEXT + "all cells, below 80 m",
        "make3d",
        134,
        "image",
        0.0,
        80.0,
        (1.0, 80.0),
        native=True,
    ),
    Protocol(
        "make3d-c1-crop",
        1,
        _MAKE3D_TEXT + "cells below 70 m; the network is given the central 2:1 crop (rows 200:440 of 640, Godard's "
        "710:1562 of 2272), compared with the grid's rows 17:38",
        "make3d",
        134,
        "image",
        0.0,
        70.0,
        (1.0, 80.0),
        crop=Region(17, 38, 0, 305),
        input_rows=(200 / 640, 440 / 640),
        native=True,
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def protocol_named(name: str) -> Protocol:
    """The protocol of a name.

    Raises
    ------
    TrainError
        If there is none; lists them.
    """
    if name not in PROTOCOLS:
        raise TrainError(f"protocol {name!r} is unknown, wanted {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
