"""docs/reliability.md from what the campaigns saw."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.trust.campaigns import MODULES, campaign
from tests.trust.machine import Machine
from tests.trust.run import Tally

_INTRODUCTION = """\
# Reliability

Written by `make soak` from what it saw: {cases:,} cases in {minutes:.0f} minutes, {wrong} wrong, seed {seed},
on {date}.

{machine}

After each build the store's manifest root hash has to equal the uninterrupted run's; after each training run, on the
CPU, every tensor of the last checkpoint. `make test` runs the quick column of each row with seed 0
(tests/test_trust.py). One case again, as `make soak` ran it: `python -m tests.trust NAME --tier soak --seed {seed}
--case N`. Campaigns that were cut short, changed or wrong are run again alone (`--only NAME`), and stand here as they
ran last. What is promised, and where not, is in [security.md](security.md).

| campaign | what is done | what holds | quick | soak | done | wrong |
|---|---|---|---|---|---|---|
"""


def page(tallies: Mapping[str, Tally], machine: Machine) -> str:
    """The whole page."""
    head = _INTRODUCTION.format(
        cases=sum(tally.done for tally in tallies.values()),
        minutes=sum(tally.seconds for tally in tallies.values()) / 60,
        wrong=sum(len(tally.failures) for tally in tallies.values()),
        seed=machine.seed,
        date=machine.date,
        machine=textwrap.fill(_machine(machine), 120),
    )
    rows = "".join(f"{_row(name, tallies.get(name))}\n" for name in MODULES)
    parts = [head + rows, *_fewer(tallies), "## What happened\n", *_happened(tallies), *_failures(tallies)]
    return "\n".join(parts).rstrip() + "\n"


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"Machine: {machine.cores} cores of a shared {machine.processor}, {machine.memory_gib} GiB, {machine.system}, "
        f"files on {machine.scratch}; {versions}."
    )


def _row(name: str, tally: Tally | None) -> str:
    of = campaign(name)
    quick = f"{of.quick:,}" if isinstance(of.quick, int) else (of.quick.__doc__ or "all").partition("\n")[0].lower()
    soak = f"{tally.wanted:,}" if tally else f"{of.soak:,}" if isinstance(of.soak, int) else "all"
    done, wrong = (f"{tally.done:,}", str(len(tally.failures))) if tally else ("not run", "")
    return f"| `{name}` | {of.harm} | {of.holds} | {quick} | {soak} | {done} | {wrong} |"


def _fewer(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """Why figures are lower than was wanted, where they are."""
    remarks = [f"- `{name}`: {campaign(name).remark}" for name in MODULES if campaign(name).remark]
    for name, tally in tallies.items():
        if tally.done < tally.wanted:
            reason = f"{tally.done:,} of {tally.wanted:,} cases were done in its share of the time"
            remarks.append(f"- `{name}`: {reason}, {tally.seconds / 60:.1f} minutes on this machine.")
    yield "## What is less than was wanted, or done otherwise\n"
    yield "\n".join(remarks) + "\n"


def _happened(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """What each campaign saw, the most frequent first; numbers within a text are put together."""
    for name, tally in tallies.items():
        yield f"### {name}\n"
        yield f"{tally.done:,} cases in {tally.seconds:.0f} s.\n"
        lines = [f"| {count:,} | {outcome} |" for outcome, count in Counter(tally.outcomes).most_common()]
        yield "\n".join(["| cases | what happened |", "|---|---|", *lines]) + "\n"


def _failures(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """Each failure by its case and by the end of its text, which is where a text says what was not as wanted."""
    wrong = [(name, failure) for name, tally in tallies.items() for failure in tally.failures]
    if wrong:
        yield "## What was wrong\n"
        for name, failure in wrong:
            case, _, text = re.sub(r"\s+", " ", failure).partition(": ")
            yield f"- `{name}`, {case}: {'…' if len(text) > 300 else ''}{text[-300:]}"
