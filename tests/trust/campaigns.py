"""All campaigns, in the order of docs/reliability.md; a campaign's module is loaded when it is run."""

from __future__ import annotations

import importlib

from tests.trust.campaign import Campaign

# Name of the campaign -> module of this folder that has it, as CAMPAIGN or, where it has several, in CAMPAIGNS.
MODULES: dict[str, str] = {
    "checkpoint-flips": "flips",
    "trainer": "trainer",
    "elastic": "elastic",
    "checkpoint-damage": "damage",
    "pickles": "pickles",
}


def campaign(name: str) -> Campaign:
    """A campaign by its name."""
    module = importlib.import_module(f"tests.trust.{MODULES[name]}")
    (found,) = [one for one in module.CAMPAIGNS if one.name == name]
    return found
