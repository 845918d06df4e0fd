"""The operator as compiled code, where a C compiler was there when the package was installed.

`gfield._edges` (``native/edges.c``) computes what `gfield.field` defines by OpenCV, bit for bit, in half the time.
Without it everything works as well, and gives the same fields. It knows Canny's own norm, ``|I_u| + |I_v|``, only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gfield.frame import Region
from gfield.quads import part_of

try:
    from gfield._edges import edge_field, workspace_bytes
except ImportError:  # no compiler, or a checkout that was never installed
    COMPILED = False
else:
    COMPILED = True


class CompiledPlanes:
    """Working memory of the compiled operator for pictures of one shape and region.

    Parameters
    ----------
    shape_HW
        Rows and columns of the pictures.
    region
        A part of them.

    Attributes
    ----------
    grey_HW
        The region's luminance, uint8, to be written before `write_field` is called.
    """

    def __init__(self, shape_HW: tuple[int, int], region: Region) -> None:
        self._made_for = (shape_HW, region)
        self._shape_HW, self._region = shape_HW, region
        self._height, self._width = region.bottom - region.top, region.right - region.left
        self._padded_HW = np.zeros((self._height + 2, self._width + 2), np.uint8)
        self.grey_HW: npt.NDArray[np.uint8] = self._padded_HW[1:-1, 1:-1]
        self._work = np.zeros(workspace_bytes(self._height, self._width), np.uint8)

    def fit(self, shape_HW: tuple[int, int], region: Region) -> bool:
        """Whether the planes are for such pictures."""
        return self._made_for == (shape_HW, region)

    def write_field(self, low: int, high: int, out_HW: npt.NDArray[np.float16]) -> None:
        """Set ``out_HW`` to the field of ``grey_HW`` in the region, and to zero elsewhere."""
        whole_HW = out_HW if out_HW.flags.c_contiguous else np.empty(self._shape_HW, np.float16)
        if part_of(whole_HW, self._region).shape != whole_HW.shape:
            whole_HW.fill(0)
        columns = self._shape_HW[1]
        first = self._region.top * columns + self._region.left
        edge_field(self._padded_HW, self._height, self._width, whole_HW, first, columns, low, high, self._work)
        if whole_HW is not out_HW:
            out_HW[...] = whole_HW
