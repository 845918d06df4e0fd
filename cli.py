"""The door to the two commands, `gfield` and `train`; what is behind them is imported when it is needed."""

from __future__ import annotations

from gfield.commandline.main import gfield
from train.commands import train

__all__ = ["gfield", "train"]

if __name__ == "__main__":
    gfield(prog_name="gfield")
