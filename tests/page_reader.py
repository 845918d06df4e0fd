"""A page as its words, links and pictures, which says where it is not well formed."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br", "img", "meta"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; a tag that is not closed where it should be is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.words, self.images = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]
        self.images += [dict(attrs) for _ in range(tag == "img")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("path", "rect", "stop"), "only elements of SVG close themselves"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert "script" not in self.open
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        """All words, whatever kind of space is between them."""
        return " ".join(" ".join(self.words).split())
