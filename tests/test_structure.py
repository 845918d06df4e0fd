"""The project's frame: imports go one way, light modules stay light, and the version stands in one place.

Directions are checked twice: in the source, following every import to its end, those inside functions too; and in
fresh interpreters, where what third parties load counts as well. Imports for type checkers alone do not count.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gfield
from gfield import chunks, edges

ROOT = Path(__file__).parents[1]
INCLUDES = Path(sysconfig.get_path("include"))
HEAVY = {"cv2", "dask", "distributed", "h5py", "numcodecs", "numpy", "rich", "torch", "torchvision", "zarr"}
DASK = {"dask", "distributed"}
INPUT_OUTPUT = DASK | {"deflate", "h5py", "io", "mmap", "os", "shutil", "simplejpeg", "tempfile", "zarr"}


def module_name(path: Path) -> str:
    """``gfield/sources/nyuv2.py`` is ``gfield.sources.nyuv2``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# A compiled module stands here by its stub, which names what it imports as well: nothing.
FILES = {
    module_name(path): path
    for path in [ROOT / "cli.py", *ROOT.glob("gfield/**/*.py*"), *ROOT.glob("train/**/*.py")]
    if path.suffix in (".py", ".pyi")
}
SOURCES = sorted(name for name in FILES if name.startswith("gfield.sources."))


def only_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_below(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not only_for_type_checkers(child):
            yield from imports_below(child)


@functools.cache
def imported(module: str) -> frozenset[str]:
    """What a module of this project imports, by full names: modules of its own, and names of third parties."""
    found: set[str] = set()
    for node in imports_below(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{module} imports by a relative name, line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
    return frozenset(found)


@functools.cache
def reached(module: str) -> frozenset[str]:
    """All that a module imports, and what that imports, as far as it is part of this project."""
    seen: set[str] = set()
    ahead = [module]
    while ahead:
        for name in imported(ahead.pop()) - seen:
            seen.add(name)
            # Importing gfield.sources.nyuv2 also runs gfield/sources/__init__.py.
            packages = [name.rsplit(".", cut)[0] for cut in range(1, name.count(".") + 1)]
            ahead += [part for part in (name, *packages) if part in FILES]
    return frozenset(seen)


def within(names: frozenset[str], forbidden: set[str]) -> set[str]:
    """Those of ``names`` that are one of the forbidden modules or inside one."""
    return {name for name in names if any(f"{name}.".startswith(f"{module}.") for module in forbidden)}


WRITERS = {
    "gfield.build",
    "gfield.cluster",
    "gfield.folder_build",
    "gfield.shard_task",
    "gfield.staging",
    "gfield.sources",
    *DASK,
}
MUST_NOT_REACH = {
    "gfield.errors": {"gfield"},
    "gfield.frame": {*FILES} - {"gfield", "gfield.errors"},
    "gfield.files": {"gfield"},
    "gfield.field": INPUT_OUTPUT | {"gfield.files", "gfield.spec", "gfield.store", "gfield.sources"},
    "gfield.grmc": INPUT_OUTPUT,
    "gfield.quads": INPUT_OUTPUT,
    "gfield.levels": INPUT_OUTPUT,
    "gfield.pictures": INPUT_OUTPUT,
    "gfield.codec": WRITERS,
    "gfield.spec": WRITERS | {"gfield.store"},
    "gfield.manifest": WRITERS | {"gfield.store"},
    "gfield.shard": WRITERS | {"gfield.store"},
    "gfield.store": WRITERS,
    "gfield.view.routes": WRITERS,
    "gfield.view.server": WRITERS,
    "gfield.contact_sheet": WRITERS | {"gfield.store"},
    "gfield.report.agreement": INPUT_OUTPUT | {"gfield.files", "gfield.store"},
    "gfield.report.page": WRITERS,
    "gfield.webpage": {"gfield"},
    "gfield.thumbnails": WRITERS | {"gfield.store", "zarr"},
    "gfield.exports.export": WRITERS | {"zarr"},
    "gfield.text_column": WRITERS | {"gfield.store", "zarr"},
    "gfield.build": {"gfield.sources", "gfield.sample"},
}


@pytest.mark.parametrize("module", sorted(MUST_NOT_REACH))
def test_a_module_reaches_only_what_lies_before_it(module):
    assert module in FILES, f"a rule names {module}, which is gone: {sorted(FILES)}"
    assert not within(reached(module), MUST_NOT_REACH[module])


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_import_leads_back_to_where_it_began(module):
    seen: set[str] = set()
    ahead = [module]
    while ahead:
        ahead += (found := within(imported(ahead.pop()), set(FILES)) - seen)
        seen |= found
    assert module not in seen


def test_gfield_reaches_neither_torch_nor_train_nor_its_commands():
    for module in (name for name in FILES if name.startswith("gfield")):
        assert not within(reached(module), {"torch", "torchvision", "train", "cli"}), module


def test_gfield_knows_its_own_modules_not_its_public_names():
    """``from gfield import open_store`` inside gfield would hide from the other tests where it leads."""
    for module in (name for name in FILES if name.startswith("gfield")):
        assert "gfield" not in imported(module), module


def test_sources_never_import_each_other_nor_what_builds_on_them():
    kinds = ("densedepth", "images", "make3d", "nyuv2")
    assert {f"gfield.sources.{kind}" for kind in kinds} <= set(SOURCES)
    later = {"gfield.field", "gfield.spec", "gfield.store", *WRITERS} - {"gfield.sources"}
    for module in SOURCES:
        assert not within(reached(module), (set(SOURCES) - {module}) | later), module
    assert not within(imported("gfield.sources"), set(SOURCES)), "sources/__init__.py would import them all"


def test_train_builds_on_the_public_names_alone():
    """And some rooms of it on pieces that both halves share: the command line, the terminal, whole files."""
    shared = {
        "train.cache": {"gfield.chunks"},
        "train.command_options": {"gfield.commandline.pieces"},
        "train.commands": {"gfield.commandline.pieces", "gfield.console"},
        "train.display": {"gfield.console"},
        "train.files": {"gfield.files"},
        "train.report.page": {"gfield.webpage"},
        "train.report.write": {"gfield.console"},
        "train.study.commands": {"gfield.commandline.pieces"},
        "train.study.listing": {"gfield.console"},
        "train.study.page": {"gfield.console"},
        "train.study.run": {"gfield.console"},
        "train.study.style": {"gfield.webpage"},
        "train.study.work": {"gfield.console"},
        "train.training_commands": {"gfield.console"},
    }
    for module in (name for name in FILES if name.split(".")[0] == "train"):
        allowed = shared.get(module, set())
        assert not {name for name in imported(module) if name.startswith("gfield.")} - allowed, module


@pytest.mark.parametrize("module", ["gfield.field", "gfield.grmc", "gfield.quads", "gfield.levels"])
def test_the_operator_opens_no_file(module):
    calls = {
        ast.unparse(node.func).split(".")[-1]
        for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"fromfile", "imread", "imwrite", "load", "memmap", "open", "print", "save", "savez", "tofile"}


def loaded_after(statement: str) -> set[str]:
    """Top-level names of all modules in a fresh interpreter that ran ``statement``."""
    report = "import json, sys; print(json.dumps([*sys.modules]), file=sys.stderr)"
    command = [sys.executable, "-c", f"{statement}\n{report}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stderr)}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import gfield", set()),
        ("import gfield; dir(gfield); gfield.__version__", set()),
        ("import cli", set()),
        ("import cli; cli.gfield(['build', 'nyu', '--help'], standalone_mode=False)", set()),
        ("import cli; cli.train(['pretrain', '--help'], standalone_mode=False)", set()),
        ("import gfield.frame", {"numpy"}),
        ("import gfield.field", {"numpy", "cv2"}),
        ("import gfield; gfield.open_store", {"numpy", "numcodecs"}),
        ("import gfield; gfield.open_images, gfield.open_densedepth", {"numpy", "cv2"}),
        ("import gfield; gfield.open_nyuv2, gfield.open_make3d", HEAVY - DASK - {"torch", "torchvision", "rich"}),
        ("import gfield; [getattr(gfield, name) for name in gfield.__all__]", HEAVY - {"torch", "torchvision"}),
    ],
)  # fmt: skip
def test_an_import_loads_no_more_than_it_needs(statement, allowed):
    assert loaded_after(statement) & HEAVY <= allowed


def test_reading_a_store_loads_neither_dask_nor_the_build(nyu_mat, tmp_path):
    source = gfield.open_nyuv2(nyu_mat)
    gfield.build_store(source, tmp_path / "nyu.zarr", gfield.make_spec(source, levels_WH=[(320, 240)]))
    statement = (
        "import gfield, pathlib, sys\n"
        f"store = gfield.open_store(pathlib.Path({str(tmp_path / 'nyu.zarr')!r}))\n"
        "assert store.read('320x240/gradient', store.rows('test')).any()\n"
        f"assert not {{*sys.modules}} & { ({*WRITERS, 'gfield.field'} - DASK)!r}"
    )
    assert not loaded_after(statement) & (DASK | {"torch", "torchvision", "h5py", "cv2", "zarr"})


def test_a_build_on_threads_loads_neither_distributed_nor_zarr(nyu_mat, tmp_path):
    """Each takes longer to load than to read, plan and publish a small store takes."""
    command = ["build", "nyu", str(nyu_mat), str(tmp_path / "nyu.zarr"), "--level", "320x240"]
    loaded = loaded_after(f"import cli; cli.gfield({command!r}, standalone_mode=False)")
    assert loaded & {"dask", "distributed", "torch", "zarr"} == {"dask"}


@pytest.mark.parametrize(
    ("path", "line", "refused"),
    [
        ("gfield/new.py", "import torch", True),
        ("gfield/new.py", "from torch.nn import functional", True),
        ("gfield/new.py", "from train import views", True),
        ("gfield/new.py", "import dask.array", True),
        ("gfield/new.py", "from gfield.build import build_store", True),
        ("gfield/sources/new.py", "from gfield.sources.nyuv2 import open_nyuv2", True),
        ("gfield/new.py", "from gfield.store import open_store", False),
        ("gfield/cluster/dispatch.py", "import dask", False),
        ("train/new.py", "import torch", False),
    ],
)
def test_ruff_holds_the_same_directions(path, line, refused):
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID", "--stdin-filename", path, "-"]
    done = subprocess.run(command, input=f"{line}\n", cwd=ROOT, capture_output=True, text=True, check=False)
    assert ("TID251" in done.stdout) == refused, done.stdout + done.stderr
    assert done.returncode == int(refused)


def project() -> dict:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def test_the_version_stands_in_pyproject_alone():
    version = project()["project"]["version"]
    assert gfield.__version__ == importlib.metadata.version("gfield") == version, "installed anew since it changed?"
    for path in FILES.values():
        assert not re.search(rf"['\"]{re.escape(version)}['\"]", path.read_text(encoding="utf-8")), path


def test_every_package_is_installed():
    packages = {name for name, path in FILES.items() if path.name == "__init__.py"}
    assert packages == set(project()["tool"]["setuptools"]["packages"])
    folders = {module_name(path.parent / "__init__.py") for path in FILES.values() if path.parent != ROOT}
    assert folders == packages, "a folder of modules wants an __init__.py"


def test_public_names_are_listed_once_in_order_and_lead_somewhere():
    assert len(set(gfield.__all__)) == len(gfield.__all__)
    assert sorted(gfield.__all__) == sorted({*gfield._HOMES, "__version__"})
    for name in gfield.__all__:
        assert getattr(gfield, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gfield.nothing


def test_the_frame_of_the_project_is_there():
    names = "CHANGELOG.md CONTRIBUTING.md LICENSE Makefile README.md data/README.md gfield/py.typed"
    for name in names.split():
        assert (ROOT / name).is_file(), name
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "Copyright 2026 the gfield authors" in licence
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.skipif(
    not (shutil.which(str(sysconfig.get_config_var("CC")).split()[0]) and (INCLUDES / "Python.h").is_file()),
    reason="no C compiler, or no headers of Python",
)
def test_what_can_be_compiled_is():
    """Installation goes on where compiling fails, and the tests of compiled code are then left out."""
    assert edges.COMPILED, "installed anew since gfield/native changed?"
    assert chunks.COMPILED or platform.machine() != "x86_64", "installed anew since gfield/native changed?"


def test_every_file_of_the_compiled_code_is_named_where_it_is_built():
    """A header that is not would be missing from a source distribution."""
    modules = project()["tool"]["setuptools"]["ext-modules"]
    named = [file for module in modules for file in [*module["sources"], *module.get("depends", [])]]
    assert sorted(named) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("gfield/native/*"))
