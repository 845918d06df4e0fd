"""What to measure with: the frames, the sizes, and where everything goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inputs import Seed, tile_mat
from measure import gfield_command, time_command


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure with.

    Attributes
    ----------
    seed, folder
        The frames, and where inputs and outputs go.
    frames, small_frames, large_frames, all_frames, worker_frames
        Sizes of the inputs: of the build; of the memory's two builds; of the second run; of the workers.
    rounds, short_rounds
        How often builds are timed, and things of a second or less.
    quick
        Whether to see only that everything runs.
    bucket
        A bucket, or a prefix of one, of a server that runs already; empty for moto's.
    """

    seed: Seed
    folder: Path
    frames: int = 256
    small_frames: int = 100
    large_frames: int = 1000
    all_frames: int = 1449
    worker_frames: int = 1449
    rounds: int = 5
    short_rounds: int = 15
    quick: bool = False
    bucket: str = ""

    def mat(self, frames: int) -> Path:
        """A .mat of so many frames."""
        return tile_mat(self.seed, self.folder, frames)

    def fresh(self, name: str) -> Path:
        """A path for an output, free of what an earlier round left.

        That is emptied and put aside until the benchmarks end. Removed at once, it would cost the next contender: ext4
        without a journal passes over what was removed in the last minutes, one by one, whenever it makes a file.
        """
        path = self.folder / name
        if path.exists():
            aside = self.folder / "emptied"
            aside.mkdir(exist_ok=True)
            for file in path.rglob("*"):
                if file.is_file():
                    os.truncate(file, 0)
            path.rename(aside / f"{name}-{len(list(aside.iterdir()))}")
        os.sync()  # or the next run waits for the last one's bytes to reach the disk
        return path


def build_by_command(mat: Path, store: Path, *options: str) -> float:
    """Seconds of the whole process of a build."""
    return time_command([*gfield_command(), "build", "nyu", mat, store, *options])
