"""timm: train export RUN --to timm && python with_timm.py resnet18-timm.safetensors nyu.zarr"""

import sys

import timm
import torch
import zarr

model = timm.create_model("resnet18", num_classes=0, checkpoint_path=sys.argv[1]).eval()
rgb_NHWC = torch.from_numpy(zarr.open_group(sys.argv[2], mode="r")["160x120/rgb"][:2])
features_NC = model(rgb_NHWC.permute(0, 3, 1, 2) / 255).detach()
print(tuple(features_NC.shape), features_NC.norm(dim=1).tolist(), features_NC[:, 7].tolist())
