"""Hostile study files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.small_studies import STUDY
from tests.trust.hostile.kit import Arguments, Hostile, Kit


def _study(*changes: tuple[str, str], add: str = "") -> Callable[[Kit, Path, Path], Arguments]:
    """The study of the tests with some texts in the place of others."""

    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        text = STUDY.replace("STORE", str(kit.store))
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / "s.toml").write_text(add + text)
        return ["train", "study", folder / "s.toml", "--out", folder / "out"]

    return make


def _bytes(data: bytes) -> Callable[[Kit, Path, Path], Arguments]:
    def make(kit: Kit, folder: Path, outside: Path) -> Arguments:
        (folder / "s.toml").write_bytes(data)
        return ["train", "study", folder / "s.toml", "--out", folder / "out"]

    return make


def _device(kit: Kit, folder: Path, outside: Path) -> Arguments:
    (folder / "s.toml").symlink_to("/dev/zero")
    return ["train", "study", folder / "s.toml", "--out", folder / "out"]


_NAMES = "[" + ", ".join(f'"{n}%"' for n in range(1, 101)) + "]"
_SEEDS = "[" + ", ".join(map(str, range(9_999))) + "]"
_SAID = ["s.toml"]
STUDIES = {
    "a grid of a million cells": Hostile(
        _study(("seeds = [0]", f"seeds = {_SEEDS}"), ('labels = ["50%"]', f"labels = {_NAMES}")), [*_SAID, "cells"]
    ),
    "a million seeds": Hostile(_study(("seeds = [0]", f"seeds = [{'1,' * 300_000}]")), [*_SAID, "entries"]),
    "a seed of 80,000 bits": Hostile(_study(("seeds = [0]", f"seeds = [0x{'F' * 20_000}]")), [*_SAID, "bits"]),
    "a name of 80,000 bits": Hostile(_study(('name = "Two rows"', f"name = 0x{'F' * 20_000}")), [*_SAID, "bits"]),
    "10,000 digits": Hostile(_study(("seeds = [0]", f"seeds = [{'9' * 10_000}]")), [*_SAID, "not TOML"]),
    "lists 100,000 deep": Hostile(_study(("seeds = [0]", f"seeds = {'[' * 100_000}")), [*_SAID, "not TOML"]),
    "a key of 100,000 parts": Hostile(_study(add=".".join("a" * 100_000) + " = 1\n"), [*_SAID, "dots"]),
    "a table of 100,000 parts": Hostile(_bytes(b"[" + b".".join([b"a"] * 100_000) + b"]\n"), [*_SAID, "dots"]),
    "a key of a megabyte": Hostile(_study(add="a" * 1_000_000 + " = 1\n"), [*_SAID, "letters"]),
    "an unknown key for terminals": Hostile(_study(add='"\\u001B[2J\\n" = 1\n'), [*_SAID, "unknown"]),
    "a method for terminals": Hostile(_study(("[method.gradient-moco]", '[method."\\u001B[2J"]')), [*_SAID, "read"]),
    "a store's path with NUL": Hostile(_study(('[stores]\nrooms = "', '[stores]\nrooms = "\\u0000')), [*_SAID, "path"]),
    "infinite steps": Hostile(_study(("steps = 2\n", "steps = inf\n")), [*_SAID, "inf"]),
    "nan for a temperature": Hostile(_study(("temperature = 0.2", "temperature = nan")), [*_SAID, "nan"]),
    "no TOML": Hostile(_bytes(b"\xff\xfe\0\x1b[2J\n" * 999), [*_SAID, "not TOML"]),
    "/dev/zero": Hostile(_device, [*_SAID, "bytes"]),
}
