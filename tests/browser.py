"""A real browser for tests of pages: headless Chromium, driven by playwright, which complains of what a user would.

``page`` is a fresh page; when its test ends, nothing may have been said on its console as an error, no script of it may
have thrown, and nothing may have been asked for from elsewhere than where the page itself came from. A test that means
to provoke a complaint looks for it in ``complaints`` and takes it out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

NARROW, WIDE = 400, 1600
HEIGHTS = {NARROW: 800, WIDE: 1000}
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")
OWN_SCHEMES = {"about", "blob", "data"}

_OVERFLOWING = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > room + 0.5);
  return wide.slice(-5).map(e => e.outerHTML.slice(0, 120)).concat("the page");
}"""


def find_chromium() -> str | None:
    """The browser's program: what $CHROMIUM names, or the first known name on the PATH."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """The browser, started once, and playwright's event loop, which is no running one between tests.

    It is suspended in this very thread while tests run. Left as it is, whatever else asks for a running loop there
    would find it, and Dask and ``asyncio.run`` would do as in a coroutine.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install playwright")
    program = find_chromium()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is there, and $CHROMIUM names none")
    playwright = sync_api.sync_playwright().start()
    loop = asyncio.get_running_loop()
    browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
    asyncio._set_running_loop(None)
    yield browser, loop
    asyncio._set_running_loop(loop)
    browser.close()
    playwright.stop()


@pytest.fixture
def complaints() -> list[str]:
    """What the page of this test has had to complain of so far."""
    return []


@pytest.fixture
def page(chromium, complaints) -> Iterator[Page]:
    """A fresh page, wide and light, that watches itself; see this module's first lines."""
    browser, loop = chromium
    asyncio._set_running_loop(loop)
    try:
        context = browser.new_context(viewport={"width": WIDE, "height": HEIGHTS[WIDE]}, color_scheme="light")
        context.set_default_timeout(20_000)
        opened = context.new_page()
        watch(opened, complaints)
        yield opened
        context.close()
    finally:
        asyncio._set_running_loop(None)
    assert not complaints, "\n".join(complaints)


def watch(page: Page, complaints: list[str]) -> None:
    """Let a page's errors, and its requests to elsewhere, be told in a list."""
    homes: set[str] = set()

    def asked(request: Request) -> None:
        if request.is_navigation_request() and request.frame == page.main_frame:
            homes.add(_home(request.url))
        elif urlsplit(request.url).scheme not in OWN_SCHEMES and _home(request.url) not in homes:
            complaints.append(f"asked for {request.url}, wanted nothing outside {', '.join(homes)}")

    page.on("request", asked)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on(
        "console",
        lambda said: complaints.append(f"console: {said.text}") if said.type in ("error", "warning") else None,
    )


def _home(url: str) -> str:
    """What a page may ask things from: its server's origin or, of a page in a file, that file alone."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "file" else f"{parts.scheme}://{parts.netloc}"


def overflow(page: Page) -> list[str]:
    """Beginnings of the elements that make a page wider than its window; none where it is to be scrolled only down."""
    found: list[str] = page.evaluate(_OVERFLOWING)
    return found


def resized(page: Page, width: int) -> Page:
    """The page, in a window of this width."""
    page.set_viewport_size({"width": width, "height": HEIGHTS.get(width, 900)})
    return page


def screenshots(page: Page, folder: Path, name: str) -> list[Path]:
    """Pictures of the whole page, narrow and wide, light and dark, as PNG files to be looked at."""
    paths = []
    for width in (NARROW, WIDE):
        for scheme in ("light", "dark"):
            resized(page, width).emulate_media(color_scheme=scheme)
            paths.append(folder / f"{name}-{width}-{scheme}.png")
            page.screenshot(path=paths[-1], full_page=True)
    return paths
