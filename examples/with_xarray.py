"""A field by xarray, with nothing of ours installed: python with_xarray.py nyu.zarr"""

import sys

import xarray

level = xarray.open_zarr(sys.argv[1], group="640x480")
field_HW = level["gradient"][0].values

print(field_HW.shape, field_HW.dtype, "edge pixels:", (field_HW > 0).sum(), "sum:", field_HW.sum(dtype="f8"))
print(level["gradient"].attrs["long_name"], "| depth in", level["depth"].attrs["units"])
