"""All campaigns, in the order of docs/reliability.md; a campaign's module is loaded when it is run."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from tests.trust.campaign import Campaign


class Place(NamedTuple):
    """Where a campaign is, and its share of the soak's time, in minutes of two processes on two cores."""

    module: str
    minutes: float


# Name of the campaign -> module of this folder that has it in its list CAMPAIGNS.
MODULES = {
    "kills": Place("kills", 8),
    "faults": Place("faults", 5),
    "power-loss": Place("power", 6),
    "power-loss-checkpoint": Place("power_checkpoint", 1),
    "flips": Place("flips", 7),
    "damage": Place("damage", 5),
    "builders": Place("builders", 4),
    "trainer": Place("trainer", 9),
    "elastic": Place("elastic", 3),
    "checkpoint-damage": Place("checkpoint_damage", 1),
    "pickles": Place("pickles", 1),
    "mutants-hdf5": Place("mutants", 2),
    "mutants-mat5": Place("mutants", 1),
    "mutants-jpeg": Place("mutants", 1.5),
    "mutants-zip": Place("mutants", 1),
    "mutants-zarr": Place("mutant_stores", 1.5),
    "mutants-study": Place("mutant_studies", 1),
    "mutants-manifest": Place("mutant_stores", 3),
    "hostile": Place("hostile_inputs", 1),
    "resources": Place("resources", 2),
    "states": Place("states", 9),
    "goldens": Place("goldens", 3),
}

# Those whose process begins with the library of shim.c.
PRELOADED = frozenset({"faults", "power-loss", "power-loss-checkpoint"})


def campaign(name: str) -> Campaign:
    """A campaign by its name."""
    module = importlib.import_module(f"tests.trust.{MODULES[name].module}")
    (found,) = [one for one in module.CAMPAIGNS if one.name == name]
    return found
