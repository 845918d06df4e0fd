"""What the commands of `train` refuse: each in one line, before anything is computed or touched."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import save_file

import gfield
from train.signals import StopSignals

from .small_runs import SMALL, train


def one_line(result):
    """The error, which is one line and no traceback."""
    lines = [line for line in result.output.splitlines() if line.startswith(("Error", "Usage"))]
    assert "Traceback" not in result.output
    assert lines, result.output
    return lines[-1]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--size", "320x240"], "no level 320x240"),
        (["--batch", "8"], "batch 8"),
        (["--batch", "3", "--accumulate", "2"], "multiple of 2"),
        (["--queue", "3"], "multiple of the batch of 2"),
        (["--bn-groups", "3"], "--bn-groups 3 of 2 samples at a time, wanted a number that divides them"),
        (["--device", "cuda"], "device"),
        (["--device", "nonsense"], "nonsense"),
        (["--init", "nowhere"], "nowhere"),
        (["--temperature", "0"], "temperature 0"),
        (["--lr", "-1"], "--lr -1.0, wanted a finite rate"),
        (["--lr", "nan"], "--lr nan, wanted a finite rate"),
        (["--lr", "inf"], "--lr inf, wanted a finite rate"),
        (["--warmup", "2"], "--warmup 2 of 1 steps never ends"),
    ],
)
def test_wrong_options_of_pretraining_are_one_line(small_store, tmp_path, options, wanted):
    result = train("pretrain", small_store, "--out", tmp_path / "run", *SMALL, "--steps", 1, *options, code=1)
    assert wanted in one_line(result)
    assert not (tmp_path / "run").exists(), "the corrected command is not refused for what the wrong one left"


def test_the_first_ctrl_c_says_at_once_that_the_run_will_stop(capfd):
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
    assert "Stopping at the end of this step; Ctrl-C again stops at once, without saving." in capfd.readouterr().err


def test_a_store_that_is_given_twice_is_refused(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "copy.zarr")
    options = ["--out", tmp_path / "run", *SMALL, "--steps", 1]
    result = train("pretrain", small_store, tmp_path / "copy.zarr", *options, code=1)
    assert f"copy.zarr: the same frames as {small_store}, wanted each store once" in one_line(result)


@pytest.mark.parametrize("start", ["random", "imagenet"])
def test_a_start_that_is_no_method_points_to_its_command(small_store, tmp_path, start):
    result = train("pretrain", small_store, "--out", tmp_path / "run", "--method", start, code=2)
    assert f"'{start}' needs no pre-training: train finetune STORE --init {start} --out RUN" in result.output


def test_a_store_that_is_not_whole_is_refused_before_the_first_step(small_store, tmp_path):
    options = ["--out", tmp_path / "run", *SMALL, "--steps", 1]
    assert "not there" not in one_line(train("pretrain", tmp_path / "none.zarr", *options, code=1))
    broken = tmp_path / "broken.zarr"
    shutil.copytree(small_store, broken)
    for shard in (broken / "80x60" / "gradient").rglob("0"):
        if shard.is_file():
            shard.unlink()
    assert "missing" in one_line(train("pretrain", broken, *options, code=1))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_store_without_labels_or_depth_is_refused(frames, nyu_mat, tmp_path):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    shutil.copy(nyu_mat, folder / "nyu_depth_v2_labeled.mat")
    source = gfield.open_nyuv2(folder / "nyu_depth_v2_labeled.mat")
    gfield.build_store(source, folder / "nyu.zarr", gfield.make_spec(source, levels_WH=[(80, 60)]))
    options = ["--init", "random", "--network", "fcrn", *SMALL, "--steps", 1, "--out", tmp_path / "run"]
    assert "no labelled frame" in one_line(train("finetune", folder / "nyu.zarr", *options, code=1))


def test_an_encoder_of_another_kind_is_refused(small_store, pretrained, tmp_path):
    options = ["--init", pretrained, "--network", "fcrn", "--encoder", "resnet50", "--size", "80x60"]
    said = one_line(train("finetune", small_store, "--out", tmp_path / "run", *options, "--steps", 1, code=1))
    assert "resnet18" in said
    assert "resnet50" in said


def test_protocols_are_listed_where_one_is_wrong(small_store, finetuned):
    assert "make3d-c1-crop" in one_line(train("evaluate", small_store, finetuned, "--protocol", "eigen", code=1))
    said = one_line(train("evaluate", small_store, finetuned, "--protocol", "make3d-c1", code=1))
    assert "make3d" in said


def test_a_pretraining_has_no_depth_to_evaluate(small_store, pretrained):
    said = one_line(train("evaluate", small_store, pretrained, "--protocol", "nyu-eigen", code=1))
    assert "no depth network" in said


def test_imagenet_weights_that_cannot_be_had_say_where_they_are_looked_for(small_store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    options = ["--init", "imagenet", "--network", "fcrn", *SMALL, "--steps", 1, "--out", tmp_path / "run"]
    said = one_line(train("finetune", small_store, *options, code=1))
    assert "resnet18" in said
    assert "https://" in said


def test_imagenet_weights_that_do_not_fit_are_told_by_their_file(small_store, tmp_path):
    file = tmp_path / "another.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, file)
    options = ["--init", "imagenet", "--weights", file, "--network", "fcrn", *SMALL, "--steps", 1]
    said = one_line(train("finetune", small_store, *options, "--out", tmp_path / "run", code=1))
    assert f"{file}: weights of another network" in said


def test_a_slip_takes_no_folder(small_store, tmp_path):
    options = ["pretrain", small_store, "--out", tmp_path / "run", *SMALL, "--steps", 1]
    assert "multiple" in one_line(train(*options, "--queue", 3, code=1))
    assert not (tmp_path / "run").exists()
    train(*options)


def test_a_slip_costs_no_run_that_is_to_be_replaced(small_store, pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = ["pretrain", small_store, "--out", run, *SMALL, "--steps", 1, "--overwrite"]
    assert "multiple" in one_line(train(*options, "--queue", 3, code=1))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
