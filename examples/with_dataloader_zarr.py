"""Frames in a plain DataLoader, by zarr-python and nothing of ours: python with_dataloader_zarr.py nyu.zarr"""

import sys

import zarr
from torch.utils.data import DataLoader, Dataset


class Frames(Dataset):
    def __init__(self, path):
        splits = zarr.open_group(path, mode="r")["split"][:]
        self.path, self.rows = path, [row for row, split in enumerate(splits) if split == "train"]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        level = zarr.open_group(self.path, mode="r")["640x480"]  # opened by the worker that reads
        return row, level["rgb"][row], level["gradient"][row]


if __name__ == "__main__":  # zarr has threads, which do not outlive a fork: spawn
    for rows, rgb_NHWC, field_NHW in DataLoader(Frames(sys.argv[1]), 2, num_workers=2, multiprocessing_context="spawn"):
        print(rows.tolist(), tuple(rgb_NHWC.shape), field_NHW.double().sum((1, 2)).tolist())
