"""Sources of 120,000 frames: a folder of pictures, and an archive as DenseDepth's, of any size, made of few frames."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from measure import Figure, Line, gfield_command, interleave, ratios, watch_command

MIB = 1 << 20

_DISTINCT = 16
_FRAMES_A_SCENE = 100


def _pictures() -> tuple[list[bytes], list[bytes]]:
    """JPEG of 640x480 and 8-bit depth of the same size, as files hold them."""
    rng = np.random.default_rng(0)
    jpegs, depths = [], []
    for _ in range(_DISTINCT):
        shape = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(0, 12, shape.shape, np.uint8)
        jpegs.append(cv2.imencode(".jpg", cv2.add(shape, noise))[1].tobytes())
        depth = cv2.resize(rng.integers(20, 256, (6, 8), np.uint8), (640, 480))
        depths.append(cv2.imencode(".png", depth)[1].tobytes())
    return jpegs, depths


def write_picture_folder(folder: Path, frames: int) -> Path:
    """``frames`` JPEG of 640x480 in folders of a hundred."""
    jpegs, _ = _pictures()
    for frame in range(frames):
        scene = folder / f"scene_{frame // _FRAMES_A_SCENE:04d}"
        scene.mkdir(parents=True, exist_ok=True)
        (scene / f"{frame}.jpg").write_bytes(jpegs[frame % _DISTINCT])
    return folder


def write_densedepth(path: Path, frames: int) -> Path:
    """An archive of ``frames`` training frames and one of test."""
    jpegs, depths = _pictures()
    blank = cv2.imencode(".png", np.full((480, 640), 2500, np.uint16))[1].tobytes()
    lines = {"train": "", "test": ""}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for frame in range(frames):
            name = f"data/nyu2_train/kitchen_{frame // _FRAMES_A_SCENE:04d}_out/{frame}"
            archive.writestr(f"{name}.jpg", jpegs[frame % _DISTINCT])
            archive.writestr(f"{name}.png", depths[frame % _DISTINCT])
            lines["train"] += f"{name}.jpg,{name}.png\n"
        archive.writestr("data/nyu2_test/00000_colors.png", cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1])
        archive.writestr("data/nyu2_test/00000_depth.png", blank)
        lines["test"] = "data/nyu2_test/00000_colors.png,data/nyu2_test/00000_depth.png\n"
        for split, text in lines.items():
            archive.writestr(f"data/nyu2_{split}.csv", text, zipfile.ZIP_DEFLATED)
    return path


def many_figure(folder: Path, fresh: Callable[[str], Path], sizes: tuple[int, int], rounds: int) -> Figure:
    """Peak memory of builds of few frames against many.

    Parameters
    ----------
    folder, fresh
        Where inputs go, and a function that gives a free path for an output in it.
    sizes
        Few frames, and many.
    rounds
        How often to build.
    """
    lines: list[Line] = []
    title = "Sources of many frames: peak memory of gfield build"
    if not Path("/proc/self/status").is_file():
        return Figure(title, lines, ["memory not measured: needs Linux's /proc"])

    def peak(kind: str, source: Path) -> Callable[[], float]:
        command = [*gfield_command(), "build", kind, source]
        return lambda: watch_command([*command, fresh("store.zarr")]).peak_bytes / MIB

    writers = {"images": write_picture_folder, "densedepth": write_densedepth}
    builds = {
        f"{kind}, {n} frames": peak(kind, write(folder / f"{kind}-{n}", n))
        for kind, write in writers.items()
        for n in sizes
    }
    peaks = interleave(builds, rounds)
    fresh("store.zarr")
    for kind in writers:
        few, more = (peaks[f"{kind}, {n} frames"] for n in sizes)
        lines += [
            Line(f"{kind}, {sizes[0]} frames", "MiB", few),
            Line(f"{kind}, {sizes[1]} frames", "MiB", more),
            Line(f"{kind}, many / few", "x", ratios(more, few), ("<=", 1.1)),
        ]
    return Figure(title, lines)
