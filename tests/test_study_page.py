"""The page, the curves and the files of a study's report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from train.errors import TrainError
from train.protocols import PROTOCOLS
from train.study import paper
from train.study.blocks import blocks_of
from train.study.curves import label_curve
from train.study.examples import png_bytes
from train.study.plot import Series, colours_of, curve_svg
from train.study.print_tables import number_text
from train.study.report import write_report
from train.study.results import write_results
from train.study.statistics import estimate

from .page_reader import Page
from .small_runs import train
from .study_results import synthetic_grid, synthetic_study

NAMESPACE = "{http://www.w3.org/2000/svg}"


def study_folder(folder, grids, change=lambda result: result, **changes):
    header, results = synthetic_study(grids, **changes)
    folder.mkdir(exist_ok=True)
    write_results(folder / "results.jsonl", header, [change(result) for result in results])
    return folder


def read_page(folder):
    return (folder / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A synthetic study with its report."""
    grids = [synthetic_grid(), synthetic_grid("methods", labels=["100%"])]
    folder = study_folder(tmp_path_factory.mktemp("study"), grids)
    write_report(folder, metrics=["d1", "rms"])
    return folder


def test_the_page_is_whole_and_needs_nothing_else(reported):
    text = read_page(reported)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.findall(r"url\(|@import|<script|<link|<iframe", text)
    assert {*re.findall(r"https?://[^\"' <]+", text)} <= {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text


def test_the_page_has_every_figure(reported):
    text = Page(read_page(reported)).text
    header, results = synthetic_study([synthetic_grid()])
    (block,) = blocks_of(header, results, "a test")
    for row in block.rows:
        for labels in block.labels:
            for metric in paper.LABELS_METRICS:
                mean = block.mean("densedepth", row, labels, metric)
                assert f"{number_text(mean.mean)} ± {number_text(mean.half)}" in text, (row, labels, metric)
    for row, printed in paper.METHODS["densedepth"].items():
        assert all(number_text(value) in text for value in printed.values()), row
    assert header.command in text
    assert header.machine in text
    assert PROTOCOLS["nyu-eigen"].text in text
    assert "120 images; not comparable with published numbers" in text
    assert "2 h 14 min" in text  # two pre-trainings of 4031 s, each counted once
    assert ".470" in text  # their accuracy


def test_the_page_begins_with_what_was_found(reported):
    text = Page(read_page(reported)).text
    found = "On δ < 1.25, gradient-moco beats random at 1 %, 3 %, 5 % and 10 % of the labels;"
    assert text.index(found) < text.index("Tables") < text.index("How to read this")
    assert "is reached by random at about 3.4 %: x3.4" in text
    assert "This is a part" not in text


def test_what_is_missing_is_said(tmp_path):
    grids = [synthetic_grid(seeds=[0])]
    folder = study_folder(tmp_path, grids, cells=16)
    write_report(folder)
    text = Page(read_page(folder)).text
    assert "15 of 16 cells are there" in text
    assert "one seed" in text
    assert " beats " not in text
    assert "15 of 16 cells are there" in (folder / "report" / "findings.md").read_text()


def test_a_study_without_a_result_has_a_page_too(tmp_path):
    header, _ = synthetic_study([synthetic_grid(), synthetic_grid("methods"), synthetic_grid("make3d")])
    write_results(tmp_path / "results.jsonl", header, [])
    write_report(tmp_path)
    text = Page(read_page(tmp_path)).text
    assert "0 of 45 cells are there" in text
    assert "nothing scored yet" in text
    assert "± ." not in text


def test_names_are_text_and_no_markup(tmp_path):
    evil = "</style><script>alert(1)</script>&amp;\"'"
    grids = [synthetic_grid(methods=["random", evil], stores=[evil])]
    folder = study_folder(
        tmp_path, grids, lambda r: replace(r, encoder=evil, pretrained_on=[evil]), name=evil, command=evil, machine=evil
    )
    for path in write_report(folder):
        if path.suffix == ".svg":
            assert evil in "".join(ET.fromstring(path.read_text()).itertext())
    page = Page(read_page(folder))
    assert page.text.count(evil) > 10
    assert "<script" not in read_page(folder)
    assert "style" not in page.open


def strip(seed):
    """A picture in the layout of the examples: three tiles of 8 x 6 and a scale."""
    return np.random.default_rng(seed).integers(0, 255, (6, 3 * 8 + 68, 3), dtype=np.uint8)


def with_examples(folder, result):
    """The result with two pictures that are there, if it is of the seed and the labels that have them."""
    if result.seed != 1 or result.labels != "3%":
        return result
    names = [f"examples/{result.cell}/{number}.png" for number in range(2)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_bytes(strip(number)))
    return replace(result, examples=names)


def test_examples_stand_side_by_side(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid()], lambda r: with_examples(tmp_path, r))
    write_report(folder)
    page = Page(read_page(folder))
    # Picture, truth, three rows and the scale, for two frames.
    assert [image["width"] for image in page.images] == ["8", "8", "8", "8", "8", "68"] * 2
    assert [image["alt"] for image in page.images[:4]] == [
        "test frame 1", "true depth of test frame 1", "depth by random of test frame 1",
        "depth by moco of test frame 1",
    ]  # fmt: skip
    assert "densedepth on store rooms, 3 % of the labels, seed 1" in page.text


def test_results_alone_make_a_report_without_pictures(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid()], lambda r: replace(r, examples=["examples/gone.png"]))
    write_report(folder)
    page = Page(read_page(folder))
    assert not page.images
    assert "Some pictures are not beside the results" in page.text


def test_a_picture_outside_the_study_is_refused(tmp_path):
    (tmp_path / "outside.png").write_bytes(png_bytes(strip(0)))
    folder = study_folder(tmp_path / "study", [synthetic_grid()], lambda r: replace(r, examples=["../outside.png"]))
    with pytest.raises(TrainError, match="inside the study's folder"):
        write_report(folder)


def test_a_damaged_picture_costs_the_picture_alone(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid()], lambda r: replace(r, examples=["bad.png"]))
    (folder / "bad.png").write_bytes(b"no picture")
    write_report(folder)
    page = Page(read_page(folder))
    assert not page.images
    assert "Some pictures are not beside the results, or are damaged." in page.text


def test_every_table_has_its_differences_on_the_page(tmp_path):
    methods = synthetic_grid("methods", labels=["10%"], methods=["random", "rotation", "gradient-moco"])
    folder = study_folder(tmp_path, [synthetic_grid(), methods])
    write_report(folder)
    text = Page(read_page(folder)).text
    assert text.index("Differences in the other tables") < text.index("rotation minus random")
    assert "methods: densedepth on store rooms" in text


@pytest.mark.parametrize("each", [True, False])
def test_readers_are_told_where_seeds_share_a_pretraining(tmp_path, each):
    def own(result):
        if result.pretraining is None or not each:
            return result
        return replace(result, pretraining={**result.pretraining, "run": f"pretrained/{result.row}-{result.seed}"})

    folder = study_folder(tmp_path, [synthetic_grid()], own)
    write_report(folder)
    told = "starts all its seeds from one pre-trained encoder"
    assert (told in Page(read_page(folder)).text) == (not each)
    assert (told in (folder / "report" / "labels.md").read_text()) == (not each)


def test_files_of_an_earlier_report_do_not_stay(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid()])
    write_report(folder, metrics=["d1", "rms"])
    (folder / "report" / "mine.md").touch()
    assert (folder / "report" / "curve-rms.svg").exists()
    write_results(folder / "results.jsonl", *synthetic_study([synthetic_grid("methods", labels=["100%"])]))
    write_report(folder)
    left = {path.name for path in (folder / "report").iterdir()}
    assert left == {"findings.md", "results.csv", "methods.md", "methods.csv", "index.html", "mine.md"}


def test_scores_of_another_version_are_not_described_as_todays(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid()], lambda r: replace(r, protocol_version=99))
    write_report(folder)
    text = Page(read_page(folder)).text
    assert "nyu-eigen, version 99 scored by another version" in text
    assert PROTOCOLS["nyu-eigen"].text not in text


def test_the_command_writes_and_names_all_files(reported, tmp_path):
    out = tmp_path / "new" / "report"
    said = train("report", reported, "--out", out, "--metric", "abs_rel").output.splitlines()
    names = ["curve-abs_rel.svg", "findings.md", "index.html", "labels.csv", "labels.md", "methods.csv", "methods.md",
             "results.csv"]  # fmt: skip
    assert sorted(said) == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == names
    # The same again, and over what is there.
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    train("report", reported, "--out", out, "--metric", "abs_rel")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_several_curves_have_names_that_tell_them_apart(tmp_path):
    folder = study_folder(tmp_path, [synthetic_grid(networks=["densedepth", "fcrn"], stores=["a/b"])])
    curves = [path.name for path in write_report(folder) if path.suffix == ".svg"]
    assert curves == ["curve-d1-densedepth-a_b-nyu-eigen.svg", "curve-d1-fcrn-a_b-nyu-eigen.svg"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "neither meta.json nor results.jsonl in it"),
        (["x", "--metric", "d9"], "metric 'd9' is unknown, wanted d1,"),
    ],
)
def test_a_slip_is_told_in_one_line(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(study_folder(tmp_path / "x", [synthetic_grid()]).parent)
    said = train("report", *arguments, code=1).output
    assert told in said
    assert said.count("\n") == 1


def test_a_place_that_cannot_be_written_is_told_in_one_line(reported, tmp_path):
    (tmp_path / "file").touch()
    said = train("report", reported, "--out", tmp_path / "file", code=1).output
    assert f"{tmp_path / 'file'}: File exists, wanted a folder" in said


# Curves


def texts(svg, kind):
    root = ET.fromstring(svg)
    return [element for element in root.iter(f"{NAMESPACE}text") if kind in element.get("class").split()]


def curve(**changes):
    header, results = synthetic_study([synthetic_grid(**changes)])
    (block,) = blocks_of(header, results, "a test")
    return block


def test_a_curve_has_a_marker_a_score_a_name_a_row_and_a_band():
    svg = label_curve(curve(), "densedepth")
    root = ET.fromstring(svg)
    kinds = [element.get("class").split()[0] for element in root.iter(f"{NAMESPACE}path")]
    assert kinds.count("gf-mark") == 15
    assert kinds.count("gf-line") == kinds.count("gf-band") == 3
    assert kinds.count("gf-printed") == 2  # random and gradient-moco, as in the paper
    assert sorted(text.text for text in texts(svg, "gf-name")) == ["gradient-moco", "moco", "random"]
    assert "gradient-moco at 0.01: .461 ± .023" in "".join(root.itertext())


def test_the_papers_curve_stands_only_beside_its_protocol_and_shares():
    for changes in ({"protocols": ["nyu-full"]}, {"labels": ["24", "80"]}, {"labels": ["50%", "100%"]}):
        assert "gf-printed gf-s" not in label_curve(curve(**changes), "densedepth")
    assert "gf-printed gf-s" not in label_curve(curve(networks=["fcrn"]), "fcrn")


def test_places_are_logarithmic_in_labels_and_linear_in_scores():
    points = [(1, estimate([0.2])), (10, estimate([0.4])), (100, estimate([0.6]))]
    svg = curve_svg([Series("a", 1, points)], [(x, str(x)) for x, _ in points], title="t", metric="m", axis="x")
    (line,) = [e for e in ET.fromstring(svg).iter(f"{NAMESPACE}path") if "gf-line" in e.get("class")]
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, p.split())) for p in line.get("d")[1:].split("L")]
    assert (x1 - x0, y1 - y0) == pytest.approx((x2 - x1, y2 - y1), abs=0.11)
    assert x1 > x0
    assert y1 < y0


@pytest.mark.parametrize("ends", [[0.5, 0.5, 0.501, 0.5, 0.2, 0.9], [0.9, 0.9, 0.9, 0.2], [0.2, 0.2, 0.2, 0.9]])
def test_names_at_the_ends_never_run_into_each_other_nor_out_of_the_drawing(ends):
    series = [Series(f"{end} {n}", n, [(1, estimate([0.5])), (10, estimate([end]))]) for n, end in enumerate(ends)]
    svg = curve_svg(series, [(1, "1"), (10, "10")], title="t", metric="m", axis="x", width=360)
    names = sorted(texts(svg, "gf-name"), key=lambda text: float(text.get("y")))
    places = [float(name.get("y")) for name in names]
    assert all(below - above >= 16.9 for above, below in pairwise(places))
    assert places[0] >= 4
    assert places[-1] <= float(ET.fromstring(svg).get("height"))
    heights = [float(name.text.split()[0]) for name in names]
    assert heights == sorted(heights, reverse=True)


def test_a_wide_interval_leaves_the_means_their_room():
    points = [(1, estimate([0.40, 0.44])), (10, estimate([0.50, 0.54]))]  # intervals of ± .25
    svg = curve_svg([Series("a", 1, points)], [(1, "1"), (10, "10")], title="t", metric="m", axis="x")
    (line,) = [e for e in ET.fromstring(svg).iter(f"{NAMESPACE}path") if "gf-line" in e.get("class")]
    (_, y0), (_, y1) = [tuple(map(float, p.split())) for p in line.get("d")[1:].split("L")]
    assert y0 - y1 > 150


def test_crowded_ticks_lose_their_texts_and_not_their_marks():
    narrow, wide = (label_curve(curve(), "densedepth", width=width) for width in (360, 720))
    shown = [[text.text for text in texts(svg, "gf-faint") if text.text.endswith(" %")] for svg in (narrow, wide)]
    assert shown == [["1 %", "3 %", "10 %", "100 %"], ["1 %", "3 %", "5 %", "10 %", "100 %"]]
    assert narrow.count("v5") == wide.count("v5") == 5


def test_a_single_share_and_no_score_are_drawn_too():
    assert "gf-mark" in label_curve(curve(labels=["10%"]), "densedepth")
    assert label_curve(replace(curve(), results=()), "densedepth") == ""
    assert ET.fromstring(curve_svg([], [], title="t", metric="m", axis="x")).tag == f"{NAMESPACE}svg"


def test_long_names_leave_the_curves_their_room_and_keep_both_ends():
    names = [
        "a row that says all of its options, temperature 0.2",
        "a row that says all of its options, temperature 0.1",
    ]
    series = [Series(name, n, [(1, estimate([0.5])), (10, estimate([0.6]))]) for n, name in enumerate(names)]
    for width in (360, 720):
        svg = curve_svg(series, [(1, "1"), (10, "10")], title="t", metric="m", axis="x", width=width)
        lines = [e.get("d") for e in ET.fromstring(svg).iter(f"{NAMESPACE}path") if "gf-line" in e.get("class")]
        assert all(float(line.split("L")[1].split()[0]) > 0.4 * width for line in lines)
        shown = [text.text for text in texts(svg, "gf-name")]
        assert [(text[:3], text[-4:]) for text in shown] == [("a r", " 0.2"), ("a r", " 0.1")]
        assert [text.find(f"{NAMESPACE}title").text for text in texts(svg, "gf-name")] == names


def test_long_names_take_several_lines_of_a_table(tmp_path):
    name = "gradient-moco at a temperature of 0.2 with jitter"
    write_report(study_folder(tmp_path / "x", [synthetic_grid(methods=["random", name])]))
    page = read_page(tmp_path / "x")
    assert f"<td class=long>{name}</td>" in page
    assert f"<td class=long>{name} minus random</td>" in page
    assert "<td>random</td>" in page


def test_rows_of_one_colour_have_other_markers():
    rows = [f"row {n}" for n in range(8)]
    numbers = colours_of(rows, None, None)
    series = [Series(row, numbers[row], [(1, estimate([0.5]))]) for row in rows]
    assert len({one.shade for one in series}) == 7
    svg = curve_svg(series, [(1, "1")], title="t", metric="m", axis="x")
    marks = [
        (e.get("class"), e.get("d")) for e in ET.fromstring(svg).iter(f"{NAMESPACE}path") if "gf-mark" in e.get("class")
    ]
    assert len(set(marks)) == 8


def test_a_cell_of_two_rows_is_scored_once(tmp_path):
    grid = synthetic_grid(methods=["random", "again"], labels=["1%"], seeds=[0])
    folder = study_folder(
        tmp_path / "x", [grid], lambda r: replace(r, cell="the same", method="random", pretraining=None)
    )
    write_report(folder)
    assert "evaluation 4.0 s" in Page(read_page(folder)).text


def test_colours_stay_with_their_rows():
    assert colours_of(["moco", "random", "gradient-moco"], "random", "gradient-moco") == {
        "gradient-moco": 1, "moco": 2, "random": 0
    }  # fmt: skip
    assert colours_of(["a", "b"], None, None) == {"a": 1, "b": 2}
