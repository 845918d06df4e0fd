"""One HTML page that sets runs side by side; it needs nothing beside itself, no network and no script."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from gfield.webpage import CSS, document, html_text, image, table
from train.depth_picture import coloured_depth
from train.metrics import METRICS
from train.report.curves import dashes_of, shade_of, step_curves
from train.report.predictions import Example, Examples, Prediction, error_colours
from train.report.read import Curve, Run, Score
from train.report.settings import NONE, compared
from train.study.examples import png_bytes
from train.study.findings import HIGHER_IS_BETTER
from train.study.print_tables import number_text
from train.study.style import svg_style
from train.study.tables import METRIC_HEADS

_TILE_SIDE = 256
_LAST_SHARE = 0.05  # of a run's steps, whose mean is called its last
_EVENTS = 20
# What is drawn first; the rest of what a run logs follows by name, and these come last.
_FIRST, _LAST = ("loss", "accuracy", "d1", "rms"), ("gradient_norm", "rate", "wait_share")
_AXES = {
    "rate": "learning rate",
    "wait_share": "share of time spent waiting for data",
    "gradient_norm": "gradient norm",
}

_CSS = """
header p{margin:.15rem 0}
.runs{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.15rem 1.4rem;max-width:none}
svg.swatch{vertical-align:.2rem;margin-right:.45rem}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:.5rem 2rem}
.curves figure{margin:.5rem 0}
.curves figcaption{color:var(--ink);font-size:1rem;font-weight:600}
svg.gf-steps{display:block;width:100%;height:auto;max-width:22rem;margin-top:.4rem}
.gf-steps text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
td b{color:var(--good);font-weight:600}
.value{display:block;white-space:normal;overflow-wrap:anywhere;min-width:6.5rem;max-width:22rem}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--accent)}
.shots{--tile:clamp(6.5rem,14.5vw,9.9rem)}
.shots td,.shots th{padding:.2rem;border:0;vertical-align:top;font-weight:600}
.shots thead th{white-space:normal;vertical-align:bottom}
.shots thead th,.shots tbody{border:0}
.shots img{display:block;width:var(--tile);height:auto;border-radius:3px;background:var(--soft)}
.shots small{display:block;font-weight:400;color:var(--faint);max-width:var(--tile);overflow-wrap:anywhere}
.scale{display:flex;flex-wrap:wrap;gap:.4rem 2rem;align-items:center}
.scale img{display:block;width:15rem;height:.8rem;border-radius:2px}
.scale span{display:flex;gap:.6rem;align-items:center;flex-wrap:wrap}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
"""


def page(runs: Sequence[Run], examples: Examples | None, why_none: str = "") -> str:
    """The whole page, as HTML.

    Parameters
    ----------
    runs
        What they tell.
    examples
        Predictions to show; None where there are none.
    why_none
        Why, in words.
    """
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    shown = _examples(runs, examples) if examples is not None else f'<p class="faint">{html_text(why_none)}</p>'
    sections = [
        ("state", "Runs", _state(runs)),
        ("curves", "Curves", _curves(runs)),
        ("scores", "Scores", _scores(runs)),
        ("predictions", "Best and worst predictions", shown if why_none or examples is not None else ""),
        ("settings", "Settings", _settings(runs)),
    ]
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{name}</h2>{text}</section>'
        for key, name, text in sections
        if text
    )
    keys = "".join(f"<li>{_swatch(number)}{html_text(run.name)}</li>" for number, run in enumerate(runs))
    header = f'<header><h1>{html_text(title)}</h1><ul class="runs">{keys}</ul></header>'
    return document(f"{title}: report", f"{header}<main>{body}</main>", f"{CSS}{svg_style()}{_CSS}")


def _swatch(number: int) -> str:
    line = f'<path class="gf-line gf-s{shade_of(number)}"{dashes_of(number)} d="M0 4H22"/>'
    return f'<svg class="swatch" width="22" height="8" aria-hidden="true">{line}</svg>'


def _name(runs: Sequence[Run], number: int) -> str:
    return f"{_swatch(number)}{html_text(runs[number].name)}"


def _state(runs: Sequence[Run]) -> str:
    heads = ["run", "what", "encoder", "start", "size", "steps", "last loss", "images/s"]
    rows = []
    for number, run in enumerate(runs):
        words = [str(run.arguments.get(key, NONE)) for key in ("encoder", "init", "size")]
        words[1] = words[1].rstrip("/").rsplit("/", 1)[-1]
        rows.append([_name(runs, number), _what(run), *map(html_text, words), _steps(run), _last_loss(run), _rate(run)])
    told = [
        f"<li>{html_text(f'{run.name}: {note}')}</li>"
        for run in runs
        for note in (*run.notes, *(f"step {step + 1}: {text}" for step, text in run.events[:_EVENTS]), *_more(run))
    ]
    notes = f'<ul class="notes">{"".join(told)}</ul>' if told else ""
    return f"{table('The runs', heads, rows, numbers=(5, 6, 7))}{notes}"


def _more(run: Run) -> list[str]:
    more = len(run.events) - _EVENTS
    return [f"{more} more of its log's events"] if more > 0 else []


def _what(run: Run) -> str:
    kind = run.arguments.get("network" if run.command == "finetune" else "method")
    return html_text(f"{run.command} {kind}" if isinstance(kind, str) else run.command)


def _steps(run: Run) -> str:
    planned = run.planned
    if planned is None or planned == run.steps:
        return f"{run.steps:,}"
    return f"{run.steps:,} of {planned:,}"


def _last_loss(run: Run) -> str:
    loss = run.curves.get(("train", "loss"))
    if loss is None:
        return NONE
    return f"{np.mean(loss.values[-max(1, round(len(loss.values) * _LAST_SHARE)) :]):.4g}"


def _rate(run: Run) -> str:
    batch = run.arguments.get("batch")
    if not run.seconds_per_step or not isinstance(batch, int):
        return NONE
    return f"{batch / run.seconds_per_step:.3g}"


def _curves(runs: Sequence[Run]) -> str:
    """A drawing a number: runs of one command together, since a loss of another command is another loss."""
    drawn: dict[tuple[str, str, str], list[tuple[int, str, Curve]]] = {}
    for number, run in enumerate(runs):
        for (kind, name), curve in run.curves.items():
            drawn.setdefault((run.command, kind, name), []).append((number, run.name, curve))
    several = len({command for command, _, _ in drawn}) > 1
    order = sorted(drawn, key=lambda key: (key[0], _place(key[2]), key[1], key[2]))
    if not order:
        return "<p>No run has logged a step.</p>"
    shown: list[str] = []
    folded: list[str] = []
    for command, kind, name in order:
        told = _AXES.get(name, name.replace("_", " "))
        told = f"{told}, validation" if kind == "eval" else told
        told = f"{command}: {told}" if several else told
        place = shown if kind == "eval" or name in _FIRST else folded
        place.append(
            f"<figure><figcaption>{html_text(told)}</figcaption>"
            f"{step_curves(drawn[command, kind, name], told=told)}</figure>"
        )
    how = "Means over stretches of steps; all values but a tenth on either side are in the shaded band."
    more = f'<details><summary>What else was logged</summary><div class="curves">{"".join(folded)}</div></details>'
    return f'<div class="curves">{"".join(shown)}</div><p class="faint">{how}</p>{more if folded else ""}'


def _place(name: str) -> tuple[int, int]:
    if name in _FIRST:
        return 0, _FIRST.index(name)
    return (2, _LAST.index(name)) if name in _LAST else (1, 0)


def _scores(runs: Sequence[Run]) -> str:
    found: dict[tuple[str, int, str], list[tuple[int, Score]]] = {}
    for number, run in enumerate(runs):
        for score in run.scores:
            found.setdefault((score.protocol, score.version, score.fingerprint), []).append((number, score))
    if not found:
        trained = any(run.command == "finetune" for run in runs)
        how = "<p>None: <code>train evaluate STORE RUN --protocol NAME</code> scores a run.</p>"
        return how if trained else ""
    return "".join(_score_table(runs, entries) for _, entries in sorted(found.items()))


def _score_table(runs: Sequence[Run], entries: Sequence[tuple[int, Score]]) -> str:
    first = entries[0][1]
    best = {name: _best(name, [score.metrics.get(name) for _, score in entries]) for name in METRICS}
    heads = ["run", *(html_text(METRIC_HEADS.get(name, name)) for name in METRICS), "images"]
    rows = []
    for number, score in entries:
        cells = []
        for name in METRICS:
            value = score.metrics.get(name)
            text = NONE if value is None else number_text(value)
            cells.append(f"<b>{text}</b>" if len(entries) > 1 and value is not None and value == best[name] else text)
        rows.append([_name(runs, number), *cells, f"{score.images:,}"])
    title = f"{first.protocol}, version {first.version}, store {first.store.rsplit('/', 1)[-1]}"
    notes = [first.text]
    if any(score.images != score.official_images for _, score in entries):
        own = f"The protocol's own images are {first.official_images:,}"
        notes.insert(0, f"{own}: these scores are not comparable with published ones.")
    told = "".join(f"<li>{html_text(note)}</li>" for note in notes)
    shown = table(title, heads, rows, numbers=range(1, len(heads)))
    return f'<h3>{html_text(title)}</h3>{shown}<ul class="notes">{told}</ul>'


def _best(name: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return max(known) if name in HIGHER_IS_BETTER else min(known)


def _settings(runs: Sequence[Run]) -> str:
    """A table a command: those of another command have other settings."""
    if len(runs) == 1:
        return _setting_table(compared(runs)[1], ["value"], "Settings of the run")
    parts = []
    for command in dict.fromkeys(run.command for run in runs):
        places = [place for place, run in enumerate(runs) if run.command == command]
        heads = [_name(runs, place) for place in places]
        differ, same = compared([runs[place] for place in places])
        parts.append(f"<h3>{html_text(command)}</h3>")
        if len(places) > 1:
            parts.append(_setting_table(differ, heads, "Settings that differ") if differ else "<p>None differs.</p>")
        told = f"Settings that all share: {len(same)}" if len(places) > 1 else f"Settings: {len(same)}"
        folded = _setting_table([row[:2] for row in same], ["value"] if len(places) > 1 else heads, told)
        parts.append(f"<details><summary>{told}</summary>{folded}</details>")
    return "".join(parts)


def _setting_table(rows: Sequence[Sequence[str]], heads: Sequence[str], told: str) -> str:
    cells = [[f'<span class="value">{html_text(text)}</span>' for text in row] for row in rows]
    return table(told, ["setting", *heads], cells)


def _examples(runs: Sequence[Run], examples: Examples) -> str:
    near, far = examples.ends_m
    depths = coloured_depth(np.geomspace(near, far, 240, dtype=np.float32)[None], examples.ends_m)
    errors = error_colours(np.geomspace(0.5, 2, 240, dtype=np.float32)[None])
    scales = (
        (f"{near:.2g} m", _picture(depths, "colours of depth, from near to far"), f"{far:.2g} m"),
        ("predicted half as far", _picture(errors, "colours of errors, from too near to too far"), "twice as far"),
    )
    drawn = "".join(f"<span>{low} {scale} {high}</span>" for low, scale, high in scales)
    key = f'<div class="scale faint">{drawn}<span>grey: no depth</span></div>'
    notes = "".join(f"<li>{html_text(note)}</li>" for note in examples.notes)
    parts = [f"<p>Chosen {html_text(examples.chosen)}.</p>", f'<ul class="notes">{notes}</ul>' if notes else "", key]
    for title, shown in (("Worst", examples.worst), ("Best", examples.best)):
        if shown:
            parts.append(f"<h3>{title}</h3>{_shots(runs, shown, title)}")
    return "".join(parts)


def _shots(runs: Sequence[Run], shown: Sequence[Example], title: str) -> str:
    heads = ["picture", "true depth"]
    for prediction in shown[0].predictions:
        heads += [_name(runs, prediction.run), "its error"]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    lines = "".join(f"<tr>{_shot(runs, example)}</tr>" for example in shown)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title} predictions"><table class="shots">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _shot(runs: Sequence[Run], example: Example) -> str:
    cells = [
        f"{_tile(example.rgb, f'picture of {example.name}')}<small>{html_text(example.name)}</small>",
        _tile(example.truth, f"true depth of {example.name}"),
    ]
    for one in example.predictions:
        cells += _prediction(runs[one.run].name, one, example.name)
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _prediction(run: str, one: Prediction, name: str) -> list[str]:
    error = NONE if math.isnan(one.abs_rel) else number_text(one.abs_rel)
    return [
        _tile(one.depth, f"depth of {name} by {run}"),
        f"{_tile(one.error, f'error of {run} in {name}')}<small>abs_rel {error}</small>",
    ]


def _tile(picture_HWC: npt.NDArray[np.uint8], told: str) -> str:
    height, width = picture_HWC.shape[:2]
    factor = min(1.0, _TILE_SIDE / max(height, width))
    size_WH = max(1, round(width * factor)), max(1, round(height * factor))
    return _picture(np.asarray(cv2.resize(picture_HWC, size_WH, interpolation=cv2.INTER_AREA), np.uint8), told)


def _picture(picture_HWC: npt.NDArray[np.uint8], told: str) -> str:
    height, width = picture_HWC.shape[:2]
    return image(png_bytes(picture_HWC), "png", (width, height), told)
