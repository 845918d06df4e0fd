"""What a person looks at: the contact sheet of a store, frames as rows of RGB, gradient field and depth.

Texts are drawn by OpenCV, with a TrueType face from version 5 on and with line strokes before: they are
measured, never assumed, and shortened where they do not fit.

Dimension letters as in `gfield.frame`; positions are pixels of the sheet, colours red, green, blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np

from gfield.files import write_atomically
from gfield.frame import UserError
from gfield.pictures import (
    DEPTH_COLOURS,
    F2,
    F4,
    U1,
    DepthRange,
    depth_picture,
    depth_range,
    field_picture,
    hatch,
    ticks,
)

Colour: TypeAlias = tuple[int, int, int]

SHEET_W = 976  # a README's column of text
MARGIN, TILE_GAP, GROUP_GAP, LINE_GAP = 24, 8, 32, 16
HEADER_H, HEADS_H, CAPTION_H = 84, 26, 24
LANDSCAPE_TILE_W, PORTRAIT_TILE_W, SMALLEST_TILE_W = 304, 144, 80

BACKGROUND: Colour = (17, 19, 24)
RULE: Colour = (48, 52, 61)
BRIGHT: Colour = (238, 240, 244)
DIM: Colour = (150, 156, 168)


class Style(NamedTuple):
    """How a text is set: scale of OpenCV's font, thickness of its strokes, colour."""

    scale: float
    weight: int
    colour: Colour


TITLE = Style(0.8, 2, BRIGHT)
NAME = Style(0.45, 1, BRIGHT)
NOTE = Style(0.45, 1, DIM)
TICK = Style(0.4, 1, DIM)
SPLITS = {"train": Style(0.45, 1, (112, 198, 168)), "test": Style(0.45, 1, (240, 180, 92))}


class SheetRow(NamedTuple):
    """One frame of a contact sheet.

    Attributes
    ----------
    name, split
        What the caption says.
    rgb_HWC
        (H, W, 3) uint8.
    field_HW
        (H, W) float16, the gradient field.
    depth_HW
        float32 metres on a grid of any size that covers the picture; NaN or 0 where there is no depth,
        None where there is none at all.
    """

    name: str
    split: str
    rgb_HWC: U1
    field_HW: F2
    depth_HW: F4 | None


class Layout(NamedTuple):
    """Where things stand on a sheet: a group is one frame's three tiles, a line holds one group or more."""

    tile_WH: tuple[int, int]
    per_line: int
    lines: int

    @property
    def group_W(self) -> int:
        return 3 * self.tile_WH[0] + 2 * TILE_GAP

    @property
    def line_H(self) -> int:
        return CAPTION_H + self.tile_WH[1] + LINE_GAP

    @property
    def sheet_WH(self) -> tuple[int, int]:
        return (
            2 * MARGIN + self.per_line * (self.group_W + GROUP_GAP) - GROUP_GAP,
            HEADER_H + HEADS_H + self.lines * self.line_H - LINE_GAP + MARGIN,
        )

    def group_xy(self, place: int) -> tuple[int, int]:
        """Upper left corner of a frame's caption."""
        line, column = divmod(place, self.per_line)
        return MARGIN + column * (self.group_W + GROUP_GAP), HEADER_H + HEADS_H + line * self.line_H


def contact_sheet(rows: Sequence[SheetRow], *, title: str, subtitle: str, tile_W: int | None = None) -> U1:
    """Draw frames side by side with their gradient fields and depths.

    A field is shown against its own 99.5th percentile, edges bright on dark; depth in colours whose scale, in
    metres, is the same over the whole sheet and stands at its head; pixels without depth are hatched grey.
    Frames that are narrow enough share a line.

    Parameters
    ----------
    rows
        The frames, at least one, all of one size.
    title, subtitle
        The head of the sheet, one line each; shortened where they do not fit.
    tile_W
        Width of one picture, at least 80. By default the sheet is up to 976 pixels wide: 304 for landscape
        frames, one to a line, and 144 for portrait frames, two to a line.

    Returns
    -------
    rgb_HWC
        (H, W, 3) uint8.

    Raises
    ------
    ValueError
        No frame, frames of several sizes, a field that does not match its picture, or too small tiles.
    """
    layout = _lay_out(rows, tile_W)
    sheet_W, sheet_H = layout.sheet_WH
    sheet_HWC = np.full((sheet_H, sheet_W, 3), BACKGROUND, np.uint8)
    scale = depth_range([row.depth_HW for row in rows])
    _draw_header(sheet_HWC, title, subtitle, scale)
    for group in range(layout.per_line):
        x, y = layout.group_xy(group)
        for column, head in enumerate(("RGB", "gradient field", "depth")):
            at_x = x + column * (layout.tile_WH[0] + TILE_GAP)
            _text(sheet_HWC, _fitted(head, NOTE, layout.tile_WH[0]), (at_x, y - 7), NOTE)
    for place, row in enumerate(rows):
        _draw_row(sheet_HWC, row, layout, layout.group_xy(place), scale)
    return sheet_HWC


def _lay_out(rows: Sequence[SheetRow], tile_W: int | None) -> Layout:
    if not rows:
        raise ValueError("no frame to show, wanted one or more")
    height, width = rows[0].rgb_HWC.shape[:2]
    for row in rows:
        shapes = (row.rgb_HWC.shape, row.field_HW.shape)
        if shapes != ((height, width, 3), (height, width)):
            raise ValueError(f"{row.name}: RGB and field {shapes}, wanted {(height, width, 3)} and {(height, width)}")
    if tile_W is None:
        tile_W = LANDSCAPE_TILE_W if width >= height else PORTRAIT_TILE_W
    if tile_W < SMALLEST_TILE_W:
        raise ValueError(f"tiles {tile_W} pixels wide, wanted {SMALLEST_TILE_W} or more")
    one = Layout((tile_W, max(1, round(tile_W * height / width))), per_line=1, lines=len(rows))
    fitting = (SHEET_W - 2 * MARGIN + GROUP_GAP) // (one.group_W + GROUP_GAP)
    per_line = min(len(rows), max(1, fitting))
    return one._replace(per_line=per_line, lines=-(-len(rows) // per_line))


def _draw_row(sheet_HWC: U1, row: SheetRow, layout: Layout, xy: tuple[int, int], scale: DepthRange | None) -> None:
    """The caption, name to the left and split to the right, and the three tiles below it."""
    x, y = xy
    tile_W, tile_H = layout.tile_WH
    style = SPLITS.get(row.split, NOTE)
    split = _fitted(row.split, style, layout.group_W // 2)
    split_x = x + layout.group_W - _width(split, style)
    _text(sheet_HWC, _fitted(row.name, NAME, split_x - x - 12), (x, y + 17), NAME)
    _text(sheet_HWC, split, (split_x, y + 17), style)
    y += CAPTION_H
    tiles = (
        cv2.resize(row.rgb_HWC, layout.tile_WH, interpolation=cv2.INTER_AREA),
        field_picture(row.field_HW, layout.tile_WH),
        depth_picture(row.depth_HW, layout.tile_WH, scale),
    )
    for tile_HWC in tiles:
        sheet_HWC[y : y + tile_H, x : x + tile_W] = tile_HWC
        x += tile_W + TILE_GAP


def _draw_header(sheet_HWC: U1, title: str, subtitle: str, scale: DepthRange | None) -> None:
    right = sheet_HWC.shape[1] - MARGIN
    legend_W = min(LANDSCAPE_TILE_W, (right - MARGIN) // 2)
    text_W = right - legend_W - GROUP_GAP - MARGIN
    _text(sheet_HWC, _fitted(title, TITLE, text_W), (MARGIN, 40), TITLE)
    _text(sheet_HWC, _fitted(subtitle, NOTE, text_W), (MARGIN, 62), NOTE)
    _draw_legend(sheet_HWC, right - legend_W, right, scale)
    sheet_HWC[HEADER_H - 4, MARGIN:right] = RULE


def _draw_legend(sheet_HWC: U1, left: int, right: int, scale: DepthRange | None) -> None:
    """The bar of colours with its ticks in metres, and to its right the hatch of pixels without depth."""
    top, bottom, label_y, hatch_W = 26, 40, 59, 24
    hole_x = right - _width("no depth", TICK)
    sheet_HWC[top:bottom, hole_x : hole_x + hatch_W] = hatch((hatch_W, bottom - top))
    _text(sheet_HWC, "no depth", (hole_x, label_y), TICK)
    if scale is None:
        return
    bar_W = hole_x - 20 - left
    steps = np.rint(np.linspace(0, 255, bar_W)).astype(np.intp)
    sheet_HWC[top:bottom, left : left + bar_W] = DEPTH_COLOURS[steps]
    marks = ticks(scale)
    free_from = left
    for metres, place in zip(marks, scale.place(np.array(marks, np.float32)), strict=True):
        at = left + round(float(place) * (bar_W - 1))
        label = f"{metres:g} m"
        label_W = _width(label, TICK)
        label_x = min(max(at - label_W // 2, left), left + bar_W - label_W)
        if label_x >= free_from:
            sheet_HWC[bottom : bottom + 4, at] = DIM
            _text(sheet_HWC, label, (label_x, label_y), TICK)
            free_from = label_x + label_W + 8


def _width(text: str, style: Style) -> int:
    (text_W, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, style.scale, style.weight)
    return text_W


def _text(sheet_HWC: U1, text: str, xy: tuple[int, int], style: Style) -> None:
    """Draw a text that begins at x and stands on y."""
    face = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(sheet_HWC, text, xy, face, style.scale, style.colour, style.weight, cv2.LINE_AA)


def _fitted(text: str, style: Style, room_W: int) -> str:
    """The text or, where it is too wide, its two ends: names of frames differ at either."""
    shown, kept = text, len(text)
    while kept and _width(shown, style) > room_W:
        kept -= 1
        head = -(-kept // 2)
        shown = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
    return shown


def write_png(path: Path, rgb_HWC: U1) -> None:
    """Write a picture as PNG, whole or not at all; a file that is there is replaced.

    Parameters
    ----------
    path
        A name that ends in .png, in a folder that exists.
    rgb_HWC
        (H, W, 3) uint8.

    Raises
    ------
    UserError
        Another ending, or a place that cannot be written; the line says why.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the name ends in {path.suffix!r}, wanted .png")
    encoded, data = cv2.imencode(".png", cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR))
    assert encoded, "OpenCV encodes any 8-bit picture as PNG"
    try:
        write_atomically(path, data.tobytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}), wanted a place that can be") from error
