"""The site of the documentation: built strictly, whole, and without anything from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import cli
import gfield

from .documents import PAGES, ROOT


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """`make docs`, into another folder. With --quiet MkDocs would not hear its own warnings."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Assets(HTMLParser):
    """What a browser loads for a page by itself, and what the page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in ("img", "script", "iframe", "source", "video", "audio", "embed") and "src" in values:
            self.loaded.append(values["src"])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values.get("href", ""))
        elif tag == "a":
            self.linked.append(values.get("href", ""))


def assets(page: Path) -> Assets:
    parser = Assets()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_every_page_is_built_and_can_be_reached(site):
    built = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    assert built == {
        *(page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in PAGES),
        "study/index.html",  # a page of its own, which `train report` wrote
    }
    seen, ahead = set(), ["index.html"]
    while ahead:
        page = ahead.pop()
        if page in seen or not (site / page).is_file():
            continue
        seen.add(page)
        for link in assets(site / page).linked:
            path = unquote(urlsplit(link).path)
            if path.endswith(".html") and not urlsplit(link).scheme:
                ahead.append(os.path.normpath(f"{os.path.dirname(page)}/{path}").lstrip("/"))
    assert built <= seen


def test_no_page_loads_anything_from_elsewhere(site):
    loaded = 0
    for page in site.rglob("*.html"):
        for asset in assets(page).loaded:
            assert not urlsplit(asset).netloc, f"{page.name} loads {asset}"
            loaded += 1
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style
    assert loaded > 100


def test_every_file_that_a_page_loads_is_there(site):
    for page in site.rglob("*.html"):
        for asset in assets(page).loaded:
            path = unquote(urlsplit(asset).path)
            if path and not asset.startswith("data:") and page.name != "404.html":
                assert (page.parent / path).is_file(), f"{page.name}: {asset}"


def test_the_reference_has_every_public_name(site):
    page = (site / "reference" / "gfield.html").read_text(encoding="utf-8")
    for name in set(gfield.__all__) - {"__version__"}:
        assert f'id="gfield.{gfield._HOMES[name]}.{name}"' in page, name
    for parameter in ("rgb_HWC", "valid_region", "frames_per_shard"):
        assert parameter in page


def test_the_commands_page_has_every_command_and_option(site):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "Sentinel" not in page  # as other styles of mkdocs-click have it of options without a default
    missing = [word for group in (cli.gfield, cli.train) for word in words_of(group) if word not in page]
    assert not missing


def words_of(command) -> list[str]:
    """Names of a command's options, and of its commands and theirs."""
    words = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    for name, below in getattr(command, "commands", {}).items():
        words += [name, *words_of(below)]
    return words


def test_a_link_to_nowhere_fails_the_build(tmp_path):
    """And a page that says it, as the strict build is to find all of that."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    (tmp_path / "docs" / "site").mkdir(parents=True)
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = settings.replace("hooks: [docs/site/navigation.py]\n", "")
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text("# Home\n\nTo [nowhere](nowhere.md).\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout + done.stderr


LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page):
    for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / link).exists(), link


def test_the_readme_stays_short():
    """What it is, two commands, one picture, one table of figures, links."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 90
    assert readme.count("![") == 1
    assert "make demo" in readme
    assert "make test" in readme
    assert "environment of its own" in readme
    assert "not reached" in readme


def test_the_figures_of_the_readme_are_those_of_the_pages():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Figures")[1].split("## ")[0]
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("figures.md", "reliability.md"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line[:2] == "| "]
    numbers = [number for row in rows[1:] for number in re.findall(r"[\d.,]*\d(?:x| s|,\d+)?", row[1])]
    assert len(numbers) >= 8
    assert not [number for number in numbers if number not in pages]
