"""How the paper's released code reads its training pairs, written again from its facts.

It keeps JPEG files, decodes one a sample with Pillow, computes the field of every picture again in every epoch (two
8-bit Sobel filters and Canny on the colour picture), and lets two worker processes of a DataLoader do so. Its crops
and its conversion to float are left out here, as they are out of what it is compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from plain_script import field_of
from torch.utils.data import DataLoader, Dataset

from gfield import open_store

JPEG_QUALITY = 95


def write_jpegs(store: Path, folder: Path) -> None:
    """The store's pictures as the released code has them on disk."""
    folder.mkdir()
    opened = open_store(store)
    for row in range(len(opened)):
        rgb_HWC = opened.read("640x480/rgb", [row])[0]
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        cv2.imwrite(str(folder / f"{row:06}.jpg"), cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR), quality)


class ReleasedPairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Picture and field of every JPEG of a folder."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode, filter."""
        with Image.open(self._files[index]) as picture:
            rgb_HWC = np.array(picture)
        return torch.from_numpy(rgb_HWC), torch.from_numpy(field_of(rgb_HWC))


def released_loader(folder: Path, batch: int) -> DataLoader[Any]:
    """The loader, with workers that stay from epoch to epoch."""
    return DataLoader(
        ReleasedPairs(folder), batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
