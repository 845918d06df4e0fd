"""The folder of a run: who owns it while it works, what it was begun with, and the results beside it.

RUN/meta.json       readable: the command, its arguments, the stores with their fingerprints, versions
    log.jsonl       see `train.log`; tensorboard/ shows the same
    checkpoints/    see `train.checkpoint`
    evaluations/    one JSON file a result
    lock            held by the process that trains
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gfield import Store
from train.errors import TrainError
from train.files import TEMPORARY, remove, write_atomically

_FORMAT = 1
_META, _LOCK = "meta.json", "lock"
_CONTENT = ("log.jsonl", "tensorboard", "checkpoints", "evaluations", _META)  # removed in this order: see _empty
_SHOWN = 3


@dataclass(frozen=True)
class Run:
    """A run folder that this process owns until `close`; made by `create_run`.

    Attributes
    ----------
    folder
        The folder.
    meta
        What the run was begun with, also when it is resumed.
    resumed
        Whether there was a run already, which is to go on.
    """

    folder: Path
    meta: dict[str, Any]
    resumed: bool
    _lock: int

    def close(self) -> None:
        """Let other processes have the folder."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
