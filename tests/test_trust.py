"""A few cases of every campaign of `tests.trust`; ``make soak`` runs the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .trust.campaigns import MODULES

NOT_HERE = 77  # as in tests/trust/__main__.py, whose imports are the campaigns' own

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", MODULES)
def test_what_must_hold_does(name, tmp_path):
    command = [sys.executable, "-m", "tests.trust", name, "--tier", "quick", "--scratch", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode == NOT_HERE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
