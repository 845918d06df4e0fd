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
    "kills": Place("kills", 3.9),
    "faults": Place("faults", 8),
    "power-loss": Place("power", 3.2),
    "power-loss-checkpoint": Place("power_checkpoint", 0.5),
    "flips": Place("flips", 9),
    "damage": Place("damage", 5),
    "builders": Place("builders", 2),
    "trainer": Place("trainer", 6),
    "elastic": Place("elastic", 2),
    "checkpoint-damage": Place("checkpoint_damage", 1),
    "pickles": Place("pickles", 1.5),
    "mutants-hdf5": Place("mutants", 1),
    "mutants-mat5": Place("mutants", 0.5),
    "mutants-jpeg": Place("mutants", 0.5),
    "mutants-zip": Place("mutants", 1),
    "mutants-zarr": Place("mutant_stores", 2),
    "mutants-study": Place("mutant_studies", 0.5),
    "mutants-manifest": Place("mutant_stores", 3.3),
    "hostile": Place("hostile_inputs", 0.5),
    "buckets": Place("buckets", 12),
    "resources": Place("resources", 1),
    "states": Place("states", 18.5),
    "goldens": Place("goldens", 0.5),
}

# Those whose process begins with the library of shim.c.
PRELOADED = frozenset({"faults", "power-loss", "power-loss-checkpoint"})


def campaign(name: str) -> Campaign:
    """A campaign by its name."""
    module = importlib.import_module(f"tests.trust.{MODULES[name].module}")
    (found,) = [one for one in module.CAMPAIGNS if one.name == name]
    return found
