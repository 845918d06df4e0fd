"""Frames of a store as pictures inside a page: some of all, and those whose depth and picture fit worst."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from gfield.frame import printable
from gfield.pictures import U1, DepthRange, depth_picture, depth_range, field_picture
from gfield.report.agreement import EdgePair
from gfield.report.charts import depth_scale
from gfield.report.findings import WAYS
from gfield.report.measures import FrameMeasures, StoreMeasures, edges_of, measured_level
from gfield.spec import level_name
from gfield.store import Store
from gfield.webpage import html_text, image

_TILE_SIDE = 320
_JPEG_QUALITY = 82
_GROUND, _PICTURE, _MET, _LONE = (16, 19, 24), (104, 112, 124), (53, 201, 156), (255, 112, 48)

CSS = """
.frames{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1.25rem 1.5rem;
margin:1rem 0;padding:0;list-style:none;max-width:none}
.frames figure{margin:0}
.tiles{display:grid;grid-auto-columns:1fr;grid-auto-flow:column;gap:4px}
.tiles img{display:block;width:100%;height:auto;border-radius:3px;background:var(--soft)}
.frames figcaption{margin-top:.35rem;line-height:1.35;overflow-wrap:anywhere}
.frames figcaption b{color:var(--ink);font-weight:600}
.frames .verdict{color:var(--bad)}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;align-items:center}
.key>svg.scale{width:18rem;flex:none;max-width:100%}
.swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.4rem;vertical-align:-.05rem}
"""


def contact_sheet_html(store: Store, measures: StoreMeasures, frames: int) -> str:
    """Frames that were measured, evenly spread: picture, field and depth, with the scale of depth."""
    places = np.unique(np.linspace(0, len(measures.frames) - 1, frames).astype(int))
    rows = [measures.frames[place].row for place in places.tolist()]
    shown = _Shown(store, rows)
    items = [
        f"<li><figure><div class=tiles>{shown.rgb(row)}{shown.field(row)}{shown.depth(row)}</div>"
        f"<figcaption>{_caption(store, row)}</figcaption></figure></li>"
        for row in rows
    ]
    return f"{shown.key()}<ul class=frames>{''.join(items)}</ul>"


def worst_html(store: Store, worst: Sequence[FrameMeasures]) -> str:
    """Frames whose depth and picture fit worst: picture, depth and the edges of both."""
    shown = _Shown(store, [frame.row for frame in worst])
    items = []
    for frame in worst:
        row = frame.row
        edges = edges_of(store, measured_level(store), row)
        tile = shown.picture(edges_picture(edges, shown.size_WH), f"edges of both, frame {row}")
        items.append(
            f"<li><figure><div class=tiles>{shown.rgb(row)}{shown.depth(row)}{tile}</div>"
            f"<figcaption>{_caption(store, row)}<br>{_verdict(frame)}</figcaption></figure></li>"
        )
    swatches = "".join(
        f'<span><span class="swatch" style="background:rgb{colour}"></span>{told}</span>'
        for colour, told in (
            (_PICTURE, "edge of the picture"),
            (_MET, "edge of depth on one of the picture"),
            (_LONE, "edge of depth where the picture has none"),
        )
    )
    return f'<p class="key faint">{swatches}</p>{shown.key()}<ul class=frames>{"".join(items)}</ul>'


def edges_picture(pair: EdgePair, size_WH: tuple[int, int]) -> U1:
    """Edges of picture and depth in colours, (H, W, 3)."""
    near_HW = pair.near_picture_HW
    grid_HWC = np.full((*pair.picture_HW.shape, 3), _GROUND, np.uint8)
    grid_HWC[pair.picture_HW] = _PICTURE
    grid_HWC[pair.depth_HW & near_HW] = _MET
    grid_HWC[pair.depth_HW & ~near_HW] = _LONE
    return np.asarray(cv2.resize(grid_HWC, size_WH, interpolation=cv2.INTER_NEAREST), np.uint8)


def figure(value: float) -> str:
    """Two decimals, with a minus that is as wide as a digit."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


class _Shown:
    """Frames of one level, read once, as tiles of one size and one scale of depth."""

    def __init__(self, store: Store, rows: Sequence[int]) -> None:
        level_WH = measured_level(store)
        level = level_name(level_WH)
        factor = min(1.0, _TILE_SIDE / max(level_WH))
        self.size_WH = max(1, round(level_WH[0] * factor)), max(1, round(level_WH[1] * factor))
        self._names = {row: printable(str(store.names[row])) for row in rows}
        self._rgb = dict(zip(rows, store.read(f"{level}/rgb", rows), strict=True))
        self._field = dict(zip(rows, store.read(f"{level}/gradient", rows), strict=True))
        self._depth = {}
        if f"{level}/depth" in store.arrays:
            self._depth = dict(zip(rows, store.read(f"{level}/depth", rows).astype(np.float32), strict=True))
        self._scale: DepthRange | None = depth_range(list(self._depth.values()))

    def rgb(self, row: int) -> str:
        rgb_HWC = np.asarray(cv2.resize(self._rgb[row], self.size_WH, interpolation=cv2.INTER_AREA), np.uint8)
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        done, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb_HWC[..., ::-1]), options)
        assert done
        return image(data.tobytes(), "jpeg", self.size_WH, f"picture of {self._names[row]}")

    def field(self, row: int) -> str:
        return self.picture(field_picture(self._field[row], self.size_WH), f"gradient field of {self._names[row]}")

    def depth(self, row: int) -> str:
        if row not in self._depth:
            return ""
        return self.picture(depth_picture(self._depth[row], self.size_WH, self._scale), f"depth of {self._names[row]}")

    def picture(self, rgb_HWC: U1, told: str) -> str:
        done, data = cv2.imencode(".png", np.ascontiguousarray(rgb_HWC[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert done
        return image(data.tobytes(), "png", self.size_WH, told)

    def key(self) -> str:
        if self._scale is None:
            return ""
        return f'<div class="key faint">{depth_scale(self._scale)}<span>hatched: no depth</span></div>'


def _caption(store: Store, row: int) -> str:
    scene = str(store.scenes[row])
    facts = [f"row {row}", str(store.splits[row]), *([f"scene {scene}"] if scene else [])]
    return f"<b>{escape(printable(str(store.names[row])))}</b> · {html_text(printable(' · '.join(facts)))}"


def _verdict(frame: FrameMeasures) -> str:
    fits = frame.agreement
    assert fits is not None
    told = f"agreement {figure(fits.upright)}"
    if fits.verdict in WAYS:
        better = f"{WAYS[fits.verdict]} it would be {figure(fits.flips[fits.verdict])}"
        return f'<span class="verdict">{told}, {better}</span>'
    other = f"at best {figure(fits.flips[fits.best_flip])} if {WAYS[fits.best_flip]}"
    return f'<span class="verdict">{told}</span>, {other}' if fits.verdict == "poor" else f"{told}, {other}"
