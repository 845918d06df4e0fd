"""LitData: gfield export nyu.zarr nyu-lit --to litdata && python with_litdata.py nyu-lit/train"""

import sys

import litdata

for frame in litdata.StreamingDataset(sys.argv[1]):
    field_HW, depth_HW = frame["gradient"], frame["depth"]
    print(frame["name"], frame["rgb"].shape, "sums:", field_HW.sum(dtype="f8"), depth_HW.sum(dtype="f8"))
