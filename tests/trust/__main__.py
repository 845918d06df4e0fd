"""``python -m tests.trust NAME``: run one campaign, print what came of it, end with 0 if all held."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from tests.trust.campaign import TIERS, NotHere
from tests.trust.campaigns import MODULES, PRELOADED, campaign
from tests.trust.run import Tally, run_campaign
from tests.trust.shim import preload

NOT_HERE = 77  # exit status, the one by which automake's tests say so


@click.command()
@click.argument("name", type=click.Choice([*MODULES]))
@click.option("--tier", type=click.Choice(TIERS), default="quick", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--case", type=int, help="Run this case alone.")
@click.option("--processes", type=click.IntRange(1), default=len(os.sched_getaffinity(0)), show_default=True)
@click.option("--minutes", type=float, default=float("inf"), help="Begin no case later.")
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Work in a folder here.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Keep what came of it in this file.")
def main(
    name: str,
    tier: str,
    seed: int,
    case: int | None,
    processes: int,
    minutes: float,
    scratch: Path | None,
    to: Path | None,
) -> None:
    """Run a campaign, or one case of it."""
    if name in PRELOADED:
        try:
            preload()
        except NotHere as reason:
            click.echo(f"{name}: {reason}")
            sys.exit(NOT_HERE)
    # No error of a removal may hide what the campaign has to say; what is left lies in a temporary folder.
    with tempfile.TemporaryDirectory(prefix="trust-", dir=scratch, ignore_cleanup_errors=True) as folder:
        tally = run_campaign(
            campaign(name), Path(folder), tier=tier, seed=seed, processes=processes, minutes=minutes, case=case
        )
    print_tally(tally)
    if to is not None:
        to.write_text(tally.to_json())
    sys.exit(0 if tally.good else 1)


def print_tally(tally: Tally) -> None:
    """Say what came of a campaign."""
    click.echo(f"{tally.name}: {tally.done} of {tally.wanted} cases in {tally.seconds:.0f} s, seed {tally.seed}, "
               f"{len(tally.failures)} wrong")  # fmt: skip
    for outcome, count in tally.outcomes.most_common():
        click.echo(f"  {count:6} {outcome}")
    for failure in tally.failures:
        click.echo(f"  WRONG {failure}")


if __name__ == "__main__":
    main()
