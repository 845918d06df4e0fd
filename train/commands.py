"""The commands of `train`."""

from __future__ import annotations

import click

from gfield.commandline import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gfield", message="train %(version)s")
def train() -> None:
    """Train on gradient-field stores."""
