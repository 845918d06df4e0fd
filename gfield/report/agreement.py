"""Whether depth and picture of a frame show one scene: the share of depth's edges that lie on edges of the picture.

Inverse depth is linear over a plane, however slanted, so its second difference is about zero but where one thing ends
before another or two planes meet: there most pictures have an edge, too. How many lie there by chance is known from
the picture's edges alone, and what is left over them is the agreement, as Cohen's kappa has it.

The same depth mirrored, upside down, and turned by 180 degrees tells what another picture's depth would give; where
one of them fits better than the depth as it is, the file or its reader has turned it.

Letters in names: H rows, W columns of the grid on which the two are compared.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from gfield.frame import Region
from gfield.levels import nearest_index

Mask: TypeAlias = npt.NDArray[np.bool_]
F4: TypeAlias = npt.NDArray[np.float32]

LEAST_EDGES = 64
"""Depth edges, below which nothing is told."""
_MOST_CHANCE = 0.9
# Of inverse depth, over 1 / 240 of the picture's shorter side. The numbers are from docs/experiments.md.
_BEND, _BEND_SIDE = 0.02, 240
_TOLERANCE_SIDE = 150
_CLEARLY, _FITS = 0.1, 0.25


class Agreement(NamedTuple):
    """How well depth edges lie on the picture's edges: 1 all of them, 0 as many as by chance, below 0 fewer.

    Attributes
    ----------
    upright
        Of the depth as it is.
    mirrored, upside_down, turned
        Of the depth flipped left to right, top to bottom, and both.
    edges
        How many depth edges there are, in cells of the grid.
    """

    upright: float
    mirrored: float
    upside_down: float
    turned: float
    edges: int

    @property
    def flips(self) -> dict[str, float]:
        """The flipped ones by name."""
        return {"mirrored": self.mirrored, "upside_down": self.upside_down, "turned": self.turned}

    @property
    def best_flip(self) -> str:
        """The name of the flip that fits best."""
        return max(self.flips, key=self.flips.__getitem__)

    @property
    def rank(self) -> float:
        """What frames are ranked by, the worst lowest: the agreement, less half of what the best flip has."""
        return self.upright - max(0.0, *self.flips.values()) / 2

    @property
    def verdict(self) -> str:
        """A flip that clearly fits better, else ``"poor"`` or ``"good"``."""
        flipped = self.flips[self.best_flip]
        if flipped > _FITS and flipped - self.upright > _CLEARLY:
            return self.best_flip
        return "poor" if self.upright < _FITS else "good"


class EdgePair(NamedTuple):
    """Edges of a frame on one grid.

    Attributes
    ----------
    picture_HW, depth_HW
        Where the picture and where depth has edges.
    known_HW
        Where depth can have edges at all: not at holes.
    tolerance
        How far apart, in cells, two edges may lie that are called one.
    """

    picture_HW: Mask
    depth_HW: Mask
    known_HW: Mask
    tolerance: int

    @property
    def near_picture_HW(self) -> Mask:
        """Where an edge of the picture is within the tolerance."""
        return _grown(self.picture_HW, self.tolerance)


def edge_pair(
    field_HW: npt.NDArray[np.float16],
    depth_HW: F4,
    region: Region | None = None,
    native_HW: tuple[int, int] | None = None,
) -> EdgePair:
    """The edges of a frame's picture and depth.

    Parameters
    ----------
    field_HW
        (H, W) float16, the gradient field.
    depth_HW
        (H, W) float32 metres; what is not finite or not above 0 is a hole.
    region
        The part that is scene; None is all of it.
    native_HW
        The sensor's grid. Where it is coarser than the picture, the two are compared on it: the steps between its
        cells are no edges.
    """
    if region is not None:
        part = np.s_[region.top : region.bottom, region.left : region.right]
        field_HW, depth_HW = field_HW[part], depth_HW[part]
    picture_HW = field_HW > 0
    height, width = picture_HW.shape
    grid_HW = (height, width) if native_HW is None else (min(height, native_HW[0]), min(width, native_HW[1]))
    if grid_HW != (height, width):
        picture_HW = _any_in_cells(picture_HW, grid_HW)
        depth_HW = depth_HW[np.ix_(nearest_index(height, grid_HW[0]), nearest_index(width, grid_HW[1]))]
    hole_HW = ~(np.isfinite(depth_HW) & (depth_HW > 0))
    inverse_HW: F4 = np.reciprocal(np.where(hole_HW, np.float32(1), depth_HW), dtype=np.float32)
    known_HW = ~_grown(hole_HW, 1)
    edges_HW = _bends(inverse_HW, _BEND * _BEND_SIDE / min(grid_HW)) & known_HW
    return EdgePair(picture_HW, edges_HW, known_HW, max(1, round(min(grid_HW) / _TOLERANCE_SIDE)))


def agreement(pair: EdgePair) -> Agreement | None:
    """How well they fit; None where depth has too few edges, or the picture so many that nothing can be told."""
    near_HW = pair.near_picture_HW
    edges = int(np.count_nonzero(pair.depth_HW))
    if edges < LEAST_EDGES or np.count_nonzero(near_HW & pair.known_HW) > _MOST_CHANCE * np.count_nonzero(
        pair.known_HW
    ):
        return None
    # Depth that is flipped meets the picture where the depth as it is meets the flipped picture.
    return Agreement(
        upright=_kappa(pair, near_HW),
        mirrored=_kappa(pair, near_HW[:, ::-1]),
        upside_down=_kappa(pair, near_HW[::-1]),
        turned=_kappa(pair, near_HW[::-1, ::-1]),
        edges=edges,
    )


def _kappa(pair: EdgePair, near_HW: Mask) -> float:
    met, chance = _share(near_HW, pair.depth_HW), _share(near_HW, pair.known_HW)
    return (met - chance) / max(1 - chance, 1e-6)


def _share(mask_HW: Mask, of_HW: Mask) -> float:
    return float(np.count_nonzero(mask_HW & of_HW) / np.count_nonzero(of_HW))


def _bends(inverse_HW: F4, threshold: float) -> Mask:
    """Where the second difference along x or y is more than a share of the value."""
    bends_HW = np.zeros(inverse_HW.shape, bool)
    for axis in (0, 1):
        if inverse_HW.shape[axis] > 2:
            second_HW = np.abs(np.diff(inverse_HW, 2, axis=axis))
            inner = np.s_[1:-1, :] if axis == 0 else np.s_[:, 1:-1]
            bends_HW[inner] |= second_HW > np.float32(threshold) * inverse_HW[inner]
    return bends_HW


def _any_in_cells(mask_HW: Mask, grid_HW: tuple[int, int]) -> Mask:
    for axis in (0, 1):
        starts = np.arange(grid_HW[axis]) * mask_HW.shape[axis] // grid_HW[axis]
        mask_HW = np.logical_or.reduceat(mask_HW, starts, axis=axis)
    return mask_HW


def _grown(mask_HW: Mask, cells: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * cells + 1, 2 * cells + 1))
    return cv2.dilate(mask_HW.astype(np.uint8), disc) > 0
