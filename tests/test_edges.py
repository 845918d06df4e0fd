"""The compiled operator beside OpenCV's calls, which define it; `test_field` has both against the formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfield.edges import COMPILED
from gfield.field import FieldKernel, FieldParams
from gfield.frame import InputError

from .reference_field import synthetic_picture
from .test_field import pictures_and_regions, same

compiled_only = pytest.mark.skipif(not COMPILED, reason="the compiled operator is not there")


@compiled_only
@given(pictures_and_regions(), st.tuples(st.integers(0, 2040), st.integers(0, 2040)).map(sorted), st.booleans())
def test_compiled_operator_is_opencvs(picture_and_region, low_high, auto):
    rgb, region = picture_and_region
    params = FieldParams(auto=True) if auto else FieldParams(*low_high)
    kernels = [FieldKernel(params, compiled=compiled) for compiled in (True, False)]
    dirty = np.full(rgb.shape[:2], np.nan, np.float16)
    assert same(kernels[0](rgb, region, dirty), kernels[1](rgb, region))
    assert same(kernels[0](rgb, region), dirty)


@compiled_only
@pytest.mark.parametrize("low_high", [(0, 0), (1, 2040), (0, 2040), (50, 200), (100, 101)])
def test_compiled_operator_is_opencvs_on_whole_pictures(low_high):
    for seed, shape in enumerate([(480, 640), (479, 641), (7, 2000), (2000, 3)]):
        rgb = synthetic_picture(*shape, seed)
        noise = np.random.default_rng(seed).integers(-20, 21, rgb.shape)
        rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
        compiled, opencv = (FieldKernel(FieldParams(*low_high), compiled=chosen)(rgb) for chosen in (True, False))
        assert same(compiled, opencv)


@compiled_only
def test_an_edge_is_followed_through_the_whole_picture():
    """One strong end, and a weak line that winds through all rows: the walk must reach its other end."""
    grey = np.full((201, 203), 100, np.uint8)
    for row in range(2, 199, 8):
        grey[row : row + 4, 2:200] = 115
        grey[row : row + 8, 196:200] = 115 if row // 8 % 2 == 0 else grey[row : row + 8, 196:200]
        grey[row : row + 8, 2:6] = 115 if row // 8 % 2 else grey[row : row + 8, 2:6]
    grey[2:6, 2:6] = 200
    rgb = np.repeat(grey[..., None], 3, axis=2)
    compiled, opencv = (FieldKernel(FieldParams(50, 200), compiled=chosen)(rgb) for chosen in (True, False))
    assert same(compiled, opencv)
    assert np.count_nonzero(compiled[150:]) > 500


def test_compiled_operator_is_refused_where_it_is_not_the_same():
    for params in (FieldParams(l2_gradient=True), FieldParams(variant="grmc")):
        assert not FieldKernel(params).compiled
        with pytest.raises(InputError, match="no compiled operator"):
            FieldKernel(params, compiled=True)


@compiled_only
@pytest.mark.parametrize(
    "changes",
    [
        {"grey": np.zeros(100, np.uint8)},
        {"height": 0},
        {"height": 11},
        {"width": -1},
        {"width": 2**62},
        {"out": np.zeros(79, np.float16)},
        {"out": np.zeros(200, np.uint8)[1:161]},
        {"first": -1},
        {"first": 2**62},
        {"stride": 7},
        {"stride": 2**62},
        {"low": -1},
        {"low": 201},
        {"high": 2041},
        {"work": np.zeros(100, np.uint8)},
    ],
)
def test_compiled_code_refuses_what_would_leave_its_buffers(changes):
    from gfield import _edges

    values = {
        "grey": np.zeros((12, 10), np.uint8),
        "height": 10,
        "width": 8,
        "out": np.zeros((10, 8), np.float16),
        "first": 0,
        "stride": 8,
        "low": 50,
        "high": 200,
        "work": np.zeros(_edges.workspace_bytes(10, 8), np.uint8),
    }
    _edges.edge_field(*values.values())
    with pytest.raises(ValueError, match="do not fit together"):
        _edges.edge_field(*{**values, **changes}.values())


def test_compiled_code_refuses_pictures_without_pixels():
    edges = pytest.importorskip("gfield._edges", reason="the compiled operator is not there", exc_type=ImportError)
    for height, width in ((0, 5), (5, 0), (-1, 5), (2**40, 2**40), (1, 2**31)):
        with pytest.raises(ValueError, match="1 pixel or more"):
            edges.workspace_bytes(height, width)
