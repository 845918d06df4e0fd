"""``make soak``: every campaign's long tier, one after the other, and docs/reliability.md from what they saw.

    python -m tests.trust.soak --seed 7

Each campaign is a process of its own and has its share of the time. What came of it is kept in build/soak/NAME.json,
from which ``--page-only`` writes the page again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.trust.campaigns import MODULES
from tests.trust.machine import Machine, this_machine
from tests.trust.page import page
from tests.trust.run import Tally

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "soak"
PAGE = ROOT / "docs" / "reliability.md"
NOT_HERE = 77


@click.command()
@click.option("--seed", type=int, help="What all chance comes from.  [the time]")
@click.option("--minutes", type=float, default=73, show_default=True, help="For all campaigns together.")
@click.option(
    "--only", type=click.Choice([*MODULES]), multiple=True, help="Run these alone; the page keeps the others."
)
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Work in a folder here.")
@click.option("--page-only", is_flag=True, help="Run nothing; write the page from what was kept.")
def main(seed: int | None, minutes: float, only: tuple[str, ...], scratch: Path | None, page_only: bool) -> None:
    """Run all campaigns and write docs/reliability.md."""
    KEPT.mkdir(parents=True, exist_ok=True)
    if not page_only:
        _run_all(only or tuple(MODULES), int(time.time()) if seed is None else seed, minutes, scratch)
    tallies = {name: Tally.from_json(path.read_text()) for name in MODULES if (path := _kept(name)).is_file()}
    machine = Machine(**json.loads((KEPT / "machine.json").read_text()))
    PAGE.write_text(page(tallies, machine))
    click.echo(f"{PAGE.relative_to(ROOT)} is written")
    bad = [name for name in MODULES if name not in tallies or not tallies[name].good]
    click.echo(f"{len(tallies)} campaigns, {sum(tally.done for tally in tallies.values()):,} cases, "
               f"{sum(len(tally.failures) for tally in tallies.values())} wrong")  # fmt: skip
    if bad:
        sys.exit(f"not as wanted: {', '.join(bad)}")


def _run_all(names: tuple[str, ...], seed: int, minutes: float, scratch: Path | None) -> None:
    shares = {name: MODULES[name].minutes for name in names}
    end, began = time.monotonic() + 60 * minutes, datetime.now(UTC)
    scratch = scratch or next((folder for folder in (Path("/dev/shm"),) if os.access(folder, os.W_OK)), None)
    (KEPT / "machine.json").write_text(json.dumps(asdict(this_machine(began, seed, scratch)), indent=2))
    for place, name in enumerate(names):
        left = (end - time.monotonic()) / 60
        share = left * shares[name] / sum(shares[later] for later in names[place:])
        _kept(name).unlink(missing_ok=True)
        click.echo(f"--- {name}, at most {share:.1f} minutes")
        command = [sys.executable, "-m", "tests.trust", name, "--tier", "soak", "--seed", seed, "--minutes", share]
        command += ["--json", _kept(name), *(["--scratch", scratch] if scratch else [])]
        done = subprocess.run([str(word) for word in command], cwd=ROOT, check=False)
        if not _kept(name).is_file() and done.returncode != NOT_HERE:
            click.echo(f"{name} ended with {done.returncode} and nothing to show")


def _kept(name: str) -> Path:
    return KEPT / f"{name}.json"


if __name__ == "__main__":
    main()
