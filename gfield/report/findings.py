"""What of a store a person should look at, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gfield.listing import counted
from gfield.report.measures import FrameMeasures, StoreMeasures
from gfield.store import Store

WAYS = {"mirrored": "mirrored", "upside_down": "upside down", "turned": "turned by 180°"}
_NAMED = 3


def findings(store: Store, measures: StoreMeasures) -> list[str]:
    """Sentences, the gravest first; none where nothing stands out.

    Parameters
    ----------
    store, measures
        A store, and what was measured of it.
    """
    return [*_wrong_pairs(store, measures), *_empty_frames(store, measures), *_shared_scenes(store), *_missing(store)]


def _wrong_pairs(store: Store, measures: StoreMeasures) -> Iterator[str]:
    told = measures.worst()
    for verdict, way in WAYS.items():
        found = [frame for frame in told if frame.agreement is not None and frame.agreement.verdict == verdict]
        if found:
            yield f"Depth fits better {way} in {_named(store, found)}. {_cause(len(found), len(told), way)}"
    poor = [frame for frame in told if frame.agreement is not None and frame.agreement.verdict == "poor"]
    if poor:
        yield f"Depth has edges where the picture has few in {_named(store, poor)}. It may be another picture's depth."


def _cause(found: int, told: int, way: str) -> str:
    if found > 1 and 2 * found > told:
        return f"Most of the store's depth is {way} against its pictures."
    return "Either is turned, or it is another picture's depth."


def _empty_frames(store: Store, measures: StoreMeasures) -> Iterator[str]:
    holes = [frame for frame in measures.frames if frame.holes == 1]
    if holes:
        yield f"There is no depth at all in {_named(store, holes)}."
    bare = [frame for frame in measures.frames if frame.coverage == 0]
    if bare:
        yield f"The field has no edge at all in {_named(store, bare)}."


def _shared_scenes(store: Store) -> Iterator[str]:
    scenes = {split: set(store.scenes[store.splits == split].tolist()) - {""} for split in ("train", "test")}
    both = sorted(scenes["train"] & scenes["test"])
    if both:
        more = f" and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
        yield f"{counted(len(both), 'scene')} of both train and test: {', '.join(both[:_NAMED])}{more}."


def _missing(store: Store) -> Iterator[str]:
    excluded = int(np.count_nonzero(store.splits == "excluded"))
    if excluded:
        yield f"{counted(excluded, 'frame')} could not be read when the store was built, and {_is(excluded)} excluded."
    files = len(store.attributes["left_out"])
    if files:
        yield f"Of the input, {counted(files, 'file')} or more {_is(files)} part of no frame."


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _named(store: Store, frames: Sequence[FrameMeasures]) -> str:
    """``frame 3 (name)``, or how many frames and the first of them."""
    names = ", ".join(f"{frame.row} ({store.names[frame.row]})" for frame in frames[:_NAMED])
    if len(frames) == 1:
        return f"frame {names}"
    more = f" and {len(frames) - _NAMED} more" if len(frames) > _NAMED else ""
    return f"{len(frames)} frames: {names}{more}"
