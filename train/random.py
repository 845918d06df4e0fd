"""Random numbers as a pure function of seed, purpose and position, so that a run has no generator state to keep."""

from __future__ import annotations

import numpy as np
from blake3 import blake3


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """The generator for one purpose at one position of a run.

    Parameters
    ----------
    seed
        The run's seed.
    purpose
        What the numbers are for, such as ``"views"``; other purposes get independent numbers.
    numbers
        Where in the run: an epoch, a step.

    Returns
    -------
    numpy.random.Generator
        Philox, keyed by a hash of all of these: the same on every machine and for any number of ranks.
    """
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    key = np.frombuffer(blake3(text.encode()).digest(length=16), dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))
