"""One HTML page that says what a study found; it needs nothing beside itself, no network and no script.

Every text from a file is escaped on its way in: names of stores, rows and machines are anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from train.study import paper
from train.study.blocks import Block, counted, labels_text
from train.study.curves import has_printed, label_curve
from train.study.findings import METRIC_NAMES, Comparison, comparisons, headline, in_shares, worths
from train.study.print_tables import figure_text
from train.study.results import Header, Result
from train.study.style import CSS, html_text
from train.study.tables import NONE, ONE_PRETRAINING, PAPER, Table, merged

_WIDE, _NARROW = 720, 360
_LONG = 34
_READING = """
<p>Each score is a mean over seeds. A seed decides which frames have labels, the decoder's first weights and the order
of training; with the same seed every row has the same labelled frames, so that rows are compared pair by pair. The
interval, ±, is Student's at 95 %. A difference counts where its interval leaves out zero. Each interval stands for
itself: of twenty such differences between equals, about one would count by chance. Intervals are of the choice of
seeds alone; another data set, network or schedule may tell otherwise.</p>
<p>The data-efficiency factor says how many times as many labels the baseline needs for the same score: its mean curve
is interpolated over the logarithm of the labels, and its first crossing counts, which is the one that speaks least for
the other row.</p>
"""


def page(
    header: Header,
    results: Sequence[Result],
    blocks: Sequence[Block],
    tables: Sequence[Table],
    *,
    metrics: Sequence[str],
    examples: str,
    protocols: Mapping[tuple[str, int], str],
) -> str:
    """The whole page.

    Parameters
    ----------
    header, results
        The study.
    blocks, tables
        Made of them.
    metrics
        Whose curves are drawn, the first one told in sentences.
    examples
        HTML of `train.study.page_examples`, or nothing.
    protocols
        How scores were made, in words, by name and version.

    Returns
    -------
    str
        HTML 5.
    """
    name = html_text(header.name)
    sections = [
        f"<h1>{name}</h1>",
        _opening(header, results),
        _answers(blocks, metrics),
        "<h2>Tables</h2>" if tables else "",
        *map(_table, tables),
        _other_differences(blocks, metrics[0]),
        examples,
        _costs(results),
        f"<h2>How to read this</h2>{_READING}{_one_pretraining(blocks)}{_protocols(protocols)}",
        _how(header),
    ]
    body = "\n".join(filter(None, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{name}</title>'
        f"<style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def cells_there(header: Header, results: Sequence[Result]) -> str | None:
    """What is missing of a study, in a sentence; None if nothing is."""
    there = len({result.cell for result in results})
    if there >= header.cells:
        return None
    return f"This is a part of the study: {there} of {header.cells} cells are there. What is missing is {NONE} below."


def _opening(header: Header, results: Sequence[Result]) -> str:
    rows = list(dict.fromkeys(row for grid in header.grids for row in grid["methods"]))
    stores = list(dict.fromkeys(store for grid in header.grids for store in grid["stores"]))
    networks = list(dict.fromkeys(f"{r.network} on {r.encoder}" for r in results))
    seeds = len({seed for grid in header.grids for seed in grid["seeds"]})
    facts = (
        f"{counted(header.cells, 'cell')}: rows {', '.join(rows)}; stores {', '.join(stores)}; "
        f"{'networks ' + ', '.join(networks) + '; ' if networks else ''}{counted(seeds, 'seed')}."
    )
    missing = cells_there(header, results)
    warning = f'<p class="warn" role="note">{html_text(missing)}</p>' if missing else ""
    return f'<p class="faint">{html_text(facts)}</p>{warning}'


def _answers(blocks: Sequence[Block], metrics: Sequence[str]) -> str:
    """What the study says, in a sentence, in curves and in figures: of some of its tables, or of all it has."""
    return "".join(_answer(block, network, metrics) for block in _asked(blocks) for network in block.networks)


def _asked(blocks: Sequence[Block]) -> Sequence[Block]:
    """The blocks that the page opens with."""
    return [block for block in blocks if block.table in ("labels", "defects")] or blocks


def _other_differences(blocks: Sequence[Block], metric: str) -> str:
    """The comparisons of the blocks that it does not open with."""
    asked = _asked(blocks)
    found = [
        f'<p class="faint">{html_text(_where(block, network))}</p>{told}'
        for block in blocks
        if block not in asked
        for network in block.networks
        if (told := _differences(block, network, metric))
    ]
    return f"<h2>Differences in the other tables</h2>{''.join(found)}" if found else ""


def _one_pretraining(blocks: Sequence[Block]) -> str:
    return f"<p>{html_text(ONE_PRETRAINING)}</p>" if any(block.shares_pretrainings for block in blocks) else ""


def _where(block: Block, network: str) -> str:
    return f"{block.table}: {network} on store {block.store}, protocol {block.protocol}, {block.extent()}."


def _answer(block: Block, network: str, metrics: Sequence[str]) -> str:
    metric, *others = metrics
    where = f"{network} on store {block.store}, protocol {block.protocol}, {block.extent()}."
    return (
        f'<p class="lead">{html_text(headline(block, network, metric))}</p><p class="faint">{html_text(where)}</p>'
        f"{_curve(block, network, metric)}{_differences(block, network, metric)}{_worths(block, network, metric)}"
        f"{''.join(_curve(block, network, other) for other in others)}"
    )


def _differences(block: Block, network: str, metric: str) -> str:
    found = [one for one in comparisons(block, network, metric) if any(one.differences.values())]
    if not found:
        return ""
    head = "".join(f'<th class="n" scope="col">{html_text(labels_text(labels))}</th>' for labels in block.labels)
    rows = "".join(_difference_row(one, block.labels) for one in found)
    return (
        f"<h3>Paired differences of {METRIC_NAMES[metric]}</h3>"
        f'<div class="scroll"><table><thead><tr><th scope="col">row minus row</th>{head}<th class="n" scope="col">pairs'
        f"</th></tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="faint">Coloured and bold where the interval leaves out zero.</p>'
    )


def _difference_row(one: Comparison, labels: Sequence[str]) -> str:
    cells = []
    for text in labels:
        told = one.verdict(text)
        kind = f" {told}" if told in ("better", "worse") else ""
        cells.append(f'<td class="n{kind}">{figure_text(one.differences[text], signed=True)}</td>')
    counts = sorted({difference.n for difference in one.differences.values() if difference is not None})
    pairs = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    what = _word(f"{one.row} minus {one.other}")
    return f'<tr>{what}{"".join(cells)}<td class="n">{pairs}</td></tr>'


def _word(text: str) -> str:
    """A cell of words; long ones take several lines, so that figures stay in sight."""
    return f"<td{' class=long' if len(text) > _LONG else ''}>{html_text(text)}</td>"


def _worths(block: Block, network: str, metric: str) -> str:
    found = worths(block, network, metric)
    if not found:
        return ""
    shares = in_shares(block)
    items = "".join(f"<li>{html_text(worth.sentence(shares))}</li>" for worth in found)
    printed = f'<p class="faint">{html_text(worths_of_paper())}</p>' if has_printed(block, network, metric) else ""
    return f"<h3>What labels are worth</h3><ul>{items}</ul>{printed}"


def worths_of_paper() -> str:
    """The factor by the paper's own figures, in a sentence."""
    from train.study.statistics import data_efficiency

    curve = [(share, value) for share, value in paper.LABELS["random"]["d1"].items()]
    told = []
    for share in paper.LABELS_SHARES:
        score = paper.LABELS["gradient-moco"]["d1"][share]
        told.append(f"{data_efficiency(curve, share, score, higher_is_better=True)} at {share * 100:g} %")
    return f"By the paper's own figures of δ < 1.25, interpolated in the same way: {', '.join(told)}."


def _curve(block: Block, network: str, metric: str) -> str:
    """The curve in two widths, of which the screen shows one: letters stay as large as they are."""
    wide, narrow = (label_curve(block, network, metric, width=width) for width in (_WIDE, _NARROW))
    if block.table != "labels" or not wide:
        return ""
    told = f"{METRIC_NAMES[metric]} over labels. Bands and bars are 95 % intervals of the mean over seeds."
    if has_printed(block, network, metric):
        told += " Dashed: the paper's figures, of its own encoder, data and number of frames."
    return (
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{html_text(told)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html_text(text)}</th>' for text in (*table.heads, ""))
    head += "".join(f'<th class="n" scope="col">{html_text(text)}</th>' for text in (*table.columns, "seeds"))
    rows: list[str] = []
    for heads, line in merged(table.lines):
        kinds = [*(("paper",) if line.source == PAPER else ()), *(("new",) if heads[0] and rows else ())]
        words = "".join(map(_word, (*heads, line.source)))
        figures = "".join(f'<td class="n">{figure_text(figure)}</td>' for figure in line.figures)
        seeds = f'<td class="n">{line.seeds() or NONE}</td>'
        rows.append(f'<tr class="{" ".join(kinds)}">{words}{figures}{seeds}</tr>')
    notes = "".join(f"<li>{html_text(note)}</li>" for note in table.notes)
    return (
        f'<h3>{html_text(table.title)}</h3><p class="faint">{html_text(table.extent)}</p>'
        f'<div class="scroll"><table><thead><tr>'
        f'{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div><ul class="notes">{notes}</ul>'
    )


def _costs(results: Sequence[Result]) -> str:
    """Pre-trainings with how they ended, and the hours of everything."""
    from gfield.console import readable_time

    runs = {r.pretraining["run"]: r for r in results if r.pretraining}
    cells = {r.cell: r for r in results}
    if not cells:
        return ""
    rows: list[str] = []
    for result in runs.values():
        told = result.pretraining or {}
        accuracy = told.get("accuracy")
        words = (result.row, result.encoder, " → ".join(result.pretrained_on))
        numbers = (
            f"{told['steps']:,}",
            figure_text(told["loss"]),
            figure_text(accuracy),
            readable_time(told["seconds"]),
        )
        rows.append(
            f"<tr>{''.join(map(_word, words))}{''.join(f'<td class=n>{html_text(text)}</td>' for text in numbers)}</tr>"
        )
    spent = [
        ("pre-training", sum((r.pretraining or {})["seconds"] for r in runs.values())),
        ("fine-tuning", sum(r.seconds["finetune"] for r in cells.values())),
        ("evaluation", sum({(r.cell, r.protocol): r.seconds["evaluate"] for r in results}.values())),
    ]
    total = ", ".join(f"{what} {readable_time(seconds)}" for what, seconds in spent)
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("row", "encoder", "pre-trained on"))
    heads += "".join(f'<th class="n" scope="col">{text}</th>' for text in ("steps", "loss", "accuracy", "time"))
    table = (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="faint">Loss and accuracy at the end of each pre-training. A contrast that was not learnt, of an '
        "accuracy near none, has nothing to give to the depth.</p>"
    )
    return f"<h2>Pre-training and costs</h2>{table if rows else ''}<p>In all: {html_text(total)}.</p>"


def _protocols(protocols: Mapping[tuple[str, int], str]) -> str:
    told = "".join(
        f"<dt>{html_text(name)}, version {version}</dt><dd>{html_text(text)}</dd>"
        for (name, version), text in protocols.items()
    )
    return f"<dl>{told}</dl>" if told else ""


def _how(header: Header) -> str:
    return (
        f"<h2>How this was made</h2><pre><code>{escape(header.command)}</code></pre>"
        f"<p>On: {html_text(header.machine)}.</p>"
        f"<p>The paper: {html_text(paper.CITATION)}. Figures that are called the paper's are as printed there.</p>"
    )
