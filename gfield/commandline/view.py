"""`gfield view`. Everything heavy is imported inside it, so that --help is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gfield.commandline.pieces import place_type

if TYPE_CHECKING:
    from gfield.object_path import Location


@click.command(short_help="Look at STORE in a browser.")
@click.argument("store", type=place_type)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of this machine's loopback.  [8800 or the next free]")
@click.option("--source", type=place_type, metavar="PATH", help="What STORE was built from, for the command it prints.")
@click.option("--open/--no-open", "wanted", default=None, help="Open a browser.  [on a desktop's terminal]")
def view(store: Location, port: int | None, source: Location | None, wanted: bool | None) -> None:
    """Look at STORE in a browser: frames, fields and depth side by side, and fields of other thresholds at once.

    Serves a page to this machine alone, until Ctrl-C. From another machine, forward the port, as by
    `ssh -L 8800:127.0.0.1:8800 HOST`, and open the printed address there.
    """
    import webbrowser

    from gfield.errors import printable
    from gfield.view.server import open_server

    with open_server(store, port, source) as server:
        try:
            if not _looks_like_a_store(store):
                server.load()
                _ = server.shown  # which says what is wrong
            click.echo(printable(f"{store}: {server.address}  (Ctrl-C ends it)"))
            sys.stdout.flush()
            # Answers wait for each other, and for what is still being loaded, a tenth of the usual time.
            sys.setswitchinterval(5e-4)
            server.load_meanwhile()
            if wanted if wanted is not None else _on_a_desktop():
                webbrowser.open(server.address)
            server.serve_forever(poll_interval=0.1)
            _ = server.shown  # it was ended, as there is none
        except KeyboardInterrupt:
            click.echo()


def _looks_like_a_store(store: Location) -> bool:
    """Whether there is what a store has, as far as that is told at once; else it is opened before it is shown."""
    return isinstance(store, Path) and (store / "manifest" / "zarr.json").is_file()


def _on_a_desktop() -> bool:
    """Whether a person sits at a terminal beside windows."""
    windows = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.stdout.isatty() and bool(windows)
