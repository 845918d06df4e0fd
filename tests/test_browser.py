"""The browser that other tests use sees what it is to see, and leaves the thread's event loops alone."""

from __future__ import annotations

import asyncio

from .browser import NARROW, WIDE, overflow, resized, screenshots

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>t</title>'


def test_a_sound_page_brings_no_complaint(page, complaints, tmp_path):
    (tmp_path / "page.html").write_text(f"{HEAD}<p id='p'>first</p><script>p.textContent = 'second'</script>")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#p").inner_text() == "second"
    pictures = screenshots(page, tmp_path, "page")
    assert len({path.read_bytes() for path in pictures}) >= 2
    assert not complaints


def test_errors_and_requests_to_elsewhere_are_complained_of(page, complaints, tmp_path):
    outside = "http://127.0.0.1:9/outside.png"
    (tmp_path / "beside.css").write_text("p { color: red }")
    (tmp_path / "page.html").write_text(
        f"{HEAD}<link rel='stylesheet' href='beside.css'><img src='{outside}' alt=''>"
        "<script>console.error('said so'); throw new Error('thrown')</script>"
    )
    page.goto((tmp_path / "page.html").as_uri())
    told = "\n".join(complaints)
    complaints.clear()
    assert "asked for http://127.0.0.1:9/outside.png" in told
    assert "beside.css" in told, "a page in a file is to be that one file"
    assert "console: said so" in told
    assert "script: thrown" in told


def test_what_is_wider_than_the_window_is_found(page, tmp_path):
    (tmp_path / "page.html").write_text(f"{HEAD}<body style='margin:0'><div id='wide' style='width:500px'>wide</div>")
    page.goto((tmp_path / "page.html").as_uri())
    assert not overflow(resized(page, WIDE))
    assert 'id="wide"' in overflow(resized(page, NARROW))[0]


def test_no_loop_is_left_running_beside_it(chromium):
    async def nothing() -> str:
        return "done"

    assert asyncio.run(nothing()) == "done"
    assert chromium[0].is_connected()
