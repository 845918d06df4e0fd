"""The tutorial, run as it stands: every command, and what it prints. So is the page on resuming and repairing."""

from __future__ import annotations

from pathlib import Path

import pytest

from .documents import ROOT, Block, blocks, check_printed, run_step, steps

DOCS = ROOT / "docs"
TUTORIAL = blocks(DOCS / "tutorial.md")
PICTURES = [block.title for block in TUTORIAL].index("study.toml")  # from there on it trains


def follow(some: list[Block], folder: Path, tolerance: float = 0.1) -> None:
    """Do what a reader would: write files that have a title, run what begins with ``$``."""
    for block in some:
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for step in steps(block):
                check_printed(step, run_step(step, folder), tolerance)


def test_the_tutorial_up_to_a_store_that_is_right(tmp_path):
    follow(TUTORIAL[:PICTURES], tmp_path)
    assert (tmp_path / "nyu.zarr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole_tutorial(tmp_path):
    """What training gives depends on the processor: scores may be any, words and layout may not."""
    follow(TUTORIAL[:PICTURES], tmp_path)
    follow(TUTORIAL[PICTURES:], tmp_path, tolerance=1.0)
    for name in ("study/report/index.html", "room-depth.png", "room-depth-colour.png", "room-depth.npy"):
        assert (tmp_path / name).is_file(), name


def test_resuming_and_repairing(nyu_mat, tmp_path):
    for file in nyu_mat.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    follow(blocks(DOCS / "howto" / "resume-repair.md"), tmp_path)


def test_a_page_that_tells_something_else_is_found_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 12 frames, 3.0 MB in 0.4 s\n12 frames, 3.1 MB in 9.0 s\n```\n", "utf-8")
    follow(blocks(page), tmp_path)
    for wrong in ("13 frames, 3.0 MB in 0.4 s", "12 frames, 4.0 MB in 0.4 s", "12 frames"):
        page.write_text(f"```console\n$ echo 12 frames, 3.0 MB in 0.4 s\n{wrong}\n```\n", "utf-8")
        with pytest.raises(AssertionError):
            follow(blocks(page), tmp_path)
    page.write_text("```console\n$ false\n```\n", "utf-8")
    with pytest.raises(AssertionError):
        follow(blocks(page), tmp_path)
