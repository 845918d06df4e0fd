"""What a training step costs beside its arithmetic, and whether training learns anything.

A bar for learning says little alone: rooms look alike, and depths that ignore the picture score well too. Those are
measured beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from measure import HERE, Figure, Line, ratios, run_script, tell

SIZE, BATCH = "320x240", 8
ROOMS, SEEDS, EPOCHS = 400, (0, 1, 2), 15
_COLOURS_BGR = ((180, 90, 30), (40, 120, 220), (60, 160, 60))


def step_figure(store: Path, blocks: int) -> Figure:
    """Pre-training steps on the stream against the same steps on one constant batch."""
    tell("training steps")
    times = run_script("training_io.py", "step", store, SIZE, str(BATCH), str(blocks))
    streamed, constant = times["stream"], times["constant"]
    assert isinstance(streamed, list)
    assert isinstance(constant, list)
    return Figure(
        f"Pre-training step, ResNet-18 at {SIZE}, batch {BATCH}, 2 threads, no cache, on the CPU",
        [
            Line("step on the stream", "ms", [1000 * value for value in streamed]),
            Line("step on a constant batch", "ms", [1000 * value for value in constant]),
            Line("stream / constant", "x", ratios(streamed, constant), ("<=", 1.05)),
            Line("share of waiting", "%", [100 * times["waiting"]], ("<=", 1)),
        ],
    )


def learning_figure(store: Path, folder: Path, seeds: Sequence[int], epochs: int) -> Figure:
    """Fine-tuning from random weights on synthetic rooms, scored on rooms that were not trained on."""
    blind = run_script("training_io.py", "blind", store)
    runs = []
    for seed in seeds:
        tell(f"fine-tuning, seed {seed}")
        runs.append(run_script("training_io.py", "learn", store, folder / f"learn-{seed}", str(seed), str(epochs)))
    draw_curves(HERE.parents[1] / "build" / "bench" / "learning.png", [run["losses"] for run in runs])
    return Figure(
        f"DenseDepth on ResNet-18 at 160x120, {blind['train']} rooms, {epochs} epochs of batch 8, random start",
        [
            Line("d1 of held-out rooms", "", [run["d1"] for run in runs], (">=", 0.6)),
            Line("d1, median depth of each pixel, picture unseen", "", [blind["of_pixel"]]),
            Line("d1, one depth for everything", "", [blind["constant"]]),
            Line("rms of held-out rooms", "m", [run["rms"] for run in runs]),
            Line("training", "s", [run["seconds"] for run in runs]),
        ],
        [f"{blind['test']} held-out rooms, {blind['shared_scenes']:.0f} scenes in both splits; one run a seed"],
        {"losses": [run["losses"] for run in runs], "seeds": list(seeds)},
    )


def draw_curves(path: Path, losses: Sequence[Sequence[float]]) -> None:
    """Draw losses over steps, smoothed over 27 steps (one epoch of 219 rooms), the axis of losses logarithmic."""
    width, height, left, top, right, bottom = 900, 420, 60, 50, 20, 60
    sheet = np.full((height, width, 3), 255, np.uint8)
    window = min(27, *(len(run) // 2 + 1 for run in losses))  # fewer in a quick run, which has no 27 steps
    smooth = [np.convolve(run, np.ones(window) / window, "valid") for run in losses]
    low, high = min(run.min() for run in smooth), max(run.max() for run in smooth)
    steps = max(len(run) for run in losses)

    def place(step: float, loss: float) -> tuple[int, int]:
        share = (np.log(loss) - np.log(low)) / (np.log(high) - np.log(low))
        return round(left + step / steps * (width - left - right)), round(
            height - bottom - share * (height - top - bottom)
        )

    def text(words: str, x: int, y: int) -> None:
        cv2.putText(sheet, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 60, 60), 1, cv2.LINE_AA)

    for loss in (ten * one for ten in (0.001, 0.01, 0.1, 1) for one in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        if low <= loss <= high:
            y = place(0, loss)[1]
            cv2.line(sheet, (left, y), (width - right, y), (225, 225, 225), 1)
            text(f"{loss:g}", 10, y + 5)
    for step in range(0, steps + 1, 100):
        text(str(step), place(step, low)[0] - 10, height - bottom + 25)
    text("step", width // 2, height - 12)
    text("training loss, mean of an epoch", 10, 25)
    for seed, (run, colour) in enumerate(zip(smooth, _COLOURS_BGR, strict=False)):
        points = np.array([place(step + window // 2, loss) for step, loss in enumerate(run)], np.int32)
        cv2.polylines(sheet, [points], False, colour, 2, cv2.LINE_AA)
        cv2.line(sheet, (width - 290 + 95 * seed, 20), (width - 265 + 95 * seed, 20), colour, 2, cv2.LINE_AA)
        text(f"seed {seed}", width - 258 + 95 * seed, 25)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), sheet)
