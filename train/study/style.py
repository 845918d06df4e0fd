"""How the page of a study and its curves look, in print and on screens, light and dark."""

from __future__ import annotations

from html import escape

# (light, dark) pairs; the first is neutral and belongs to the baseline.
SERIES_COLOURS = (
    ("#5b6068", "#aab0ba"), ("#0061a8", "#5cb8f2"), ("#b84a00", "#f0a04a"), ("#00775a", "#35c99c"),
    ("#8f3f77", "#e59ccb"), ("#7a6500", "#e6d24a"), ("#2b2f9e", "#9aa0ff"), ("#8a1c1c", "#ff8d85"),
)  # fmt: skip
_INK, _FAINT = ("#1c1f24", "#e8eaee"), ("#5b6068", "#a3a9b3")
_RULE, _GROUND = ("#e3e6ea", "#2d323a"), ("#ffffff", "#15181d")


def html_text(text: str) -> str:
    """Text as HTML; a number keeps its unit on its line."""
    return escape(text).replace(" %", "&nbsp;%")


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
tr.new td{border-top:2px solid var(--rule)}
tr.paper td{color:var(--faint);font-style:italic;border-top:0;padding-top:0}
td.better{color:var(--good);font-weight:600}
td.worse{color:var(--bad);font-weight:600}
figure{margin:1rem 0}
svg.gf-curve{display:block;max-width:100%;height:auto}
.narrow{display:none}
.examples{--tile:clamp(7.5rem,15.5vw,10.5rem)}
.examples td,.examples th{padding:.2rem;border:0;text-align:center;font-weight:600}
.examples th{white-space:normal;vertical-align:bottom}
.examples thead th,.examples tbody{border:0}
.examples img{display:block;height:auto;max-width:none;border-radius:2px}
dt{font-weight:600;margin-top:.6rem}
dd{margin:0}
code,pre{font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--soft);padding:.75rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;border-radius:4px}
@media (max-width:40rem){body{font-size:15px;padding-top:.75rem}h1{font-size:1.5rem}.lead{font-size:1.05rem}
.wide{display:none}.narrow{display:block}th,td{padding:.3rem .5rem}}
@media print{body{max-width:none;font-size:11pt}.scroll{overflow:visible}h2{break-after:avoid}
figure,table{break-inside:avoid}}
"""
