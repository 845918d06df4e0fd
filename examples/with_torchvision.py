"""torchvision: train export RUN --to torchvision && python with_torchvision.py resnet18.pth nyu.zarr"""

import sys

import torch
import torchvision
import zarr

model = torchvision.models.resnet18(weights=None).eval()
model.fc = torch.nn.Identity()  # the encoder comes without a classifier
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
rgb_NHWC = torch.from_numpy(zarr.open_group(sys.argv[2], mode="r")["160x120/rgb"][:2])
features_NC = model(rgb_NHWC.permute(0, 3, 1, 2) / 255).detach()
print(tuple(features_NC.shape), features_NC.norm(dim=1).tolist(), features_NC[:, 7].tolist())
