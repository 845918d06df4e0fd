"""`gfield view` as its reader meets it, in a real browser: what is shown is what the store and the operator have."""

from __future__ import annotations

import base64
import gzip
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import cli
import gfield
from gfield.field import FieldParams, gradient_field
from gfield.pictures import depth_picture, depth_range, field_picture
from gfield.store import Store, open_store

from .browser import NARROW, WIDE, overflow, resized
from .test_view_server import make3d_folder, picture_store, pictures  # noqa: F401 (fixtures)
from .viewing import served

ROOT = Path(__file__).parents[1]
SMALL = (80, 60)
NAMELESS = """() => [...document.querySelectorAll("input, select, button, .stage, pre, svg")].filter((element) => {
  const named = element.getAttribute("aria-label") || element.getAttribute("aria-labelledby");
  return !named && !element.labels?.length && !element.textContent.trim();
}).map((element) => element.outerHTML)"""


@pytest.fixture(scope="module")
def server(small_store):
    with served(small_store) as server:
        yield server


@pytest.fixture
def own_store(small_store, tmp_path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(small_store, tmp_path / "nyu.zarr")
    return tmp_path / "nyu.zarr"


def shown(page, row: object, level: str = "80x60", by: str = "") -> None:
    """Wait until the page says that it shows this."""
    page.wait_for_selector(f'main[data-shown="{row} {level} {by}"]', state="attached")


def opened(page, server, row: int = 0, level: str = "80x60", **more: str):
    """The page, once it shows a frame."""
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    page.goto(f"{server.address}#row={row}&level={level}{rest}")
    shown(page, row, level)
    return page


def pixels(page, canvas: str) -> np.ndarray:
    """What a canvas shows: (H, W, 3) uint8, red first."""
    url = page.locator(canvas).evaluate("(canvas) => canvas.toDataURL()")
    encoded = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def hover(page, panel: str, x: int, y: int, size_WH: tuple[int, int] = SMALL) -> None:
    """Put the mouse on a pixel of a panel's picture."""
    page.locator(f"#{panel}-panel .stage").scroll_into_view_if_needed()
    box = page.locator(f"#{panel}-panel .stage").bounding_box()
    page.mouse.move(box["x"] + (x + 0.5) / size_WH[0] * box["width"], box["y"] + (y + 0.5) / size_WH[1] * box["height"])


def told(page, panel: str) -> str:
    return page.locator(f"#{panel}-panel output").inner_text()


def metres(store: Store, row: int, x: int, y: int, key: str = "80x60/depth") -> str:
    value = float(store.read(key, [row])[0][y, x])
    return f"{value:.3f} m" if value > 0 else "no depth"


def test_a_frame_is_shown_as_its_contact_sheet_would(page, server, small_store):
    store = open_store(small_store)
    opened(page, server, row=4)
    assert page.title().startswith("nyu.zarr")
    rgb, field, depth = (store.read(f"80x60/{name}", [4])[0] for name in ("rgb", "gradient", "depth"))
    np.testing.assert_array_equal(pixels(page, "#rgb-panel canvas"), rgb)
    wanted = field_picture(field, SMALL).astype(int)
    assert np.abs(pixels(page, "#field-panel canvas") - wanted).max() <= 1
    wanted = depth_picture(depth, SMALL, depth_range([depth])).astype(int)
    assert np.abs(pixels(page, "#depth-panel canvas") - wanted).max() <= 2, "the colour beside at most"
    assert page.locator("#frame-name").inner_text() == store.names[4]
    assert page.locator("#frame-split").inner_text() == store.splits[4]


def test_what_lies_under_the_pointer_is_the_stores(page, server, small_store):
    store = open_store(small_store)
    opened(page, server, row=2)
    field_HW = store.read("80x60/gradient", [2])[0]
    y, x = (int(v) for v in np.argwhere(field_HW > 0)[50])
    for panel, (at_x, at_y) in {"rgb": (0, 0), "depth": (79, 59), "field": (x, y)}.items():
        hover(page, panel, at_x, at_y)
        assert told(page, "depth") == metres(store, 2, at_x, at_y)
        rgb = " ".join(map(str, store.read("80x60/rgb", [2])[0][at_y, at_x]))
        assert told(page, "rgb").split(")")[1].strip() == rgb
        assert told(page, "rgb").startswith(f"({at_x}, {at_y})")
        assert told(page, "field") == f"{float(field_HW[at_y, at_x]):.1f}"
    page.mouse.move(1, 1)
    assert told(page, "field").endswith("on edges")


def test_keys_alone_are_enough(page, server, small_store):
    store = open_store(small_store)
    opened(page, server)
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("ArrowRight")
    shown(page, 1)
    page.keyboard.press("ArrowRight")
    shown(page, 2)
    page.keyboard.press("ArrowLeft")
    shown(page, 1)
    # In a picture they move the pointer, and say what is there.
    page.locator("#depth-panel .stage").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert told(page, "depth") == metres(store, 1, 41, 40)
    assert page.locator("#spoken").inner_text().endswith(f"depth {metres(store, 1, 41, 40)}")
    shown(page, 1)
    page.keyboard.press("Escape")
    # Every control can be come to by Tab, and shows it.
    seen = set()
    page.locator("body").evaluate("() => document.activeElement.blur()")
    for _ in range(50):
        page.keyboard.press("Tab")
        outlined = page.evaluate("""() => {
          const at = document.activeElement;
          const drawn = at.type === "radio" ? at.nextElementSibling : at;
          return [at.name || at.closest("[id]")?.id, getComputedStyle(drawn).outlineStyle];
        }""")
        if outlined[0] is None:
            continue  # the page itself, between its end and its beginning
        assert outlined[1] != "none", outlined
        seen.add(outlined[0])
    assert {"split", "scene", "name", "scrub", "level", "layout", "low-slide", "high", "auto", "copy", "scale"} <= seen


def test_frames_are_chosen_by_split_scene_name_click_and_slider(page, server):
    opened(page, server)
    assert page.locator("#found").inner_text() == "10 frames"
    page.select_option("#split", "test")
    shown(page, 6)
    assert page.locator("#place").inner_text() == "1 of 3"
    page.select_option("#split", "")
    page.fill("#scene", "kitchen_0001")
    shown(page, 3)
    page.fill("#scene", "")
    page.fill("#name", "9")
    shown(page, 8)
    assert page.locator("#found").inner_text() == "1 frame"
    page.fill("#name", "nothing has this name")
    page.wait_for_selector("#frame-name:has-text('No such frame')")
    page.fill("#name", "")
    shown(page, 0)
    page.locator("#list button").nth(5).click()
    shown(page, 5)
    assert page.locator("#list [aria-current]").count() == 1
    page.locator("#scrub").fill("9")
    shown(page, 9)
    assert page.locator("#on").is_disabled()
    page.wait_for_url("**row=9**")
    page.reload()
    shown(page, 9)


@pytest.fixture(scope="module")
def many_frames(tmp_path_factory) -> Path:
    """A store of 110 small pictures, each of another grey."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "pictures").mkdir()
    for grey in range(110):
        cv2.imwrite(str(folder / "pictures" / f"{grey:03d}.png"), np.full((48, 64, 3), grey, np.uint8))
    source = gfield.open_images(folder / "pictures", size_WH=(64, 48))
    gfield.build_store(source, folder / "many.zarr", gfield.make_spec(source, levels_WH=[(64, 48)]))
    return folder / "many.zarr"


def test_many_frames_come_a_page_at_a_time(page, many_frames):
    with served(many_frames) as server:
        opened(page, server, row=47, level="64x48")
        assert page.locator("#list li").count() == 48
        assert page.locator("#page").inner_text() == "1\u201348"
        page.keyboard.press("ArrowRight")  # over the edge of a page
        shown(page, 48, "64x48")
        assert page.locator("#page").inner_text() == "49\u201396"
        assert page.locator("#list [aria-current=true]").inner_text().startswith("048.png")
        assert pixels(page, "#rgb-panel canvas").flat[0] == 48
        page.locator("#page-on").click()
        shown(page, 96, "64x48")
        assert page.locator("#list li").count() == 14
        assert page.locator("#page-on").is_disabled()
        page.locator("#scrub").fill("3")
        shown(page, 3, "64x48")
        assert page.locator("#list [aria-current=true]").inner_text().startswith("003.png")


def test_levels_are_switched(page, server, small_store):
    store = open_store(small_store)
    opened(page, server, row=1)
    page.check("input[value='160x120']")
    shown(page, 1, "160x120")
    np.testing.assert_array_equal(pixels(page, "#rgb-panel canvas"), store.read("160x120/rgb", [1])[0])
    hover(page, "depth", 100, 90, (160, 120))
    assert told(page, "depth") == metres(store, 1, 100, 90, "160x120/depth")


def test_one_is_laid_over_the_other(page, server, small_store):
    store = open_store(small_store)
    opened(page, server, row=3)
    page.check("input[value=over]")
    assert not page.locator("#rgb-panel").is_visible()
    lower, upper = "#over-panel canvas >> nth=0", "#over-panel canvas >> nth=1"
    rgb, field, depth = (store.read(f"80x60/{name}", [3])[0] for name in ("rgb", "gradient", "depth"))
    np.testing.assert_array_equal(pixels(page, lower), rgb)
    alpha = page.locator(upper).evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)"
    )
    np.testing.assert_array_equal(np.array(alpha).reshape(60, 80) > 0, field > 0)
    page.locator("#mix").fill("35")
    assert page.locator(upper).evaluate("(canvas) => canvas.style.opacity") == "0.35"
    assert page.locator("#mix-value").inner_text() == "35 %"
    page.select_option("#over", "depth")
    wanted = depth_picture(depth, SMALL, depth_range([depth])).astype(int)
    assert np.abs(pixels(page, upper) - wanted).max() <= 2
    page.select_option("#under", "depth")
    assert page.locator("#over").input_value() == "field", "nothing is laid over itself"
    hover(page, "over", 30, 20)
    assert metres(store, 3, 30, 20) in told(page, "over")


def test_slid_thresholds_give_the_operators_field_and_reset(page, server, small_store):
    store = open_store(small_store)
    opened(page, server, row=5)
    rgb_HWC, region = store.read("80x60/rgb", [5])[0], store.spec.level_region(SMALL)
    before = pixels(page, "#field-panel canvas")

    def is_shown(by: str, **options: object) -> None:
        shown(page, 5, by=by)
        field_HW = gradient_field(rgb_HWC, valid_region=region, **options)
        drawn = pixels(page, "#field-panel canvas")
        assert np.abs(drawn - field_picture(field_HW, SMALL).astype(int)).max() <= 1
        y, x = (int(v) for v in np.argwhere(field_HW > 0)[-1])
        hover(page, "field", x, y)
        assert told(page, "field") == f"{float(field_HW[y, x]):.1f}"

    page.locator("#high-slide").fill("420")
    is_shown("50-420-0-0", low=50, high=420)
    page.locator("#low-slide").fill("430")  # pushes the other one
    is_shown("430-430-0-0", low=430, high=430)
    page.locator("#high").fill("40")
    is_shown("40-40-0-0", low=40, high=40)
    page.locator("#l2").check()
    is_shown("40-40-0-1", low=40, high=40, l2_gradient=True)
    page.locator("#auto").check()
    is_shown("40-40-1-1", auto=True, l2_gradient=True)
    assert page.locator("#high-slide").is_disabled()
    assert "--auto --l2-gradient" in page.locator("#command").inner_text()
    page.locator("#reset").click()
    shown(page, 5)
    np.testing.assert_array_equal(pixels(page, "#field-panel canvas"), before)
    assert page.locator("#low").input_value() == "50"
    assert page.locator("#reset").is_disabled()


def test_slid_thresholds_stay_for_the_next_frame_and_are_sent_whole(page, server, small_store):
    """The response itself is the operator's field, bit for bit."""
    store = open_store(small_store)
    opened(page, server, row=0)
    page.locator("#high-slide").fill("300")
    shown(page, 0, by="50-300-0-0")
    with page.expect_response(lambda answer: "/field?" in answer.url) as caught:
        page.keyboard.press("Escape")
        page.locator("#on").click()
    shown(page, 1, by="50-300-0-0")
    body = caught.value.body()
    field_HW = np.frombuffer(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body, "<f2").reshape(60, 80)
    wanted = gradient_field(store.read("80x60/rgb", [1])[0], 50, 300, store.spec.level_region(SMALL))
    np.testing.assert_array_equal(field_HW, wanted)


def test_the_printed_command_applies_what_was_slid(page, nyu_mat, own_store):
    with served(own_store, nyu_mat) as server:
        opened(page, server)
        page.locator("#high-slide").fill("310")
        page.locator("#low-slide").fill("75")
        page.wait_for_selector("#command:has-text('--high 310')")
        page.wait_for_selector("#command:has-text('--low 75')")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator("#copy").click()
        page.wait_for_selector("#copy:has-text('Copied')")
        command = page.evaluate("() => navigator.clipboard.readText()")
        assert command == page.locator("#command").text_content()
        result = CliRunner().invoke(cli.gfield, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        assert FieldParams.from_dict(open_store(own_store).spec.operator) == FieldParams(75, 310)


def only_refusals(complaints: list[str]) -> bool:
    """Whether a page has had to complain of nothing but answers that were refusals; takes them out."""
    refusals = [one for one in complaints if "Failed to load resource" in one]
    told = len(refusals) == len(complaints) > 0
    complaints.clear()
    return told


def test_a_store_that_is_built_anew_under_the_page_is_told_and_reloaded(page, complaints, source, own_store):
    with served(own_store) as server:
        opened(page, server)
        spec = gfield.make_spec(source, levels_WH=[(640, 480), (160, 120), SMALL], field=FieldParams(30, 90))
        gfield.build_store(source, own_store, spec)
        page.keyboard.press("ArrowRight")
        trouble = page.locator("#trouble")
        trouble.wait_for()
        assert "built anew since this page was opened; reload the page" in trouble.inner_text()
        assert page.locator("#rgb-panel canvas").is_visible(), "what was there stays, dimmed"
        assert only_refusals(complaints)
        assert page.locator("#frame-name").inner_text() == "0001", "of the pictures that are still there"
        page.locator("#reload").click()
        page.wait_for_selector("#facts:has-text('thresholds 30 and 90')")
        shown(page, 0)
        assert not trouble.is_visible()
        assert page.locator("#high").input_value() == "90"
        field_HW = open_store(own_store).read("80x60/gradient", [0])[0]
        assert np.abs(pixels(page, "#field-panel canvas") - field_picture(field_HW, SMALL).astype(int)).max() <= 1


def test_a_server_that_has_ended_is_told(page, complaints, small_store):
    words = [sys.executable, "-m", "cli", "view", str(small_store), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split(": ")[1].split()[0]
        page.goto(f"{address}#level=80x60")
        shown(page, 0)
        process.terminate()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#trouble:has-text('No answer from gfield view. Is it still running?')")
    assert only_refusals(complaints)


def test_a_store_that_is_removed_is_told(page, complaints, own_store):
    with served(own_store) as server:
        opened(page, server)
        shutil.rmtree(own_store)
        page.locator("#high-slide").fill("300")
        page.locator("#trouble").wait_for()
        assert "nyu.zarr: no such store" in page.locator("#trouble").inner_text()
        page.locator("#reload").click()
        page.wait_for_load_state("networkidle")
        page.locator("#trouble").wait_for()
        assert "no such store" in page.locator("#trouble").inner_text()
        assert only_refusals(complaints)


def test_a_damaged_frame_is_told_in_its_panel_and_the_others_are_shown(page, complaints, own_store):
    store = open_store(own_store)
    shard = own_store / store.arrays["80x60/depth"].shard_path(0)
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    with served(own_store) as server:
        opened(page, server)
        assert "checksum is" in page.locator("#depth-panel .why").inner_text()
        assert "gfield verify --repair" in page.locator("#depth-panel .why").inner_text()
        np.testing.assert_array_equal(pixels(page, "#rgb-panel canvas"), store.read("80x60/rgb", [0])[0])
        page.locator("#on").click()
        shown(page, 1)
        assert page.locator("#depth-panel .why").count() == 0
        hover(page, "depth", 5, 5)
        assert told(page, "depth") == metres(store, 1, 5, 5)
        assert only_refusals(complaints)


def test_pictures_without_depth_and_frames_that_could_not_be_read(page, picture_store):  # noqa: F811
    with served(picture_store) as server:
        row = open_store(picture_store).splits.tolist().index("excluded")
        opened(page, server, row=row, level="64x48")
        assert "Lost.png" in page.locator("#reason").inner_text()
        assert not page.locator("#panels").is_visible()
        page.locator("#list button").first.click()
        shown(page, 0, "64x48")
        assert page.locator("#panels").is_visible()
        assert not page.locator("#depth-panel").is_visible()
        assert not page.locator("#depth-card").is_visible()
        page.check("input[value=over]")
        assert page.locator("#under option").all_inner_texts() == ["RGB"]
        assert not overflow(resized(page, NARROW))


def test_the_sensors_own_grid_stands_in_for_depth(page, make3d_folder, tmp_path):  # noqa: F811
    source = gfield.open_make3d(make3d_folder)
    gfield.build_store(source, tmp_path / "make3d.zarr", gfield.make_spec(source, levels_WH=[(240, 320)]))
    store = open_store(tmp_path / "make3d.zarr")
    with served(store.path) as server:
        opened(page, server, level="240x320")
        hover(page, "depth", 100, 250, (240, 320))
        assert told(page, "depth") == metres(store, 0, 100, 250, "240x320/depth")
        page.select_option("#depths", "depth_native")
        page.wait_for_selector("#depth-panel canvas[width='305'][height='55']", state="attached")
        # The cell of 55 x 305 that the pixel's centre lies in.
        hover(page, "depth", 100, 250, (240, 320))
        assert told(page, "depth") == metres(store, 0, int(100.5 / 240 * 305), int(250.5 / 320 * 55), "depth_native")
        assert "coarse" in (page.locator("#depth-panel canvas").get_attribute("class") or "")


@pytest.mark.parametrize("layout", ["side", "over"])
def test_it_is_to_be_read_narrow_and_wide(page, server, layout):
    opened(page, server, level="640x480", layout=layout)
    for width in (NARROW, 700, 1100, WIDE):
        assert not overflow(resized(page, width)), width
        boxes = page.evaluate(
            "() => [...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().toJSON())"
        )
        seen = [box for box in boxes if box["width"]]
        assert len(seen) == (1 if layout == "over" else 3)
        stacked = len({round(box["x"]) for box in seen}) == 1
        assert stacked == (layout == "over" or width <= 700)
