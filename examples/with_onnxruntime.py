"""Depth by ONNX Runtime, without torch: train export RUN --to onnx && python with_onnxruntime.py net.onnx nyu.zarr"""

import sys

import onnxruntime
import zarr

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
_, _, height, width = session.get_inputs()[0].shape
rgb_NHWC = zarr.open_group(sys.argv[2], mode="r")[f"{width}x{height}/rgb"][:2]
(depth_N1HW,) = session.run(["depth_m"], {"rgb": rgb_NHWC.transpose(0, 3, 1, 2).astype("float32") / 255})
for depth_HW in depth_N1HW[:, 0]:
    print(depth_HW.shape, "metres, nearest, mean and farthest:", depth_HW.min(), depth_HW.mean(), depth_HW.max())
