"""Tables of a study in the paper's layouts, as data, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from train.errors import TrainError
from train.study import paper
from train.study.blocks import blocks_of, labels_text
from train.study.findings import comparisons, headline, worths
from train.study.print_tables import csv_results, csv_tables, figure_text, markdown_table, number_text
from train.study.report import write_report
from train.study.results import Header
from train.study.statistics import Estimate
from train.study.tables import HERE, NONE, PAPER, tables_of

from .study_results import synthetic_grid, synthetic_result, synthetic_study


def only_block(grid, results=None):
    header, all_results = synthetic_study([grid])
    (block,) = blocks_of(header, all_results if results is None else results, "a test")
    return block


def line_of(table, heads, source):
    (line,) = [line for line in table.lines if line.heads[-len(heads) :] == heads and line.source == source]
    return line


def cells_of(markdown):
    """Rows of a Markdown table, split where a bar is not escaped."""
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_the_papers_figures():
    assert paper.METHODS["densedepth"]["gradient-moco"]["d1"] == 0.801
    assert paper.METHODS["fcrn"]["rotation"] == {
        "d1": 0.608, "d2": 0.871, "d3": 0.961, "abs_rel": 0.239, "rms": 0.791, "log10": 0.098
    }  # fmt: skip
    assert paper.LABELS["random"]["d1"] == {0.01: 0.469, 0.03: 0.530, 0.05: 0.623, 0.10: 0.685, 1.0: 0.743}
    assert paper.MAKE3D["gradient-moco", "N->M"] == {"abs_rel": 0.302, "rms_normalised": 0.156, "log10": 0.148}
    for rows in paper.METHODS.values():
        assert set(rows) == {"random", "imagenet", "rotation", "exemplar", "moco", "gradient-moco"}


@pytest.mark.parametrize("seconds", [float("inf"), 10**400, "1", None])
def test_a_time_that_is_no_number_is_told(seconds):
    header, _ = synthetic_study([synthetic_grid()])
    wrong = [synthetic_result("moco", seconds={"finetune": seconds, "evaluate": 1.0})]
    with pytest.raises(TrainError, match="a test: finetune of seconds of cell"):
        blocks_of(header, wrong, "a test")


def test_a_methods_table_has_means_beside_the_papers_figures():
    block = only_block(synthetic_grid("methods", labels=["100%"], networks=["densedepth", "fcrn"]))
    (table,) = tables_of(block)
    line = line_of(table, ("densedepth, resnet18", "gradient-moco"), HERE)
    scores = [synthetic_result("gradient-moco", "100%", seed).metrics for seed in range(3)]
    d1 = [metrics["d1"] for metrics in scores]
    half = np.mean(d1) - stats.t.interval(0.95, 2, np.mean(d1), stats.sem(d1))[0]
    assert line.figures[0] == Estimate(3, *map(pytest.approx, (np.mean(d1), np.std(d1, ddof=1), half)))
    assert line.figures[4].mean == pytest.approx(np.mean([metrics["rms"] for metrics in scores]))
    assert line.seeds() == "3"
    printed = line_of(table, ("fcrn, resnet18", "gradient-moco"), PAPER)
    assert printed.figures == (0.709, 0.917, 0.976, 0.192, 0.656, 0.080)
    # A row of the paper that was not run is empty here, and there all the same.
    assert line_of(table, ("densedepth, resnet18", "exemplar"), HERE).figures == (None,) * 6
    assert line_of(table, ("densedepth, resnet18", "exemplar"), PAPER).figures[0] == 0.516


def test_the_paper_stands_only_beside_what_repeats_it():
    for changes in ({"labels": ["10%"]}, {"protocols": ["nyu-full"]}, {"networks": ["another"]}):
        (table,) = tables_of(only_block(synthetic_grid("methods", **{"labels": ["100%"], **changes})))
        assert {line.source for line in table.lines} == {HERE}, changes
    (table,) = tables_of(only_block(synthetic_grid("defects", labels=["100%"])))
    assert {line.source for line in table.lines} == {HERE}


def test_a_labels_table_goes_over_shares_of_both():
    block = only_block(synthetic_grid(labels=["10%", "1%"], seeds=[0]))
    (table,) = tables_of(block)
    assert table.columns == ("1 %", "3 %", "5 %", "10 %")
    here = line_of(table, ("δ < 1.25 ↑", "random"), HERE)
    assert here.figures[0] == Estimate(1, synthetic_result("random").metrics["d1"], None, None)
    assert here.figures[1:3] == (None, None)
    assert line_of(table, ("δ < 1.25² ↑", "gradient-moco"), PAPER).figures == (0.870, 0.904, 0.921, 0.934)
    assert not [line for line in table.lines if line.heads[1] == "moco" and line.source == PAPER]


def test_numbers_of_frames_have_no_shares_of_the_paper_beside_them():
    (table,) = tables_of(only_block(synthetic_grid(labels=["24", "80"])))
    assert table.columns == ("24 frames", "80 frames")
    assert {line.source for line in table.lines} == {HERE}


def test_make3d_is_matched_by_what_the_encoder_saw():
    grid = synthetic_grid("make3d", methods=["random", "M", "both", "rooms"], labels=["100%"], stores=["make3d"],
                          protocols=["make3d-c1"], seeds=[0, 1])  # fmt: skip
    saw = {"random": [], "M": ["make3d"], "both": ["nyu-v2", "make3d"], "rooms": ["rooms"]}
    results = [
        synthetic_result(row, "100%", seed, store="make3d", protocol="make3d-c1", pretrained_on=chain,
                         method="random" if row == "random" else "gradient-moco", metrics={"rms": 12.0 + seed})
        for row, chain in saw.items() for seed in (0, 1)
    ]  # fmt: skip
    (table,) = tables_of(only_block(grid, results))
    assert line_of(table, ("both", "nyu-v2 → make3d"), PAPER).figures == (0.302, 0.156, 0.148, None)
    here = line_of(table, ("M", "make3d"), HERE)
    assert [figure and figure.mean for figure in here.figures] == [None, pytest.approx(12.5 / 80), None, 12.5]
    # What was not run stands under the paper's letters; another data set has none.
    assert line_of(table, ("gradient-moco", "N"), PAPER).figures[0] == 0.331
    assert not [line for line in table.lines if line.heads[1] == "rooms" and line.source == PAPER]
    assert "80 m" in " ".join(table.notes)


def test_markdown_says_a_dash_where_nothing_is_and_never_zero():
    header, results = synthetic_study([synthetic_grid("methods", labels=["100%"])])
    (block,) = blocks_of(header, [r for r in results if r.row != "moco"], "a test")
    rows = cells_of(markdown_table(tables_of(block)[0]))
    assert len({len(row) for row in rows}) == 1
    moco = next(row for row in rows if row[1] == "moco")
    assert moco[2:] == ["here", *[NONE] * 7]
    random = next(row for row in rows if row[1] == "random")
    assert re.fullmatch(r"\.\d{3} ± \.\d{3}", random[3])
    assert random[-1] == "3"


def test_markdown_says_how_much_was_scored():
    header, results = synthetic_study([synthetic_grid("methods", labels=["100%"])])
    text = markdown_table(tables_of(blocks_of(header, results, "a test")[0])[0])
    assert "120 images; not comparable with published numbers" in text
    official = [synthetic_result("random", "100%", official=True, images=654)]
    text = markdown_table(tables_of(blocks_of(header, official, "a test")[0])[0])
    assert "654 images, the official test split" in text


def test_names_cannot_break_a_table():
    row = "a|b `c` <i>*d*\nnext"
    block = only_block(synthetic_grid("methods", methods=["random", row], labels=["100%"]))
    text = markdown_table(tables_of(block)[0])
    rows = cells_of(text)
    assert len({len(cells) for cells in rows}) == 1
    assert r"a\|b \`c\` \<i\>\*d\* next" in [cells[1] for cells in rows]
    (line,) = [line for line in csv.DictReader(io.StringIO(csv_tables(tables_of(block)))) if line["start"] == row]
    assert float(line["d1"]) == pytest.approx(block.mean("densedepth", row, "100%", "d1").mean, rel=1e-5)
    assert (line["source"], line["d1 seeds"]) == ("here", "3")


def test_csv_joins_tables_of_different_columns():
    header, results = synthetic_study(
        [synthetic_grid(labels=["1%"]), synthetic_grid(labels=["24"], protocols=["nyu-full"])]
    )
    tables = [table for block in blocks_of(header, results, "a test") for table in tables_of(block)]
    lines = list(csv.DictReader(io.StringIO(csv_tables(tables))))
    assert {line["of"].split(",")[1] for line in lines} == {" protocol nyu-eigen", " protocol nyu-full"}
    assert all(bool(line["1%"]) != bool(line["24"]) for line in lines if line["source"] == "here")


def test_every_result_has_a_line_of_its_own():
    _, results = synthetic_study([synthetic_grid()])
    lines = list(csv.DictReader(io.StringIO(csv_results(results))))
    assert [(line["row"], line["labels"], int(line["seed"])) for line in lines] == [
        (r.row, r.labels, r.seed) for r in results
    ]
    assert float(lines[7]["rms"]) == pytest.approx(results[7].metrics["rms"], rel=1e-5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.743, ".743"), (1.2345, "1.234"), (9.9999, "10.00"), (12.345, "12.35"), (123.4, "123.4"), (0.0, ".000"),
     (-0.0119, "\N{MINUS SIGN}.012"), (-0.0001, ".000"), (0.9999, "1.000")],
)  # fmt: skip
def test_numbers_are_printed_as_the_paper_prints(value, text):
    assert number_text(value) == text


def test_figures_are_printed_with_what_is_known():
    assert figure_text(None) == NONE
    assert figure_text(0.5) == ".500"
    assert figure_text(Estimate(1, 0.5, None, None)) == ".500"
    assert figure_text(Estimate(3, 0.05, 0.1, 0.02), signed=True) == "+.050 ± .020"
    assert labels_text("0.5%") == "0.5 %"


def scored(row, labels, seed, d1):
    return synthetic_result(row, labels, seed, metrics={"d1": d1})


def test_findings_say_what_the_intervals_say():
    grid = synthetic_grid(methods=["random", "gradient-moco"])
    differences = {
        "1%": (0.10, 0.11, 0.12),  # better
        "3%": (-0.05, -0.06, -0.07),  # worse
        "5%": (-0.10, 0.01, 0.12),  # open
        "10%": (0.20,),  # one seed
    }
    results = [
        scored(row, labels, seed, 0.5 + 0.1 * seed + (more if row == "gradient-moco" else 0))
        for labels, several in differences.items() for seed, more in enumerate(several)
        for row in ("random", "gradient-moco")
    ]  # fmt: skip
    assert headline(only_block(grid, results), "densedepth") == (
        "On δ < 1.25, gradient-moco beats random at 1 % of the labels; "
        "random beats gradient-moco at 3 % of the labels; "
        "gradient-moco and random do not differ beyond the interval at 5 % of the labels; "
        "gradient-moco and random have one seed at 10 % of the labels, so no interval and no verdict; "
        "gradient-moco and random have no seed in common at 100 % of the labels."
    )


def test_lower_errors_are_better():
    less = {"random": (0, 0, 0), "gradient-moco": (0.10, 0.11, 0.12)}
    results = [synthetic_result(row, "1%", seed, metrics={"rms": 0.9 + seed / 10 - by})
               for row, several in less.items() for seed, by in enumerate(several)]  # fmt: skip
    (one,) = comparisons(only_block(synthetic_grid(methods=["random", "gradient-moco"]), results), "densedepth", "rms")
    assert one.verdict("1%") == "better"
    assert one.differences["1%"].mean < 0


def test_rows_are_compared_with_the_baseline_and_the_method_with_its_variants():
    grid = synthetic_grid(methods=["random", "moco", "released field", "gradient-moco"])
    header, results = synthetic_study([grid])
    results = [r if r.row != "released field" else synthetic_result(r.row, r.labels, r.seed, method="gradient-moco")
               for r in results]  # fmt: skip
    (block,) = blocks_of(header, results, "a test")
    assert [(one.row, one.other) for one in comparisons(block, "densedepth")] == [
        ("gradient-moco", "random"), ("moco", "random"), ("released field", "random"),
        ("gradient-moco", "moco"), ("gradient-moco", "released field"),
    ]  # fmt: skip
    without = only_block(synthetic_grid("defects", methods=["white frame", "gradient-moco"]))
    assert [(one.row, one.other) for one in comparisons(without, "densedepth")] == [("gradient-moco", "white frame")]


def test_labels_are_worth_what_the_baselines_curve_says():
    scores = {"random": {"1%": 0.4, "10%": 0.6, "100%": 0.7}, "gradient-moco": {"1%": 0.5, "10%": 0.8, "100%": 0.8}}
    results = [scored(row, labels, seed, value + seed / 100)
               for row, values in scores.items() for labels, value in values.items() for seed in (0, 1)]  # fmt: skip
    block = only_block(synthetic_grid(methods=list(scores), labels=["1%", "10%", "100%"]), results)
    first, second = worths(block, "densedepth")
    assert first.sentence(shares=True) == (
        "What gradient-moco has with 1 % of the labels, .505, is reached by random at about 3.2 %: "
        "x3.2 (seed by seed x3.2, x3.2)."
    )
    assert "is not reached by random with any labels here, 100 % being the most: >x10" in second.sentence(shares=True)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ("text", "'text'"),
        ({"table": "other"}, "wanted one of table"),
        (synthetic_grid(seeds=3), "seeds of a grid is 3, wanted a list of numbers"),
        (synthetic_grid(labels=[1]), "labels of a grid is .1., wanted a list of names"),
        (synthetic_grid(labels=["many"]), "^x/results.jsonl: a grid's labels 'many': wanted a share"),
    ],
)
def test_a_header_of_other_grids_is_told_in_one_line(grid, told):
    header = Header("x", [grid], "train study x.toml --out x", "a machine", cells=0)
    with pytest.raises(TrainError, match=told) as caught:
        blocks_of(header, [], "x/results.jsonl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seconds": {"evaluate": 1.0}}, "finetune of seconds of cell random-1%-0 is None"),
        ({"pretraining": {"run": "a", "steps": 1, "loss": None}}, "loss of pretraining of cell random-1%-0 is None"),
        (
            {"pretraining": {"run": "a", "steps": 1, "loss": 1.0, "seconds": 1.0, "accuracy": "high"}},
            "accuracy of pretraining of cell random-1%-0 is 'high'",
        ),
    ],
)
def test_a_result_that_lacks_something_is_told_in_one_line(changes, told):
    header, _ = synthetic_study([synthetic_grid()])
    with pytest.raises(TrainError, match=f"^x/results.jsonl: {told}$"):
        blocks_of(header, [synthetic_result("random", **changes)], "x/results.jsonl")


def test_two_results_of_one_place_are_told_and_none_is_taken_for_it():
    header, _ = synthetic_study([synthetic_grid()])
    twice = [synthetic_result("random"), synthetic_result("moco"), synthetic_result("random")]
    with pytest.raises(TrainError, match=r"^x: 2 results of random, densedepth, 1%, 0, rooms, nyu-eigen, wanted one$"):
        blocks_of(header, twice, "x")


def test_scores_of_two_versions_of_a_protocol_are_no_silent_mean():
    results = [synthetic_result("random", seed=seed, protocol_version=version) for seed, version in ((0, 1), (1, 2))]
    assert "versions 1, 2 are mixed" in only_block(synthetic_grid(), results).extent()


def test_labels_stand_from_few_to_many():
    assert only_block(synthetic_grid(labels=["100%", "5%", "10%"])).labels == ("5%", "10%", "100%")
    assert only_block(synthetic_grid(labels=["80", "9", "24"])).labels == ("9", "24", "80")
    assert only_block(synthetic_grid(labels=["80", "1%"])).labels == ("80", "1%")


def test_the_study_in_docs_is_what_its_results_say(tmp_path):
    kept = Path(__file__).parents[1] / "docs" / "study"
    shutil.copy(kept / "results.jsonl", tmp_path)
    shutil.copytree(kept / "examples", tmp_path / "examples")
    write_report(tmp_path)
    written = [path for path in kept.iterdir() if path.suffix in (".md", ".csv", ".svg", ".html")]
    assert len(written) == 9
    for path in written:
        assert (tmp_path / "report" / path.name).read_bytes() == path.read_bytes(), path.name
