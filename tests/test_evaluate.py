"""Scores by named protocols: against slow NumPy on stores of real formats, and what a result says of itself."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import gfield
from gfield.formats.matv5 import write_numeric
from train.depth import make_depth_net
from train.encoders import make_encoder
from train.errors import TrainError
from train.evaluate import evaluate
from train.metrics import METRICS
from train.protocols import PROTOCOLS, protocol_named

FULL = (640, 480)
RED_M = 9.0


def metrics_of(p, t):
    """The definitions, in NumPy."""
    ratio, d = np.maximum(p / t, t / p), np.log(p / t)
    return {
        **{f"d{power}": (ratio < 1.25**power).mean() for power in (1, 2, 3)},
        "abs_rel": (np.abs(p - t) / t).mean(),
        "sq_rel": ((p - t) ** 2 / t).mean(),
        "rms": np.sqrt(((p - t) ** 2).mean()),
        "rms_log": np.sqrt((d**2).mean()),
        "log10": np.abs(np.log10(p) - np.log10(t)).mean(),
        "silog": 100 * d.std(),
    }


class Reddish(torch.nn.Module):
    """Depth from red at half the size, and from the column, so that a mirrored picture is seen otherwise."""

    def predict(self, rgb_N3HW):
        assert not self.training
        red = rgb_N3HW[:, :1, ::2, ::2]
        return 0.5 + RED_M * red + torch.linspace(0, 2, red.shape[-1])


def reddish_HW(rgb_HWC):
    """The same in NumPy, resized to the grid of the ground truth."""
    red_hw = rgb_HWC[::2, ::2, 0] / np.float32(255)
    metres_hw = np.float32(0.5) + np.float32(RED_M) * red_hw + np.linspace(0, 2, red_hw.shape[1], dtype=np.float32)
    return cv2.resize(metres_hw, FULL, interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="module")
def nyu(nyu_mat, tmp_path_factory):
    """A store of ten frames, three of them for tests; not to be changed."""
    return build(gfield.open_nyuv2(nyu_mat), tmp_path_factory.mktemp("nyu") / "nyu.zarr", [FULL, (160, 120)])


def build(source, target, levels_WH):
    gfield.build_store(source, target, gfield.make_spec(source, levels_WH=levels_WH))
    return gfield.open_store(target)


def ramp(rows):
    """Metres that grow with the share of a picture's rows that lies above."""
    return 2 + 60 * rows


class Ramp:
    """Predicts that, for the picture's rows from one to another; a network that looks at the size alone."""

    def __init__(self, first, last, of):
        self.first, self.last, self.of = first, last, of

    def predict(self, rgb_N3HW):
        assert rgb_N3HW.shape[2] == self.last - self.first
        rows = (torch.arange(self.first, self.last, 2) + 1) / self.of
        return ramp(rows)[None, None, :, None].expand(len(rgb_N3HW), 1, -1, rgb_N3HW.shape[3] // 2)


@pytest.fixture(scope="module")
def make3d(tmp_path_factory):
    """A store of two test pairs whose laser saw the ramp, and had no return in one column; not to be changed."""
    root = tmp_path_factory.mktemp("make3d")
    grid = np.ones((55, 305, 4))
    grid[..., 3] = ramp((np.arange(55) + 0.5) / 55)[:, None]
    grid[:, 7, 3] = 81
    for folder in ("Test134", "Gridlaserdata"):
        (root / folder).mkdir()
    for name in ("op1-p-1t000", "op2-p-2t000"):
        cv2.imwrite(str(root / "Test134" / f"img-{name}.jpg"), np.full((640, 480, 3), 90, np.uint8))
        write_numeric(root / "Gridlaserdata" / f"depth_sph_corr-{name}.mat", {"Position3DGrid": grid}, compress=False)
    return build(gfield.open_make3d(root), root / "make3d.zarr", [(480, 640), (240, 320)])


@pytest.mark.parametrize("name", ["nyu-eigen", "nyu-eigen-pooled", "nyu-full"])
def test_nyu_protocols_are_their_texts(nyu, frames, name):
    net = Reddish()
    seen = evaluate(net, nyu, PROTOCOLS[name], size_WH=FULL, batch=2)
    assert net.training, "the mode it had"
    pairs = []
    for row in nyu.rows("test"):
        frame = frames[row]
        predicted_HW = reddish_HW(frame.rgb_HWC)
        if name != "nyu-full":
            predicted_HW = (predicted_HW + reddish_HW(frame.rgb_HWC[:, ::-1])[:, ::-1]) / 2
        predicted_HW = np.clip(predicted_HW, 0.1, 10)
        where = (slice(None), slice(None)) if name == "nyu-full" else (slice(45, 471), slice(41, 601))
        true_HW = frame.depth_HW[where]
        valid_HW = (true_HW > 1e-3) & (true_HW < 10)
        pairs.append((predicted_HW[where][valid_HW], true_HW[valid_HW]))
    if name == "nyu-eigen":
        each = [metrics_of(*pair) for pair in pairs]
        wanted = {metric: np.mean([one[metric] for one in each]) for metric in METRICS}
    else:
        wanted = metrics_of(*map(np.concatenate, zip(*pairs, strict=True)))
    assert seen.metrics == pytest.approx(wanted, rel=1e-4)
    assert seen.images == 3
    assert seen.pixels == sum(len(true) for _, true in pairs)


def test_the_mirror_and_the_crop_are_seen(nyu):
    scores = [evaluate(Reddish(), nyu, PROTOCOLS[name], size_WH=FULL).metrics["rms"] for name in
              ("nyu-eigen", "nyu-eigen-pooled", "nyu-full")]  # fmt: skip
    assert len({round(score, 4) for score in scores}) == 3


def test_pictures_of_any_level_are_scored_on_the_protocols_grid(nyu):
    small = evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=(160, 120))
    assert small.pixels == 3 * 426 * 560
    full = evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL)
    assert small.metrics["rms"] == pytest.approx(full.metrics["rms"], rel=0.05)


def test_batches_and_threads_do_not_show(nyu):
    one = evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL, batch=1, threads=1)
    other = evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL, batch=3, threads=2)
    assert one.metrics == pytest.approx(other.metrics, rel=1e-9)


def test_chosen_rows_and_progress(nyu):
    done = []
    seen = evaluate(
        Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL, batch=2, rows=[5, 1, 2], on_frames=done.append
    )
    assert done == [2, 1]
    assert seen.names == nyu.names[[5, 1, 2]].tolist()
    assert seen.per_image["rms"][1] == pytest.approx(
        evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL, rows=[1]).metrics["rms"]
    )


@pytest.mark.parametrize("size_WH", [(480, 640), (320, 240)])
@pytest.mark.parametrize(
    ("name", "cells"),
    # The ramp reaches 62 m: below both limits. The column without return never counts.
    [("make3d-c1", 55 * 304), ("make3d-c2", 55 * 304), ("make3d-c1-crop", 21 * 304)],
)
def test_make3d_is_compared_at_the_centres_of_the_lasers_cells(make3d, name, cells, size_WH):
    height = max(size_WH)
    first, last = (200 * height // 640, 440 * height // 640) if "crop" in name else (0, height)
    seen = evaluate(Ramp(first, last, height), make3d, PROTOCOLS[name], size_WH=size_WH)
    assert seen.pixels == 2 * cells
    # Exact, for a bilinear value on a ramp is the ramp's; a resize of the crop to 21 rows is off by up to 0.2 m.
    assert seen.metrics["rms"] < 0.001


@pytest.mark.parametrize(("name", "limit"), [("make3d-c1", 70.0), ("make3d-c2", 80.0)])
def test_make3d_limits(make3d, name, limit):
    rule = PROTOCOLS[name]
    assert (rule.above_m, rule.below_m) == (0, limit)
    assert rule.clip_m == (1, 80)
    assert f"below {limit:.0f} m" in rule.text


def test_a_real_network_and_real_pictures(real_nyu, tmp_path):
    store = build(gfield.open_nyuv2(real_nyu), tmp_path / "nyu.zarr", [FULL, (80, 60)])
    net = make_depth_net("fcrn", make_encoder("resnet18", 0), seed=0)
    rows = store.rows("test")[:2]
    seen = evaluate(net, store, PROTOCOLS["nyu-eigen"], size_WH=(80, 60), rows=rows)
    assert 0 < seen.metrics["d1"] < 1
    assert all(math.isfinite(value) for value in seen.metrics.values())
    again = evaluate(net, store, PROTOCOLS["nyu-eigen"], size_WH=(80, 60), rows=rows, batch=1)
    assert seen.metrics == pytest.approx(again.metrics, rel=1e-4), "in evaluation mode a batch does not matter"


def test_make3ds_rms_is_told_in_metres_and_as_a_share_of_the_lasers_range(make3d):
    seen = evaluate(Reddish(), make3d, PROTOCOLS["make3d-c1"], size_WH=(480, 640))
    told = seen.as_dict()
    assert told["rms_normalised"] == pytest.approx(told["metrics"]["rms"] / 80)
    assert f"rms/80m {seen.metrics['rms'] / 80:.3f}" in seen.summary()
    assert "as a share of 80 m, the end of the laser's range" in told["protocol"]["text"]


def test_depth_that_is_not_finite_is_no_score(nyu):
    class Broken(Reddish):
        def predict(self, rgb_N3HW):
            return super().predict(rgb_N3HW) * float("nan")

    with pytest.raises(TrainError, match=r"depth that is not finite predicted for 3 of 3 images, first \S+; weights"):
        evaluate(Broken(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL)


def test_a_result_says_what_it_is(nyu):
    seen = evaluate(Reddish(), nyu, PROTOCOLS["nyu-eigen"], size_WH=FULL)
    assert not seen.official
    assert "3 images (the protocol's own are 654: not comparable" in seen.summary()
    told = json.loads(json.dumps(seen.as_dict(), allow_nan=False))
    assert "rms_normalised" not in told
    assert told["protocol"]["name"] == "nyu-eigen"
    assert told["protocol"]["version"] == 1
    assert "rows 45:471 and columns 41:601" in told["protocol"]["text"]
    assert told["images"] == 3
    assert told["official_images"] == 654
    assert told["store"] == {"path": str(nyu.path), "fingerprint": nyu.spec.fingerprint}
    table = told["per_image"]
    assert table["name"] == nyu.names[nyu.rows("test")].tolist()
    assert np.mean(table["rms"]) == pytest.approx(told["metrics"]["rms"])
    assert sum(table["pixels"]) == told["pixels"]


def test_no_number_is_null(nyu):
    nothing_counts = replace(PROTOCOLS["nyu-full"], below_m=0.002)
    told = evaluate(Reddish(), nyu, nothing_counts, size_WH=(160, 120)).as_dict()
    assert told["metrics"]["rms"] is told["metrics"]["d1"] is told["per_image"]["rms"][0] is None
    json.dumps(told, allow_nan=False)


def test_every_protocol_says_its_numbers():
    nyu = ("nyu", "densedepth")
    assert {name: (rule.kinds, rule.images, rule.averaging) for name, rule in PROTOCOLS.items()} == {
        "nyu-eigen": (nyu, 654, "image"),
        "nyu-eigen-pooled": (nyu, 654, "pixel"),
        "nyu-full": (nyu, 654, "pixel"),
        "make3d-c1": (("make3d",), 134, "image"),
        "make3d-c2": (("make3d",), 134, "image"),
        "make3d-c1-crop": (("make3d",), 134, "image"),
    }
    for name, rule in PROTOCOLS.items():
        assert rule.name == name
        least, most = rule.clip_m
        assert f"clipped to {least:g}-{most:g} m" in rule.text
        assert ("mirrored" in rule.text) == rule.mirror
        assert ("per image, then the mean" in rule.text) == (rule.averaging == "image")


def test_an_unknown_protocol_lists_the_known():
    assert protocol_named("nyu-full") is PROTOCOLS["nyu-full"]
    with pytest.raises(TrainError, match="protocol 'eigen' is unknown, wanted nyu-eigen, nyu-eigen-pooled, nyu-full"):
        protocol_named("eigen")


def test_what_cannot_be_scored_is_said_in_a_line(nyu, nyu_mat, tmp_path):
    def refused(store, name, size_WH, said):
        with pytest.raises(TrainError, match=said) as caught:
            evaluate(Reddish(), store, PROTOCOLS[name], size_WH=size_WH)
        assert "\n" not in str(caught.value)

    refused(nyu, "make3d-c1", FULL, re.escape(f"{nyu.path}: a store of nyu, make3d-c1 wants one of make3d"))
    refused(nyu, "nyu-eigen", (320, 240), "no level 320x240, it has 640x480, 160x120")
    small = build(gfield.open_nyuv2(nyu_mat), tmp_path / "small.zarr", [(160, 120)])
    refused(small, "nyu-eigen", (160, 120), "no level 640x480, it has 160x120")


def test_a_store_without_test_frames_or_without_depth_is_refused(nyu_mat, tmp_path):
    (tmp_path / nyu_mat.name).symlink_to(nyu_mat)  # without splits.mat beside it
    source = gfield.open_nyuv2(tmp_path / nyu_mat.name)
    untested = build(source, tmp_path / "untested.zarr", [FULL])
    with pytest.raises(TrainError, match="no frame of split test, nyu-full scores those"):
        evaluate(Reddish(), untested, PROTOCOLS["nyu-full"], size_WH=FULL)

    spec = dataclasses.replace(gfield.make_spec(source, levels_WH=[FULL]), arrays=("rgb", "gradient"))
    gfield.build_store(source, tmp_path / "depthless.zarr", spec)
    depthless = gfield.open_store(tmp_path / "depthless.zarr")
    with pytest.raises(TrainError, match="no depth in the store, it has rgb, gradient"):
        evaluate(Reddish(), depthless, PROTOCOLS["nyu-full"], size_WH=FULL, rows=[0])
