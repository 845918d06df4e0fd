"""From a source and what is asked for to the spec of a store, or to what stands against it."""

from __future__ import annotations

from collections.abc import Sequence

from gfield.attributes import MOST_FRAMES
from gfield.codec import CodecName
from gfield.field import FieldParams
from gfield.frame import Source
from gfield.inputs import quick_digest
from gfield.manifest import MOST_FILES
from gfield.publish import text_columns
from gfield.spec import (
    ARRAY_NAMES,
    OPTIONAL_ARRAYS,
    ArrayName,
    StoreSpec,
    default_frames_per_shard,
    digest,
    level_name,
)
from gfield.staging import BuildError
from gfield.text_column import check_lengths


def make_spec(
    source: Source,
    *,
    levels_WH: Sequence[tuple[int, int]] | None = None,
    optional: Sequence[ArrayName] = (),
    codec: CodecName = "lz4",
    field: FieldParams | None = None,
    frames_per_shard: int | None = None,
) -> StoreSpec:
    """The spec of a store of ``source``.

    Parameters
    ----------
    source
        The data set.
    levels_WH
        Levels to store: the source's own size, or that halved up to three times; by default its own and half of it.
    optional
        Arrays on request, of `OPTIONAL_ARRAYS`.
    codec
        ``"lz4"``, ``"zstd"`` or ``"raw"``.
    field
        Parameters of the operator.
    frames_per_shard
        Frames in one file; by default see `default_frames_per_shard`.

    Raises
    ------
    BuildError
        If the source has no such array or level, or no frame, or a name that is no text.

    Examples
    --------
    >>> from gfield import FieldParams, make_spec, open_nyuv2
    >>> source = open_nyuv2("nyu_depth_v2_labeled.mat")
    >>> spec = make_spec(source, levels_WH=[(320, 240)], field=FieldParams(low=30, high=120))
    >>> list(spec.array_specs())
    ['320x240/rgb', '320x240/gradient', '320x240/depth']
    """
    if not source.names:
        raise BuildError(f"{source.kind}: no frame to build from")
    for name in (*source.names, *(file.name for file in source.inputs())):
        if not _is_text(name):
            raise BuildError(f"{name!r}: the store would have this name in it, and it is no UTF-8; rename the file")
    for name in optional:
        if name not in source.provides:
            has = ", ".join(sorted(source.provides & set(OPTIONAL_ARRAYS))) or "none"
            raise BuildError(f"array {name} is not in this {source.kind} input; optional arrays in it: {has}")
    width, height = source.size_WH
    allowed = [(width >> halvings, height >> halvings) for halvings in range(4)]
    for level_WH in levels_WH or ():
        if level_WH not in allowed:
            names = ", ".join(level_name(level) for level in allowed)
            raise BuildError(f"level {level_name(level_WH)} is unknown, {source.kind} has {names}")
    if len(source.names) > MOST_FRAMES:
        raise BuildError(f"{source.kind}: {len(source.names)} frames; at most {MOST_FRAMES} in a store wanted")
    depth = "depth" in source.provides
    native = depth and source.depth_shape_HW not in [(h, w) for w, h in allowed]
    wanted = {"rgb", "gradient", *optional} | ({"depth"} if depth else set()) | ({"depth_native"} if native else set())
    columns = text_columns(source)
    try:
        for texts in columns.values():
            check_lengths(texts)
    except ValueError as error:
        raise BuildError(f"{source.kind}: {error}") from error
    spec = StoreSpec(
        kind=source.kind,
        frames=len(source.names),
        frames_per_shard=frames_per_shard or default_frames_per_shard(len(source.names), source.frames_per_chunk),
        size_WH=source.size_WH,
        levels_WH=tuple(sorted(set(levels_WH or allowed[:2]), reverse=True)),
        arrays=tuple(name for name in ARRAY_NAMES if name in wanted),
        depth_shape_HW=source.depth_shape_HW if depth else None,
        valid_region=source.valid_region,
        operator=(field or FieldParams()).to_dict(),
        codec=codec,
        source=quick_digest(source.inputs()),
        text=digest(columns),
        notes=dict(source.notes),
    )
    if (files := spec.shards * len(spec.array_specs())) > MOST_FILES - 100:
        raise BuildError(
            f"{files} files of {spec.frames_per_shard} frames; at most {MOST_FILES - 100} in a store wanted"
        )
    return spec


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
