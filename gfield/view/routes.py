"""What the page asks for, by name, and the answers: arrays as bytes, all else as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gfield.attributes import MOST_FRAMES
from gfield.field import LARGEST_THRESHOLD, FieldParams
from gfield.frame import UserError
from gfield.object_path import Location
from gfield.pictures import DEPTH_COLOURS, HATCH_GROUND, HATCH_LINE, HATCH_LINE_W, HATCH_PERIOD
from gfield.view.answers import Answer
from gfield.view.build_command import build_command
from gfield.view.frames import depth_answer, depth_arrays, field_answer, rgb_answer, thumb_answer
from gfield.view.histograms import DEPTH_BINS, FARTHEST_M, FIELD_BINS, NEAREST_M, field_top, sample_facts
from gfield.view.opened import Choice, Opened, Shown

Query = Mapping[str, str]
PAGE = 48
_SCENES = 60
_MOST_LETTERS = 200


class Asked(NamedTuple):
    """What a route answers from: the store that the page shows, the query, and the input to name in commands."""

    opened: Opened
    query: Query
    source: Location | None


def answer(name: str, query: Query, shown: Shown, source: Location | None) -> Answer | None:
    """Answer one request; None where nothing has this name.

    Raises
    ------
    Gone
        If the store is not the page's any more.
    StoreError
        If what was asked for is damaged.
    UserError
        If the query asks for nothing that there is.
    """
    if name == "store":
        return _store(Asked(shown.now(), query, source))
    if name not in ROUTES:
        return None
    return ROUTES[name](Asked(shown.of_page(query.get("store", "")), query, source))


def _store(asked: Asked) -> Answer:
    """All that a page has to know of a store, and its first page of frames."""
    opened, store = asked.opened, asked.opened.store
    facts = {
        "root": opened.root,
        "name": store.path.name or str(store.path),
        "title": store.attributes["title"],
        "frames": len(store),
        "splits": opened.splits,
        "scenes": len(opened.scenes("", "")),
        "codec": store.spec.codec,
        "operator": dict(store.spec.operator),
        "most_threshold": LARGEST_THRESHOLD,
        "levels": {
            name: {
                "width": width,
                "height": height,
                "depths": {key: array.frame_shape for key, array in depth_arrays(store, name).items()},
            }
            for name, (width, height) in zip(store.levels, store.spec.levels_WH, strict=True)
        },
        "depth_colours": DEPTH_COLOURS.tobytes().hex(),
        "hatch": [HATCH_GROUND, HATCH_LINE, HATCH_PERIOD, HATCH_LINE_W],
        "depth_bins": [NEAREST_M, FARTHEST_M, DEPTH_BINS],
        "field_bins": [0, field_top(store), FIELD_BINS],
        "first_page": _page_of_frames(asked),
    }
    return _json(facts)


def _frames(asked: Asked) -> Answer:
    return _json(_page_of_frames(asked))


def _page_of_frames(asked: Asked) -> dict[str, Any]:
    """A page of the chosen frames: the one with a place among them, or with a row of the store."""
    opened, query = asked.opened, asked.query
    choice = Choice(*(query.get(name, "")[:_MOST_LETTERS] for name in Choice._fields))
    rows = opened.rows(choice)
    place = _number(query, "place", len(rows)) if "place" in query else 0
    if "row" in query:
        row = min(_number(query, "row", MOST_FRAMES), len(opened.store) - 1)
        place = int(rows.searchsorted(row))
        place = place if place < len(rows) and rows[place] == row else 0
    first = min(place, max(0, len(rows) - 1)) // PAGE * PAGE
    store = opened.store
    listed = [
        {
            "row": row,
            "name": str(store.names[row]),
            "split": str(store.splits[row]),
            "scene": str(store.scenes[row]),
            **({"reason": opened.excluded.get(row, "it could not be read")} if store.splits[row] == "excluded" else {}),
        }
        for row in rows[first : first + PAGE].tolist()
    ]
    return {"total": len(rows), "first": first, "place": place, "page": PAGE, "frames": listed}


def _scenes(asked: Asked) -> Answer:
    query = asked.query
    scenes = asked.opened.scenes(query.get("split", ""), query.get("scene", "")[:_MOST_LETTERS])
    return _json({"total": len(scenes), "scenes": scenes[:_SCENES]})


def _rgb(asked: Asked) -> Answer:
    return rgb_answer(asked.opened.store, _level(asked), _row(asked))


def _field(asked: Asked) -> Answer:
    params = _params(asked) if "low" in asked.query else None
    return field_answer(asked.opened.store, _level(asked), _row(asked), params)


def _depth(asked: Asked) -> Answer:
    store = asked.opened.store
    arrays = depth_arrays(store, _level(asked))
    wanted = asked.query.get("array", "depth")
    if wanted not in arrays:
        raise UserError(f"no array {wanted!r} of depths, the store has {', '.join(arrays) or 'none'}")
    return depth_answer(store, arrays[wanted].key, _row(asked))


def _thumb(asked: Asked) -> Answer:
    return thumb_answer(asked.opened.store, _row(asked))


def _sample(asked: Asked) -> Answer:
    return _json(sample_facts(asked.opened.store, _level(asked)))


def _command(asked: Asked) -> Answer:
    params = _params(asked)
    store = asked.opened.store
    command = build_command(store, params, asked.source)
    return _json({**command._asdict(), "same": params == FieldParams.from_dict(store.spec.operator)})


def _still(_asked: Asked) -> Answer:
    """That the store is still the page's."""
    return _json({})


ROUTES: Mapping[str, Callable[[Asked], Answer]] = {
    "command": _command,
    "depth": _depth,
    "field": _field,
    "frames": _frames,
    "rgb": _rgb,
    "sample": _sample,
    "scenes": _scenes,
    "still": _still,
    "thumb": _thumb,
}


def _json(value: Any) -> Answer:
    return Answer(json.dumps(value, separators=(",", ":")).encode(), "application/json")


def _params(asked: Asked) -> FieldParams:
    """The operator's parameters in a query; the variant is always the store's."""
    query = asked.query
    variant = asked.opened.store.spec.operator["variant"]
    flags = {"auto": query.get("auto") == "1", "l2_gradient": query.get("l2") == "1"}
    if flags["auto"]:
        return FieldParams(**flags, variant=variant)
    low, high = (_number(query, name, LARGEST_THRESHOLD + 1) for name in ("low", "high"))
    return FieldParams(low, high, **flags, variant=variant)


def _level(asked: Asked) -> str:
    levels = asked.opened.store.levels
    level = asked.query.get("level", levels[0])
    if level not in levels:
        raise UserError(f"no level {level!r}, the store has {', '.join(levels)}")
    return level


def _row(asked: Asked) -> int:
    return _number(asked.query, "row", len(asked.opened.store))


def _number(query: Query, name: str, end: int) -> int:
    """A number of a query, from 0 to one less than ``end``."""
    text = query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < max(1, end)):
        raise UserError(f"{name} is {text!r:.40}, wanted a whole number from 0 to {max(1, end) - 1}")
    return int(text)
