"""Score a depth network on a store's test split by a protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from gfield import Store
from train.depth import PredictsDepth, mirrored_mean
from train.errors import TrainError
from train.frames import Frames, level_of
from train.metrics import METRICS, DepthErrors
from train.protocols import Protocol
from train.stream import in_order

_PICTURE_ROWS = 640  # what a protocol's `input_rows` count


@dataclass(frozen=True)
class Evaluation:
    """A score, with everything that it depends on.

    Attributes
    ----------
    protocol
        How it was made.
    metrics
        Means as the protocol wants them; see `train.metrics.DepthErrors`.
    images, pixels
        How many images were scored, and how many pixels of them counted.
    store, fingerprint
        The store and its description's fingerprint.
    names, per_image
        Every image's name and values, with the number of its pixels that counted.
    """

    protocol: Protocol
    metrics: dict[str, float]
    images: int
    pixels: int
    store: str
    fingerprint: str
    names: list[str] = field(repr=False)
    per_image: dict[str, list[float]] = field(repr=False)

    @property
    def official(self) -> bool:
        """Whether as many images were scored as the official test split has."""
        return self.images == self.protocol.images

    @property
    def rms_normalised(self) -> float | None:
        """``rms`` as a share of the protocol's range; None where it has none."""
        return None if self.protocol.range_m is None else self.metrics["rms"] / self.protocol.range_m

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a value that does not exist is null."""
        return {
            "protocol": {"name": self.protocol.name, "version": self.protocol.version, "text": self.protocol.text},
            "metrics": {name: _or_null(value) for name, value in self.metrics.items()},
            **({} if self.rms_normalised is None else {"rms_normalised": _or_null(self.rms_normalised)}),
            "images": self.images,
            "official_images": self.protocol.images,
            "pixels": self.pixels,
            "store": {"path": self.store, "fingerprint": self.fingerprint},
            "per_image": {
                "name": self.names,
                **{name: [_or_null(value) for value in values] for name, values in self.per_image.items()},
            },
        }

    def summary(self) -> str:
        """For people."""
        count = f"{self.images} image{'s' if self.images > 1 else ''}"
        if not self.official:
            count += f" (the protocol's own are {self.protocol.images}: not comparable with published numbers)"
        values = "  ".join(f"{name} {self.metrics[name]:.3f}" for name in METRICS)
        if self.rms_normalised is not None:
            values += f"  rms/{self.protocol.range_m:g}m {self.rms_normalised:.3f}"
        return f"{self.protocol.name} version {self.protocol.version}, {count}\n{values}"


def evaluate(
    net: PredictsDepth,
    store: Store,
    protocol: Protocol,
    *,
    size_WH: tuple[int, int],
    batch: int = 8,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Score a network.

    Parameters
    ----------
    net
        On the device; a module is set to evaluation mode, and back.
    store, protocol
        The pictures with their depths, and how to score.
    size_WH
        Level of the store that the network is given.
    batch, device, threads
        How to go through it; none of them shows in the result beyond rounding.
    rows
        Frames to score; the test split by default.
    on_frames
        Is told how many more are done.

    Raises
    ------
    TrainError
        If a prediction is not finite, the store is of another kind than the protocol, or it has no test split, no
        depth, or not the levels of the picture or the ground truth.
    """
    if store.spec.kind not in protocol.kinds:
        kinds = " or ".join(protocol.kinds)
        raise TrainError(f"{store.path}: a store of {store.spec.kind}, {protocol.name} wants one of {kinds}")
    if rows is None:
        rows = np.flatnonzero(store.splits == "test")
        if not len(rows):
            raise TrainError(f"{store.path}: no frame of split test, {protocol.name} scores those")
    frames = Frames([(store, rows)], {"rgb": f"{level_of(store, size_WH)}/rgb", "depth": protocol.truth})
    cells = protocol.cells
    errors = DepthErrors()
    with torch.inference_mode(), _evaluation_mode(net):
        for data in in_order(frames, batch, device, threads):
            predicted_Nrc = _predicted(net, data.arrays["rgb"], protocol)
            true_Nrc = data.arrays["depth"][:, cells.top : cells.bottom, cells.left : cells.right]
            valid_Nrc = (true_Nrc > protocol.above_m) & (true_Nrc < protocol.below_m)
            errors.add(predicted_Nrc, true_Nrc, valid_Nrc)
            on_frames(len(data.index_N))
    pixels_N = errors.pixels()
    broken_N = np.flatnonzero((pixels_N > 0) & ~np.isfinite(errors.per_image()["rms"]))
    if len(broken_N):
        first = store.names[rows][broken_N[0]]
        raise TrainError(
            f"{store.path}: depth that is not finite predicted for {len(broken_N)} of {len(frames)} images, first "
            f"{first}; weights that are whole wanted"
        )
    return Evaluation(
        protocol,
        errors.mean(protocol.averaging),
        images=len(frames),
        pixels=int(pixels_N.sum()),
        store=str(store.path),
        fingerprint=store.spec.fingerprint,
        names=store.names[rows].tolist(),
        per_image={"pixels": pixels_N.tolist(), **{name: v.tolist() for name, v in errors.per_image().items()}},
    )


def _predicted(net: PredictsDepth, rgb_NHWC: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """(N, rows, columns) metres at the protocol's cells."""
    height = rgb_NHWC.shape[1]
    first, last = 0, height
    if protocol.input_rows is not None:
        first, last = (round(row * height / _PICTURE_ROWS) for row in protocol.input_rows)
    rgb_N3HW = rgb_NHWC[:, first:last].permute(0, 3, 1, 2).float().div_(255)
    metres_N1hw = mirrored_mean(net, rgb_N3HW) if protocol.mirror else net.predict(rgb_N3HW)
    cells_Nrc = _at_cells(metres_N1hw.float(), protocol, (first / height, last / height))
    return cells_Nrc.clamp(*protocol.clip_m)


def _at_cells(metres_N1hw: torch.Tensor, protocol: Protocol, shown: tuple[float, float]) -> torch.Tensor:
    """Bilinear values at the cells' centres, for predictions that show a share of the picture's rows.

    For whole pictures and whole grids this is `torch.nn.functional.interpolate` without aligned corners.
    """
    (rows, columns), cells = protocol.grid_HW, protocol.cells
    y = (torch.arange(cells.top, cells.bottom, device=metres_N1hw.device) + 0.5) / rows
    x = (torch.arange(cells.left, cells.right, device=metres_N1hw.device) + 0.5) / columns
    y = (y - shown[0]) / (shown[1] - shown[0])
    grid_rc2 = torch.stack(torch.meshgrid(2 * x - 1, 2 * y - 1, indexing="xy"), dim=-1)
    grid_Nrc2 = grid_rc2.expand(len(metres_N1hw), -1, -1, -1)
    return F.grid_sample(metres_N1hw, grid_Nrc2, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]


@contextmanager
def _evaluation_mode(net: PredictsDepth) -> Iterator[None]:
    training = isinstance(net, torch.nn.Module) and net.training
    if isinstance(net, torch.nn.Module):
        net.eval()
    try:
        yield
    finally:
        if isinstance(net, torch.nn.Module):
            net.train(training)


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
