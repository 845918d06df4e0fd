"""What a method sees of a batch: views of pictures and fields, drawn for the batch of all ranks, made for this one.

Legend: N samples of this rank, B of all ranks, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from gfield import Region
from train.colour import coloured, draw_colours
from train.device import to_device
from train.random import generator
from train.ranks import Ranks
from train.stream import Batch
from train.views import LARGEST_FIELD, FieldNorm, Views, draw_views, field_view, rgb_view


class Sight:
    """Makes the views of a run. A view depends on seed, step and purpose alone, whatever the number of ranks.

    Parameters
    ----------
    region
        Part of the stored pictures in which crops are drawn.
    size_HW
        Rows and columns of a view.
    seed, batch, ranks
        Of the run; B is ``batch``.
    options
        Of `train.pretexts.options`: ``crop``, ``jitter``, ``jitter_share``, ``grey``, ``blur``, ``field_norm``; those
        that are missing change nothing.
    largest_field
        The largest value that the stores' field can have, for ``field_norm``.
    """

    def __init__(
        self,
        *,
        region: Region,
        size_HW: tuple[int, int],
        seed: int,
        batch: int,
        ranks: Ranks,
        options: Mapping[str, Any],
        largest_field: float = LARGEST_FIELD,
    ) -> None:
        self.size_HW, self._region, self._seed, self._batch = size_HW, region, seed, batch
        self._largest_field = largest_field
        self._crop = float(options.get("crop", 1.0))
        self._field_norm = cast(FieldNorm, options.get("field_norm", "max"))
        self._colours = {name: float(options.get(name, 0.0)) for name in ("jitter", "grey", "blur")}
        self._jitter_share = float(options.get("jitter_share", 1.0))
        self._mine = slice(ranks.rank, None, ranks.world)

    def rng(self, purpose: str, step: int) -> np.random.Generator:
        """Random numbers for one purpose at one step, the same on every rank."""
        return generator(self._seed, purpose, step)

    def mine(self, values_B: np.ndarray[Any, np.dtype[Any]], device: torch.device) -> torch.Tensor:
        """This rank's part of what was drawn for the whole batch, on the device."""
        return to_device(values_B[self._mine], device)

    def picture(self, batch: Batch, purpose: str, size_HW: tuple[int, int] | None = None) -> torch.Tensor:
        """Pictures, cropped, mirrored and changed in colour: N,3,H,W float32 in [0, 1].

        Parameters
        ----------
        batch
            Of the stream, with ``rgb``.
        purpose
            Such as ``"query"``; another purpose gets another view.
        size_HW
            Rows and columns, if not those of the run.
        """
        view_N3HW = rgb_view(batch.arrays["rgb"], self._views(batch, purpose), size_HW or self.size_HW)
        if not any(self._colours.values()):
            return view_N3HW
        rng = self.rng(f"{purpose} colours", batch.step)
        colours_B = draw_colours(rng, self._batch, **self._colours, jitter_share=self._jitter_share)
        return coloured(view_N3HW, colours_B.take(self._mine))

    def field(self, batch: Batch, purpose: str) -> torch.Tensor:
        """Gradient fields, N,3,H,W float32 in [0, 1], cropped and mirrored as the pictures of the same purpose are."""
        return field_view(
            batch.arrays["gradient"],
            self._views(batch, purpose),
            self.size_HW,
            norm=self._field_norm,
            largest=self._largest_field,
        )

    def _views(self, batch: Batch, purpose: str) -> Views:
        rng = self.rng(f"{purpose} views", batch.step)
        return draw_views(rng, self._batch, self._region, scale=(self._crop, 1.0)).take(self._mine)
