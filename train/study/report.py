"""The report of a study, from its results alone: tables, curves, and one page with everything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.errors import TrainError
from train.files import write_in_turn
from train.study import TABLES
from train.study.blocks import Block, blocks_of
from train.study.curves import label_curve
from train.study.findings import METRIC_NAMES, comparisons, in_shares, worths
from train.study.page import cells_there, page
from train.study.page_examples import examples_html
from train.study.print_tables import csv_results, csv_tables, markdown_table, plain_markdown
from train.study.results import Result, read_results
from train.study.tables import tables_of

RESULTS = "results.jsonl"


def write_report(study_folder: Path, out: Path | None = None, *, metrics: Sequence[str] = ("d1",)) -> list[Path]:
    """Write the report of a study, finished or not.

    Parameters
    ----------
    study_folder
        Of `train study`, with its ``results.jsonl``.
    out
        Where to write; ``report`` in the study's folder by default. Files of an earlier report are replaced, and
        tables and curves that there are no results of any more are removed.
    metrics
        Whose curves to draw; the first one is told in sentences.

    Returns
    -------
    list of Path
        ``findings.md``, ``results.csv`` (a line a score), for every layout ``LAYOUT.md`` and ``LAYOUT.csv``, for every
        table of labels and every metric a ``curve-….svg``, and last ``index.html``.

    Raises
    ------
    TrainError
        If a metric is unknown, there are no results, they are damaged or of another version, or the disk refuses.
    """
    metrics = list(dict.fromkeys(metrics))
    for metric in metrics:
        if metric not in METRIC_NAMES:
            raise TrainError(f"metric {metric!r} is unknown, wanted {', '.join(METRIC_NAMES)}")
    source = study_folder / RESULTS
    header, results = read_results(source)
    blocks = blocks_of(header, results, source)
    tables = [table for block in blocks for table in tables_of(block)]
    files = {
        "findings.md": _findings(header.name, cells_there(header, results), blocks, metrics[0]),
        "results.csv": csv_results(results),
    }
    for layout in dict.fromkeys(table.layout for table in tables):
        chosen = [table for table in tables if table.layout == layout]
        files[f"{layout}.md"] = "\n".join(map(markdown_table, chosen))
        files[f"{layout}.csv"] = csv_tables(chosen)
    files.update(_curves(blocks, metrics))
    files["index.html"] = page(
        header,
        results,
        blocks,
        tables,
        metrics=metrics,
        examples=examples_html(study_folder, blocks),
        protocols=_protocols(results),
    )
    return _write(out or study_folder / "report", files)


def _protocols(results: Sequence[Result]) -> dict[tuple[str, int], str]:
    """Protocols in words, of those versions that this software still has."""
    from train.protocols import PROTOCOLS

    texts = {}
    for result in results:
        rule = PROTOCOLS.get(result.protocol)
        same = rule is not None and rule.version == result.protocol_version
        gone = "scored by another version of this software, which knows what it means"
        texts[result.protocol, result.protocol_version] = rule.text if rule is not None and same else gone
    return texts


def _findings(name: str, missing: str | None, blocks: Sequence[Block], metric: str) -> str:
    """All comparisons in sentences and figures, as Markdown."""
    parts = [f"# {plain_markdown(name)}"]
    if missing:
        parts.append(f"**{plain_markdown(missing)}**")
    for block in blocks:
        for network in block.networks:
            sentences = [f"{one.sentence()} {one.clearest()}" for one in comparisons(block, network, metric)]
            sentences += [worth.sentence(in_shares(block)) for worth in worths(block, network, metric)]
            if sentences:
                where = f"{block.table}: {network}, store {block.store}, protocol {block.protocol}, {block.extent()}"
                items = "\n".join(f"- {plain_markdown(sentence)}" for sentence in sentences)
                parts.append(f"## {plain_markdown(where)}\n\n{items}")
    return "\n\n".join(parts) + "\n"


def _curves(blocks: Sequence[Block], metrics: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and content of the curves; only where there are several does a name tell of what."""
    places = [(block, network) for block in blocks if block.table == "labels" for network in block.networks]
    for block, network in places:
        of = f"-{network}-{block.store}-{block.protocol}" if len(places) > 1 else ""
        for metric in metrics:
            svg = label_curve(block, network, metric)
            if svg:
                yield f"curve-{metric}{re.sub('[^A-Za-z0-9._-]', '_', of)}.svg", svg


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        of_before = [
            *folder.glob("curve-*.svg"),
            *(folder / f"{name}.{end}" for name in TABLES for end in ("md", "csv")),
        ]
        for path in of_before:
            if path.name not in files:
                path.unlink(missing_ok=True)
        for name, text in files.items():
            write_in_turn(folder / name, text.encode())
    except OSError as error:
        raise TrainError(f"{folder}: {error.strerror}, wanted a folder that can be written") from error
    return [folder / name for name in files]
