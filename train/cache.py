"""Where decoded frames are kept between epochs: on the device, in this process's memory, or nowhere."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gfield.chunks import take_frames
from train.errors import TrainError
from train.frames import Array, Frames, Index

CacheMode = Literal["auto", "device", "host", "none"]
_DEVICE_SHARE, _HOST_SHARE = 0.4, 0.5
_PIECE = 8  # frames that a thread decodes at a time


def choose_cache(mode: CacheMode, frames: Frames, device: torch.device) -> tuple[CacheMode, str]:
    """The place for a list of frames, and the reason in words.

    ``"auto"`` takes the device if it is CUDA and 40 % of its free memory suffice, else this process's memory if half
    of what may be had suffices (shared among the ranks of this machine), else none.

    Raises
    ------
    TrainError
        If the place that is asked for has no room for the frames.
    """
    wanted = len(frames) * frames.frame_bytes
    size, asked = f"{wanted / 1e9:.3g} GB decoded", "as asked for"
    if mode == "none":
        return "none", asked
    on_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    on_host = available_memory() // ranks_on_this_machine()
    if mode == "device" and device.type != "cuda":
        mode, asked = "host", f"the memory of {device} is this process's"
    if mode in ("device", "host"):
        free, place = (on_device, str(device)) if mode == "device" else (on_host, "this process")
        if wanted > free:
            raise TrainError(f"--cache {mode}: {size}, {place} has {free / 1e9:.3g} GB free; wanted --cache none")
        return mode, f"{size}, {asked}"
    if on_device and wanted <= _DEVICE_SHARE * on_device:
        return "device", f"{size}, {on_device / 1e9:.3g} GB free on {device}"
    if wanted <= _HOST_SHARE * on_host:
        return "host", f"{size}, {on_host / 1e9:.3g} GB free"
    return "none", f"{size}, more than half of {on_host / 1e9:.3g} GB free"


class HostCache:
    """Frames in this process's memory, each decoded when it is first asked for, so that the first batch is there soon.

    Parameters
    ----------
    frames
        What is read, and for how many there is to be room.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._kept = {name: frames.empty(name, len(frames)) for name in frames.names}
        self._there = {name: np.zeros(len(frames), np.bool_) for name in frames.names}

    def read(self, name: str, index_N: Index, out: Array) -> None:
        """As `Frames.read`, from any number of threads."""
        kept, there = self._kept[name], self._there[name]
        missing_N = np.flatnonzero(~there[index_N]).tolist()
        for place in missing_N:
            # Decoded into what is this thread's own, and copied from there: a thread that decodes the same frame at
            # the same time then writes the bytes that are there already, and nobody sees a frame half-way.
            self._frames.read(name, index_N[place : place + 1], out[place : place + 1])
            kept[index_N[place]] = out[place]
            there[index_N[place]] = True
        if len(missing_N) < len(index_N):
            take_frames(kept, index_N, out)


def fill_device(frames: Frames, device: torch.device, pool: ThreadPoolExecutor) -> dict[str, torch.Tensor]:
    """Decode every frame once onto the device, by name, with no second copy of all of them on the host."""
    kept: dict[str, torch.Tensor] = {}
    for name in frames.names:
        dtype = torch.from_numpy(frames.empty(name, 0)).dtype
        kept[name] = torch.empty((len(frames), *frames.frame_shape(name)), dtype=dtype, device=device)

    def read(piece: range) -> None:
        for name, tensor in kept.items():
            block = frames.empty(name, len(piece))
            frames.read(name, piece, block)
            tensor[piece.start : piece.stop].copy_(torch.from_numpy(block))

    pieces = (range(start, min(start + _PIECE, len(frames))) for start in range(0, len(frames), _PIECE))
    for _ in pool.map(read, pieces):
        pass
    return kept


def ranks_on_this_machine() -> int:
    """Processes of this run that share the machine, as torchrun tells them."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: the least of what the machine, its control groups and its limits leave.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are; without them, as on macOS, all of the machine's memory is taken for free.
    """
    return max(0, min([*_machine(root), *_control_groups(root), *_address_space(root)]))


def _machine(root: Path) -> Iterator[int]:
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    if match:
        yield int(match[1]) * 1024


def _control_groups(root: Path) -> Iterator[int]:
    """What every group around this process leaves: the limit less what is used, files that can be dropped aside."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mount, limit, used = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = mount / path.lstrip("/")
        # In a container the path may be the host's: then no such folder is there, and the mount itself is the group.
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(mount))):
            found = _text(folder / limit), _text(folder / used)
            if all(text.strip().isdigit() for text in found):
                yield int(found[0]) - int(found[1]) + _droppable(_text(folder / "memory.stat"))


def _droppable(stat: str) -> int:
    """Bytes of cached files in a memory.stat; version 1 tells those of the groups inside by names of their own."""
    values = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    return sum(int(values.get(f"total_{name}", values.get(name, 0))) for name in ("active_file", "inactive_file"))


def _address_space(root: Path) -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(root / "proc/self/statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _text(path: Path) -> str:
    """A file's text; "" if it cannot be read, as much of /proc and /sys may be."""
    try:
        return path.read_text()
    except OSError:
        return ""
