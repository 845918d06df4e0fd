"""The operator against its formula, against the released code, and against fields that were stored once."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gfield.field
from gfield.field import FieldKernel, FieldParams, auto_thresholds, gradient_field
from gfield.frame import InputError, Region
from gfield.grmc import pil_grey
from gfield.quads import half_bits

from .reference_field import GOLDEN, grmc_field, pillow_grey, sobel, sobel_field, synthetic_picture

SHARED = Path(__file__).parents[2] / "shared" / "data"


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal bit for bit, so that -0 is not 0."""
    return one.dtype == other.dtype == np.float16 and one.tobytes() == other.tobytes()


@st.composite
def pictures(draw: st.DrawFn, least: int = 1) -> np.ndarray:
    """Noise and scenes of any shape."""
    height, width = draw(st.tuples(st.integers(least, 40), st.integers(least, 40)))
    seed = draw(st.integers(0, 2**32))
    if draw(st.booleans()):
        return synthetic_picture(height, width, seed)
    levels = draw(st.sampled_from([(0, 256), (100, 140), (0, 2)]))
    noise = np.random.default_rng(seed).integers(*levels, (height, width, 3), dtype=np.uint8)
    return noise * 255 if levels == (0, 2) else noise


@st.composite
def pictures_and_regions(draw: st.DrawFn) -> tuple[np.ndarray, Region]:
    picture = draw(pictures())
    height, width, _ = picture.shape
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    return picture, Region(top, bottom, left, right)


@pytest.fixture(scope="module", autouse=True, params=["compiled", "OpenCV"])
def _operator(request):
    """Every test of this file sees both forms of the operator."""
    if request.param == "compiled" and not gfield.field.COMPILED:
        pytest.skip("the compiled operator is not there: it is made at installation, where a C compiler is")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gfield.field, "COMPILED", request.param == "compiled")
        assert FieldKernel().compiled == (request.param == "compiled")
        yield


thresholds = st.tuples(st.integers(0, 600), st.integers(0, 600)).map(lambda pair: (min(pair), max(pair)))


@given(pictures(), thresholds, st.booleans())
def test_field_is_the_formula(rgb, low_high, l2_gradient):
    field = gradient_field(rgb, *low_high, l2_gradient=l2_gradient)
    assert same(field, sobel_field(rgb, *low_high, l2_gradient=l2_gradient))


@given(pictures(), thresholds)
def test_grmc_is_the_released_code(rgb, low_high):
    field = gradient_field(rgb, *low_high, variant="grmc")
    assert same(field, grmc_field(rgb, *low_high).astype(np.float16))


@given(pictures_and_regions(), st.sampled_from(["sobel", "grmc"]))
def test_region_is_the_operator_on_that_part_alone(picture_and_region, variant):
    rgb, region = picture_and_region
    rows, columns = slice(region.top, region.bottom), slice(region.left, region.right)
    expected = np.zeros(rgb.shape[:2], np.float16)
    expected[rows, columns] = gradient_field(rgb[rows, columns].copy(), variant=variant)
    out = np.full(rgb.shape[:2], 7, np.float16)
    assert gradient_field(rgb, valid_region=region, variant=variant, out=out) is out
    assert same(out, expected)


@pytest.mark.parametrize("variant", ["sobel", "grmc"])
@pytest.mark.parametrize("size", ["64x48", "51x37"])
def test_golden_fields(size, variant):
    with np.load(GOLDEN) as golden:
        expected = golden[f"{size}/{variant}"]
        assert np.count_nonzero(expected) > 50
        assert same(gradient_field(golden[f"{size}/rgb"], variant=variant), expected)


def test_kernel_keeps_nothing_from_one_picture_to_the_next():
    kernel = FieldKernel(FieldParams(60, 150))
    rng = np.random.default_rng(5)
    for step in range(60):
        height, width = rng.choice([20, 30], 2)
        rgb = synthetic_picture(height, width, step)
        region = None if step % 3 else Region(2, height - 3, 1, width - 2)
        assert same(kernel(rgb, region), gradient_field(rgb, 60, 150, region))


@pytest.mark.parametrize("variant", ["sobel", "grmc"])
def test_any_strides_in_and_out(variant):
    rgb = synthetic_picture(40, 64, 1)
    expected = gradient_field(rgb, variant=variant)
    views = {
        "part": np.pad(rgb, ((3, 2), (1, 4), (0, 0)))[3:43, 1:65],
        "planar": rgb.transpose(2, 0, 1).copy().transpose(1, 2, 0),
        "column-major": np.asfortranarray(rgb),
        "upside down": rgb[::-1].copy()[::-1],
        "from blue-green-red": rgb[..., ::-1].copy()[..., ::-1],
        "every other": rgb.repeat(2, axis=0).repeat(2, axis=1)[::2, ::2],
    }
    for name, view in views.items():
        assert same(gradient_field(view, variant=variant), expected), name
    outs = {
        "part": np.ones((44, 70), np.float16)[1:41, 3:67],
        "column-major": np.ones((40, 64), np.float16, order="F"),
        "two bytes off": np.ones(40 * 64 + 1, np.float16)[1:].reshape(40, 64),
    }
    for name, out in outs.items():
        gradient_field(rgb, variant=variant, out=out)
        assert same(out, expected), name


def test_float16_is_the_exact_root_rounded_for_every_possible_sum():
    sums = np.arange(2 * 1020**2 + 1)
    roots = np.sqrt(sums.astype(np.float32))
    assert np.array_equal(half_bits(roots), np.sqrt(sums.astype(np.float64)).astype(np.float16).view(np.uint16))


def test_largest_value_is_as_documented():
    corners = np.array(list(itertools.product((0, 255), repeat=9)), np.uint8).reshape(-1, 3, 3)
    squares = [sum(int(d[1, 1]) ** 2 for d in sobel(grey)) for grey in corners]
    assert max(squares) == 20 * 255**2  # a convex function of the nine pixels, so largest at a corner


@given(pictures())
def test_grey_of_pillow(rgb):
    grey = np.empty(rgb.shape[:2], np.uint8)
    pil_grey(rgb, grey)
    assert np.array_equal(grey, pillow_grey(rgb))


def test_grmc_through_pillow_itself():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for seed in range(10):
        noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        rgb = noise if seed % 2 else synthetic_picture(60, 80, seed)
        assert np.array_equal(np.array(image.fromarray(rgb).convert("L")), pillow_grey(rgb))
        through_pillow = np.array(image.fromarray(grmc_field(rgb).astype(np.float64)))
        assert through_pillow.dtype == np.float32
        assert same(gradient_field(rgb, variant="grmc"), through_pillow.astype(np.float16))


def test_grmc_loses_edges_as_the_released_code_does():
    assert not gradient_field(np.full((9, 12, 3), 77, np.uint8), variant="grmc").any()
    rising = np.zeros((9, 12, 3), np.uint8)
    rising[:, 6:] = 60  # the Sobel of this step is 240, whose square is a multiple of 256
    for step in (rising, rising[:, ::-1]):  # a falling step is negative, clipped at 0
        assert gradient_field(step).any()
        assert not gradient_field(step, variant="grmc").any()


def test_one_thread_or_four():
    rgb = synthetic_picture(480, 640, 3)
    before = cv2.getNumThreads()
    try:
        fields = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            fields.append([gradient_field(rgb, variant=variant) for variant in ("sobel", "grmc")])
            fields[-1].append(gradient_field(rgb, auto=True))
    finally:
        cv2.setNumThreads(before)
    assert all(same(one, four) for one, four in zip(*fields, strict=True))


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


@given(pictures(), st.booleans())
def test_auto_thresholds_cover_the_quantile_and_no_more(rgb, l2_gradient):
    low, high = auto_thresholds(rgb, l2_gradient=l2_gradient)
    du, dv = sobel(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    norms = np.sqrt(du**2 + dv**2) if l2_gradient else abs(du) + abs(dv)
    assert low == high // 4
    assert (norms <= high).mean() >= 0.94
    assert high == 32 or (norms <= high - 1).mean() < 0.94


@given(pictures(), st.booleans())
def test_auto_thresholds_of_mirrored_turned_and_inverted_pictures(rgb, l2_gradient):
    grey = rgb[..., 0]
    expected = auto_thresholds(grey_rgb(grey), l2_gradient=l2_gradient)
    for other in (grey[::-1], grey[:, ::-1], grey.T, 255 - grey):
        assert auto_thresholds(grey_rgb(other), l2_gradient=l2_gradient) == expected


@given(pictures(), st.integers(0, 60))
def test_auto_thresholds_follow_contrast_but_not_brightness(rgb, offset):
    grey = rgb[..., 0] // 4
    _, high = auto_thresholds(grey_rgb(grey))
    assert auto_thresholds(grey_rgb(grey + offset))[1] == high
    doubled = auto_thresholds(grey_rgb(grey * 2))[1]
    assert doubled == 2 * high or high == 32 <= doubled <= 64


@given(pictures_and_regions(), st.booleans())
def test_auto_field_is_the_field_at_the_auto_thresholds(picture_and_region, l2_gradient):
    rgb, region = picture_and_region
    low, high = auto_thresholds(rgb, region, l2_gradient=l2_gradient)
    auto = gradient_field(rgb, valid_region=region, auto=True, l2_gradient=l2_gradient)
    assert same(auto, gradient_field(rgb, low, high, region, l2_gradient=l2_gradient))


def test_auto_field_of_a_bare_wall_has_next_to_no_edges():
    assert auto_thresholds(np.full((50, 50, 3), 99, np.uint8)) == (8, 32)
    wall = np.random.default_rng(0).normal(128, 1.5, (240, 320))
    assert np.count_nonzero(gradient_field(grey_rgb(wall), auto=True)) < 0.002 * wall.size


def test_auto_keeps_the_share_of_the_fixed_thresholds_on_real_frames():
    mat = SHARED / "nyu" / "nyu_depth_v2_labeled.mat"
    if not mat.exists():
        pytest.skip("no real NYU sample beside this checkout")
    with h5py.File(mat) as file:
        rgbs = [image.transpose(2, 1, 0) for image in file["images"][:]]
    region = Region(8, 473, 8, 631)

    def share(**params: bool) -> float:
        kernel = FieldKernel(FieldParams(**params))
        return float(np.mean([np.count_nonzero(kernel(rgb, region)) for rgb in rgbs])) / (465 * 623)

    assert share() == pytest.approx(0.0605, abs=0.0001)
    assert share(auto=True) == pytest.approx(0.0613, abs=0.0001)
    assert share(auto=True, l2_gradient=True) == pytest.approx(0.0604, abs=0.0001)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": -1}, "threshold low is -1, wanted an integer from 0 to 2040"),
        ({"high": 2041}, "threshold high is 2041, wanted an integer from 0 to 2040"),
        ({"low": 50.0}, "threshold low is 50.0, wanted an integer"),
        ({"low": True}, "threshold low is True, wanted an integer"),
        ({"low": 201}, "low 201 and high 200, wanted low <= high"),
        ({"auto": 1}, "auto is 1, wanted True or False"),
        ({"l2_gradient": "yes"}, "l2_gradient is 'yes', wanted True or False"),
        ({"variant": "scharr"}, "variant is 'scharr', wanted one of sobel, grmc"),
        ({"auto": True, "low": 40}, "thresholds are 40 and 200 and auto, wanted one or the other"),
        ({"auto": True, "variant": "grmc"}, "wanted fixed thresholds with grmc"),
        ({"sigma": 1}, "operator has auto, high, l2_gradient, low, sigma, variant; wanted auto, high"),
    ],
)
def test_params_are_checked(values, message):
    with pytest.raises(InputError) as raised:
        FieldParams.from_dict(FieldParams().to_dict() | values)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_params_survive_as_a_dict():
    params = FieldParams(10, 20, l2_gradient=True, variant="grmc")
    assert params.to_dict() == {
        "low": 10, "high": 20, "auto": False, "l2_gradient": True, "variant": "grmc"
    }  # fmt: skip
    assert FieldParams.from_dict(params.to_dict()) == params


RGB = np.zeros((6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("rgb", "region", "out", "message"),
    [
        (RGB[..., 0], None, None, r"picture is uint8 of shape \(6, 8\), wanted uint8 of shape \(H, W, 3\)"),
        (RGB.repeat(2, axis=2), None, None, r"picture is uint8 of shape \(6, 8, 6\)"),
        (RGB.astype(np.float32), None, None, "picture is float32"),
        (RGB.tolist(), None, None, "picture is list"),
        (RGB[:0], None, None, r"picture is uint8 of shape \(0, 8, 3\)"),
        (RGB, Region(0, 7, 0, 8), None, "valid region is rows 0:7, columns 0:8, wanted .* 6 rows, 8 columns"),
        (RGB, Region(3, 3, 0, 8), None, "valid region is rows 3:3"),
        (RGB, Region(0, 6, -1, 8), None, "columns -1:8"),
        (RGB, None, np.zeros((6, 8), np.float32), r"out is float32 of shape \(6, 8\), wanted float16"),
        (RGB, None, np.zeros((8, 6), np.float16), r"shape \(8, 6\), wanted float16 of shape \(6, 8\)"),
    ],
)
def test_arrays_are_checked(rgb, region, out, message):
    with pytest.raises(InputError, match=message):
        FieldKernel()(rgb, region, out)
