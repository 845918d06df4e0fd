"""Hashes of what zarr-python reads from stores, whichever version is found; and of what the package reads."""

from __future__ import annotations

import json

import click
import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gfield.store import open_store

_COLUMNS = ("name", "split", "scene", "scene_type")


def hashes_by_us(store: str | object) -> dict[str, str]:
    """By the package's own reader."""
    opened = open_store(str(store))
    found = {key: _hash(opened.read(key, range(len(opened)))) for key in opened.arrays}
    return found | {column: _hash_texts(opened.text(column).tolist()) for column in _COLUMNS}


def hashes_by_zarr(store: str) -> dict[str, str]:
    """By zarr-python."""
    import zarr

    group = zarr.open_group(store, mode="r")
    found = {key: _hash(np.asarray(group[key][:])) for key in open_store(store).arrays}
    return found | {column: _hash_texts(list(group[column][:])) for column in _COLUMNS}


def _hash(array: npt.NDArray[np.generic]) -> str:
    return blake3(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest(length=8)


def _hash_texts(texts: list[str]) -> str:
    return blake3(json.dumps([str(text) for text in texts]).encode()).hexdigest(length=8)


@click.command()
@click.argument("stores", nargs=-1)
def main(stores: tuple[str, ...]) -> None:
    """Print zarr's version, and hashes by store and array, as JSON."""
    import zarr

    click.echo(json.dumps({"zarr": zarr.__version__, "stores": {store: hashes_by_zarr(store) for store in stores}}))


if __name__ == "__main__":
    main()
