"""What a store is to contain: a frozen description that is kept in the store and fingerprinted array by array.

Two builds with equal specs give the same bytes. An array whose fingerprint is unchanged never has to be
written again; an array whose fingerprint differs is stale. Nothing here reads or writes files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from blake3 import blake3

from gfield.codec import Codec, CodecName, codec_for
from gfield.frame import Region

FORMAT_VERSION = 1

ArrayName = Literal["rgb", "gradient", "depth", "raw_depth", "label", "depth_native"]
ARRAY_NAMES: tuple[ArrayName, ...] = get_args(ArrayName)
OPTIONAL_ARRAYS: tuple[ArrayName, ...] = ("raw_depth", "label")

# A change of how an array is computed from the same input counts its revision up, and makes older shards stale.
_REVISIONS: dict[ArrayName, int] = dict.fromkeys(ARRAY_NAMES, 1)
_DTYPES: dict[ArrayName, str] = {
    "rgb": "uint8",
    "gradient": "float16",
    "depth": "float32",
    "raw_depth": "float32",
    "label": "uint16",
    "depth_native": "float32",
}
# What a frame that could not be read holds, in builds that are told to go on.
_FILLS: dict[ArrayName, float] = {
    "rgb": 0,
    "gradient": 0.0,
    "depth": float("nan"),
    "raw_depth": 0.0,
    "label": 0,
    "depth_native": float("nan"),
}
_ATTRIBUTES: dict[ArrayName, dict[str, str]] = {
    "rgb": {"long_name": "colour image, channels red, green, blue", "units": "1"},
    "gradient": {
        "long_name": "gradient field: Sobel magnitude of luminance on Canny edges, else zero",
        "units": "1",
    },
    "depth": {"long_name": "depth, NaN where there is none", "units": "m"},
    "raw_depth": {"long_name": "depth as the sensor gave it, 0 where it had no return", "units": "m"},
    "label": {"long_name": "object class, 0 = unlabelled", "units": "1"},
    "depth_native": {"long_name": "depth on the sensor's own grid, NaN where there is none", "units": "m"},
}
RULES: dict[str, str] = {
    "rgb": "largest level: the source's picture, area-averaged (OpenCV INTER_AREA) where it has another size; "
    "smaller levels: INTER_AREA of the largest level",
    "gradient": "the operator on the RGB of the same level, inside valid_region, zero outside",
    "depth": "nearest neighbour: the source cell whose centre lies nearest to the pixel's centre, the lower index on "
    "a tie; no interpolation across edges",
}
RULES |= {
    "raw_depth": RULES["depth"],
    "label": RULES["depth"],
    "depth_native": "the source's values, unchanged",
}


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of the store.

    Attributes
    ----------
    key
        Path inside the store, such as ``"640x480/rgb"``.
    name
        What it holds, such as ``"rgb"``.
    level_WH
        Width and height of its level; None for an array on a grid of its own.
    frame_shape
        Shape of one frame, which is one chunk.
    dims
        Names of all dimensions, frame first.
    """

    key: str
    name: ArrayName
    level_WH: tuple[int, int] | None
    frame_shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    fill: float
    codec: Codec
    attributes: Mapping[str, Any]
    fingerprint: str

    def shard_path(self, shard: int) -> str:
        """Path of a shard inside the store (Zarr's default chunk key)."""
        return "/".join([self.key, "c", str(shard), *["0"] * len(self.frame_shape)])


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Everything that decides a store's bytes.

    Attributes
    ----------
    kind
        The source's short name.
    frames, frames_per_shard
        Length of every array, and how many frames share a file.
    size_WH, levels_WH
        The largest level that the source offers, and the levels that are stored.
    arrays
        Names of the arrays, in the order of `ARRAY_NAMES`.
    depth_shape_HW
        The sensor's own depth grid; None without depth.
    valid_region
        Part of the ``size_WH`` picture that the operator sees; None is all of it.
    operator
        The operator's parameters, as plain values.
    codec
        Codec option, see `gfield.codec.codec_for`.
    source, text
        Digests of the pixel input files and of the text columns (names, splits, scenes, ...).
    notes
        The source's remarks on arrays.
    """

    kind: str
    frames: int
    frames_per_shard: int
    size_WH: tuple[int, int]
    levels_WH: tuple[tuple[int, int], ...]
    arrays: tuple[ArrayName, ...]
    depth_shape_HW: tuple[int, int] | None
    valid_region: Region | None
    operator: Mapping[str, Any]
    codec: CodecName
    source: str
    text: str
    notes: Mapping[str, str]

    @property
    def shards(self) -> int:
        """Number of shards of every array."""
        return -(-self.frames // self.frames_per_shard)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that stand for the whole spec."""
        return digest(self.to_json())

    def shard_frames(self, shard: int) -> range:
        """The frames of a shard."""
        start = shard * self.frames_per_shard
        return range(start, min(start + self.frames_per_shard, self.frames))

    def array_specs(self) -> dict[str, ArraySpec]:
        """Every array by key, largest level first."""
        specs = [
            self._array(name, level_WH) for level_WH in self.levels_WH for name in self.arrays if name != "depth_native"
        ]
        if "depth_native" in self.arrays:
            specs.append(self._array("depth_native", None))
        return {spec.key: spec for spec in specs}

    def _array(self, name: ArrayName, level_WH: tuple[int, int] | None) -> ArraySpec:
        frame_shape, key, dims = self._grid(name, level_WH)
        dtype = _DTYPES[name]
        codec = codec_for(name, self.codec, np.dtype(dtype).itemsize)
        attributes: dict[str, Any] = {**_ATTRIBUTES[name], "rule": RULES[name]}
        of_source = "depth" if name == "depth_native" else name
        if of_source in self.notes:
            attributes["comment"] = self.notes[of_source]
        depends: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "revision": _REVISIONS[name],
            "kind": self.kind,
            "source": self.source,
            "name": name,
            "dtype": dtype,
            "frame_shape": frame_shape,
            "frames": self.frames,
            "frames_per_shard": self.frames_per_shard,
            "codec": codec.metadata(),
        }
        if name in ("rgb", "gradient"):
            depends["size_WH"] = self.size_WH
        if name == "gradient" and level_WH is not None:
            region = self.level_region(level_WH)
            of_operator = {
                "operator": dict(self.operator),
                "valid_region": region._asdict() if region else None,
            }
            depends |= of_operator
            attributes |= of_operator
        return ArraySpec(
            key, name, level_WH, frame_shape, dims, dtype, _FILLS[name], codec, attributes, digest(depends)
        )

    def _grid(self, name: ArrayName, level_WH: tuple[int, int] | None) -> tuple[tuple[int, ...], str, tuple[str, ...]]:
        if level_WH is None:
            assert self.depth_shape_HW is not None
            return self.depth_shape_HW, name, ("frame", "row", "column")
        width, height = level_WH
        key = f"{level_name(level_WH)}/{name}"
        if name == "rgb":
            return (height, width, 3), key, ("frame", "y", "x", "channel")
        return (height, width), key, ("frame", "y", "x")

    def level_region(self, level_WH: tuple[int, int]) -> Region | None:
        """The valid region on a level's own grid, shrunk inwards to whole pixels."""
        return self.valid_region.scaled(self.size_WH, level_WH) if self.valid_region else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they stand in the store's attributes."""
        fields = asdict(self)
        if self.valid_region is not None:
            fields["valid_region"] = self.valid_region._asdict()
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote."""
        region = fields["valid_region"]
        shape = fields["depth_shape_HW"]
        width, height = fields["size_WH"]
        known = {
            **fields,
            "size_WH": (width, height),
            "levels_WH": tuple((w, h) for w, h in fields["levels_WH"]),
            "arrays": tuple(fields["arrays"]),
            "depth_shape_HW": (shape[0], shape[1]) if shape else None,
            "valid_region": Region(**region) if region else None,
        }
        return cls(**known)


# Fields whose change asks for a rebuild of what depends on them, and of nothing else.
_REBUILDABLE = ("operator", "valid_region", "text", "notes")


def refusals(old: StoreSpec, new: StoreSpec) -> list[str]:
    """Why a store of spec ``old`` cannot be brought to spec ``new``: one "field: seen, wanted" a difference.

    New arrays and levels can be added, and the operator, the valid region and the text columns can change;
    everything else would replace or drop what the store holds, and is listed.
    """
    found = []
    ours, theirs = new.to_json(), old.to_json()
    for field, wanted in ours.items():
        seen = theirs[field]
        if field in _REBUILDABLE or seen == wanted:
            continue
        if field in ("arrays", "levels_WH"):
            dropped = [item for item in seen if item not in wanted]
            if not dropped:
                continue
        if field == "source":
            found.append("it was made of other input files, or they have changed since")
        else:
            found.append(f"{field} is {_readable(field, seen)} in the store, {_readable(field, wanted)} asked for")
    return found


def _readable(field: str, value: Any) -> str:
    if field == "levels_WH":
        return ", ".join(map(level_name, value))
    return ", ".join(value) if field == "arrays" else str(value)


def level_name(level_WH: Sequence[int]) -> str:
    """``(640, 480)`` is ``"640x480"``: width first."""
    return f"{level_WH[0]}x{level_WH[1]}"


def default_frames_per_shard(frames: int, frames_per_chunk: int) -> int:
    """Frames in a shard: 8 to 128 (118 MB of RGB at 640x480), so that 24 shards come together where they can.

    24 shards keep two to twelve workers evenly busy on a data set of NYU's size; 128 frames keep 120,000 frames
    to about 940 files an array. Where ``frames_per_chunk`` input frames are compressed together, the number is
    a multiple of it, so that no piece of the input is decompressed for two shards.
    """
    wanted = min(128, max(8, -(-frames // 24)))
    if 1 < frames_per_chunk <= 128:
        wanted = frames_per_chunk * max(1, wanted // frames_per_chunk)
    return min(wanted, frames)


def digest(value: object) -> str:
    """32 hexadecimal digits of BLAKE3 over canonical JSON."""
    return blake3(canonical(value)).hexdigest(length=16)


def read_note(data: bytes) -> Any:
    """What `note` was given.

    Raises
    ------
    ValueError
        If one bit differs from what it gave.
    """
    try:
        stored = json.loads(data)
        content, told = stored["note"], stored["digest"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("no note") from error
    if note(content) != data:
        raise ValueError(f"a note whose digest is not {told!r:.40}")
    return content


def note(content: Any) -> bytes:
    """What a build notes of itself, as JSON with its digest, so that damage to it is seen."""
    return canonical({"note": content, "digest": digest(content)})


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, the same bytes for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
