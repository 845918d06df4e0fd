"""Random numbers as a pure function of seed, purpose and position, so that a run has no generator state to keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
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


@contextmanager
def seeded_layers(seed: int, purpose: str) -> Iterator[None]:
    """Let layers that are made inside draw their weights from ``seed``; torch's global generators stay as they were.

    torch.nn's initialisers know the global generator alone, so that it is seeded here and put back after.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the generators of CUDA devices too.
        torch.default_generator.manual_seed(int(generator(seed, purpose).integers(2**63)))
        yield
