"""Study files and the work that they are: what is refused, what is the same work and what is other work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gfield
from train.errors import TrainError
from train.labels import spelled_labels
from train.study.options import parse_options
from train.study.pieces import needed_pretrainings, planned_steps
from train.study.plan import make_plan
from train.study.results import FORMAT, Header, Result, read_results, write_results
from train.study.run import part_of
from train.study.study_file import parse_study, preset_names, read_preset, read_study

from .small_runs import train
from .small_studies import STUDY, write_study

GRID = """
[[grid]]
table = "methods"
methods = ["M", "random"]
networks = ["densedepth"]
labels = [0.5]
stores = ["rooms"]
protocols = ["nyu-full"]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 1\n", "stepps = 1\n", "[pretrain]: 'stepps' is unknown, did you mean 'steps'?"),
        ("[stores]", "[sotres]", "'sotres' is unknown, did you mean 'stores'?"),
        ("table =", "tabel =", "[[grid]] 1: 'tabel' is unknown, did you mean 'table'?"),
        ('"random", ', '"radnom", ', "[[grid]] 1: methods: 'radnom' is unknown, did you mean 'random'?"),
        ('["densedepth"]', '["fcnn"]', "[[grid]] 1: networks: 'fcnn' is unknown, did you mean 'fcrn'?"),
        ('["nyu-eigen"]', '["nyu-eigan"]', "[[grid]] 1: protocols: 'nyu-eigan' is unknown, did you mean 'nyu-eigen'?"),
        ('= ["rooms"]', '= ["room"]', "[[grid]] 1: stores: 'room' is unknown, did you mean 'rooms'?"),
        ('"labels"', '"label"', "[[grid]] 1: table: 'label' is unknown, did you mean 'labels'?"),
        ("temperature = 0.2", "temprature = 0.2", "[method.gradient-moco]: 'temprature' is unknown, did you mean"),
        ("temperature = 0.2", 'temperature = "hot"', "[method.gradient-moco]: Invalid value for '--temperature'"),
        ("temperature = 0.2", "permutations = 5", ": --permutations 5 with --method gradient-moco, which takes"),
        ("temperature = 0.2", 'on = ["rom"]', "[method.gradient-moco]: on: 'rom' is unknown, did you mean 'rooms'?"),
        ("temperature = 0.2", "on = []", "[method.gradient-moco]: on is [], wanted names of stores"),
        ("[method.gradient-moco]", "[method.mine]", "[method.mine]: no method, wanted for example method ="),
        ("[method.gradient-moco]", "[method.random]", "[method.random]: 'temperature' is for pre-training"),
        ("[network.densedepth]", "[network.densdepth]", "'densdepth' is unknown, did you mean 'densedepth'?"),
        ('encoder = "resnet18"', 'encoder = "resnet81"', "encoder: 'resnet81' is unknown, did you mean 'resnet18'?"),
        ('["50%"]', '["150%"]', "[[grid]] 1: labels: labels '150%': wanted a share"),
        ('["50%"]', '["50%", 0.5]', "[[grid]] 1: labels has '50%' twice, wanted each once"),
        ('["50%"]', "[]", "[[grid]] 1: labels is [], wanted a list of one or more"),
        ("[0]", "[-1]", "[[grid]] 1: seeds has -1, wanted whole numbers from 0 on"),
        ("steps = 1\n", "steps = 1.5\n", "[pretrain]: Invalid value for '--steps'"),
        ("steps = 1\n", "steps = 0\n", "[pretrain]: Invalid value for '--steps': 0 is not in the range"),
        ("steps = 1\n", "steps = [1]\n", "[pretrain]: steps is [1], wanted one value as on the command line"),
        ("steps = 1\n", "seed = 1\n", "[pretrain]: 'seed' is not for here, the study decides it"),
        ("steps = 1\n", "compile = 1\n", "[pretrain]: compile is 1, wanted true or false"),
        ('name = "Two rows"', "name = 3", "name is 3, wanted a text"),
        ('name = "Two rows"', 'pretrain_seeds = "all"', "pretrain_seeds is 'all', wanted \"one\" or \"each\""),
        ('name = "Two rows"', "name = ", "not TOML"),
        ("[[grid]]", "[grid]", "no [[grid]], wanted at least one"),
        ('name = "Two rows"', f"name = {'[' * 9999}", "not TOML"),
        ('name = "Two rows"', f"name = 0x{'F' * 9000}", "name is a number of 36000 bits, wanted at most 64"),
        ("[0]", f"[{'9' * 5000}]", "not TOML"),
        ("[0]", f"[{'0,' * 20000}]", "seeds has 20000 entries, wanted at most 10000"),
        ("steps = 2\n", f"steps = {'[' * 20}{']' * 20}\n", "tables or lists 9 deep, wanted at most 8"),
        ('name = "Two rows"', f"{'.'.join('a' * 300)} = 1", "line 2 has 299 dots, wanted at most 200"),
        ('name = "Two rows"', f"{'a' * 5000} = 1", "is a text of over 4096 letters, wanted a shorter one"),
        ("[stores]", '[stores]\nx = "a\\u0000b"', "[stores]: x is 'a\\x00b', wanted a path"),
        ("temperature = 0.2", 'init = "a\\u0000b"', "[method.gradient-moco]: init is 'a\\x00b', wanted a value"),
        ("[method.gradient-moco]", '[method."a\\u0007b"]', "[method]: a name is 'a\\x07b', wanted one that can be"),
        ("rooms = ", '"" = ', "[stores]: a name is '', wanted one that can be"),
        ("temperature = 0.2", 'on = [["rooms", "rooms"]]', "on has ['rooms', 'rooms'] together, wanted each"),
        ("temperature = 0.2", "temperature = inf", ": --temperature inf, wanted more than 0"),
        ('["50%"]', "[0.5, 1]", "[[grid]] 1: labels has 1, one frame, beside shares, wanted \"100%\" or 1.0 for all"),
        ('["50%"]', "[7]", "[[grid]] labels: --labels 7: the train split has 6 frames"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_place_and_the_nearest_name(small_store, tmp_path, old, new, said):
    path = write_study(tmp_path, small_store, (old, new))
    with pytest.raises(TrainError) as error:
        make_plan(read_study(path, {}))
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value).split("not TOML")[0]


def plan_of(folder: Path, store: Path, *changes: tuple[str, str]):
    return make_plan(read_study(write_study(folder, store, *changes), {}))


def test_the_plan_has_every_cell_once_with_what_it_needs(small_store, tmp_path):
    plan = plan_of(tmp_path, small_store, ("[0]", "[0, 1]"), ('["50%"]', '["50%", "100%", 2]'))
    assert [(cell.seed, cell.labels, cell.rows) for cell in plan.cells] == [
        (seed, labels, (row,))
        for seed in (0, 1)
        for labels in ("50%", "100%", "2")
        for row in ("random", "gradient-moco")
    ]
    assert [cell.labelled_frames for cell in plan.cells[:6:2]] == [3, 6, 2]
    assert [cell.share for cell in plan.cells[:6:2]] == [0.5, 1.0, None]
    assert len({cell.id for cell in plan.cells}) == 12
    (pretraining,) = plan.pretrainings
    assert pretraining.frames == 7, "six of train, one that is unlabeled"
    assert pretraining.options["temperature"] == 0.2
    assert [cell.pretraining for cell in plan.cells] == 6 * [None, pretraining]
    each = plan_of(tmp_path, small_store, ("[0]", "[0, 1]"), ('name = "Two rows"', 'pretrain_seeds = "each"'))
    assert [link.seed for link in each.pretrainings] == [0, 1]


def test_two_grids_share_what_is_the_same(small_store, tmp_path):
    more = ("[[grid]]", f'[method.M]\nmethod = "gradient-moco"\non = ["rooms"]\n{GRID}[[grid]]')
    plan = plan_of(tmp_path, small_store, more)
    assert len(plan.pretrainings) == 1, "M takes the options of gradient-moco's row, and the same store"
    by_row = {cell.rows: cell for cell in plan.cells}
    assert set(by_row) == {("M", "gradient-moco"), ("random",)}
    assert by_row["random",].protocols == ("nyu-full", "nyu-eigen")
    assert by_row["random",].tables == ("methods", "labels")


def test_what_decides_a_result_changes_its_name_and_nothing_else_does(nyu_mat, small_store, tmp_path):
    def ids(*changes, store=small_store, folder="same"):
        plan = plan_of(tmp_path / folder, store, *changes)
        (link,) = plan.pretrainings
        return link.id, *(cell.id for cell in plan.cells)

    before = ids()
    assert ids(folder="elsewhere") == before
    moved = tmp_path / "moved.zarr"
    shutil.copytree(small_store, moved)
    assert ids(store=moved) == before, "a store is its content, not its place"
    source = gfield.open_nyuv2(nyu_mat)
    gfield.build_store(source, tmp_path / "new.zarr", gfield.make_spec(source, levels_WH=[(640, 480), (80, 60)]))
    assert not set(ids(store=tmp_path / "new.zarr")) & set(before)
    for same in (("temperature = 0.2", "temperature = 0.2\nsave_every = 3"), ('name = "Two rows"', 'name = "Other"')):
        assert ids(same) == before
    changed = {
        ("temperature = 0.2", "temperature = 0.3"): (True, False, True),
        ('encoder = "resnet18"', 'encoder = "resnet18"\nlr = 1e-3'): (False, True, True),
        ('encoder = "resnet18"', 'encoder = "resnet50"'): (True, True, True),
        ('["50%"]', '["100%"]'): (False, True, True),
        ("[0]", "[1]"): (False, True, True),
    }
    for change, pieces in changed.items():
        assert tuple(new != old for new, old in zip(ids(change), before, strict=True)) == pieces, change


def test_a_chain_is_pretrained_link_by_link(small_store, tmp_path):
    other = tmp_path / "other.zarr"
    shutil.copytree(small_store, other)
    chain = f'[method."N->M"]\nmethod = "gradient-moco"\non = ["nyu", ["rooms", "nyu"]]\n{GRID.replace("M", "N->M", 1)}'
    plan = plan_of(
        tmp_path, small_store, ('[pretrain]', f'nyu = "{other}"\n[pretrain]'), ("[[grid]]", f"{chain}[[grid]]")
    )  # fmt: skip
    cell = next(cell for cell in plan.cells if cell.rows == ("N->M",))
    last = cell.pretraining
    assert last is not None
    assert last.after is not None
    assert (last.after.stores, last.after.after) == (("nyu",), None)
    assert (last.stores, last.chain, last.frames) == (("rooms", "nyu"), ("nyu", "rooms+nyu"), 14)
    order = [link.id for link in plan.pretrainings]
    assert order.index(last.after.id) < order.index(last.id)


def test_imagenets_file_is_for_the_first_link_of_a_chain_alone(small_store, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"weights")
    start = f'init = "imagenet"\nweights = "{tmp_path / "w.pth"}"\non = ["rooms", "rooms"]\ntemperature = 0.2'
    cells = make_plan(read_study(write_study(tmp_path, small_store, ("temperature = 0.2", start)), {})).cells
    first, second = needed_pretrainings(cells)
    assert (first.options["init"], first.options["weights"]) == ("imagenet", tmp_path / "w.pth")
    assert (second.options["init"], second.options["weights"]) == ("random", None)


def test_a_grid_without_its_stores_is_left_out_aloud(small_store, tmp_path):
    make3d = GRID.replace('"M", ', "").replace('stores = ["rooms"]', 'stores = ["make3d"]')
    changes = (("[pretrain]", 'make3d = ""\n[pretrain]'), ("[[grid]]", f"{make3d}[[grid]]"))
    plan = plan_of(tmp_path, small_store, *changes)
    assert [grid.table for grid in plan.grids] == ["labels"]
    assert plan.notes == ["grid 1 (methods) is left out: no --store make3d"]
    nothing = parse_study("x.toml", STUDY.replace('"STORE"', '""').encode(), tmp_path, {})
    with pytest.raises(TrainError, match=r"x.toml: no grid has its stores, wanted --store rooms=PATH"):
        make_plan(nothing)
    given = parse_study("x.toml", STUDY.replace('"STORE"', '""').encode(), tmp_path, {"rooms": small_store})
    assert len(make_plan(given).cells) == 2
    with pytest.raises(TrainError, match=r"--store room=x: .*'room' is unknown, did you mean 'rooms'"):
        parse_study("x.toml", STUDY.encode(), tmp_path, {"room": Path("x")})


def test_what_the_stores_cannot_give_is_found_before_anything_runs(small_store, tmp_path):
    said = {
        ('["50%"]', "[7]"): "--labels 7: the train split has 6 frames",
        ('size = "80x60"\nsteps = 2', 'size = "64x48"\nsteps = 2'): "no level 64x48, it has 640x480, 160x120, 80x60",
        ('size = "80x60"\nsteps = 1', 'size = "64x48"\nsteps = 1'): "no level 64x48, it has 640x480, 160x120, 80x60",
        (f'"{small_store}"', f'"{tmp_path}"'): str(tmp_path),
    }
    for change, text in said.items():
        with pytest.raises(gfield.UserError) as error:
            plan_of(tmp_path / "study", small_store, change)
        assert text in str(error.value)
    notes = plan_of(tmp_path / "study", small_store, ('["50%"]', '["1%", "3%", "50%"]')).notes
    assert notes == [
        "rooms: 1% of 6 frames is less than one, 1 labelled frame is taken",
        "rooms: 3% of 6 frames is less than one, 1 labelled frame is taken",
        "rooms: 1% and 3% are the same 1 labelled frame",
    ]


def test_a_batch_is_never_larger_than_the_labelled_frames(small_store, tmp_path):
    plan = plan_of(tmp_path, small_store, ("steps = 2\nbatch = 2", "epochs = 3\nbatch = 4"), ('"50%"', "1, 3, 6"))
    assert [cell.options["batch"] for cell in plan.cells[::2]] == [1, 3, 4]
    assert [planned_steps(cell.options, cell.labelled_frames) for cell in plan.cells[::2]] == [3, 3, 3]


def test_options_are_read_as_the_command_reads_them():
    options = parse_options("pretrain", {"lr": 0.03, "size": "80x60", "compile": True, "schedule": "step"}, "x")
    assert options["rate"] == 0.03
    assert options["size_WH"] == (80, 60)
    assert options["compiled"] is True
    assert options["epochs"] == 200, "the command's default"
    assert parse_options("finetune", {}, "x")["rate"] == 1e-4


@given(st.integers(0, 60), st.integers(1, 12))
def test_parts_are_all_cells_and_none_twice(count, parts):
    cells = list(range(count))
    shares = [part_of(cells, (part, parts)) for part in range(1, parts + 1)]
    assert sorted(cell for share in shares for cell in share) == cells
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("label", "text"),
    [("1%", "1%"), (0.01, "1%"), ("0.005", "0.5%"), (80, "80"), ("80", "80"), ("all", "100%"), (1.0, "100%")],
)
def test_labels_have_one_spelling(label, text):
    assert spelled_labels("x", label) == text


@pytest.mark.parametrize("name", preset_names())
def test_the_presets_are_studies(small_store, name):
    study = read_preset(name, {})
    stores = {grid.table: set(grid.stores) for grid in study.grids}
    assert set(study.stores.values()) == {None}
    if name != "paper":
        given = {"smoke": ["rooms"], "small": ["rooms", "walks"]}[name]
        plan = make_plan(read_preset(name, dict.fromkeys(given, small_store)))
        assert len(plan.cells) == {"smoke": 8, "small": 48}[name]
        assert {cell.pretraining.stores for cell in plan.cells if cell.pretraining} == {(given[-1],)}
        return
    assert set(stores) == {"methods", "labels", "make3d", "defects"}
    plan = make_plan(read_preset("paper", {"nyu": small_store}))
    left_out = [note.split(" is left")[0] for note in plan.notes if "is left out" in note]
    assert left_out == ["grid 3 (make3d)", "grid 4 (defects)", "grid 5 (defects)"]
    link = next(cell.pretraining for cell in plan.cells if cell.method == "gradient-moco" and cell.network == "fcrn")
    assert link is not None
    wanted = {"batch": 64, "rate": 0.015, "temperature": 0.07, "momentum": 0.999, "dim": 256, "epochs": 200}
    assert {name: link.options[name] for name in wanted} == wanted


def test_a_study_file_of_an_editor_that_marks_its_encoding_is_read(small_store, tmp_path):
    path = write_study(tmp_path, small_store)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_study(path, {}).name == "Two rows"


def test_an_unknown_preset_is_told_with_the_nearest():
    with pytest.raises(TrainError, match="--preset: 'papr' is unknown, did you mean 'paper'"):
        read_preset("papr", {})


RESULT = Result(
    cell="a", row="r", method="random", network="fcrn", encoder="resnet18", labels="1%", share=0.01, labelled_frames=2,
    seed=0, store="rooms", pretrained_on=[], protocol="nyu-eigen", protocol_version=1, metrics={"d1": 0.5}, images=3,
    official=False, pretraining=None, run="runs/a", steps=2, seconds={"finetune": 1.0}, examples=[],
)  # fmt: skip
HEADER = Header(name="x", grids=[], command="train study x", machine="none", cells=1)


def test_results_come_back_as_they_were(tmp_path):
    write_results(tmp_path / "results.jsonl", HEADER, [RESULT, RESULT])
    assert read_results(tmp_path / "results.jsonl") == (HEADER, [RESULT, RESULT])


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (1, FORMAT, "gfield study 9", "line 1: of format 'gfield study 9', this version of train reads 'gfi"),
        (2, FORMAT, "gfield study 0", "line 2: of format 'gfield study 0'"),
        (2, "}", "", "line 2 is damaged: not JSON"),
        (2, "0.5", "NaN", "line 2 is damaged: not JSON"),
        (2, "0.5", '"high"', "line 2 is damaged: d1 is 'high'"),
        (2, '"share": 0.01, ', "", "line 2 is damaged: no 'share'"),
        (2, '"share"', '"shaer"', "line 2 is damaged: no 'share'"),
        (2, '"seed": 0', '"seed": true', "line 2 is damaged: seed is True"),
        (2, '"kind": "result"', '"kind": "study"', "line 2 is damaged: of kind 'study', wanted 'result'"),
        (2, "0.5", "1e999", "line 2 is damaged: d1 is inf"),
        (2, "0.5", "-1e200", "line 2 is damaged: d1 is -1e+200"),
        (2, "0.5", "9" * 400, "line 2 is damaged: d1 is 999"),
        (2, '"labelled_frames": 2', '"labelled_frames": 1' + "0" * 400, "line 2 is damaged: labelled_frames is 1000"),
        (2, '"share": 0.01', '"share": -1e999', "line 2 is damaged: share is -inf"),
        (2, '"examples": []', '"examples": [1]', "line 2 is damaged: examples is [1]"),
        (2, '"pretrained_on": []', '"pretrained_on": [null]', "line 2 is damaged: pretrained_on is [None]"),
        (1, '"x"', '"a\\ud800b"', "line 1 is damaged: not JSON"),
        (1, '"cells": 1', '"cells": 1, "more": 2', "line 1 is damaged: 'more' is unknown"),
    ],
)  # fmt: skip
def test_results_that_are_damaged_or_of_another_version_are_refused_by_line(tmp_path, line, old, new, said):
    path = tmp_path / "results.jsonl"
    write_results(path, HEADER, [RESULT])
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(TrainError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}: {said}")


def test_the_command_line_tells_what_is_missing(small_store, tmp_path):
    assert "neither FILE nor --preset given, wanted one" in train("study", code=2).output
    path = write_study(tmp_path, small_store)
    assert "both FILE and --preset given" in train("study", path, "--preset", "smoke", code=2).output
    assert "no --out given" in train("study", path, code=2).output
    assert "'rooms', wanted a name" in train("study", path, "--store", "rooms", code=2).output
    assert "'paper' is not" not in train("study", path, "--list").output
    no_file = train("study", tmp_path / "no.toml", "--list", code=1)
    assert no_file.output == f"Error: {tmp_path / 'no.toml'}: No such file or directory, wanted a study file\n"


def test_the_list_tells_all_work_and_touches_nothing(small_store, tmp_path):
    path = write_study(tmp_path, small_store)
    lines = train("study", path, "--list", "--out", tmp_path / "out").output.splitlines()
    assert lines == [
        "pre-training 1 of 1: gradient-moco, resnet18, on rooms (7 frames, 1 step): to do",
        "cell 1 of 2: random, densedepth, 50%, rooms, seed 0 (3 frames, 2 steps): to do",
        "cell 2 of 2: gradient-moco, densedepth, 50%, rooms, seed 0 (3 frames, 2 steps): to do",
        "left: 3 pieces of which no like is done",
    ]
    assert not (tmp_path / "out").exists()
    said = train("study", path, "--list", "--grid", "make3d", code=1).output
    assert f"--grid make3d: {path} has no such grid, wanted one of labels" in said
    assert "there must be 1 part or more" in train("study", path, "--list", "--part", "1/0", code=2).output
    assert "part 3 of 3 has no cells" in train("study", path, "--list", "--part", "3/3").output
    one = train("study", path, "--list", "--part", "1/2").output
    assert "cell 1 of 2" in one
    assert "cell 2 of 2" not in one


def test_a_folder_of_something_else_is_refused(small_store, tmp_path):
    path = write_study(tmp_path, small_store)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    said = train("study", path, "--out", tmp_path / "out", code=1).output
    assert f"{tmp_path / 'out'}: holds thesis.tex and no study, wanted a new or empty folder" in said
    old = tmp_path / "old"
    old.mkdir()
    (old / "study.json").write_text(json.dumps({"format": "gfield study 0"}))
    said = train("study", path, "--out", old, code=1).output
    assert "of format 'gfield study 0', this version of train goes on with 'gfield study 1'" in said
