"""What decides how a run's sums are rounded, so that a run that goes on elsewhere rounds as it did, or says so.

Floating-point sums depend on how they are cut into parts, and torch cuts by its number of threads. A job that is
requeued with another OMP_NUM_THREADS, or on a node with more processors, would end with other weights.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

_PACKAGES = ("gfield", "torch", "torchvision", "numpy")


def arithmetic() -> dict[str, Any]:
    """Versions, threads of torch and instruction set of this process, as ``meta.json`` keeps them."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "compute_threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def compute_as_begun(begun: Mapping[str, Any], device: torch.device, say: Callable[[str], None]) -> None:
    """Give torch the number of threads that the run began with, and say what else is not as it was.

    Parameters
    ----------
    begun
        The run's ``meta.json``.
    device
        Where it goes on. Threads decide on the CPU alone.
    say
        Is told, in one line, what will make bits differ from those of a run that was never interrupted.
    """
    if device.type == "cpu":
        # Also where the number is right: a call pins it, and MKL may no longer choose a smaller one by itself.
        torch.set_num_threads(begun["compute_threads"])
    now = arithmetic()
    was = begun["versions"]
    differ = [f"{name} {was[name]}, now {seen}" for name, seen in now["versions"].items() if was[name] != seen]
    if device.type == "cpu" and begun["instructions"] != now["instructions"]:
        differ.append(f"a processor with {begun['instructions']}, now {now['instructions']}")
    if differ:
        say(f"the run began with {'; '.join(differ)}: it goes on, but not bit for bit as it would have there")
