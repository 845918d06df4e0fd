"""What a page of measurements has to say of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

PACKAGES = ("dask", "h5py", "hypothesis", "numcodecs", "numpy", "opencv-python-headless", "torch", "zarr")


@dataclass(frozen=True)
class Machine:
    """Where and when, and by which chance.

    Attributes
    ----------
    date
        Day of the run, as ISO 8601 has it.
    seed
        Of all campaigns.
    processor, cores, memory_gib
        The hardware.
    system, scratch
        Kernel, and the file system that the campaigns worked on.
    versions
        Of Python and the packages that matter.
    """

    date: str
    seed: int
    processor: str
    cores: int
    memory_gib: int
    system: str
    scratch: str
    versions: dict[str, str] = field(default_factory=dict)


def this_machine(now: datetime, seed: int, scratch: Path | None) -> Machine:
    """Look about."""
    return Machine(
        date=now.date().isoformat(),
        seed=seed,
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release()}",
        scratch=_file_system(scratch or Path("/tmp")),
        versions={"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, by the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above)[1] if above else "unknown"
