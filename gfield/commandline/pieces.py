"""Pieces of the command line that every group needs: one-line errors, and the types of options."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Any], Any]

_SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")
_ADDRESS = "a Dask scheduler's, for example tcp://host:8786"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
path_type = click.Path(path_type=Path)


class Place(click.Path):
    """A path of this machine, or a URL that `gfield.object_path.location` knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from gfield.errors import InputError
        from gfield.object_path import location

        try:
            return location(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


place_type = Place()


def stacked(*decorators: Decorator) -> Decorator:
    """Several decorators as one, the first outermost."""
    return lambda function: functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), function)


class Commands(click.Group):
    """A group whose commands report a user's mistake in one line instead of a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        replace_closed_streams()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of a pipe, such as `head`, has gone: there is nobody left to tell.
            sys.stderr.close()
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)
        except OSError as error:
            from gfield.errors import printable

            where = f"{error.filename}: " if error.filename is not None else ""
            if not where and _output_is_lost():
                where = "standard output: "
            raise click.ClickException(printable(f"{where}{error.strerror or error}")) from error
        except ValueError as error:
            from gfield.errors import UserError

            if not isinstance(error, UserError):
                raise
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            raise click.ClickException(
                f"{package} is not installed, wanted for this command: pip install 'gfield[{_EXTRAS[package]}]'"
            ) from error
        except Exception as error:
            if not _is_for_want_of_memory(error):
                raise
            raise click.ClickException(
                f"not enough memory ({' '.join(str(error).split()) or type(error).__name__})"
            ) from error


# Packages that whole commands do without where they are not installed, and the extra that brings them.
_EXTRAS = {"torch": "train", "torchvision": "train", "safetensors": "train"}


def _is_for_want_of_memory(error: Exception) -> bool:
    """Whether an error is what Python, one of its threads or OpenCV says when there is no more memory to be had."""
    return isinstance(error, MemoryError) or any(
        said in str(error) for said in ("can't start new thread", "Insufficient memory")
    )


def replace_closed_streams() -> None:
    """Let standard streams that were closed when this process began lead to the null device.

    The first files that are opened would else get their numbers, and whatever is printed to these would go into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _output_is_lost() -> bool:
    """Whether standard output takes no more; what is left for it is then dropped, lest Python end with its error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


class Level(click.ParamType[tuple[int, int]]):
    """A level as ``640x480``, width first."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            width, height = (int(number) for number in value.lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is no level, wanted for example 640x480", param, ctx)
        return width, height


class Part(click.ParamType[tuple[int, int]]):
    """The i-th of N parts, as ``i/N``."""

    name = "i/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            part, parts = (int(number) for number in value.split("/"))
        except ValueError:
            self.fail(f"{value!r} is no part, wanted for example 1/8", param, ctx)
        if parts < 1:
            self.fail(f"{value!r}: there must be 1 part or more", param, ctx)
        if not 1 <= part <= parts:
            self.fail(f"{value!r}: the part must be between 1 and {parts}", param, ctx)
        return part, parts


class Address(click.ParamType[str]):
    """The address of a Dask scheduler, as ``tcp://host:8786``."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from urllib.parse import urlsplit

        text = str(value)
        scheme, separator, rest = text.partition("://")
        if separator and scheme not in _SCHEMES:
            self.fail(f"{text!r} begins with {scheme}://, wanted {_ADDRESS}", param, ctx)
        parts = urlsplit(f"//{rest if separator else text}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or port is None or parts.path or "@" in parts.netloc:
            missing = "has no port" if host and not parts.path and ":" not in parts.netloc else "is no address"
            self.fail(f"{text!r} {missing}, wanted {_ADDRESS}", param, ctx)
        return text
