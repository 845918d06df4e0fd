"""What the pages that are files have in common: one document that needs nothing beside itself, and how it looks.

No page has a script or asks for anything, and its policy has browsers hold it to that. Every text that comes from a
file is escaped on its way in: names of frames, scenes and stores are anybody's.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

CSS = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1c1f24;--faint:#5b6068;--rule:#e3e6ea;--soft:#f5f6f8;
--good:#00684e;--bad:#9c2f00;--accent:#0061a8}
@media screen and (prefers-color-scheme:dark){:root{--ground:#15181d;--ink:#e8eaee;--faint:#a3a9b3;--rule:#2d323a;
--soft:#1d2127;--good:#4fd0a6;--bad:#f3a26a;--accent:#5cb8f2}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1.5rem 1rem 4rem;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0 .25rem}
h2{font-size:1.3rem;margin:2.75rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.75rem 0 .25rem}
p,ul,dl{margin:.5rem 0;max-width:46rem}
ul{padding-left:1.2rem}
a{color:var(--accent)}
.faint,figcaption,.notes{color:var(--faint);font-size:.9rem}
.notes li{margin:.15rem 0}
.lead{font-size:1.15rem;line-height:1.45;margin:1rem 0 .25rem;padding:.75rem 1rem;background:var(--soft);
border-left:4px solid var(--accent);max-width:none}
.warn{padding:.6rem 1rem;border:1px solid var(--bad);border-radius:4px;max-width:none}
.scroll{overflow-x:auto;max-width:100%;margin:.75rem 0}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .5rem;text-align:left;white-space:nowrap;vertical-align:baseline}
tbody td{border-top:1px solid var(--rule)}
tbody{border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{padding-left:0}
thead th{color:var(--faint);font-weight:600;border-bottom:2px solid var(--rule)}
td.n,th.n{text-align:right}
td.long{white-space:normal;min-width:11rem}
figure{margin:1rem 0}
.narrow{display:none}
dt{font-weight:600;margin-top:.6rem}
dd{margin:0}
code,pre{font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--soft);padding:.75rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;border-radius:4px}
@media (max-width:40rem){body{font-size:15px;padding-top:.75rem}h1{font-size:1.5rem}.lead{font-size:1.05rem}
.wide{display:none}.narrow{display:block}th,td{padding:.3rem .5rem}}
@media print{body{max-width:none;font-size:11pt}.scroll{overflow:visible}h2{break-after:avoid}
figure,table{break-inside:avoid}}
"""
"""Letters, colours and tables, light and dark, on screens from 360 pixels and in print."""


def html_text(text: str) -> str:
    """Text as HTML; a number keeps its unit on its line."""
    return escape(text).replace(" %", "&nbsp;%")


def document(title: str, body: str, css: str) -> str:
    """A whole page.

    Parameters
    ----------
    title
        As text.
    body
        As HTML.
    css
        All of its style.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html_text(title)}</title>'
        f"<style>{css}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table that scrolls where it is too wide, also by the keyboard.

    Parameters
    ----------
    caption
        What it shows, for those who do not see it.
    heads, rows
        As HTML.
    numbers
        Columns of numbers.
    """
    kinds = [" class=n" if place in numbers else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{text}</th>' for kind, text in zip(kinds, heads, strict=True))
    lines = "".join(
        f"<tr>{''.join(f'<td{kind}>{text}</td>' for kind, text in zip(kinds, row, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def image(data: bytes, kind: str, size_WH: tuple[int, int], told: str) -> str:
    """A picture inside the page.

    Parameters
    ----------
    data, kind
        A file's bytes, and what it is: ``"png"`` or ``"jpeg"``.
    size_WH
        In pixels.
    told
        For those who do not see it.
    """
    code = base64.b64encode(data).decode("ascii")
    width, height = size_WH
    return f'<img src="data:image/{kind};base64,{code}" width="{width}" height="{height}" alt="{escape(told)}">'
