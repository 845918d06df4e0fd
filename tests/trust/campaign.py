"""What a campaign is: one sort of harm, done many times by chance, each time with something that must hold after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TIERS = ("quick", "soak")


class Wrong(Exception):
    """What had to hold does not: the reason, in a line or a few."""


class NotHere(Exception):
    """This machine lacks what a campaign needs: what that is, in a line."""


@dataclass(frozen=True)
class Campaign:
    """A row of docs/reliability.md.

    Attributes
    ----------
    name
        One word, by which it is called from the command line.
    harm
        What is done, as the page says it.
    holds
        What must hold each time, as the page says it.
    quick, soak
        Cases of the two tiers; a function tells them where they depend on what was prepared.
    prepare
        Makes what the cases share in a folder that is theirs, once, before the processes that run them are forked. It
        starts no thread in this process: what does runs inside `tests.trust.children.in_child`.
    case
        Runs one case in a folder of its own, which is empty: ``case(prepared, number, rng, folder)``. Numbers count
        from 0, the generator depends on the seed and the number alone. Returns what happened in a few words, which the
        page counts; raises `Wrong` where something does not hold. Any other exception counts as wrong too.
    seconds
        A case that takes longer is wrong, and its processes are killed.
    remark
        What is lower than was wanted or done otherwise, and why, for the page.
    """

    name: str
    harm: str
    holds: str
    quick: int | Callable[[Any], int]
    soak: int | Callable[[Any], int]
    prepare: Callable[[Path], Any]
    case: Callable[[Any, int, np.random.Generator, Path], str]
    seconds: float = 120
    remark: str = ""

    def cases(self, tier: str, prepared: Any) -> int:
        """How many cases a tier has."""
        wanted = self.quick if tier == "quick" else self.soak
        return wanted if isinstance(wanted, int) else wanted(prepared)
