"""The figures of `gfield view`, in a real headless Chromium: first frame, slider to new field, weight of the page."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from large_store import write_large_store
from measure import Figure, Line, gfield_command, tell
from plan import Plan, build_by_command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
PICTURES = {"rgb", "field", "depth", "thumb"}
MANY = 400_000
SLIDES = 8

# From the event that a user's hand makes to the frame of the screen that has what it asked for.
TIMED = """async ([act, id, value]) => {
  const main = document.querySelector("main");
  const before = main.dataset.shown;
  const shown = new Promise((done) => {
    const watch = new MutationObserver(() => {
      if (main.dataset.shown === before) return;
      watch.disconnect();
      requestAnimationFrame(() => setTimeout(done));
    });
    watch.observe(main, { attributeFilter: ["data-shown"] });
  });
  const start = performance.now();
  const element = document.getElementById(id);
  if (act === "slide") {
    element.value = value;
    element.dispatchEvent(new Event("input", { bubbles: true }));
  } else element.click();
  await shown;
  return performance.now() - start;
}"""


def view_figure(plan: Plan) -> Figure:
    """How soon there is something to see, and how soon something else."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        return Figure("gfield view", [], [f"not measured: {error}"])
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        return Figure("gfield view", [], [f"not measured: none of {', '.join(NAMES)} is there"])
    store = plan.fresh("viewed.zarr")
    frames = min(plan.seed.frames, plan.frames)
    build_by_command(plan.mat(frames), store)
    many = plan.fresh("many.zarr")
    write_large_store(many, 1000 if plan.quick else MANY)
    rounds = plan.short_rounds
    told: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}: gfield view")
            for name, values in _round(browser, store).items():
                told.setdefault(name, []).extend(values)
        browser.close()
    listed = _lists(many)
    for path in (store, many):
        plan.fresh(path.name)
    targets = {"start to first frame": 1000.0, "slider to new field": 100.0, "page without pictures": 300.0}
    lines = [
        Line(name, "kB" if "page" in name else "ms", values, ("<=", targets[name]) if name in targets else None)
        for name, values in told.items()
    ]
    lines += [Line(name, "ms", [value]) for name, value in listed.items()]
    return Figure(
        f"gfield view, {frames} frames at 640x480, headless Chromium that runs already",
        lines,
        ["start: of the process, to its first frame on the screen, imports and browser's page included"],
        {"frames": frames},
    )


def _round(browser: Browser, store: Path) -> dict[str, list[float]]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    with closing(context):
        page = context.new_page()
        weights: list[int] = []
        page.on("response", lambda answer: weights.append(_weight(answer)))
        started = time.perf_counter()
        with _served(store) as address:
            printed = time.perf_counter()
            page.goto(address, wait_until="commit")
            page.wait_for_selector("main[data-shown]", state="attached")
            first = time.perf_counter()
            page.wait_for_selector("#command:not(:empty)")
            page.wait_for_load_state("networkidle")
            return {
                "start to first frame": [1000 * (first - started)],
                "of it, to the address": [1000 * (printed - started)],
                "of it, in the browser": [1000 * (first - printed)],
                "slider to new field": _slid(page),
                "next frame": [page.evaluate(TIMED, ["click", "on", ""]) for _ in range(SLIDES)],
                "page without pictures": [sum(weights) / 1000],
                "for comparison: a line of text": [_line_of_text(browser, address)],
            }


def _line_of_text(browser: Browser, address: str) -> float:
    """What the browser takes by itself: a refusal of the same server, in a page of its own that is there already."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    with closing(context):
        page = context.new_page()
        started = time.perf_counter()
        page.goto(f"{address}nothing", wait_until="load")
        return 1000 * (time.perf_counter() - started)


def _slid(page: Page) -> list[float]:
    times: list[float] = [page.evaluate(TIMED, ["slide", "high-slide", 240 + 20 * i]) for i in range(SLIDES)]
    return times


def _weight(answer: Any) -> int:
    """Bytes of a response that is no picture: page, script, style, lists."""
    name = answer.url.split("?")[0].rsplit("/", 1)[1]
    return 0 if name in PICTURES else int(answer.headers.get("content-length", 0))


@contextmanager
def _served(store: Path) -> Iterator[str]:
    """The command, and the address that it prints."""
    command = [*gfield_command(), "view", str(store), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split(": ", 1)[1].split()[0]
        finally:
            process.terminate()


def _lists(store: Path) -> dict[str, float]:
    """What the page of a store of many frames asks for, without a browser, first and again."""
    from gfield.view.opened import Shown
    from gfield.view.routes import answer

    times: dict[str, float] = {}
    started = time.perf_counter()
    shown = Shown(store)
    root = shown.now().root
    count = f"{len(shown.now().store):,} frames"
    times[f"{count}: open"] = 1000 * (time.perf_counter() - started)
    queries: dict[str, tuple[str, dict[str, str]]] = {
        "facts and first page": ("store", {}),
        "a page in the middle": ("frames", {"place": str(len(shown.now().store) // 2)}),
        "search of names, first": ("frames", {"name": "a_out/17"}),
        "search of names, next": ("frames", {"name": "a_out/18"}),
        "scenes": ("scenes", {"scene": "room_1"}),
    }
    for what, (name, query) in queries.items():
        started = time.perf_counter()
        answer(name, {"store": root, **query}, shown, None)
        times[f"{count}: {what}"] = 1000 * (time.perf_counter() - started)
    return times
