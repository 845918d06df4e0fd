"""Cell arrays of strings in a MATLAB 7.3 file, as HDF5 shows them: references to arrays of UTF-16 units."""

from __future__ import annotations

import h5py
import numpy as np

from gfield.formats.framebytes import one_line
from gfield.frame import InputError

MAX_TEXTS = 1 << 22
MAX_TEXT = 4096  # letters in a string; NYU's longest is a path of about 60


def read_cells(cells: h5py.Dataset, n: int | None) -> list[str]:
    """The ``n`` strings of a cell array; any number of them where that is None.

    Raises
    ------
    InputError
        Not a cell array of ``n``; or a string that cannot be read, that lies outside the file, or that
        is longer than `MAX_TEXT`.
    """
    variable, file = cells.name.lstrip("/"), cells.file
    if cells.dtype != h5py.ref_dtype or cells.size != (cells.size if n is None else n) or cells.size > MAX_TEXTS:
        seen, wanted = (
            f"{cells.dtype} {cells.shape}",
            "a cell array of " + (f"{n} " if n is not None else "") + "strings",
        )
        raise InputError(f"{file.filename}: '{variable}' is {seen}; {wanted} wanted")
    try:
        return [_text(file.id, reference) for reference in cells[()].ravel()]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{file.filename}: a string of '{variable}': {one_line(error)}") from error


def _text(file: h5py.h5f.FileID, reference: h5py.Reference) -> str:
    """One string, by HDF5's own calls: 4 x 1449 are read at every open, and h5py's comforts would double the time.

    MATLAB keeps an empty string as its shape, in uint64. That, and whatever else is no text, gives "".
    """
    if not reference:
        return ""
    cell = h5py.h5r.dereference(reference, file)
    if not isinstance(cell, h5py.h5d.DatasetID) or not _is_uint16(cell):
        return ""
    if (letters := cell.get_space().get_simple_extent_npoints()) > MAX_TEXT:
        raise ValueError(f"{letters} letters long; at most {MAX_TEXT} wanted")
    # Data with an offset lie in the file, in one piece; only others can be elsewhere.
    if cell.get_offset() is None:
        plist = cell.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
            raise ValueError("its data lie in other files; data in the file itself wanted")
    units = np.empty(letters, "<u2")
    cell.read(h5py.h5s.ALL, h5py.h5s.ALL, units, h5py.h5t.STD_U16LE)
    return units.tobytes().decode("utf-16-le", errors="replace")


def _is_uint16(cell: h5py.h5d.DatasetID) -> bool:
    stored = cell.get_type()
    return bool(stored.equal(h5py.h5t.STD_U16LE) or stored.equal(h5py.h5t.STD_U16BE))
