"""The page of a store: facts for people who would rather look than read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gfield.console import readable_bytes
from gfield.frame import printable
from gfield.info import store_facts
from gfield.listing import counted
from gfield.report import charts, gallery
from gfield.report.findings import WAYS, findings
from gfield.report.measures import StoreMeasures, bin_edges
from gfield.store import Store
from gfield.webpage import CSS, document, html_text, table

_LISTED = 100
_TIMES = " \N{MULTIPLICATION SIGN} "
_WORST_LISTED = 20
_SCENES = 12
_CHART_W = {"wide": 720, "narrow": 340}
_VERDICTS = {"good": "fits", "poor": "fits poorly", **{name: f"fits better {way}" for name, way in WAYS.items()}}

_CSS = """
header p{margin:.15rem 0}
.facts{display:flex;flex-wrap:wrap;gap:1px;margin:1.5rem 0;max-width:none;
background:var(--rule);border:1px solid var(--rule);border-radius:6px;overflow:hidden}
.facts div{background:var(--ground);padding:.7rem .9rem;flex:1 1 8.5rem}
.facts dt{font-weight:400;font-size:.85rem;color:var(--faint);margin:0}
.facts dd{font-size:1.35rem;white-space:nowrap;line-height:1.25;font-variant-numeric:tabular-nums}
.facts dd small{font-size:.8rem;white-space:normal;color:var(--faint);display:block}
.look li{margin:.35rem 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:.5rem 2rem}
.charts figure{margin:.5rem 0}
section>figure>figcaption,.charts figcaption{font-size:1rem;color:var(--ink);font-weight:600}
nav ul{max-width:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;margin:1rem 0;
font-size:.9rem}
.wrapped{display:block;overflow-wrap:anywhere;white-space:normal;min-width:14rem}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media print{nav{display:none}}
"""

_READING = """
<p>Depth has an edge where its inverse bends: over a plane, however slanted, it does not. Most things end with an edge
in the picture, too. The agreement is the share of depth's edges that lie within a few pixels of an edge of the
picture, less what would lie there by chance: 1 is all of them, 0 no more than by chance. Frames are ranked by it, less
half of what they would have with their depth mirrored, upside down or turned, whichever fits best.</p>
<p>A low figure is a reason to look, not a proof: a room of white walls has few edges to meet. A depth that clearly
fits better mirrored is nearly always a mirrored one.</p>
"""


def page(store: Store, measures: StoreMeasures, *, frames: int = 8, worst: int = 6) -> str:
    """The whole page, as HTML; the same for the same store, wherever it lies.

    Parameters
    ----------
    store, measures
        A store, and what was measured of it.
    frames
        How many to show of all.
    worst
        How many to show of those whose depth and picture fit worst.

    Raises
    ------
    StoreError
        If a frame that is to be shown cannot be read.
    """
    facts = store_facts(store)
    name = printable(store.path.resolve().name)
    sections = [
        ("look", "What to look at", _look(store, measures)),
        ("frames", "Frames", _frames(store, facts, measures, frames)),
        ("depth", "Depth", _depth(measures)),
        ("field", "Gradient field", _field(facts, measures)),
        ("agreement", "Do depth and picture agree?", _agreement(store, measures, worst)),
        ("missing", "Left out and excluded", _missing(facts)),
        ("arrays", "Arrays", _arrays(facts)),
        ("sources", "Made of", _sources(facts)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{text}</section>'
        for key, title, text in sections
    )
    header = (
        f"<header><h1>{html_text(name)}</h1><p>{html_text(printable(facts['title']))}</p></header>"
        f"{_key_figures(facts, measures)}{_sampled(measures)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    )
    css = f"{CSS}{_CSS}{charts.CSS}{gallery.CSS}"
    return document(f"{name}: report", f"{header}<main>{body}</main>", css)


def _key_figures(facts: Mapping[str, Any], measures: StoreMeasures) -> str:
    figures = [
        ("frames", f"{facts['frames']:,}", _split_text(facts)),
        ("scenes", f"{facts['scenes']:,}", ""),
        ("largest level", next(iter(facts["arrays"])).split("/")[0].replace("x", _TIMES), ""),
        ("stored", readable_bytes(sum(array["bytes"] for array in facts["arrays"].values())), facts["codec"]),
        ("field on edges", _median([f.coverage for f in measures.frames], share=True), "median of frames"),
        ("without depth", _median([f.holes for f in measures.frames if f.holes is not None], share=True),
         "median of frames"),
        ("agreement", _median([f.agreement.upright for f in measures.frames if f.agreement]), "median of frames"),
    ]  # fmt: skip
    items = "".join(
        f"<div><dt>{name}</dt><dd>{html_text(value)}{f'<small>{html_text(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in figures
        if value
    )
    return f"<dl class=facts>{items}</dl>"


def _split_text(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in sorted(facts["splits"].items()))


def _median(values: Sequence[float], *, share: bool = False) -> str:
    if not values:
        return ""
    middle = float(np.median(values))
    return f"{middle * 100:.1f} %" if share else f"{middle:.2f}"


def _sampled(measures: StoreMeasures) -> str:
    told = f"Measured at {measures.level.replace('x', _TIMES)}"
    if len(measures.frames) < measures.readable:
        told += f" on {len(measures.frames):,} of {measures.readable:,} frames, evenly spread"
    return f'<p class="faint">{told}.</p>'


def _look(store: Store, measures: StoreMeasures) -> str:
    told = findings(store, measures)
    if not told:
        return "<p>Nothing stands out.</p>"
    return f"<ul class=look>{''.join(f'<li>{html_text(printable(one))}</li>' for one in told)}</ul>"


def _frames(store: Store, facts: Mapping[str, Any], measures: StoreMeasures, frames: int) -> str:
    scenes = {split: len(set(store.scenes[store.splits == split].tolist()) - {""}) for split in facts["splits"]}
    splits = [
        [html_text(split), f"{count:,}", f"{scenes[split]:,}"] for split, count in sorted(facts["splits"].items())
    ]
    text = table("Frames and scenes by split", ["split", "frames", "scenes"], splits, numbers=(1, 2))
    found = Counter(store.scenes.tolist())
    found.pop("", None)
    if found and found.most_common(1)[0][1] > 1:
        order = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        most = ", ".join(f"{scene} ({count:,})" for scene, count in order[:_SCENES])
        more = f", and {len(order) - _SCENES:,} more" if len(order) > _SCENES else ""
        text += f"<p>Scenes with most frames: {html_text(printable(most))}{more}.</p>"
    if measures.frames:
        text += gallery.contact_sheet_html(store, measures, frames)
    return text


def _depth(measures: StoreMeasures) -> str:
    if not any(counts.any() for counts in measures.depths.values()):
        return ""
    drawn = {
        kind: charts.depth_histogram(measures.depths, bin_edges(), width=width) for kind, width in _CHART_W.items()
    }
    holes = [frame.holes for frame in measures.frames if frame.holes is not None]
    raw = [frame.raw_holes for frame in measures.frames if frame.raw_holes is not None]
    figures = [("Pixels without depth", holes), ("Pixels without raw depth", raw)]
    return (
        "<figure><figcaption>Depth of pixels, by split; bins of equal ratio, so they grow with distance</figcaption>"
        + "".join(f'<div class="{kind}">{svg}</div>' for kind, svg in drawn.items())
        + f"</figure>{_small_charts([figure for figure in figures if figure[1]])}"
    )


def _small_charts(figures: Sequence[tuple[str, Sequence[float]]]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{title}</figcaption>{charts.share_histogram(values, told=title)}"
        f'<p class="faint">{_extent(values)}</p></figure>'
        for title, values in figures
    )
    return f"<div class=charts>{drawn}</div>"


def _extent(values: Sequence[float]) -> str:
    low, middle, high = (f"{value * 100:.1f}" for value in np.percentile(values, (0, 50, 100)))
    return f"{low} to {high} %, median {middle} %".replace(" %", "&nbsp;%")


def _field(facts: Mapping[str, Any], measures: StoreMeasures) -> str:
    operator = [[html_text(name), html_text(str(value))] for name, value in facts["operator"].items()]
    region = facts["valid_region"]
    where = "the whole picture"
    if region:
        sides = (f"rows {region['top']}:{region['bottom']}", f"columns {region['left']}:{region['right']}")
        where = f"{', '.join(sides)} of the largest level"
    operator.append(["region", where])
    chart = _small_charts([("Pixels on edges", [f.coverage for f in measures.frames])]) if measures.frames else ""
    return chart + table("Parameters of the operator", ["parameter", "value"], operator)


def _agreement(store: Store, measures: StoreMeasures, worst: int) -> str:
    told = measures.worst()
    if not measures.depths:
        return ""
    few = len(measures.frames) - len(told)
    silent = f"<p>In {few:,} of {len(measures.frames):,} frames there are too few edges to tell.</p>" if few else ""
    if not told:
        return silent + _READING
    upright = [frame.agreement.upright for frame in told if frame.agreement is not None]
    chart = charts.share_histogram(
        upright, told="Agreement of frames", low=min(-0.25, float(np.floor(min(upright) * 4)) / 4), mark=0.0
    )
    rows = []
    for frame in told[:_WORST_LISTED]:
        fits = frame.agreement
        assert fits is not None
        flips = (fits.upright, fits.mirrored, fits.upside_down, fits.turned)
        names = [str(store.names[frame.row]), str(store.splits[frame.row])]
        rows.append(
            [f"{frame.row}", *(html_text(printable(text)) for text in names), *map(gallery.figure, flips),
             f"{fits.edges:,}", _VERDICTS[fits.verdict]]
        )  # fmt: skip
    heads = ["row", "frame", "split", "agreement", "mirrored", "upside down", "turned", "depth edges", "verdict"]
    shown = gallery.worst_html(store, told[:worst]) if worst else ""
    return (
        f"{_READING}<div class=charts><figure><figcaption>Agreement of frames</figcaption>{chart}</figure></div>"
        f"{silent}"
        f"<h3>Worst frames</h3>{shown}"
        f"{table('Frames whose depth and picture fit worst', heads, rows, numbers=(0, 3, 4, 5, 6, 7))}"
    )


def _missing(facts: Mapping[str, Any]) -> str:
    parts = []
    for title, key, heads in (
        ("Frames that could not be read", "excluded", ["frame", "reason"]),
        ("Input that is part of no frame", "left_out", ["file", "reason"]),
    ):
        entries = facts[key]
        rows = [[_wrapped(_entry_name(entry)), _wrapped(entry["reason"])] for entry in entries[:_LISTED]]
        if rows:
            more = len(entries) - len(rows)
            rest = f"<p>{more:,} more, which <code>gfield info --json</code> lists.</p>" if more else ""
            parts.append(f"<h3>{title}</h3>{table(title, heads, rows)}{rest}")
    return "".join(parts) or "<p>Every frame could be read, and all input is part of one.</p>"


def _entry_name(entry: Mapping[str, Any]) -> str:
    return f"{entry['frame']} ({entry['name']})" if "frame" in entry else str(entry["name"])


def _wrapped(text: str) -> str:
    return f'<span class="wrapped">{html_text(printable(text))}</span>'


def _arrays(facts: Mapping[str, Any]) -> str:
    rows = [
        [html_text(key), _TIMES.join(map(str, one["shape"])), one["dtype"], readable_bytes(one["bytes"]),
         f"<code>{html_text(one['fingerprint'])}</code>"]
        for key, one in facts["arrays"].items()
    ]  # fmt: skip
    heads = ["array", "shape", "type", "stored", "fingerprint"]
    each = counted(facts["frames_per_shard"], "frame")
    shards = f"{counted(facts['shards'], 'shard')} of {each} an array, codec {facts['codec']}."
    root = f"<p>Root hash <code>{html_text(facts['root'])}</code>; format {facts['format']}.</p>"
    return f"{table('Arrays', heads, rows, numbers=(3,))}<p>{html_text(shards)}</p>{root}"


def _sources(facts: Mapping[str, Any]) -> str:
    entries = facts["source_files"]
    rows = [
        [_wrapped(entry["name"]), readable_bytes(entry["size"]), f"<code>{html_text(entry['sha256'])}</code>"]
        for entry in entries[:_LISTED]
    ]
    more = len(entries) - len(rows)
    rest = f"<p>{more:,} more, which <code>gfield info --json</code> lists.</p>" if more else ""
    software = ", ".join(f"{name} {version}" for name, version in facts["software"].items())
    files = table("Files that pixels come from", ["file", "size", "SHA-256"], rows, numbers=(1,)) if rows else ""
    return f"{files}{rest}<p>Built with {html_text(printable(software))}.</p>"
