"""The commands of `train` in this process, and options that make a run take a second."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

import cli

SMALL = ("--encoder", "resnet18", "--size", "80x60", "--batch", "2", "--device", "cpu")


def train(*arguments: Any, code: int = 0) -> Result:
    """Run a command in this process; checks the exit code, and that there is no traceback."""
    result = CliRunner().invoke(cli.train, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
