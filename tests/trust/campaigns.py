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
    "kills": Place("kills", 3),
    "faults": Place("faults", 6),
    "power-loss": Place("power", 3),
    "power-loss-checkpoint": Place("power_checkpoint", 0.5),
    "flips": Place("flips", 6),
    "damage": Place("damage", 5),
    "builders": Place("builders", 3),
    "trainer": Place("trainer", 7),
    "elastic": Place("elastic", 3),
    "checkpoint-damage": Place("checkpoint_damage", 3),
    "pickles": Place("pickles", 4),
    "mutants-hdf5": Place("mutants", 4),
    "mutants-mat5": Place("mutants", 0.7),
    "mutants-jpeg": Place("mutants", 0.7),
    "mutants-zip": Place("mutants", 2),
    "mutants-zarr": Place("mutant_stores", 2),
    "mutants-study": Place("mutant_studies", 1),
    "mutants-manifest": Place("mutant_stores", 4),
    "hostile": Place("hostile_inputs", 1),
    "resources": Place("resources", 1.5),
    "states": Place("states", 10),
    "goldens": Place("goldens", 1),
}

# Those whose process begins with the library of shim.c.
PRELOADED = frozenset({"faults", "power-loss", "power-loss-checkpoint"})


def campaign(name: str) -> Campaign:
    """A campaign by its name."""
    module = importlib.import_module(f"tests.trust.{MODULES[name].module}")
    (found,) = [one for one in module.CAMPAIGNS if one.name == name]
    return found
