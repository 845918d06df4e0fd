"""Example predictions of a study as a part of its page: a line a test frame, a column a row of the tables."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import TrainError
from train.study.blocks import Block, amount_text
from train.study.results import Result
from train.study.style import html_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from train.study.examples import Tiles


def examples_html(folder: Path, blocks: Sequence[Block]) -> str:
    """Pictures of every store and network, at the fewest labels that all rows have pictures of.

    Parameters
    ----------
    folder
        Of the study.
    blocks
        Of the study; each store and network is shown once, by the first.

    Returns
    -------
    str
        A section of HTML with the pictures in it; ``""`` where there are none.

    Raises
    ------
    TrainError
        If a picture's path leads out of the folder. One that is gone or damaged is told on the page.
    """
    shown: dict[tuple[str, str], str] = {}
    missing = False
    for block in blocks:
        for network in block.networks:
            place = block.store, network
            chosen = _chosen(block, network)
            if place in shown or not chosen:
                continue
            paths = {r.row: [_inside(folder, path) for path in r.examples] for r in chosen}
            try:
                shown[place] = _grid(block, network, chosen[0], paths)
            except TrainError:
                missing = True
    if missing:
        shown["", ""] = '<p class="faint">Some pictures are not beside the results, or are damaged.</p>'
    return f"<h2>Example predictions</h2>{''.join(shown.values())}" if shown else ""


def _chosen(block: Block, network: str) -> list[Result]:
    """One result a row, all of the same labels and seed: those that most rows have pictures of, few labels first."""
    best: list[Result] = []
    for labels in block.labels:
        for seed in block.seeds:
            found = [r for row in block.rows for r in block.of(network, row, labels) if r.seed == seed and r.examples]
            if len(found) > len(best):
                best = found
    return best


def _inside(folder: Path, path: str) -> Path:
    whole = (folder / path).resolve()
    if not whole.is_relative_to(folder.resolve()):
        raise TrainError(f"{folder}: example {path!r} of the results, wanted a path inside the study's folder")
    return whole


def _grid(block: Block, network: str, one: Result, paths: dict[str, list[Path]]) -> str:
    from train.study.examples import read_tiles

    heads = ("picture", "truth", *paths, "")
    frames = zip(*([read_tiles(path) for path in row] for row in paths.values()), strict=False)
    lines = "".join(_line(number, list(paths), list(tiles)) for number, tiles in enumerate(frames, start=1))
    head = "".join(f'<th scope="col">{html_text(text)}</th>' for text in heads)
    told = f"{network} on store {block.store}, {amount_text(one.labels)}, seed {one.seed}. Near is bright."
    return (
        f'<p class="faint">{html_text(told)}</p><div class="scroll"><table class="examples">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _line(number: int, rows: Sequence[str], tiles: Sequence[Tiles]) -> str:
    first = tiles[0]
    width = first.rgb.shape[1]
    pictures = [
        _picture(first.rgb, f"test frame {number}", 1.0),
        _picture(first.truth, f"true depth of test frame {number}", 1.0),
        *(
            _picture(t.prediction, f"depth by {row} of test frame {number}", 1.0)
            for row, t in zip(rows, tiles, strict=True)
        ),
        _picture(first.scale, "scale of depth in metres", first.scale.shape[1] / width),
    ]
    return f"<tr>{''.join(f'<td>{picture}</td>' for picture in pictures)}</tr>"


def _picture(rgb_HWC: npt.NDArray[np.uint8], told: str, of_tile: float) -> str:
    from train.study.examples import png_bytes

    data = base64.b64encode(png_bytes(rgb_HWC)).decode("ascii")
    height, width = rgb_HWC.shape[:2]
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{html_text(told)}" '
        f'style="width:calc(var(--tile)*{of_tile:.4f})">'
    )
