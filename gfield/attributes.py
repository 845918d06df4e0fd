"""What a store says of itself, checked: its manifest is JSON, with a hash that anybody can compute.

`Manifest.from_bytes` tells that nothing has changed since it was written. Whether what was written is of the kinds and
sizes that a store has, and asks for no more than there are files, is told here, before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from gfield.codec import CODEC_NAMES
from gfield.manifest import Manifest, StoreError
from gfield.object_path import Location
from gfield.spec import ARRAY_NAMES, OPTIONAL_ARRAYS, StoreSpec

MOST_FRAMES = 1 << 22
MOST_SIDE = 1 << 13
_OF_DEPTH = {"depth", "depth_native", *OPTIONAL_ARRAYS}
_MOST_LETTERS = 4096
Check = Callable[[Any], bool]


def spec_of(manifest: Manifest, store: Location) -> StoreSpec:
    """The spec that a manifest of this format version has among its attributes.

    Raises
    ------
    StoreError
        If that, or what else the attributes say, is nothing that a build writes.
    """
    attributes = manifest.attributes
    try:
        for name, check in _ATTRIBUTES.items():
            _refuse_unless(check, name, attributes.get(name))
        spec = parse_spec(attributes.get("spec"))
        files = spec.shards * len(spec.array_specs())
        if files > len(manifest.files):
            raise ValueError(f"{spec.frames} frames make {files} shards; {len(manifest.files)} files are listed")
        _refuse_unless(_listed(frame=_whole(0, spec.frames - 1)), "excluded", attributes["excluded"])
    except ValueError as error:
        raise StoreError(f"{store}: the manifest is of no store that can be: {error}") from error
    return spec


def parse_spec(values: Any) -> StoreSpec:
    """The spec of which `StoreSpec.to_json` gave ``values``.

    Raises
    ------
    ValueError
        If a field is missing or unknown, of another kind, too large, or contradicts another; names it.
    """
    names = {field.name for field in fields(StoreSpec)}
    if not isinstance(values, dict) or {*values} != names:
        raise ValueError(f"spec is {_shown(values)}; an object with {', '.join(sorted(names))} wanted")
    for name, check in _SPEC.items():
        _refuse_unless(check, name, values[name])
    spec = StoreSpec.from_json(values)
    width, height = spec.size_WH
    region = spec.valid_region
    for sound, what in (
        ({*spec.levels_WH} <= {(width >> n, height >> n) for n in range(4)}, "levels_WH"),
        (spec.arrays == tuple(name for name in ARRAY_NAMES if name in spec.arrays), "arrays"),
        ({"rgb", "gradient"} <= {*spec.arrays}, "arrays"),
        (spec.depth_shape_HW is not None or not _OF_DEPTH & {*spec.arrays}, "depth_shape_HW"),
        (region is None or (region.top <= region.bottom <= height and region.left <= region.right <= width), "region"),
    ):
        if not sound:
            raise ValueError(f"{what} does not go with the rest of the spec")
    return spec


def _refuse_unless(check: Check, name: str, value: Any) -> None:
    if not check(value):
        raise ValueError(f"{name} is {_shown(value)}")


def _shown(value: Any) -> str:
    """A value for a message; of lists and objects, which may be deep, only that they are such."""
    return type(value).__name__ if isinstance(value, dict | list) else f"{value!r:.80}"


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_LETTERS


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _sides(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_whole(1, MOST_SIDE), value))


def _named(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= 64 and all(map(_text, (*value, *value.values())))


def _plain(value: Any) -> bool:
    whole = _whole(-(1 << 31), 1 << 31)
    return isinstance(value, dict) and len(value) <= 64 and all(
        _text(name) and (_text(item) or isinstance(item, bool) or whole(item)) for name, item in value.items()
    )  # fmt: skip


def _region(value: Any) -> bool:
    sides = {"top", "bottom", "left", "right"}
    return isinstance(value, dict) and {*value} == sides and all(map(_whole(0, MOST_SIDE), value.values()))


def _file_name(value: Any) -> bool:
    """A name beside another file's, which leads to no other folder."""
    return _text(value) and "/" not in value and value not in ("", ".", "..")


def _listed(**checks: Check) -> Check:
    """Lists of objects that have these names, with such values."""

    def check(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(item, dict) and all(known(item.get(name)) for name, known in checks.items()) for item in value
        )

    return check


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_SPEC: Mapping[str, Check] = {
    "kind": _text,
    "frames": _whole(1, MOST_FRAMES),
    "frames_per_shard": _whole(1, MOST_FRAMES),
    "size_WH": _sides,
    "levels_WH": lambda value: isinstance(value, list) and 0 < len(value) <= 4 and all(map(_sides, value)),
    "arrays": lambda value: isinstance(value, list) and all(name in ARRAY_NAMES for name in value),
    "depth_shape_HW": _or_none(_sides),
    "valid_region": _or_none(_region),
    "operator": _plain,
    "codec": lambda value: value in CODEC_NAMES,
    "source": _text,
    "text": _text,
    "notes": _named,
}
_ATTRIBUTES: Mapping[str, Check] = {
    "title": _text,
    "source_files": _listed(name=_file_name, size=_whole(0, 1 << 63), sha256=_text),
    "left_out": _listed(name=_string, reason=_string),
    "excluded": _listed(name=_string, reason=_string),
    "software": _named,
}
