"""Code blocks of the documentation: found, run, and what they print compared with what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SNIPPET = '--8<-- "'
_TIME = re.compile(r"\b[\d.]+ (ms|s|min|h)\b|\b\d+ frames/s")
_HASH = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{8}(?=\.json)")
_NUMBER = re.compile(r"\d*\.\d+|\b\d+(?= [kMG]?B\b)")
_EXIT = re.compile(r"# exit code (\d+)$")


class Block(NamedTuple):
    """A fenced block: language, its title or "", text, and the line that it begins at."""

    language: str
    title: str
    text: str
    line: int


class Step(NamedTuple):
    """A command of a console block, the exit code that it is to have, and what it prints, as far as the page says."""

    command: str
    code: int
    printed: list[str]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page but those that only take in a file, or are not to be run (``test="skip"``)."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        info, body = match["info"].strip(), match["body"]
        if body.startswith(_SNIPPET) or 'test="skip"' in info:
            continue
        title = re.search(r'title="([^"]*)"', info)
        language = info.split(" ")[0]
        found.append(Block(language, title[1] if title else "", body, text.count("\n", 0, match.start()) + 1))
    return found


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block, each a line that begins with ``$``."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *printed = part.rstrip("\n").split("\n")
        code = _EXIT.search(command)
        yield Step(command, int(code[1]) if code else 0, printed)


def run_step(step: Step, folder: Path) -> str:
    """Run a command in a shell in ``folder``, by this checkout's code; checks its exit code, gives what it printed."""
    commands = folder / ".commands"
    if not commands.is_dir():
        commands.mkdir()
        for name, start in (("gfield", "-m gfield"), ("train", "-m train"), ("python", "")):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",  # networks this small are done sooner, most of all on a busy machine
    }
    done = subprocess.run(
        ["bash", "-c", step.command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == step.code, f"$ {step.command}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def check_printed(step: Step, printed: str, tolerance: float) -> None:
    """Whether a command printed what the page says, from the first line on.

    Times, rates and hashes may be any; sizes and other numbers with a point may differ by the share ``tolerance``,
    since they depend on versions of codecs and on how a processor rounds; all else is to be the same.
    """
    seen = printed.rstrip("\n").split("\n")[: len(step.printed)]
    assert [_plain(line) for line in seen] == [_plain(line) for line in step.printed], f"$ {step.command}"
    for ours, theirs in zip(step.printed, seen, strict=True):
        for wanted, found in zip(_numbers(ours), _numbers(theirs), strict=True):
            assert abs(found - wanted) <= tolerance * max(wanted, found), (
                f"$ {step.command}\n{theirs}\nthe page: {ours}"
            )


def _steady(line: str) -> str:
    return _HASH.sub("HASH", _TIME.sub("TIME", line.rstrip()))


def _plain(line: str) -> str:
    return " ".join(_NUMBER.sub("NUMBER", _steady(line)).split())


def _numbers(line: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(_steady(line))]
