"""Croissant: gfield export nyu.zarr nyu.json --to croissant && python with_mlcroissant.py nyu.json"""

import sys

import mlcroissant

data = mlcroissant.Dataset(sys.argv[1])
print(data.metadata.name, len(data.metadata.distribution), "files")
for array in data.records("arrays"):
    print(*(array[f"arrays/{fact}"] for fact in ("key", "dtype", "shape", "units")))
for frame in data.records("frames"):
    print(frame["frames/row"], frame["frames/name"], frame["frames/split"], frame["frames/scene"])
