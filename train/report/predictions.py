"""The best and the worst predictions of depth networks, side by side, of the same frames and in the same colours.

Which frames these are follows from the scores that `train evaluate` has left, or where there are none, from the errors
of the predictions themselves on some frames of the test split.

Legend: H W pixels of a picture at the size that the runs were trained at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from gfield import Location, Store, UserError, location, open_store
from train.depth_picture import coloured_depth, depth_ends
from train.errors import TrainError
from train.report.read import Run

_Picture = npt.NDArray[np.uint8]
_Depth = npt.NDArray[np.float32]
Say = Callable[[str], None]

_SCORED_FRAMES = 32
_FULL_COLOUR = math.log(2)
_NO_DEPTH = 96
# Blue where the prediction is too near, grey where it is right, red where it is too far.
_STOPS = np.array([(33, 102, 172), (146, 197, 222), (240, 240, 240), (244, 165, 130), (178, 24, 43)], np.float32)


@dataclass(frozen=True)
class Prediction:
    """What a run makes of a frame.

    Attributes
    ----------
    run
        Its place among the runs.
    depth, error
        Pictures, (H, W, 3) uint8.
    abs_rel
        Mean of |p - t| / t over the pixels with depth; NaN where there is none.
    """

    run: int
    depth: _Picture
    error: _Picture
    abs_rel: float


@dataclass(frozen=True)
class Example:
    """A frame with the predictions of all runs.

    Attributes
    ----------
    name
        Of the frame.
    rgb, truth
        Pictures, (H, W, 3) uint8.
    predictions
        One a run that has a depth network.
    """

    name: str
    rgb: _Picture
    truth: _Picture
    predictions: Sequence[Prediction]


@dataclass(frozen=True)
class Examples:
    """Frames to show.

    Attributes
    ----------
    chosen
        In words, how they were found.
    best, worst
        The best first, and the worst first.
    ends_m
        Of the scale of depth.
    notes
        Why runs are missing.
    """

    chosen: str
    best: Sequence[Example]
    worst: Sequence[Example]
    ends_m: tuple[float, float]
    notes: Sequence[str]


def examples_of(
    runs: Sequence[Run],
    *,
    store: Location | None = None,
    count: int = 3,
    device: str = "auto",
    say: Say = lambda text: None,
    on_start: Callable[[int], None] = lambda total: None,
    on_frames: Callable[[int], None] = lambda more: None,
) -> Examples:
    """Predict the best and the worst test frames of runs.

    Parameters
    ----------
    runs
        Of which those of `train finetune` have depth networks.
    store
        Whose test frames; by default the store that the first of them remembers.
    count
        How many of each.
    device
        Where to predict.
    say
        Is told of a damaged checkpoint that was passed over.
    on_start, on_frames
        Are told how many predictions there will be, and how many more are done.

    Raises
    ------
    TrainError, StoreError
        Where there are none; the line says why.
    """
    placed = [(place, run) for place, run in enumerate(runs) if run.command == "finetune"]
    if not placed:
        raise TrainError("none of the runs has a depth network")
    opened = _open(placed[0][1], store)
    rows = np.flatnonzero(opened.splits == "test")
    if not len(rows):
        raise TrainError(f"{opened.path}: no frame of split test, wanted some to predict")
    ranked = _ranked_by_scores([run for _, run in placed], opened, rows)
    if ranked is None:
        wanted = rows[np.unique(np.linspace(0, len(rows) - 1, _SCORED_FRAMES).astype(int))].tolist()
    else:
        wanted = [*chain(*_ends_of(ranked[0], count))]
    on_start(len(wanted) * len(placed))
    depths: dict[int, dict[int, _Depth]] = {}
    notes: list[str] = []
    for place, run in placed:
        try:
            depths[place] = _predict(run, opened, wanted, device, say, on_frames)
        except UserError as error:
            notes.append(str(error))
    if not depths:
        raise TrainError(notes[0])
    predicted = [(place, run) for place, run in placed if place in depths]
    ranked = ranked or _ranked_by_errors(predicted, opened, wanted, depths)
    best, worst = _ends_of(ranked[0], count)
    truths = [_truth(opened, predicted[0][1], row).ravel() for row in (*best, *worst)]
    ends_m = (depth_ends(np.concatenate(truths)) if truths else None) or (1.0, 10.0)

    def shown(rows: Sequence[int]) -> list[Example]:
        return [_example(opened, row, predicted, depths, ends_m) for row in rows]

    return Examples(ranked[1], shown(best), shown(worst), ends_m, notes)


def error_colours(ratio: npt.NDArray[np.float32]) -> _Picture:
    """Colours of p / t: blue from half the depth, grey where it is right, red from twice the depth."""
    place = (np.log(ratio) / _FULL_COLOUR).clip(-1, 1) * 2 + 2
    low = np.floor(place).clip(0, 3).astype(np.intp)
    share = (place - low)[..., None]
    colours: _Picture = np.rint(_STOPS[low] * (1 - share) + _STOPS[low + 1] * share).astype(np.uint8)
    return colours


def _open(run: Run, store: Location | None) -> Store:
    if store is not None:
        return open_store(store)
    remembered = run.meta.get("stores")
    path = remembered[0].get("path") if isinstance(remembered, list) and remembered else None
    if not isinstance(path, str):
        raise TrainError(f"{run.name}: the run remembers no store; --store STORE says which")
    place = location(path)
    if isinstance(place, Path) and not place.exists():
        raise TrainError(f"{path}: gone, where {run.name} was trained; --store STORE says where it is now")
    return open_store(place)


def _ranked_by_scores(runs: Sequence[Run], store: Store, rows: npt.NDArray[np.intp]) -> tuple[list[int], str] | None:
    """Rows from best to worst by the mean abs_rel of all runs, if some protocol has scored all of them on the store."""
    of_name = dict(zip(store.names[rows].tolist(), rows.tolist(), strict=True))
    found: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    for run in runs:
        for score in run.scores:
            if score.fingerprint == store.spec.fingerprint and "abs_rel" in score.per_image:
                values = zip(score.per_image["name"], score.per_image["abs_rel"], strict=True)
                errors = {name: value for name, value in values if name in of_name and isinstance(value, float)}
                found.setdefault((score.protocol, score.version), []).append(errors)
    whole = [(protocol, scored) for protocol, scored in found.items() if len(scored) == len(runs)]
    if not whole:
        return None
    (protocol, _), of_runs = whole[0]
    names = [name for name in of_name if all(name in one for one in of_runs)]
    means = {of_name[name]: sum(one[name] for one in of_runs) / len(of_runs) for name in names}
    of = "the run's" if len(runs) == 1 else "the runs' mean"
    return sorted(means, key=lambda row: (means[row], row)), f"by {of} abs_rel of {protocol}, {len(means)} test frames"


def _ranked_by_errors(
    runs: Sequence[tuple[int, Run]], store: Store, rows: Sequence[int], depths: Mapping[int, Mapping[int, _Depth]]
) -> tuple[list[int], str]:
    """Rows from best to worst by the mean abs_rel of the predictions; rows without any depth are left out."""
    means = {}
    for row in rows:
        mean = float(np.mean([_abs_rel(depths[place][row], _truth(store, run, row)) for place, run in runs]))
        if not math.isnan(mean):
            means[row] = mean
    told = (
        f"by abs_rel of {len(means)} test frames, evenly spread, since no protocol has scored every run on this store"
    )
    return sorted(means, key=lambda row: (means[row], row)), told


def _ends_of(ranked: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """The first and, without those, the last of a list, the last one first."""
    best = list(ranked[:count])
    return best, [row for row in reversed(ranked[-count:]) if row not in best]


def _predict(
    run: Run, store: Store, rows: Sequence[int], device: str, say: Say, on_frames: Callable[[int], None]
) -> dict[int, _Depth]:
    import torch

    from train.device import memory_advice, pick_device
    from train.restore import depth_net_of_run

    key = f"{_level(store, run)}/rgb"
    net, _ = depth_net_of_run(run.folder, say)
    where = pick_device(device)
    net.to(where)
    found: dict[int, _Depth] = {}
    with torch.inference_mode(), memory_advice():
        for row in rows:
            rgb_HWC = np.ascontiguousarray(store.read(key, [row])[0], np.uint8)
            rgb_13HW = torch.from_numpy(rgb_HWC).to(where).permute(2, 0, 1)[None].float() / 255
            depth_hw = net.predict(rgb_13HW)[0, 0].float().cpu().numpy()
            if not np.isfinite(depth_hw).all():
                raise TrainError(f"{run.name}: depth that is not finite predicted, wanted weights that are whole")
            size_WH = rgb_HWC.shape[1], rgb_HWC.shape[0]
            found[row] = np.asarray(cv2.resize(depth_hw, size_WH, interpolation=cv2.INTER_LINEAR), np.float32)
            on_frames(1)
    return found


def _level(store: Store, run: Run) -> str:
    from train.frames import level_of, size_of_level

    level = level_of(store, size_of_level(str(run.arguments.get("size"))))
    if f"{level}/depth" not in store.arrays:
        raise TrainError(f"{store.path}: no depth at {level}, it has {', '.join(store.arrays)}")
    return level


def _truth(store: Store, run: Run, row: int) -> _Depth:
    return np.ascontiguousarray(store.read(f"{_level(store, run)}/depth", [row])[0], np.float32)


def _abs_rel(predicted_HW: _Depth, truth_HW: _Depth) -> float:
    valid_HW = np.isfinite(truth_HW) & (truth_HW > 0)
    truth, predicted = truth_HW[valid_HW], predicted_HW[valid_HW]
    return float(np.mean(np.abs(predicted - truth) / truth)) if truth.size else math.nan


def _example(
    store: Store,
    row: int,
    runs: Sequence[tuple[int, Run]],
    depths: Mapping[int, Mapping[int, _Depth]],
    ends_m: tuple[float, float],
) -> Example:
    first = runs[0][1]
    predictions = []
    for place, run in runs:
        predicted_HW, truth_HW = depths[place][row], _truth(store, run, row)
        valid_HW = np.isfinite(truth_HW) & (truth_HW > 0)
        error_HWC = np.full((*truth_HW.shape, 3), _NO_DEPTH, np.uint8)
        error_HWC[valid_HW] = error_colours(predicted_HW[valid_HW] / truth_HW[valid_HW])
        coloured = coloured_depth(predicted_HW, ends_m)
        predictions.append(Prediction(place, coloured, error_HWC, _abs_rel(predicted_HW, truth_HW)))
    return Example(
        str(store.names[row]),
        np.ascontiguousarray(store.read(f"{_level(store, first)}/rgb", [row])[0], np.uint8),
        coloured_depth(_truth(store, first, row), ends_m),
        predictions,
    )
