"""The report of a store: right numbers, the frames that do not fit at its head, and a page that anybody can read."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import cli
import gfield
from gfield.report.measures import bin_edges, measure_store
from gfield.report.page import page as page_of
from gfield.sample.nyu_mat import write_nyu_mat, write_splits

from .browser import NARROW, WIDE, overflow, resized
from .conftest import labelled_frame
from .page_reader import Page
from .test_make3d import add_pair

EVIL = "</style><script>alert(1)</script>&amp;\"'"


@pytest.fixture(scope="module")
def clear(frames):
    """Frames whose things stand out against what is behind them, as they hardly do in that of seed 6."""
    return [*frames[:6], *frames[8:], *(labelled_frame(seed) for seed in (11, 12))]


def run(*arguments: Any, code: int = 0) -> str:
    """The command's output; checks the exit code, and that there is no traceback."""
    result = CliRunner().invoke(cli.gfield, ["report", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def store_of(folder, frames, *, scenes=None, **options):
    """A store of labelled frames, through the .mat that NYU comes as."""
    folder.mkdir(exist_ok=True)
    mat = folder / "nyu_depth_v2_labeled.mat"
    write_nyu_mat(mat, frames, scenes or [f"kitchen_{n:04d}" for n in range(len(frames))], ["kitchen"] * len(frames))
    write_splits(folder / "splits.mat", range(1, len(frames) + 1), [])
    source = gfield.open_nyuv2(mat)
    gfield.build_store(source, folder / "nyu.zarr", gfield.make_spec(source, levels_WH=[(320, 240)], **options))
    return folder / "nyu.zarr"


def facts_of(store) -> dict:
    return json.loads(run(store, "--json"))


def mirrored(frame, names):
    return frame._replace(**{name: np.ascontiguousarray(getattr(frame, name)[:, ::-1]) for name in names})


# Frames that do not fit


@pytest.mark.parametrize("names", [["depth_HW"], ["rgb_HWC"]], ids=["depth", "picture"])
def test_the_one_frame_that_is_mirrored_is_the_worst_and_called_so(clear, names, tmp_path):
    changed = [mirrored(frame, names) if n == 4 else frame for n, frame in enumerate(clear)]
    store = store_of(tmp_path / "x", changed)
    facts = facts_of(store)
    assert facts["measured"]["worst"][0] == 4
    assert [f["row"] for f in facts["measured"]["frames"] if f["agreement"]["verdict"] != "good"] == [4]
    assert facts["measured"]["frames"][4]["agreement"]["verdict"] == "mirrored"
    assert facts["findings"][0].startswith("Depth fits better mirrored in frame 4 (0005).")
    said = run(store)
    assert "look: Depth fits better mirrored in frame 4 (0005)." in said
    text = Page((tmp_path / "x" / "nyu.zarr.html").read_text()).text
    shown = text[text.index("Worst frames") :]
    assert shown.index("0005") < min(
        shown.index(f"{n + 1:04d}") for n in range(10) if n != 4 and f"{n + 1:04d}" in shown
    )
    assert "mirrored it would be" in shown


def test_depths_of_each_others_pictures_are_the_two_worst(clear, tmp_path):
    changed = list(clear)
    changed[2], changed[7] = (
        clear[2]._replace(depth_HW=clear[7].depth_HW),
        clear[7]._replace(depth_HW=clear[2].depth_HW),
    )
    facts = facts_of(store_of(tmp_path / "x", changed))
    assert set(facts["measured"]["worst"][:2]) == {2, 7}
    told = {f["row"] for f in facts["measured"]["frames"] if f["agreement"]["verdict"] != "good"}
    assert told == {2, 7}


def test_a_store_that_is_mirrored_as_a_whole_is_told_so(clear, tmp_path):
    facts = facts_of(store_of(tmp_path / "x", [mirrored(frame, ["depth_HW"]) for frame in clear[:5]]))
    assert "Depth fits better mirrored in 5 frames: " in facts["findings"][0]
    assert "Most of the store's depth is mirrored against its pictures." in facts["findings"][0]


def test_right_frames_are_not_accused(clear, tmp_path):
    facts = facts_of(store_of(tmp_path / "x", clear))
    assert facts["findings"] == []
    assert {frame["agreement"]["verdict"] for frame in facts["measured"]["frames"]} == {"good"}


def test_the_one_mirrored_frame_among_real_ones_is_the_worst(real_nyu, tmp_path):
    from gfield.sample.nyu_mat import LabelledFrame

    source = gfield.open_nyuv2(real_nyu)
    taken = [frame.arrays for frame in source.read(0, 8, frozenset({"rgb", "depth"}))]
    zero = np.zeros((480, 640), np.float32)
    real = [LabelledFrame(a["rgb"].copy(), a["depth"].copy(), zero, zero.astype(np.uint16)) for a in taken]
    assert not facts_of(store_of(tmp_path / "right", real))["findings"]
    real[3] = mirrored(real[3], ["depth_HW"])
    facts = facts_of(store_of(tmp_path / "wrong", real))
    assert facts["measured"]["worst"][0] == 3
    assert [f["agreement"]["verdict"] for f in facts["measured"]["frames"]].count("mirrored") == 1
    assert facts["measured"]["frames"][3]["agreement"]["verdict"] == "mirrored"


# Numbers


def test_shares_and_counts_are_those_of_the_arrays(clear, tmp_path):
    holed = [frame._replace(depth_HW=np.where(np.arange(640) < 64 * n, 0, frame.depth_HW).astype(np.float32))
             for n, frame in enumerate(clear[:3])]  # fmt: skip
    path = store_of(tmp_path / "x", holed, optional=("raw_depth",))
    store, facts = gfield.open_store(path), facts_of(path)
    rows = range(3)
    field, depth, raw = (store.read(f"320x240/{name}", rows) for name in ("gradient", "depth", "raw_depth"))
    region = store.spec.level_region((320, 240))
    inside = field[:, region.top : region.bottom, region.left : region.right]
    for row, frame in enumerate(facts["measured"]["frames"]):
        assert frame["coverage"] == pytest.approx((inside[row] > 0).mean())
        assert frame["holes"] == pytest.approx(0.1 * row)
        assert frame["raw_holes"] == pytest.approx((raw[row] == 0).mean())
    edges = np.array(facts["measured"]["depth_bin_edges_m"])
    assert edges[[0, 20, -1]] == pytest.approx([0.1, 1, 1000])
    wanted, _ = np.histogram(depth[np.isfinite(depth)], bins=edges)
    assert np.abs(np.array(facts["measured"]["depth_pixels"]["train"]) - wanted).sum() <= 4  # on a bin's very end
    assert facts["measured"]["level"] == "320x240"
    assert facts["frames"] == facts["measured"]["of"] == 3


def test_nearer_and_farther_than_all_bins_is_counted_at_the_ends(clear, tmp_path):
    depth = np.full((480, 640), 0.01, np.float32)
    depth[:240] = 5000
    facts = facts_of(store_of(tmp_path / "x", [clear[0]._replace(depth_HW=depth)]))
    counts = facts["measured"]["depth_pixels"]["train"]
    assert (counts[0], counts[-1], sum(counts)) == (320 * 120, 320 * 120, 320 * 240)
    assert len(counts) == len(bin_edges()) - 1


def test_a_sample_is_spread_evenly_and_the_page_says_so(built, tmp_path):
    out = tmp_path / "page.html"
    said = run(built, "--sample", 4, "--out", out)
    assert said.startswith("4 frames of 10 measured at 320x240\n")
    assert "on 4 of 10 frames, evenly spread" in Page(out.read_text()).text
    store = gfield.open_store(built)
    assert [f.row for f in measure_store(store, sample=4).frames] == [0, 3, 6, 9]
    assert [f.row for f in measure_store(store, sample=99).frames] == list(range(10))


def test_the_page_depends_on_the_store_alone(built, tmp_path, monkeypatch):
    run(built, "--out", tmp_path / "a.html")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(built, tmp_path / "elsewhere" / "nyu.zarr")
    monkeypatch.chdir(tmp_path / "elsewhere" / "nyu.zarr")
    run(".")
    assert (tmp_path / "elsewhere" / "nyu.zarr.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_scenes_of_both_splits_are_found(clear, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    write_nyu_mat(folder / "nyu_depth_v2_labeled.mat", clear[:4], ["a_1", "b_1", "a_1", "c_1"], ["x"] * 4)
    write_splits(folder / "splits.mat", [1, 2], [3, 4])
    source = gfield.open_nyuv2(folder / "nyu_depth_v2_labeled.mat")
    gfield.build_store(source, folder / "nyu.zarr", gfield.make_spec(source, levels_WH=[(320, 240)]))
    assert facts_of(folder / "nyu.zarr")["findings"] == ["1 scene of both train and test: a_1."]


# All kinds of stores


def test_one_frame_alone_has_a_page(clear, tmp_path):
    store = store_of(tmp_path / "x", clear[:1])
    assert run(store).startswith("1 frame measured at 320x240\n")
    assert "1 train" in Page(store.with_name("nyu.zarr.html").read_text()).text


def test_a_store_without_depth_and_with_a_picture_that_cannot_be_read(tmp_path):
    import cv2

    folder = tmp_path / "<script>alert(1)"
    folder.mkdir()
    for n in range(2):
        cv2.imwrite(str(folder / f"{n}.png"), labelled_frame(n).rgb_HWC[..., ::-1])
    (folder / "bad.png").write_bytes(b"no picture")
    source = gfield.open_images(tmp_path)
    spec = gfield.make_spec(source, levels_WH=[(320, 240)])
    gfield.build_store(source, tmp_path / "pictures.zarr", spec, on_error="skip")
    run(tmp_path / "pictures.zarr")
    page = Page((tmp_path / "pictures.zarr.html").read_text())
    assert "1 frame could not be read" in page.text
    assert "a JPEG or PNG wanted" in page.text
    assert "<script>alert(1)/0.png" in page.text
    assert "agree" not in page.text
    assert len(page.images) == 4
    facts = facts_of(tmp_path / "pictures.zarr")
    assert [(f["row"], f["holes"], f["agreement"]) for f in facts["measured"]["frames"]] == [
        (0, None, None),
        (1, None, None),
    ]


def test_portrait_frames_with_a_laser_of_its_own_grid(tmp_path):
    for n in range(2):
        add_pair(tmp_path / "make3d", f"p-{n}t000")
    source = gfield.open_make3d(tmp_path / "make3d")
    gfield.build_store(source, tmp_path / "make3d.zarr", gfield.make_spec(source))
    facts = facts_of(tmp_path / "make3d.zarr")
    assert facts["measured"]["level"] == "240x320"
    run(tmp_path / "make3d.zarr")
    page = Page((tmp_path / "make3d.zarr.html").read_text())
    assert {(image["width"], image["height"]) for image in page.images} == {("240", "320")}


def test_clear_without_any_depth_are_told(clear, tmp_path):
    bare = clear[0]._replace(depth_HW=np.zeros((480, 640), np.float32))
    store = store_of(tmp_path / "x", [bare, clear[1]])
    assert "There is no depth at all in frame 0 (0001)." in facts_of(store)["findings"]
    run(store)
    assert (
        "In 1 of 2 frames there are too few edges to tell." in Page(store.with_name("nyu.zarr.html").read_text()).text
    )


# Mistakes, and what is wrong with a store


def test_a_damaged_shard_is_one_line_and_leaves_no_page(built, tmp_path):
    shutil.copytree(built, tmp_path / "nyu.zarr")
    shard = tmp_path / "nyu.zarr" / "320x240" / "depth" / "c" / "2" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 0xFF
    shard.write_bytes(data)
    said = run(tmp_path / "nyu.zarr", code=1)
    assert said.startswith("Error: ")
    assert "320x240/depth" in said
    assert "gfield verify --repair" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("page.txt", "ends in '.txt', wanted .html"),
        ("nyu.zarr/page.html", "inside the store"),
        ("nowhere/page.html", "nowhere, wanted one that is there"),
    ],
)
def test_a_place_that_will_not_do_is_refused_before_anything_is_read(built, tmp_path, monkeypatch, out, told):
    (tmp_path / "nyu.zarr").symlink_to(built)
    monkeypatch.setattr("gfield.report.measures.measure_store", None)
    said = run(tmp_path / "nyu.zarr", "--out", tmp_path / out, code=1)
    assert told in said
    assert said.count("\n") == 1


def test_no_store_is_one_line(tmp_path):
    said = run(tmp_path, code=1)
    assert said.count("\n") == 1
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}.html"))


def test_json_writes_a_page_only_where_out_says(built, tmp_path):
    facts_of(built)
    assert not built.with_name("nyu.zarr.html").exists()
    run(built, "--json", "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_page_that_is_there_is_replaced(clear, tmp_path):
    store = store_of(tmp_path / "x", clear[:1])
    page = store.with_name("nyu.zarr.html")
    page.write_text("of before")
    run(store)
    assert page.read_text().startswith("<!DOCTYPE html>")


# The page itself


@pytest.fixture(scope="module")
def reported(clear, tmp_path_factory):
    """The page of a store with evil names, its own among them, of which one frame is mirrored."""
    changed = [mirrored(frame, ["depth_HW"]) if n == 1 else frame for n, frame in enumerate(clear[:4])]
    path = store_of(tmp_path_factory.mktemp("evil") / "x", changed, scenes=["<script>alert(1)</script>"] * 4)
    store = gfield.open_store(path.rename(path.with_name("<script>.zarr")))
    store.__dict__["names"] = np.array(["0001", "0002", EVIL, "0004"])  # what other sources than NYU's may have
    page = path.with_name("page.html")
    page.write_text(page_of(store, measure_store(store), worst=4))
    return page


def test_names_are_text_and_no_markup(reported):
    page = Page(reported.read_text())
    assert page.text.count(EVIL) >= 3
    assert "<script" not in reported.read_text()
    assert any(EVIL in image["alt"] for image in page.images)


def test_the_page_needs_nothing_beside_itself(reported):
    links = [link for link in Page(reported.read_text()).links if not link.startswith(("data:image/", "#"))]
    assert links == []
    text = reported.read_text()
    assert len(text) - sum(len(link) for link in Page(text).links) < 100_000


def test_pictures_of_the_worst_frame_show_what_meets_what(reported):
    page = Page(reported.read_text())
    assert [image["alt"] for image in page.images[-12:-9]] == [
        "picture of 0002",
        "depth of 0002",
        "edges of both, frame 1",
    ]


def test_in_a_browser_it_is_readable_wide_and_narrow_light_and_dark(page, reported):
    page.goto(reported.as_uri())
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for width in (NARROW, WIDE):
            assert overflow(resized(page, width)) == []
            small = page.evaluate("""() => [...document.querySelectorAll("svg text")]
              .filter(e => e.getBoundingClientRect().width && e.getBoundingClientRect().height < 10)
              .map(e => e.textContent)""")
            assert small == []
    assert len(set(grounds)) == 2
    assert page.locator("img").count() == 4 * 6
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")


def test_in_a_browser_it_has_landmarks_headings_in_order_and_a_way_by_keyboard(page, reported):
    page.goto(reported.as_uri())
    assert page.locator("h1").count() == page.locator("main").count() == page.locator("header").count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
    assert all(after <= before + 1 for before, after in pairwise(levels))
    targets = page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert targets
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#look"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#look"
    # What scrolls sideways is reached, too, also where browsers do not see to it themselves.
    assert page.locator(".scroll:not([tabindex='0'][aria-label])").count() == 0
    resized(page, NARROW)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert "Frames whose depth and picture fit worst" in reached
