"""WebDataset: gfield export nyu.zarr nyu-tar --to webdataset && python with_webdataset.py nyu-tar/train-000000.tar"""

import sys

import webdataset

for frame in webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode("rgb8"):
    field_HW, depth_HW, facts = frame["gradient.npy"], frame["depth.npy"], frame["json"]
    print(facts["name"], frame["rgb.png"].shape, "sums:", field_HW.sum(dtype="f8"), depth_HW.sum(dtype="f8"))
