"""Where decoded frames are kept between epochs: on the device, in this process's memory, or nowhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import torch

from train.frames import Frames

CacheMode = Literal["auto", "device", "host", "none"]
_DEVICE_SHARE, _HOST_SHARE = 0.4, 0.5


def choose_cache(mode: CacheMode, frames: Frames, device: torch.device) -> tuple[CacheMode, str]:
    """The place for a list of frames, and the reason in words.

    ``"auto"`` takes the device if it is CUDA and 40 % of its free memory suffice, else this process's memory if half
    of what may be had suffices (shared among the ranks of this machine), else none.
    """
    wanted = len(frames) * frames.frame_bytes
    size = f"{wanted / 1e9:.2g} GB decoded"
    if mode != "auto":
        return mode, f"{size}, as asked for"
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if wanted <= _DEVICE_SHARE * free:
            return "device", f"{size} of {free / 1e9:.3g} GB free on {device}"
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = available_memory() // ranks_here
    if wanted <= _HOST_SHARE * free:
        return "host", f"{size} of {free / 1e9:.3g} GB free"
    return "none", f"{size} are more than half of {free / 1e9:.3g} GB free"


def available_memory() -> int:
    """Bytes that this process may still take: the least of what the machine, its control group and its limits leave."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (match := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        found.append(int(match[1]) * 1024)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue  # no such group, or "max"
    return max(0, min(found))
