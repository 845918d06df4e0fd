"""A store as a notebook shows it: its arrays, and a few frames as small pictures inside the page.

Dimension letters as in `gfield.frame`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from gfield.frame import printable

if TYPE_CHECKING:
    from gfield.pictures import U1
    from gfield.store import Store

FRAMES = 4
SIDE = 160  # of a thumbnail in pixels, at most
_QUALITY = 80
_GAP = 4


def store_html(store: Store) -> str:
    """HTML of a store, under 200 kB, for a notebook's cell.

    It never raises: a notebook would show an error in place of what was asked for. Names from the store are escaped.

    Parameters
    ----------
    store
        The store; it may be damaged, or gone.

    Returns
    -------
    str
        A table of the arrays and up to `FRAMES` frames: RGB, gradient field and depth, one below the other.
    """
    try:
        return "\n".join(["<div>", *_facts(store), *_figures(store), "</div>"])
    except Exception as error:  # whatever a stranger's store may bring about
        return f"<pre>{_html(repr(store))}\n{_html(f'no pictures: {error}')}</pre>"


def _facts(store: Store) -> Iterator[str]:
    splits = ", ".join(f"{count} {split}" for split, count in sorted(Counter(store.splits.tolist()).items()))
    title = _html(store.attributes["title"])
    yield f"<p><b>{_html(store.path.name)}</b>: {title}, {len(store)} frames ({_html(splits)})</p>"
    yield "<table><tr><th>array</th><th>shape</th><th>type</th></tr>"
    for key, array in store.arrays.items():
        shape = " x ".join(map(str, (len(store), *array.frame_shape)))
        yield f"<tr><td>{_html(key)}</td><td>{shape}</td><td>{array.dtype}</td></tr>"
    yield "</table>"


def _figures(store: Store) -> Iterator[str]:
    """Frames spread evenly over the store, from its smallest level."""
    import cv2

    from gfield.pictures import depth_picture, depth_range, field_picture

    readable = store.rows()
    rows = readable[np.unique(np.linspace(0, len(readable) - 1, FRAMES).astype(int))] if len(readable) else readable
    level, (width, height) = store.levels[-1], store.spec.levels_WH[-1]
    scale = min(1.0, SIDE / max(width, height))
    size_WH = max(1, round(width * scale)), max(1, round(height * scale))
    rgb_NHWC, field_NHW = (store.read(f"{level}/{name}", rows) for name in ("rgb", "gradient"))
    has_depth = f"{level}/depth" in store.arrays
    depth_NHW = store.read(f"{level}/depth", rows) if has_depth else None
    metres = depth_range(list(depth_NHW)) if depth_NHW is not None else None
    yield '<div style="display:flex;flex-wrap:wrap;gap:8px">'
    for place, row in enumerate(rows.tolist()):
        tiles = [
            cv2.resize(rgb_NHWC[place], size_WH, interpolation=cv2.INTER_AREA),
            field_picture(field_NHW[place], size_WH),
        ]
        tiles += [depth_picture(depth_NHW[place], size_WH, metres)] if depth_NHW is not None else []
        name, split = _html(str(store.names[row])), _html(str(store.splits[row]))
        shown = "RGB, gradient field and depth" if has_depth else "RGB and gradient field"
        yield (
            f'<figure style="margin:0;width:{size_WH[0]}px;overflow-wrap:anywhere">'
            f'<img alt="{shown} of {name}" width="{size_WH[0]}" src="{_data_uri(tiles)}">'
            f"<figcaption><small>{row}: {name}, {split}</small></figcaption></figure>"
        )
    yield "</div>"
    if metres is not None:
        ends = f"yellow {metres.near:.2g} m to violet {metres.far:.2g} m"
        yield f"<small>depth: {ends}, hatched where there is none</small>"


def _data_uri(tiles: list[U1]) -> str:
    """Pictures of one size, one below the other, as one JPEG."""
    import cv2

    gap_HWC = np.full((_GAP, *tiles[0].shape[1:]), 255, np.uint8)
    stacked = [part for tile in tiles for part in (gap_HWC, tile)][1:]
    bgr_HWC = np.ascontiguousarray(np.concatenate(stacked)[..., ::-1])
    encoded, data = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert encoded, "OpenCV encodes any 8-bit picture as JPEG"
    return f"data:image/jpeg;base64,{b64encode(data.tobytes()).decode()}"


def _html(text: str) -> str:
    return escape(printable(text), quote=True)
