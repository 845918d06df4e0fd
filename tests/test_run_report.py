"""The report of runs: what their folders tell, whole or damaged, and a page that sets them side by side."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cli
import gfield
from train.report.curves import in_stretches, step_curves
from train.report.predictions import error_colours, examples_of
from train.report.read import Curve, read_runs
from train.report.settings import compared
from train.restore import depth_net_of_run

from .browser import NARROW, WIDE, overflow, resized
from .page_reader import Page
from .small_runs import train

pytestmark = pytest.mark.usefixtures("one_thread")

EVIL = "</style><script>alert(1)</script>&amp;\"'"


@pytest.fixture(scope="module")
def scored(finetuned, small_store, tmp_path_factory):
    """Two runs alike but for their rate, with scores; not to be changed."""
    folder = tmp_path_factory.mktemp("scored")
    for name, rate in (("slow", 0.0001), ("fast", 0.001)):
        shutil.copytree(finetuned, folder / name)
        change(folder / name, lambda meta, rate=rate: meta["arguments"].update(rate=rate))
        train("evaluate", small_store, folder / name, "--protocol", "nyu-eigen", "--device", "cpu")
    return folder


def change(run, edit):
    """Edit a run's meta.json."""
    path = run / "meta.json"
    meta = json.loads(path.read_text())
    edit(meta)
    path.write_text(json.dumps(meta))


def copied(run, folder, name="run"):
    return shutil.copytree(run, folder / name)


def report(*arguments, code=0):
    return train("report", *arguments, "--device", "cpu", code=code)


def evaluation(run):
    (path,) = (run / "evaluations").glob("*.json")
    return json.loads(path.read_text())


# What a run's folder tells


def test_a_run_is_read_as_it_was_trained(finetuned):
    (run,) = read_runs([finetuned])
    lines = [json.loads(line) for line in (finetuned / "log.jsonl").read_text().splitlines()]
    assert (run.name, run.command, run.steps, run.planned) == ("finetuned", "finetune", 4, 4)
    loss = run.curves["train", "loss"]
    assert list(loss.steps) == [0, 1, 2, 3]
    assert list(loss.values) == [line["loss"] for line in lines]
    gaps = np.diff([line["time"] for line in lines])
    assert run.seconds_per_step == pytest.approx(np.median(gaps))
    assert run.notes == []


def test_steps_that_were_not_finite_are_left_out_and_events_are_told(finetuned, tmp_path):
    run = copied(finetuned, tmp_path)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "time": 1.0, "kind": "train", "loss": "nan", "rate": 0.1}\n')
        log.write('{"step": 4, "time": 1.0, "kind": "event", "text": "skipped: loss or gradient not finite"}\n')
        log.write('{"step": 4, "time": 1.0, "kind": "eval", "d1": 0.5}\n')
    (read,) = read_runs([run])
    assert read.steps == 5
    assert list(read.curves["train", "loss"].steps) == [0, 1, 2, 3]
    assert list(read.curves["train", "rate"].steps) == [0, 1, 2, 3, 4]
    assert list(read.curves["eval", "d1"].values) == [0.5]
    report(run, "--examples", 0)
    text = Page((tmp_path / "run.html").read_text()).text
    assert "run: step 5: skipped: loss or gradient not finite" in text
    assert "d1, validation" in text


def test_an_interrupted_run_says_how_far_it_came(finetuned, tmp_path):
    run = copied(finetuned, tmp_path)
    lines = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "log.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    report(run, "--examples", 0)
    text = Page((tmp_path / "run.html").read_text()).text
    assert "2 of 4" in text
    assert "run: log.jsonl: 1 line that cannot be read, left out" in text


def test_epochs_are_planned_as_steps(finetuned, tmp_path):
    run = copied(finetuned, tmp_path)
    change(run, lambda meta: meta["arguments"].update(steps=None, epochs=5, batch=4))
    (read,) = read_runs([run])
    assert read.planned == 5 * (6 // 4)
    change(run, lambda meta: meta.pop("labelled_frames"))
    assert read_runs([run])[0].planned is None


def test_a_run_without_a_log_and_an_imported_one_have_a_page(finetuned, tmp_path):
    bare = copied(finetuned, tmp_path)
    (bare / "log.jsonl").unlink()
    imported = copied(bare, tmp_path, "imported")
    (imported / "log.jsonl").touch()
    change(imported, lambda meta: meta.update(imported=True, stores=[]))
    said = report(bare, imported, "--examples", 0).output
    assert said == f"{tmp_path / 'report.html'}\n"
    text = Page((tmp_path / "report.html").read_text()).text
    assert "run: no log.jsonl" in text
    assert "imported: an imported run, which has no log" in text
    assert "No run has logged a step." in text


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"protocol": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_evaluation_costs_itself_alone(scored, tmp_path, content):
    run = copied(scored / "slow", tmp_path)
    (run / "evaluations" / "zz.json").write_bytes(content)
    (read,) = read_runs([run])
    assert [score.protocol for score in read.scores] == ["nyu-eigen"]
    assert read.notes == ["evaluations/zz.json: cannot be read, wanted what train evaluate writes"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"kind": "other"}'])
def test_a_run_whose_meta_is_damaged_is_one_line(finetuned, tmp_path, content):
    run = copied(finetuned, tmp_path)
    (run / "meta.json").write_bytes(content)
    said = report(run, code=1).output
    assert said.startswith(f"Error: {run / 'meta.json'}: ")
    assert said.count("\n") == 1


def test_runs_are_called_by_as_much_of_their_path_as_tells_them_apart(finetuned, tmp_path):
    for place in ("a/x", "b/x"):
        copied(finetuned, tmp_path, place)
    assert [run.name for run in read_runs([tmp_path / "a/x", tmp_path / "b/x"])] == ["a/x", "b/x"]
    assert [run.name for run in read_runs([tmp_path / "a/x"])] == ["x"]


# Settings, curves and scores


def test_settings_that_differ_stand_apart_from_those_that_are_shared(scored):
    differ, same = compared(read_runs([scored / "slow", scored / "fast"]))
    assert differ == [["rate", "0.0001", "0.001"]]
    assert ["network", "fcrn", "fcrn"] in same
    assert not [row for row in same if row[0] in ("out", "resume")]


def test_a_setting_that_one_lacks_is_a_dash(scored, tmp_path):
    run = copied(scored / "slow", tmp_path)
    change(run, lambda meta: meta["arguments"].pop("seed"))
    differ, _ = compared(read_runs([scored / "slow", run]))
    assert differ == [["seed", "0", "\N{EM DASH}"]]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=700), st.integers(0, 1000))
def test_stretches_hold_every_step_once(values, first):
    curve = Curve(range(first, first + len(values)), values)
    line = in_stretches(curve, first, first + len(values) - 1)
    assert len(line.steps) == min(len(values), 160) or len(values) > 160 >= len(line.steps)
    assert list(line.steps) == sorted(set(line.steps))
    if len(values) <= 160:
        assert list(line.means) == values
    low, high = min(values), max(values)
    assert all(
        low <= value <= high or value == pytest.approx(low) or value == pytest.approx(high) for value in line.means
    )


def test_a_long_log_is_drawn_by_few_points():
    curve = Curve(range(100_000), np.sin(np.arange(100_000) / 9000).tolist())
    drawn = step_curves([(0, "long", curve), (1, "one step", Curve([5], [0.2]))], told="loss")
    assert len(drawn) < 20_000
    assert "ends at" in drawn
    assert drawn.count("<circle") == 1


def test_a_curve_that_stands_still_has_a_scale_too():
    assert "NaN" not in step_curves([(0, "still", Curve([0, 1], [0.0, 0.0]))], told="loss")
    assert "<path" in step_curves([(7, "eighth", Curve([0, 1], [3e-5, 3e-5]))], told="rate")


def test_scores_on_the_page_are_those_of_the_files_and_the_best_is_bold(scored):
    slow, fast = scored / "slow", scored / "fast"
    path = fast / "evaluations" / next((fast / "evaluations").iterdir()).name
    result = json.loads(path.read_text())
    before = dict(result["metrics"])
    result["metrics"].update(d1=0.912, rms=9.871)
    path.write_text(json.dumps(result))
    try:
        report(slow, fast, "--examples", 0)
    finally:
        result["metrics"] = before
        path.write_text(json.dumps(result, indent=2))
    page = (scored / "report.html").read_text()
    assert "<b>.912</b>" in page
    assert ">9.871<" in page
    assert "<b>9.871</b>" not in page
    assert f"<b>{evaluation(slow)['metrics']['rms']:.3f}".replace("<b>0", "<b>") in page
    assert "The protocol's own images are 654" in Page(page).text


# Predictions


def test_the_worst_and_the_best_are_those_of_the_scores(scored, small_store):
    runs = read_runs([scored / "slow", scored / "fast"])
    shown = examples_of(runs, count=1, device="cpu")
    assert len(shown.worst[0].predictions) == 2
    per_image = [evaluation(scored / name)["per_image"] for name in ("slow", "fast")]
    means = np.mean([one["abs_rel"] for one in per_image], axis=0)
    assert shown.best[0].name == per_image[0]["name"][int(means.argmin())]
    assert shown.worst[0].name == per_image[0]["name"][int(means.argmax())]
    assert shown.chosen == "by the runs' mean abs_rel of nyu-eigen, 3 test frames"


def test_errors_are_those_of_the_network_on_the_stores_depth(scored, small_store):
    (run,) = read_runs([scored / "slow"])
    (example,) = examples_of([run], count=1, device="cpu").worst
    store = gfield.open_store(small_store)
    row = store.names.tolist().index(example.name)
    net, _ = depth_net_of_run(run.folder, lambda text: None)
    rgb_HWC, truth_HW = store.read("80x60/rgb", [row])[0], store.read("80x60/depth", [row])[0]
    with torch.inference_mode():
        small = net.predict(torch.from_numpy(rgb_HWC).permute(2, 0, 1)[None].float() / 255)
    predicted = torch.nn.functional.interpolate(small, size=truth_HW.shape, mode="bilinear")[0, 0].numpy()
    assert example.predictions[0].abs_rel == pytest.approx(np.mean(abs(predicted - truth_HW) / truth_HW), rel=1e-4)
    np.testing.assert_array_equal(example.rgb, rgb_HWC)
    wanted = error_colours(predicted / truth_HW).astype(int)
    assert abs(example.predictions[0].error - wanted).max() <= 2


def test_without_scores_frames_are_chosen_by_their_own_errors(finetuned, tmp_path):
    run = copied(finetuned, tmp_path)
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    shown = examples_of(read_runs([run]), count=3, device="cpu")
    errors = [example.predictions[0].abs_rel for example in shown.best]
    assert errors == sorted(errors)
    assert len(shown.best) == 3
    assert shown.worst == []
    assert shown.chosen.startswith("by abs_rel of 3 test frames")


def test_colours_of_errors_tell_too_near_from_too_far():
    near, right, far = error_colours(np.array([0.4, 1, 2.5], np.float32)).astype(int)
    assert near[2] > near[0] + 100
    assert far[0] > far[2] + 100
    assert np.ptp(right) == 0


def test_a_store_that_has_moved_is_told_and_may_be_named(finetuned, small_store, tmp_path):
    run = copied(finetuned, tmp_path)
    change(run, lambda meta: meta["stores"][0].update(path="/gone/nyu.zarr"))
    told = "no predictions: /gone/nyu.zarr: gone, where run was trained; --store STORE says where it is now"
    assert told in report(run).output
    page = Page((tmp_path / "run.html").read_text())
    assert "None: /gone/nyu.zarr: gone" in page.text
    assert not page.images
    assert "no predictions" not in report(run, "--store", small_store).output
    assert len(Page((tmp_path / "run.html").read_text()).images) == 2 + 3 * 4


def test_a_run_without_a_checkpoint_is_missing_from_the_pictures_alone(scored, tmp_path):
    run = copied(scored / "fast", tmp_path)
    shutil.rmtree(run / "checkpoints")
    report(scored / "slow", run, "--out", tmp_path / "page.html", "--examples", 1)
    page = Page((tmp_path / "page.html").read_text())
    assert "has no checkpoint yet" in page.text
    assert len(page.images) == 2 + 2 * 4
    assert "has no checkpoint yet" in report(run).output


def test_a_pretraining_alone_has_no_word_of_predictions(pretrained):
    report(pretrained)
    text = Page(pretrained.with_name("pretrained.html").read_text()).text
    assert "predictions" not in text
    assert "pretrain gradient-moco" in text


# The command


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "Missing argument"),
        (["nothing"], 1, "neither meta.json nor results.jsonl in it"),
        (["run", "nothing"], 1, "nothing: no such folder, wanted the folder of a run"),
        (["run", "run"], 1, "run: given twice, wanted every run once"),
        (["run", "--metric", "d1"], 2, "--metric is for the report of a study"),
        (["run", "--out", "page.txt"], 1, "page.txt: the name ends in '.txt', wanted .html"),
        (["run", "--out", "run/page.html"], 1, "inside a run"),
        (["run", "--out", "no/page.html"], 1, "no folder no"),
        (["study", "--store", "x"], 2, "--store is for the report of runs"),
    ],
)
def test_a_slip_is_told_in_one_line(finetuned, tmp_path, monkeypatch, arguments, code, told):
    copied(finetuned, tmp_path)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "results.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.train, ["report", *arguments])
    assert result.exit_code == code
    assert told in result.output
    assert code == 2 or result.output.count("\n") == 1
    assert not list(tmp_path.glob("**/*.html"))


def test_one_run_is_reported_from_inside_its_folder(finetuned, tmp_path, monkeypatch):
    monkeypatch.chdir(copied(finetuned, tmp_path))
    report(".", "--examples", 0)
    assert (tmp_path / "run.html").is_file()


def test_the_page_depends_on_the_run_alone(scored, tmp_path):
    for name in ("a.html", "b.html"):
        report(scored / "slow", "--examples", 1, "--out", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


# The page itself


@pytest.fixture(scope="module")
def reported(scored, pretrained, tmp_path_factory):
    """The page of runs of both commands, one of an evil name with evil settings."""
    folder = tmp_path_factory.mktemp("evil")
    evil = copied(scored / "fast", folder, "<script>alert(1)<")
    change(evil, lambda meta: meta["arguments"].update(init=EVIL, encoder="resnet18", note=EVIL))
    report(scored / "slow", evil, pretrained, "--out", folder / "page.html")
    return folder / "page.html"


def test_names_and_settings_are_text_and_no_markup(reported):
    page = Page(reported.read_text())
    assert "<script" not in reported.read_text()
    assert page.text.count(EVIL) >= 2
    assert page.text.count("<script>alert(1)<") >= 5
    assert not [link for link in page.links if not link.startswith("data:image/png;base64,")]


def test_in_a_browser_it_is_readable_wide_and_narrow_light_and_dark(page, reported):
    page.goto(reported.as_uri())
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for width in (NARROW, WIDE):
            assert overflow(resized(page, width)) == []
    assert len(set(grounds)) == 2
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")
    strokes = page.evaluate("[...document.querySelectorAll('.runs path')].map(e => getComputedStyle(e).stroke)")
    assert len(set(strokes)) == 3


def test_in_a_browser_it_opens_by_keyboard_what_is_folded(page, reported):
    page.goto(reported.as_uri())
    assert page.locator("h1").count() == page.locator("main").count() == 1
    names = []
    for _ in range(30):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.slice(0, 20)"))
        if names[-1].startswith("What else was logged"):
            break
    assert not page.get_by_text("learning rate").first.is_visible()
    page.keyboard.press("Enter")
    assert page.get_by_text("learning rate").first.is_visible()
