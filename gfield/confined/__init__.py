"""Parsers of foreign files, for a process that may crash: `gfield.confine` starts it and calls them.

Each module holds functions that take keyword arguments, the bytes to parse where they parse bytes, and ``what`` to
name in errors; they return plain values and arrays (`Result`), or raise `InputError`.
"""

from __future__ import annotations

# Name of a call -> module of this package, function in it.
CALLS = {
    "hdf5": ("hdf5", "look_into"),
    "hdf5 frames": ("hdf5", "read_rows"),
    "jpeg": ("jpeg", "decode"),
    "jpeg size": ("jpeg", "size"),
    "png": ("png", "decode"),
}
