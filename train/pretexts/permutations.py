"""Sets of permutations of nine tiles that differ from each other in as many places as sets of their size can.

Noroozi and Favaro (2016) choose them greedily, for a large Hamming distance. Here they come from groups that move
nine points so freely that the least distance within the set is the largest there is. Two permutations of a group agree
where the quotient of both leaves a point fixed, and a sharply k-transitive group has no element but the identity with
k fixed points: its least distance is 10 - k. More than 9! / d! permutations cannot all be d + 1 apart, since two of
them agree in the first 9 - d places. So no other set has a larger least distance than `permutation_set`'s of its size.

Legend: P permutations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Permutation = tuple[int, ...]

TILES = 9
# Points are the numbers of GF(9), 3 a + b for a + b i; or those of GF(8), bits modulo x^3 + x + 1, and 8 for infinity.
_PLUS_ONE, _PLUS_I = (1, 2, 0, 4, 5, 3, 7, 8, 6), (3, 4, 5, 6, 7, 8, 0, 1, 2)
_TIMES_ONE_PLUS_I = (0, 7, 5, 4, 2, 6, 8, 3, 1)
_BIT_PLUS_ONE, _BIT_TIMES_X = (1, 0, 3, 2, 5, 4, 7, 6, 8), (0, 2, 4, 6, 3, 1, 7, 5, 8)
_BIT_INVERSE, _BIT_SQUARE = (8, 1, 5, 6, 7, 2, 3, 4, 0), (0, 1, 4, 5, 6, 7, 2, 3, 8)

# Generators of the groups, the smallest group first: translations of GF(9), all of its affine maps, the fractional
# linear maps of GF(8), and those with squaring, whose powers fix three points and no more.
_GROUPS: tuple[tuple[Permutation, ...], ...] = (
    (_PLUS_ONE, _PLUS_I),
    (_PLUS_ONE, _TIMES_ONE_PLUS_I),
    (_BIT_PLUS_ONE, _BIT_TIMES_X, _BIT_INVERSE),
    (_BIT_PLUS_ONE, _BIT_TIMES_X, _BIT_INVERSE, _BIT_SQUARE),
)


def permutation_set(count: int) -> npt.NDArray[np.int64]:
    """Permutations of nine tiles, as far apart as that many can be; always the same ones.

    Parameters
    ----------
    count
        P, 2 to 1512. The least distance is 9 up to 9 of them, 8 up to 72, 7 up to 504, and 6 beyond.

    Returns
    -------
    ndarray
        (P, 9) int64, the identity first. Of the group that is large enough, each next one is the farthest from those
        before it, in the mean.
    """
    group = next(found for found in map(_closure, _GROUPS) if len(found) >= count)
    distance_to_chosen = np.zeros(len(group))
    chosen = [0]
    for _ in range(count - 1):
        distance_to_chosen += (group != group[chosen[-1]]).sum(1)
        # Below all that were never chosen; the first of equals.
        distance_to_chosen[chosen[-1]] = -np.inf
        chosen.append(int(distance_to_chosen.argmax()))
    return group[chosen]


def _closure(generators: Sequence[Permutation]) -> npt.NDArray[np.int64]:
    """All products of permutations, in order, the identity first."""
    found = {tuple(range(TILES))}
    newest = list(found)
    while newest:
        products = {tuple(one[place] for place in other) for one in newest for other in generators}
        newest = sorted(products - found)
        found.update(newest)
    return np.array(sorted(found), dtype=np.int64)
