"""What a run tells while it runs: ``log.jsonl``, a line a step, and the same for TensorBoard with pictures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from train.files import write_atomically

_FLUSH_EVERY_S = 5.0
_TENSORBOARD_EVERY = 10  # steps


class RunLog:
    """The log of one run; a resumed run drops what lies after its checkpoint, and reads like one that never stopped.

    Parameters
    ----------
    run
        Folder of the run.
    start_step
        The first step that will be logged.
    """

    def __init__(self, run: Path, *, start_step: int) -> None:
        self._path = run / "log.jsonl"
        _keep_before(self._path, start_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._flushed = time.monotonic()
        self._board = _open_board(run / "tensorboard", start_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step; those that are not finite are written as texts."""
        plain = {
            name: (round(value, 7) if abs(value) < 1e6 else value) if math.isfinite(value) else str(value)
            for name, value in values.items()
        }
        self._write({"step": step, "kind": "train", **plain})
        if self._board is not None and step % _TENSORBOARD_EVERY == 0:
            for name, value in values.items():
                self._board.add_scalar(f"train/{name}", value, step)

    def pictures(self, step: int, pictures: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Log H,W,3 pictures by name, for TensorBoard alone."""
        if self._board is not None:
            for name, picture_HWC in pictures.items():
                self._board.add_image(name, picture_HWC, step, dataformats="HWC")

    def event(self, step: int, text: str) -> None:
        """Log that something happened."""
        self._write({"step": step, "kind": "event", "text": text})

    def flush(self) -> None:
        """Hand everything to the system, as every few seconds anyway."""
        self._file.flush()
        self._flushed = time.monotonic()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({**line, "time": round(time.time(), 3)}, allow_nan=False) + "\n")
        if time.monotonic() - self._flushed > _FLUSH_EVERY_S:
            self._file.flush()
            self._flushed = time.monotonic()


def _keep_before(path: Path, step: int) -> None:
    """Drop the lines of later steps, and a last line that was cut off."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] < step and line.endswith("\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    if kept != lines:
        write_atomically(path, "".join(kept).encode())


def _open_board(folder: Path, start_step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start_step or None)  # type: ignore[no-untyped-call]
