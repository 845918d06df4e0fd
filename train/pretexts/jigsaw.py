"""Jigsaw: nine tiles of a picture come in one of a set of orders, and the network is to tell which.

Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016,
arXiv 1603.09246. A view is cut into 3 x 3 cells, and each tile is a random part of its cell (64 of 75 pixels a side, as
there), so that no line runs on from tile to tile; each tile is normalised by itself, so that brightness and contrast
do not tell neighbours. One encoder sees the tiles one by one, a shared layer of 512 follows, and the features of all
nine, in the order in which they came, go to the classifier of the set. `train.pretexts.permutations` has the set.

Departures: 100 permutations instead of 1,000, for data sets of thousands of pictures (``--permutations``); one order
for a picture and step; tiles after normalisation have mean 0.5 and deviation 0.25, the range of pictures, which the
encoder sees when it is fine-tuned; a hidden layer of 1,024 instead of 4,096; 3 of 10 pictures are grey, as there, but
no channel is shifted against chromatic aberration; the run's one SGD with a cosine (the paper: 0.01 in stairs).

Legend: N pictures, T = 9 tiles, H W rows and columns of a view, h w those of a tile, F features, P permutations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from train.encoders import Encoder, pooled_features
from train.errors import TrainError
from train.pretexts.permutations import TILES, permutation_set
from train.pretexts.pretext import Classified, Method, Pretext, Recipe, Setup, classified
from train.random import seeded_layers
from train.stream import Batch

_SIDE, _TILE, _HIDDEN = 3, 512, 1024
# DenseNets halve without padding: less than this leaves nothing of a tile.
_LEAST_DENSENET = 32
RECIPES = {
    "paper": Recipe(
        options={
            "permutations": 100,
            "crop": 0.75,
            "jitter": 0.0,
            "jitter_share": 1.0,
            "grey": 0.3,
            "blur": 0.0,
        },
        rate=0.015,
    )
}


class JigsawNet(nn.Module):
    """Encoder of tiles, and classifier of their order.

    Parameters
    ----------
    encoder
        Where the run starts.
    permutations
        P, the number of classes.
    seed
        Draws the layers behind it.
    """

    def __init__(self, encoder: Encoder, permutations: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with seeded_layers(seed, "head"):
            self.tile_head = nn.Sequential(nn.Linear(encoder.channels[-1], _TILE), nn.ReLU())
            self.head = nn.Sequential(nn.Linear(TILES * _TILE, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, permutations))

    def forward(self, tiles_NT3hw: torch.Tensor, label_N: torch.Tensor) -> Classified:
        """Classify the orders of tiles, ``label_N`` being their numbers in the set."""
        # All first tiles, then all second ones: parts of the batch [part::parts] stay parts of pictures.
        tiles_M3hw = tiles_NT3hw.transpose(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features_MF = pooled_features(self.encoder, tiles_M3hw)
        with torch.autocast(features_MF.device.type, enabled=False):
            features_TNF = self.tile_head(features_MF).unflatten(0, (TILES, len(label_N)))
            return classified(self.head(features_TNF.transpose(0, 1).flatten(1)), label_N)


def cut_tiles(
    rgb_N3HW: torch.Tensor, top_NT: torch.Tensor, left_NT: torch.Tensor, tile_HW: tuple[int, int]
) -> torch.Tensor:
    """Tiles of pictures, (N, T, 3, h, w), exactly as they are there.

    Parameters
    ----------
    rgb_N3HW
        The pictures.
    top_NT, left_NT
        int64, the first row and column of each tile.
    tile_HW
        Rows and columns of a tile.
    """
    device = rgb_N3HW.device
    row_NTh1 = (top_NT[:, :, None] + torch.arange(tile_HW[0], device=device))[..., None]
    column_NT1w = (left_NT[:, :, None] + torch.arange(tile_HW[1], device=device))[:, :, None]
    sample_N111 = torch.arange(len(rgb_N3HW), device=device)[:, None, None, None]
    tiles_NThw3 = rgb_N3HW.permute(0, 2, 3, 1)[sample_N111, row_NTh1, column_NT1w]
    return tiles_NThw3.permute(0, 1, 4, 2, 3)


def normalised(tiles_NT3hw: torch.Tensor) -> torch.Tensor:
    """Tiles, every channel of each with mean 0.5 and deviation 0.25; a channel of one value is 0.5."""
    mean_NT311 = tiles_NT3hw.mean((3, 4), keepdim=True)
    centred_NT3hw = tiles_NT3hw - mean_NT311
    deviation_NT311 = centred_NT3hw.square().mean((3, 4), keepdim=True).sqrt()
    # A grey level is 1/255: what varies less than a tenth of that is rounding, and stays small.
    return 0.5 + 0.25 * centred_NT3hw / deviation_NT311.clamp(min=4e-4)


class Jigsaw(Pretext):
    """Jigsaw puzzles at work on one run."""

    def __init__(self, setup: Setup) -> None:
        self._sight, self._batch = setup.sight, setup.settings.batch
        self._device = setup.numbers.device
        height, width = setup.sight.size_HW
        self._cell_HW = height // _SIDE, width // _SIDE
        self._tile_HW = self._cell_HW[0] * 64 // 75, self._cell_HW[1] * 64 // 75
        encoder = setup.start()
        least = _LEAST_DENSENET if encoder.name.startswith("densenet") else 1
        if min(self._tile_HW) < least:
            raise TrainError(
                f"jigsaw's tiles of {width}x{height} have {self._tile_HW[1]}x{self._tile_HW[0]} pixels, "
                f"wanted {least} or more a side for {encoder.name}; a larger --size has them"
            )
        self._permutation_PT = permutation_set(setup.options["permutations"])
        self.model = JigsawNet(encoder, len(self._permutation_PT), setup.settings.seed)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Tiles in a drawn order, and the number of the order."""
        tiles_NT3hw, label_N = self._mixed(batch)
        return normalised(tiles_NT3hw), label_N

    def shown(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The tiles as they come, three rows of three."""
        tiles_NT3hw, _ = self._mixed(batch)
        rows = [tiles_NT3hw[:, row * _SIDE : (row + 1) * _SIDE] for row in range(_SIDE)]
        return tuple(torch.cat(row_Nt3hw.unbind(1), -1) for row_Nt3hw in rows)

    def _mixed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        rng = self._sight.rng("puzzles", batch.step)
        label_B = rng.integers(len(self._permutation_PT), size=self._batch)
        order_BT = self._permutation_PT[label_B]
        # The tile that comes at place t is that of cell order_BT[:, t].
        starts = []
        for cell, tile, number_BT in zip(
            self._cell_HW, self._tile_HW, (order_BT // _SIDE, order_BT % _SIDE), strict=True
        ):
            starts.append(number_BT * cell + rng.integers(cell - tile + 1, size=(self._batch, TILES)))
        top_NT, left_NT = (self._sight.mine(start_BT.astype(np.int64), self._device) for start_BT in starts)
        view_N3HW = self._sight.picture(batch, "view")
        return cut_tiles(view_N3HW, top_NT, left_NT, self._tile_HW), self._sight.mine(label_B, self._device)


METHOD = Method(arrays=("rgb",), recipes=RECIPES, make=Jigsaw)
