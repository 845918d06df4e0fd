"""What a network was shown, as one picture for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch


def sheet(*rows_N3HW: torch.Tensor, most: int = 4) -> npt.NDArray[np.uint8]:
    """Images side by side, one row of them under the other.

    Parameters
    ----------
    rows_N3HW
        Images in [0, 1], all of one size and number.
    most
        How many of each row are shown.

    Returns
    -------
    ndarray
        (rows * H, N * W, 3) uint8 RGB.
    """
    sheet_3HW = torch.cat([torch.cat(list(row_N3HW[:most]), -1) for row_N3HW in rows_N3HW], -2)
    sheet_HWC: npt.NDArray[np.uint8] = (sheet_3HW * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return sheet_HWC
