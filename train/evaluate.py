"""Score a depth network on a store's test split by a protocol."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gfield import Store
from train import protocols
from train.errors import TrainError
from train.frames import Frames, level_of
from train.metrics import METRICS, DepthErrors
from train.stream import in_order


class PredictsDepth(Protocol):
    """What can be scored."""

    def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] to depths N,1,h,w in metres."""
        ...


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
        How many images with ground truth, and how many pixels of them counted.
    store, fingerprint
        The store and its description's fingerprint.
    names, per_image
        Every image's name and values.
    """

    protocol: protocols.Protocol
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

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a value that does not exist is null."""
        return {
            "protocol": {"name": self.protocol.name, "version": self.protocol.version, "text": self.protocol.text},
            "metrics": {name: _or_null(value) for name, value in self.metrics.items()},
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
        count = f"{self.images} images"
        if not self.official:
            count += f" (the protocol's own are {self.protocol.images}: not comparable with published numbers)"
        values = "  ".join(f"{name} {self.metrics[name]:.3f}" for name in METRICS)
        return f"{self.protocol.name} version {self.protocol.version}, {count}\n{values}"


def evaluate(
    net: PredictsDepth,
    store: Store,
    protocol: protocols.Protocol,
    *,
    size_WH: tuple[int, int],
    batch: int = 8,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    rows: npt.NDArray[np.intp] | None = None,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Score a network.

    Parameters
    ----------
    net
        In evaluation mode, on the device.
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
        If the store is of another kind than the protocol, or has no test split, depth or such level.
    """
    if store.spec.kind != protocol.kind:
        raise TrainError(f"{store.path}: a store of {store.spec.kind}, {protocol.name} wants one of {protocol.kind}")
    if rows is None:
        rows = np.flatnonzero(store.splits == "test")
        if not len(rows):
            raise TrainError(f"{store.path}: no frame of split test, {protocol.name} scores those")
    depth_key = "depth_native" if protocol.native else f"{store.levels[0]}/depth"
    frames = Frames([(store, rows)], {"rgb": f"{level_of(store, size_WH)}/rgb", "depth": depth_key})
    errors = DepthErrors()
    with torch.inference_mode():
        for data in in_order(frames, batch, device, threads):
            true_NHW = data.arrays["depth"]
            predicted_NHW = _predict(net, data.arrays["rgb"], protocol, (true_NHW.shape[1], true_NHW.shape[2]))
            if protocol.crop is not None:
                inside = (slice(None), slice(*protocol.crop[:2]), slice(*protocol.crop[2:]))
                true_NHW = true_NHW[inside]
                if protocol.input_rows is None:
                    predicted_NHW = predicted_NHW[inside]
            valid_NHW = (true_NHW > protocol.least_m) & (true_NHW < protocol.most_m)
            errors.add(predicted_NHW.clamp(*protocol.clip_m), true_NHW, valid_NHW)
            on_frames(len(data.index_N))
    counted = errors.sums_NS[:, 0]
    return Evaluation(
        protocol,
        errors.mean(protocol.averaging),
        images=int((counted > 0).sum()),
        pixels=int(counted.sum()),
        store=str(store.path),
        fingerprint=store.spec.fingerprint,
        names=store.names[rows].tolist(),
        per_image={name: values.tolist() for name, values in errors.per_image().items()},
    )


def _predict(
    net: PredictsDepth, rgb_NHWC: torch.Tensor, protocol: protocols.Protocol, size_HW: tuple[int, int]
) -> torch.Tensor:
    """Predictions on the grid of the ground truth (or on the part of it that the protocol's input shows)."""
    rgb_N3HW = rgb_NHWC.permute(0, 3, 1, 2).float().div_(255)
    if protocol.input_rows is not None:
        assert protocol.crop is not None
        first, last = (round(share * rgb_N3HW.shape[2]) for share in protocol.input_rows)
        rgb_N3HW = rgb_N3HW[:, :, first:last]
        size_HW = (protocol.crop.bottom - protocol.crop.top, protocol.crop.right - protocol.crop.left)
    predicted_N1hw = net.predict(rgb_N3HW)
    if protocol.mirror:
        predicted_N1hw = (predicted_N1hw + net.predict(rgb_N3HW.flip(-1)).flip(-1)) / 2
    resized: torch.Tensor = functional.interpolate(predicted_N1hw, size_HW, mode="bilinear", align_corners=False)
    return resized[:, 0]


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
