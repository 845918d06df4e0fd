"""How the page of a study and its curves look, in print and on screens, light and dark."""

from __future__ import annotations

from gfield.webpage import CSS as SHARED_CSS
from gfield.webpage import html_text

__all__ = ["CSS", "SERIES_COLOURS", "html_text", "svg_style"]

# (light, dark) pairs; the first is neutral and belongs to the baseline.
SERIES_COLOURS = (
    ("#5b6068", "#aab0ba"), ("#0061a8", "#5cb8f2"), ("#b84a00", "#f0a04a"), ("#00775a", "#35c99c"),
    ("#8f3f77", "#e59ccb"), ("#7a6500", "#e6d24a"), ("#2b2f9e", "#9aa0ff"), ("#8a1c1c", "#ff8d85"),
)  # fmt: skip
_INK, _FAINT = ("#1c1f24", "#e8eaee"), ("#5b6068", "#a3a9b3")
_RULE, _GROUND = ("#e3e6ea", "#2d323a"), ("#ffffff", "#15181d")


def svg_style() -> str:
    """Style sheet of a drawing, colours by class: light ones, then dark ones for screens that ask for them."""
    rules = []
    for shade in (0, 1):
        text = (
            f".gf-ground{{fill:{_GROUND[shade]}}}.gf-ink{{fill:{_INK[shade]}}}.gf-faint{{fill:{_FAINT[shade]}}}"
            f".gf-rule{{stroke:{_RULE[shade]}}}.gf-line{{fill:none;stroke-width:2.2;stroke-linejoin:round}}"
            ".gf-printed{fill:none;stroke-width:1.2;stroke-dasharray:4 3}.gf-band{opacity:.13}"
        )
        for number, colours in enumerate(SERIES_COLOURS):
            text += f".gf-f{number}{{fill:{colours[shade]}}}.gf-s{number}{{stroke:{colours[shade]}}}"
        # Markers have the ground round them, so that they stay apart where curves cross.
        text += f".gf-mark{{stroke:{_GROUND[shade]};stroke-width:1.2}}"
        rules.append(text)
    return f"{rules[0]}@media screen and (prefers-color-scheme:dark){{{rules[1]}}}"


CSS = (
    SHARED_CSS
    + """\
tr.new td{border-top:2px solid var(--rule)}
tr.paper td{color:var(--faint);font-style:italic;border-top:0;padding-top:0}
td.better{color:var(--good);font-weight:600}
td.worse{color:var(--bad);font-weight:600}
svg.gf-curve{display:block;max-width:100%;height:auto}
.examples{--tile:clamp(7.5rem,15.5vw,10.5rem)}
.examples td,.examples th{padding:.2rem;border:0;text-align:center;font-weight:600}
.examples th{white-space:normal;vertical-align:bottom}
.examples thead th,.examples tbody{border:0}
.examples img{display:block;height:auto;max-width:none;border-radius:2px}
"""
)
