"""Named ways to score a depth network. Published numbers differ by crop, range and averaging as much as by network."""

from __future__ import annotations

from dataclasses import dataclass

from gfield import Region
from train.errors import TrainError
from train.metrics import Averaging

# Where Make3D's laser ends. The paper's rms is normalised, it does not say by what; this makes its .190 into 15 m,
# which is what networks reach there.
MAKE3D_RANGE_M = 80.0


@dataclass(frozen=True)
class Protocol:
    """One way to score; a change that changes a score counts the version up.

    Attributes
    ----------
    name, version, text
        What it is called, and every choice in words.
    kinds
        Kinds of the stores that it is for.
    images
        Pictures of the official test split.
    averaging
        ``"image"``: means of per-image values; ``"pixel"``: all pixels together.
    truth
        The store's array of ground truth.
    cells
        Rows and columns of it that count.
    grid_HW
        Rows and columns that it has.
    below_m
        Ground truth counts strictly between ``above_m`` and this, in metres.
    clip_m
        Predictions are clipped to this range.
    above_m
        See ``below_m``.
    input_rows
        Rows of a picture of 640 that the network is given, from and to; None is all of them. They have to hold the
        centres of ``cells``.
    mirror
        Whether the prediction is the mean with that of the mirrored picture.
    range_m
        What ``rms`` is also told as a share of; None where nobody publishes that.
    """

    name: str
    version: int
    text: str
    kinds: tuple[str, ...]
    images: int
    averaging: Averaging
    truth: str
    grid_HW: tuple[int, int]
    cells: Region
    below_m: float
    clip_m: tuple[float, float]
    above_m: float = 0.0
    input_rows: tuple[int, int] | None = None
    mirror: bool = False
    range_m: float | None = None


def _nyu(name: str, averaging: Averaging, cells: Region, cells_text: str, *, mirror: bool) -> Protocol:
    what = "the mean with the mirrored picture's prediction, mirrored back" if mirror else "one prediction"
    text = (
        f"prediction: {what}, resized bilinearly to 640x480 (pixel centres, corners not aligned), clipped to 0.1-10 m; "
        "ground truth: the store's depth at 640x480, which is the depth with filled holes, pixels strictly between "
        f"0.001 and 10 m; {cells_text}; {_AVERAGING[averaging]}"
    )
    return Protocol(
        name=name,
        version=1,
        text=text,
        kinds=("nyu", "densedepth"),
        images=654,
        averaging=averaging,
        truth="640x480/depth",
        grid_HW=(480, 640),
        cells=cells,
        above_m=1e-3,
        below_m=10.0,
        clip_m=(0.1, 10.0),
        mirror=mirror,
    )


def _make3d(name: str, below_m: float, cells_text: str, *, cropped: bool = False) -> Protocol:
    text = (
        "prediction: one, interpolated bilinearly at the centres of the laser's cells, clipped to 1-80 m; not scaled "
        "by the ground truth's median; ground truth: the laser's own grid of 55 rows and 305 columns, metres along the "
        f"ray; {cells_text}; {_AVERAGING['image']}; rms in metres and, normalised as the paper's is in a way that it "
        f"does not tell, as a share of {MAKE3D_RANGE_M:g} m, the end of the laser's range"
    )
    return Protocol(
        name=name,
        version=1,
        text=text,
        kinds=("make3d",),
        images=134,
        averaging="image",
        truth="depth_native",
        grid_HW=(55, 305),
        cells=Region(17, 38, 0, 305) if cropped else Region(0, 55, 0, 305),
        below_m=below_m,
        clip_m=(1.0, 80.0),
        input_rows=(200, 440) if cropped else None,
        range_m=MAKE3D_RANGE_M,
    )


_AVERAGING: dict[Averaging, str] = {
    "image": "every metric per image, then the mean over images",
    "pixel": "the pixels of all images together",
}
_EIGEN, _EIGEN_TEXT = Region(45, 471, 41, 601), "Eigen's crop, rows 45:471 and columns 41:601"
_WHOLE, _WHOLE_TEXT = Region(0, 480, 0, 640), "the whole picture, with the white frame round it"
_CENTRE_TEXT = (
    "cells below 70 m in rows 17:38; the network is given the central 2:1 crop alone, rows 200:440 of 640 (Godard's "
    "710:1562 of 2272)"
)
_ALL = (
    _nyu("nyu-eigen", "image", _EIGEN, f"{_EIGEN_TEXT} (the paper's protocol)", mirror=True),
    _nyu("nyu-eigen-pooled", "pixel", _EIGEN, _EIGEN_TEXT, mirror=True),
    _nyu("nyu-full", "pixel", _WHOLE, _WHOLE_TEXT, mirror=False),
    _make3d("make3d-c1", 70.0, "cells below 70 m"),
    _make3d("make3d-c2", 80.0, "all cells that the laser reached, below 80 m"),
    _make3d("make3d-c1-crop", 70.0, _CENTRE_TEXT, cropped=True),
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
