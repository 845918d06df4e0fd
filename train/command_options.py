"""What several commands of `train` have in common: options, and what they say."""

from __future__ import annotations

from pathlib import Path

import click

from gfield.commandline.pieces import Level, place_type

__all__ = ["ENCODERS", "device_option", "next_step", "path_type", "place_type", "say", "size_option"]

ENCODERS = click.Choice(["resnet18", "resnet50", "densenet121", "densenet161"])
path_type = click.Path(path_type=Path)
size_option = click.option("--size", "size_WH", type=Level(), metavar="WxH", help="Level of the store.  [the largest]")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


def say(text: str) -> None:
    """Tell the user something that is not the result."""
    click.echo(text, err=True)


def next_step(command: str, run: Path) -> str:
    """What one does with a run of ``pretrain`` or ``finetune``."""
    if command == "pretrain":
        from train.runs import read_run

        encoder = read_run(run)["arguments"]["encoder"]
        return f"next: train finetune STORE --init {run} --encoder {encoder} --out RUN --network ..."
    return f"next: train evaluate STORE {run} --protocol ...; train predict IMAGE... --run {run}"
