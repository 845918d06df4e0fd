"""Environments of Python that differ from this one in a package, real ones: folders that a process imports from."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Without the site's packages, which then come from PYTHONPATH alone.
PYTHON_WITHOUT = (sys.executable, "-S")


def without(folder: Path, *packages: str) -> dict[str, str]:
    """Variables with which `PYTHON_WITHOUT` has all packages of this environment but some, by links in ``folder``.

    Parameters
    ----------
    folder
        To be made.
    packages
        Names of modules, which are those of their distributions too but for dashes.
    """
    folder.mkdir()
    for place in {Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}:
        for entry in place.iterdir():
            name = re.split(r"-\d|\.py", entry.name.removeprefix("__editable__").strip("_."))[0].replace("-", "_")
            if name not in packages and entry.suffix != ".pth" and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    paths = [folder] if "gfield" in packages else [ROOT, folder]
    return {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def with_version(folder: Path, package: str, version: str) -> dict[str, str]:
    """Variables with which a process has another version of a package, as far as its metadata tells."""
    information = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    assert importlib.metadata.version(package) != version
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
