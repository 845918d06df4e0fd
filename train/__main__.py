"""``python -m train`` is the command `train`, as torchrun and schedulers may want it."""

from __future__ import annotations

from train.commands import train

if __name__ == "__main__":
    train(prog_name="python -m train")
