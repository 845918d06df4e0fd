"""How well `gfield report` tells frames whose depth is turned, or another frame's, from right ones.

python tests/benchmarks/agreement.py STORE [ARRAY]

Every frame of STORE is taken to be right. Of a wrong one stand in the table: the chance that a right frame ranks above
it; how often it is the worst, and among the three worst, as the only wrong one; and how often it is not said to fit.
ARRAY is depth, or raw_depth.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

import gfield
from gfield.report.agreement import Agreement, EdgePair, agreement, edge_pair
from gfield.report.measures import measured_level

FLIPS = {"mirrored": np.s_[:, ::-1], "upside_down": np.s_[::-1], "turned": np.s_[::-1, ::-1]}


def pairs_of(path: str, array: str) -> list[EdgePair]:
    """The edges of every frame."""
    store = gfield.open_store(path)
    width, height = measured_level(store)
    level, rows = f"{width}x{height}", store.rows()
    fields, depths = store.read(f"{level}/gradient", rows), store.read(f"{level}/{array}", rows)
    region, native = store.spec.level_region((width, height)), store.spec.depth_shape_HW
    return [edge_pair(field, depth, region, native) for field, depth in zip(fields, depths, strict=True)]


def with_depth_of(pair: EdgePair, other: EdgePair, flip: object = ...) -> Agreement | None:
    """A frame's picture with another's depth, turned."""
    return agreement(EdgePair(pair.picture_HW, other.depth_HW[flip], other.known_HW[flip], pair.tolerance))


def told(name: str, right: Sequence[Agreement | None], wrong: Sequence[tuple[int, Agreement | None]]) -> str:
    """A line of the table; a wrong frame comes with the number of the right one whose place it takes."""
    known = [(place, one) for place, one in wrong if one is not None]
    below = [sum(o.rank < one.rank for n, o in enumerate(right) if o and n != place) for place, one in known]
    auc = np.mean([np.mean([o.rank > one.rank for o in right if o]) for _, one in known])
    first, three = np.mean(np.array(below) == 0), np.mean(np.array(below) < 3)
    verdicts = Counter(one.verdict for _, one in known)
    accused = len(known) - verdicts["good"]
    return f"{name:12} {auc:6.4f} {first:6.3f} {three:6.3f} {accused:5} of {len(known):5}  {dict(verdicts)}"


def main(path: str, array: str = "depth") -> None:
    """Print the table."""
    pairs = pairs_of(path, array)
    right = [agreement(pair) for pair in pairs]
    print(f"{path}, {array}, {len(pairs)} frames; right ones: {dict(Counter(o.verdict if o else None for o in right))}")
    print(f"{'depth is':12} {'AUC':>6} {'first':>6} {'three':>6} {'accused':>13}")
    for name, flip in FLIPS.items():
        print(told(name, right, [(n, with_depth_of(pair, pair, flip)) for n, pair in enumerate(pairs)]))
    others = [(n, with_depth_of(pair, other)) for n, pair in enumerate(pairs) for other in pairs if other is not pair]
    print(told("another's", right, others))


if __name__ == "__main__":
    main(*sys.argv[1:])
