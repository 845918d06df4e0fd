"""Checked frames in a plain DataLoader, by our data set: python with_dataloader.py nyu.zarr"""

import sys

from torch.utils.data import DataLoader

from train.dataset import FrameDataset

if __name__ == "__main__":
    data = FrameDataset([sys.argv[1]], arrays=("rgb", "gradient"), size_WH=(640, 480), split="train")
    loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=2)  # by any start method
    for batch in loader:
        print(batch["index"].tolist(), tuple(batch["rgb"].shape), batch["gradient"].double().sum((1, 2)).tolist())
