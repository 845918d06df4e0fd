"""The site's navigation: pages in this order, and whatever how-to pages there are.

A hook of MkDocs, which itself takes either a fixed list or the alphabet. A page in no section is a warning, and so an
error of `make docs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

START = [{"Home": "index.md"}, "tutorial.md", "installation.md", "data.md", "real-data.md"]
FIRST = ["howto/own-data.md", "howto/reuse-fields.md", "howto/resume-repair.md"]  # the other how-to pages follow
TRAINING = ["training.md", "study.md", "study/findings.md", "study/labels.md", "study/methods.md", "study/defects.md"]
REFERENCE = ["format.md", "reference/gfield.md", "reference/train.md", "reference/commands.md"]
EVIDENCE = ["figures.md", "performance.md", "experiments.md", "reliability.md", "security.md", "alternatives.md"]
PROJECT = ["contributing.md", "changelog.md"]


def on_config(config: Any) -> Any:
    """Put the navigation into MkDocs's configuration."""
    docs = Path(config["docs_dir"])
    found = sorted(page.relative_to(docs).as_posix() for page in docs.glob("howto/*.md"))
    config["nav"] = [
        *START,
        {"How to": FIRST + [page for page in found if page not in FIRST]},
        {"Training": TRAINING},
        {"Reference": REFERENCE},
        {"What it can be held to": EVIDENCE},
        {"Project": PROJECT},
    ]
    return config
