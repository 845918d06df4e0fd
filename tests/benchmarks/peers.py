"""Install the peers of the extra ``[bench]`` beside what is there, which stays as it is: ``peers.py``.

Some peers want older NumPy or dateutil than the tests run with, and pip would bring those for them, after minutes of
search. So every distribution is installed by itself, in the newest version that is asked for, and then those that
it needs, unless some version of them is there. A peer that does not work so is named by the figures that miss it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Clients of clouds, which no figure here speaks to.
NOT_NEEDED = {"azure-identity", "azure-storage-blob", "azure-storage-file-datalake", "google-cloud-storage", "oci"}
NOT_NEEDED |= {"paramiko"}
# MosaicML Streaming asks for versions before 5, which refuse to be imported beside today's huggingface_hub.
INSTEAD = {"transformers": "transformers>=5"}
# What each peer is imported as.
MODULES = {
    "datasets": "datasets",
    "kornia": "kornia",
    "litdata": "litdata",
    "matplotlib": "matplotlib",
    "mosaicml-streaming": "streaming",
    "scikit-image": "skimage",
    "webdataset": "webdataset",
}


@functools.cache
def why_absent(peer: str) -> str:
    """Why a peer cannot be imported, in one line; empty where it can. Tried in a process of its own, once."""
    command = [sys.executable, "-c", f"import {MODULES[peer]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]


def absent(*peers: str) -> list[str]:
    """A line of text for each peer that is left out."""
    return [f"{peer} is left out: {why}" for peer in peers if (why := why_absent(peer))]


def name_of(requirement: str) -> str:
    """The normalised name of the distribution that ``Requests[x]>=2 ; …`` asks for."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def needs_of(requirements: list[str]) -> list[str]:
    """Those of a distribution's own; what else stands behind a semicolon is left to pip."""
    return [one for one in requirements if not re.search(r";.*\bextra\b", one)]


def install(requirement: str, there: set[str]) -> None:
    """Install one distribution and what it needs; ``there`` are the names of those that are not to be touched."""
    name = name_of(requirement)
    if name in there | NOT_NEEDED:
        return
    there.add(name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", INSTEAD.get(name, requirement)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{requirement}: not installed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return
    importlib.invalidate_caches()
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return  # a requirement of other systems
    for one in needs_of(needed):
        install(one, there)


def main() -> None:
    """Install all of the extra."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    there = {name_of(one.metadata["Name"]) for one in importlib.metadata.distributions()}
    for requirement in wanted:
        install(requirement, there)


if __name__ == "__main__":
    main()
