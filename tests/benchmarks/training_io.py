"""What the training figures run, each in a process of its own; prints JSON.

``training_io.py step STORE SIZE BATCH BLOCKS`` times pre-training steps on the stream and on one constant batch, in
turns. ``training_io.py learn STORE RUN SEED EPOCHS`` fine-tunes from random weights and scores the held-out rooms.
``training_io.py blind STORE`` scores predictors that do not look at the picture.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import gfield
from train.device import numerics
from train.evaluate import Evaluation, evaluate
from train.finetune import finetune
from train.frames import Frames
from train.loop import queue_step
from train.optimizers import make_sgd
from train.pretexts import method_named
from train.pretexts.pretext import Setup
from train.pretexts.sight import Sight
from train.pretrain import Pretraining, resolve_options
from train.protocols import PROTOCOLS
from train.ranks import Ranks
from train.restore import depth_net_of_run, start_encoder
from train.session import Settings
from train.stream import Stream

WARM, TIMED = 1, 4
LEARN_SIZE_WH, LEARN_BATCH, LEARN_RATE = (160, 120), 8, 5e-4


def _quiet(text: str) -> None:
    """Nobody to tell."""


def step(store_path: str, size: str, batch: str, blocks: str) -> dict[str, Any]:
    """Seconds of a step in blocks of both kinds, and the share of the stream's time spent waiting."""
    store, count = gfield.open_store(store_path), int(batch)
    width, height = (int(number) for number in size.split("x"))
    keys = {name: f"{size}/{name}" for name in ("rgb", "gradient")}
    frames = Frames([(store, store.rows())], keys)
    device = torch.device("cpu")
    ranks, numbers = Ranks(0, 1, 0, device), numerics(device)
    settings = Settings(Path("unused"), batch=count, epochs=1, rate=0.01)
    given = {"queue": 4 * count, "dim": 128, "bn_groups": max(1, count // 8)}
    _, options = resolve_options("gradient-moco", None, given)
    region = gfield.Region(8, height - 8, 8, width - 8)
    sight = Sight(region=region, size_HW=(height, width), seed=0, batch=count, ranks=ranks, options=options)
    pretext = method_named("gradient-moco").make(
        Setup(
            *[lambda: start_encoder("resnet18", "random", seed=0, say=_quiet)] * 2, options=options, sight=sight,
            frames=len(frames), settings=settings, ranks=ranks, numbers=numbers, say=_quiet,
        )
    )  # fmt: skip
    numbers.place(pretext.model)
    task = Pretraining(pretext, settings=settings, ranks=ranks, numbers=numbers)
    learning = [weight for weight in pretext.model.parameters() if weight.requires_grad]
    optimizer = make_sgd(learning, 0.01, momentum=0.9, weight_decay=0.0)

    def train_on(data: Any) -> None:
        queue_step(task, data, optimizer, 0.01)

    seconds: dict[str, list[float]] = {"stream": [], "constant": []}
    waited = streamed = 0.0
    with Stream(frames, batch=count, seed=0, cache="none") as stream:
        constant = next(iter(stream.batches(0, 1)))
        constant.arrays.update({name: tensor.clone() for name, tensor in constant.arrays.items()})
        for _ in range(int(blocks)):
            batches = iter(stream.batches(0, WARM + TIMED))
            for _ in range(WARM):
                train_on(next(batches))
            wait_before, began = stream.wait_s, time.perf_counter()
            for data in batches:
                train_on(data)
            streamed += time.perf_counter() - began
            waited += stream.wait_s - wait_before
            seconds["stream"].append((time.perf_counter() - began) / TIMED)
            train_on(constant)
            began = time.perf_counter()
            for _ in range(TIMED):
                train_on(constant)
            seconds["constant"].append((time.perf_counter() - began) / TIMED)
    return {**seconds, "waiting": waited / streamed}


def learn(store_path: str, run: str, seed: str, epochs: str) -> dict[str, Any]:
    """Fine-tune DenseDepth on ResNet-18 from random weights; metrics of the held-out rooms, seconds, and losses."""
    settings = Settings(
        Path(run), batch=LEARN_BATCH, epochs=int(epochs), rate=LEARN_RATE, seed=int(seed), device="cpu", overwrite=True
    )
    began = time.perf_counter()
    finetune(
        Path(store_path), settings, init="random", network="densedepth", encoder="resnet18", size_WH=LEARN_SIZE_WH,
        say=_quiet,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    net, _ = depth_net_of_run(Path(run), _quiet)
    scored = _score(net, gfield.open_store(store_path))
    lines = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    return {**scored.metrics, "seconds": seconds, "images": scored.images, "losses": losses}


class _Blind:
    """Predicts the same depths for every picture."""

    def __init__(self, depth_HW: np.ndarray[Any, Any]) -> None:
        self._depth_11hw = torch.from_numpy(depth_HW)[None, None]

    def predict(self, rgb_N3HW: torch.Tensor) -> torch.Tensor:
        """The same depths."""
        return self._depth_11hw.expand(len(rgb_N3HW), -1, -1, -1)


def blind(store_path: str) -> dict[str, Any]:
    """d1 of the training rooms' median depth, and of their median depth at each pixel."""
    store = gfield.open_store(store_path)
    depth_NHW = store.read(f"{LEARN_SIZE_WH[0]}x{LEARN_SIZE_WH[1]}/depth", store.rows("train"))
    of_pixel_HW = cv2.resize(np.nanmedian(depth_NHW, axis=0), (640, 480)).astype(np.float32)
    constant_HW = np.full_like(of_pixel_HW, np.nanmedian(depth_NHW))
    train, test = (set(store.scenes[store.rows(split)]) for split in ("train", "test"))
    return {
        "constant": _score(_Blind(constant_HW), store).metrics["d1"],
        "of_pixel": _score(_Blind(of_pixel_HW), store).metrics["d1"],
        "shared_scenes": len(train & test),
        "train": len(store.rows("train")),
        "test": len(store.rows("test")),
    }


def _score(net: Any, store: gfield.Store) -> Evaluation:
    return evaluate(net, store, PROTOCOLS["nyu-eigen"], size_WH=LEARN_SIZE_WH)


if __name__ == "__main__":
    print(json.dumps({"step": step, "learn": learn, "blind": blind}[sys.argv[1]](*sys.argv[2:])))
