"""All levels of a store in napari, each array a layer to step through: python with_napari.py nyu.zarr [--no-window]"""

import sys

import dask.array
import napari
import zarr

levels = [name for name in zarr.open_group(sys.argv[1], mode="r").group_keys() if name[0].isdigit()]
levels.sort(key=lambda name: -int(name.split("x")[0]))
viewer = napari.components.ViewerModel() if "--no-window" in sys.argv else napari.Viewer()
for name in ("depth", "gradient", "rgb"):
    pyramid = [dask.array.from_zarr(f"{sys.argv[1]}/{level}/{name}") for level in levels]
    layer = viewer.add_image(pyramid, name=name, rgb=name == "rgb", multiscale=len(levels) > 1)
    print(name, [level.shape for level in layer.data], "sum of frame 0:", layer.data[0][0].sum(dtype="f8").compute())
if "--no-window" not in sys.argv:
    napari.run()
