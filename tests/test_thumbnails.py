"""What a notebook shows of an open store."""

from __future__ import annotations

import re
import shutil
import sys
from base64 import b64decode
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from gfield.sources.images import open_images
from gfield.store import Store, open_store
from gfield.thumbnails import FRAMES, SIDE

from .odd_source import odd_store
from .trees import tree


class Page(HTMLParser):
    """Tags in order, attributes of pictures, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(store: Store) -> Page:
    html = store._repr_html_()
    assert len(html) < 200_000
    page = Page(html)
    assert not page.open
    assert {*page.tags} <= {"div", "p", "b", "table", "tr", "th", "td", "figure", "img", "figcaption", "small", "pre"}
    return page


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR_RGB)


def test_a_store_shows_its_arrays_and_frames(built):
    store = open_store(built)
    page = page_of(store)
    assert "nyu.zarr: NYU Depth v2, labelled frames, 10 frames" in page.text
    for key, array in store.arrays.items():
        assert f"{key}{' x '.join(map(str, (10, *array.frame_shape)))}{array.dtype}" in page.text
    rows = [int(row) for row in re.findall(r"(\d+): \d+, (?:train|test|unlabeled)", page.text)]
    assert rows == [0, 3, 6, 9]
    for row, picture in zip(rows, page.pictures, strict=True):
        shown_HWC = decoded(picture["src"])
        assert shown_HWC.shape == (3 * 120 + 2 * 4, SIDE, 3)
        wanted_HWC = cv2.resize(store.read("320x240/rgb", [row])[0], (160, 120), interpolation=cv2.INTER_AREA)
        assert np.abs(shown_HWC[:120].astype(int) - wanted_HWC).mean() < 8, "the frame's own picture"
        assert picture["alt"] == f"RGB, gradient field and depth of {store.names[row]}"
    assert "yellow" in page.text


def test_names_from_a_store_are_text_and_excluded_frames_are_not_shown(tmp_path):
    page = page_of(open_store(odd_store(tmp_path)))
    assert "0: <script>alert('1')</script>, train" in page.text
    assert "excluded" in page.text.partition("array")[0], "counted"
    assert "excluded" not in page.text.partition("array")[2], "not shown"
    assert len(page.pictures) == FRAMES


def test_a_name_of_markup_is_escaped(tmp_path):
    shutil.move(odd_store(tmp_path), tmp_path / "<img onerror=x>.zarr")
    page = page_of(open_store(tmp_path / "<img onerror=x>.zarr"))
    assert "<img onerror=x>.zarr: odd" in page.text
    assert all("onerror" not in picture for picture in page.pictures)


@pytest.mark.filterwarnings("error")
def test_a_store_without_depth_shows_the_rest(tmp_path):
    import gfield

    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), rng.integers(0, 255, (480, 640, 3), np.uint8))
    source = open_images(tmp_path / "photos", size_WH=(640, 480))
    gfield.build_store(source, tmp_path / "s", gfield.make_spec(source, levels_WH=[(80, 60)]))
    page = page_of(open_store(tmp_path / "s"))
    assert [decoded(picture["src"]).shape for picture in page.pictures] == [(2 * 60 + 4, 80, 3)] * 2
    assert page.pictures[0]["alt"].startswith("RGB and gradient field of ")
    assert "yellow" not in page.text


@pytest.mark.parametrize("harm", ["bit", "shard", "texts", "store", "no OpenCV"])
def test_a_store_that_cannot_be_read_is_still_shown_as_text(built, tmp_path, monkeypatch, harm):
    shutil.copytree(built, tmp_path / "nyu.zarr")
    store = open_store(tmp_path / "nyu.zarr")
    shard = tmp_path / "nyu.zarr/320x240/gradient/c/0/0/0"
    if harm == "bit":
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
    elif harm == "shard":
        shard.unlink()
    elif harm == "texts":
        (tmp_path / "nyu.zarr/split/c/0").write_bytes(b"")
    elif harm == "store":
        shutil.rmtree(tmp_path / "nyu.zarr")
    else:
        monkeypatch.setitem(sys.modules, "cv2", None)
    page = page_of(store)
    assert page.tags == ["pre"]
    assert repr(store) in page.text
    assert "no pictures: " in page.text


def test_looking_changes_nothing(built):
    before = tree(built)
    page_of(open_store(built))
    assert tree(built) == before
