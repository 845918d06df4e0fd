"""What a run tells while it runs: ``log.jsonl``, a line a step, and the same for TensorBoard with pictures."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from train.errors import TrainError
from train.files import write_atomically

_TENSORBOARD_EVERY = 10  # steps; its files cannot be thinned out later


class RunLog:
    """The log of one run; that of a resumed run reads like that of one which never stopped.

    A line is a JSON object with ``step`` (counted from 0), ``time`` (seconds since 1970), ``kind`` ("train", "eval"
    or "event") and what was logged. A line is with the system as soon as it is complete: a kill loses none.

    Parameters
    ----------
    run
        Folder of the run.
    start_step
        The first step that will be logged. What the log has of it and of later ones was done after the checkpoint
        that the run resumes from, will be done again, and goes; so does a line that a power cut tore.
    say
        Is told that TensorBoard is missing.

    Raises
    ------
    TrainError
        If the files cannot be written.
    """

    def __init__(self, run: Path, *, start_step: int, say: Callable[[str], None]) -> None:
        self._path = run / "log.jsonl"
        with self._disk_errors():
            _keep_before(self._path, start_step)
            # Without a buffer a line costs a few microseconds more, and whoever watches the file sees every step.
            self._file = self._path.open("ab", buffering=0)
            self._board = _open_board(run / "tensorboard", start_step, say)

    def scalars(self, step: int, values: Mapping[str, float], kind: str = "train") -> None:
        """Log numbers, in seven digits; those that are not finite become the texts "nan", "inf" and "-inf"."""
        self._write(step, kind, {name: _as_json(value) for name, value in values.items()})
        if self._board is not None and (kind != "train" or step % _TENSORBOARD_EVERY == 0):
            with self._disk_errors():
                for name, value in values.items():
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def event(self, step: int, text: str) -> None:
        """Log that something happened."""
        self._write(step, "event", {"text": text})

    def pictures(self, step: int, pictures: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Log H,W,3 pictures by name, for TensorBoard alone."""
        if self._board is not None:
            with self._disk_errors():
                for name, picture_HWC in pictures.items():
                    self._board.add_image(name, picture_HWC, step, dataformats="HWC")

    def flush(self) -> None:
        """Force everything to the disk, so that the log reaches at least as far as a checkpoint saved after it."""
        with self._disk_errors():
            os.fsync(self._file.fileno())
            if self._board is not None:
                self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            with self._disk_errors():
                self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        line = {"step": step, "time": round(time.time(), 3), "kind": kind, **values}
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        with self._disk_errors():
            while data:  # a disk may take the first part of a line before it is full
                data = data[self._file.write(data) :]

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainError(f"{self._path}: cannot be written: {error.strerror or error}") from error


def _as_json(value: float) -> float | str:
    return float(f"{value:.7g}") if math.isfinite(value) else str(float(value))


def _keep_before(path: Path, step: int) -> None:
    """Rewrite a log without the lines from a step on, and without those that are not whole."""
    if path.exists():
        kept = [line for line in path.read_bytes().splitlines(keepends=True) if _is_before(line, step)]
        write_atomically(path, b"".join(kept))


def _is_before(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] < step)
    except (ValueError, KeyError, TypeError):
        return False


def _open_board(folder: Path, start_step: int, say: Callable[[str], None]) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what TensorBoard imports in its turn
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("TensorBoard is not installed, the run is logged in log.jsonl alone; pip install tensorboard")
        return None
    # It hides what earlier files have of this step and of later ones.
    return SummaryWriter(str(folder), purge_step=start_step)
