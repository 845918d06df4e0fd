"""Hugging Face datasets: gfield export nyu.zarr nyu-hf --to hf && python with_datasets.py nyu-hf"""

import sys

import datasets

data = datasets.load_dataset(sys.argv[1], split="train").with_format("numpy")  # .with_format("torch") for torch
print(data.features["gradient"], data.features["rgb"])
for frame in data:  # numpy's and torch's format widen float16 to float32, and change no value
    field_HW, depth_HW = frame["gradient"].astype("float16"), frame["depth"]
    print(frame["name"], frame["rgb"].shape, "sums:", field_HW.sum(dtype="f8"), depth_HW.sum(dtype="f8"))
