"""The packages that a store's bytes depend on, and which versions of them are here."""

from __future__ import annotations

import importlib.metadata

# Named in every store.
NAMED = ("gfield", "numcodecs", "numpy", "opencv-python-headless", "zarr")
# What decides bytes: those, and the decoder of JPEG.
DECIDING = (*NAMED, "simplejpeg")


def version_of(package: str) -> str:
    """The version of a package that is installed here; "" where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
