"""Fingerprints: what an array depends on, and nothing else, makes it stale."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield.field import FieldParams
from gfield.frame import Region
from gfield.spec import StoreSpec, default_frames_per_shard, refusals

SPEC = StoreSpec(
    kind="nyu",
    frames=100,
    frames_per_shard=8,
    size_WH=(640, 480),
    levels_WH=((640, 480), (320, 240)),
    arrays=("rgb", "gradient", "depth", "raw_depth"),
    depth_shape_HW=(480, 640),
    valid_region=Region(8, 473, 8, 631),
    operator=FieldParams().to_dict(),
    codec="lz4",
    source="s",
    text="t",
    notes={"depth": "filled"},
)
GRADIENTS = {"640x480/gradient", "320x240/gradient"}
ALL = {f"{level}/{name}" for level in ("640x480", "320x240") for name in ("rgb", "gradient", "depth", "raw_depth")}


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"operator": FieldParams(low=20).to_dict()}, GRADIENTS),
        ({"valid_region": None}, GRADIENTS),
        ({"text": "other"}, set()),
        ({"notes": {}}, set()),
        ({"codec": "raw"}, ALL),
        ({"source": "other"}, ALL),
        ({"frames_per_shard": 9}, ALL),
        ({"frames": 101}, ALL),
        ({"kind": "make3d"}, ALL),
    ],
)
def test_a_change_makes_stale_what_depends_on_it(change, stale):
    before, after = SPEC.array_specs(), replace(SPEC, **change).array_specs()
    assert {key for key in ALL if before[key].fingerprint != after[key].fingerprint} == stale
    assert replace(SPEC, **change).fingerprint != SPEC.fingerprint


def test_no_two_arrays_share_a_fingerprint():
    prints = [array.fingerprint for array in SPEC.array_specs().values()]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"operator": {}, "valid_region": None, "text": "", "notes": {}}, []),
        ({"arrays": ("rgb", "gradient", "depth", "raw_depth", "label")}, []),
        (
            {"arrays": ("rgb", "gradient", "depth")},
            ["arrays is rgb, gradient, depth, raw_depth in the store"],
        ),
        ({"levels_WH": ((320, 240),)}, ["levels_WH is 640x480, 320x240 in the store, 320x240 asked for"]),
        (
            {"codec": "raw", "source": "o"},
            ["codec is lz4 in the store, raw asked for", "it was made of other input files"],
        ),
    ],
)
def test_only_what_would_be_replaced_or_dropped_is_refused(change, said):
    found = refusals(SPEC, replace(SPEC, **change))
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


@given(
    frames=st.integers(1, 2000),
    per_shard=st.integers(1, 200),
    region=st.none() | st.builds(Region, *[st.integers(0, 100)] * 4),
    levels=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    codec=st.sampled_from(["lz4", "zstd", "raw"]),
    notes=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_a_spec_survives_json(frames, per_shard, region, levels, codec, notes):
    spec = replace(
        SPEC,
        frames=frames,
        frames_per_shard=per_shard,
        valid_region=region,
        levels_WH=tuple(levels),
        codec=codec,
        notes=notes,
    )
    again = StoreSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.fingerprint == spec.fingerprint


@given(frames=st.integers(1, 2000), per_shard=st.integers(1, 200))
def test_shards_cover_every_frame_once(frames, per_shard):
    spec = replace(SPEC, frames=frames, frames_per_shard=per_shard)
    covered = [row for shard in range(spec.shards) for row in spec.shard_frames(shard)]
    assert covered == list(range(frames))


@given(frames=st.integers(1, 200_000), span=st.integers(1, 200))
def test_shards_are_few_large_and_do_not_cut_chunks(frames, span):
    per_shard = default_frames_per_shard(frames, span)
    assert 1 <= per_shard <= min(128, frames)
    if span <= min(128, frames):
        assert per_shard % span == 0
