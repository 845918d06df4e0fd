"""Fields of many frames, read side by side by TensorStore: python with_tensorstore.py nyu.zarr"""

import os
import sys

import tensorstore

place = {"driver": "file", "path": os.path.abspath(f"{sys.argv[1]}/640x480/gradient")}
fields = tensorstore.open({"driver": "zarr3", "kvstore": place}, read=True).result()
waiting = [fields[row].read() for row in range(4)]
for row, future in enumerate(waiting):
    field_HW = future.result()
    print(row, field_HW.shape, field_HW.dtype, "edge pixels:", (field_HW > 0).sum(), "sum:", field_HW.sum(dtype="f8"))
