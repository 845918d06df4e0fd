"""Where encoders start: what a run keeps of it, so that it is resumed with the same weights alone."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

import gfield
from train.checkpoint import load_checkpoint
from train.errors import TrainError
from train.restore import check_start, depth_net_of_run, encoder_of_run, encoder_state, start_encoder
from train.views import Views, field_view
from train.weights import state_digest

from .foreign_weights import torchvision_state
from .small_runs import SMALL, train

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "layer4.1.conv2.weight"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A ResNet-18 as MoCo's code saves it."""
    path = tmp_path_factory.mktemp("weights") / "moco.pth"
    torch.save({"state_dict": {f"module.encoder_q.{k}": v for k, v in torchvision_state("resnet18", 3).items()}}, path)
    return path


def model_of(run):
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert checkpoint is not None
    return checkpoint.state["model"]


def arguments_of(run):
    return json.loads((run / "meta.json").read_text())["arguments"]


def error_of(result):
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error")]
    return line


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "place"),
    [(["pretrain"], "encoder_q."), (["finetune", "--network", "fcrn"], "encoder.")],
    ids=["pretrain", "finetune"],
)
def test_a_run_starts_from_a_file_and_is_resumed_with_that_file_alone(small_store, file, tmp_path, command, place):
    mine = shutil.copy(file, tmp_path / "mine.pth")
    options = [*command, small_store, *SMALL, "--init", mine, "--steps", 1, "--lr", 0, "--out", tmp_path / "run"]
    said = train(*options).stderr
    assert (
        f"{mine}: 120 of 122 names matched resnet18 (prefix 'state_dict.module.encoder_q.'); "
        "not used: state_dict.module.encoder_q.fc (2 names)\n"
    ) in said
    assert torch.equal(model_of(tmp_path / "run")[f"{place}{NAME}"], torchvision_state("resnet18", 3)[NAME])
    arguments = arguments_of(tmp_path / "run")
    assert arguments["init"] == str(mine)
    assert arguments["init_sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()
    # Released encoders see pictures in [0, 1].
    assert not arguments.get("normalise", False)
    train(*options, "--resume")
    torch.save(torchvision_state("resnet18", 4), mine)
    assert "another run's arguments: init_sha256 was" in error_of(train(*options, "--resume", code=1))


def test_a_file_that_does_not_fit_takes_no_folder(small_store, file, tmp_path):
    state = torchvision_state("resnet18")
    del state[NAME]
    torch.save(state, tmp_path / "lacking.pth")
    (tmp_path / "text.pt").write_text("text")
    options = ["finetune", small_store, "--network", "fcrn", *SMALL, "--steps", 1, "--out", tmp_path / "run", "--init"]
    assert f"1 missing ({NAME})" in error_of(train(*options, tmp_path / "lacking.pth", code=1))
    assert "text.pt: " in error_of(train(*options, tmp_path / "text.pt", code=1))
    assert "No such file" in error_of(train(*options, tmp_path / "none.safetensors", code=1))
    nowhere = error_of(train(*options, tmp_path / "nowhere", code=1))
    assert "nowhere: no such file or folder, wanted random, imagenet, the folder of a run or a file" in nowhere
    assert "no meta.json in it" in error_of(train(*options, tmp_path, code=1))
    both = error_of(train(*options, file, "--weights", tmp_path / "lacking.pth", code=1))
    assert f"lacking.pth: for --init imagenet, here the weights are those of --init {file}" in both
    for start in ("random", file.parent):
        meant = error_of(train(*options, start, "--weights", tmp_path / "lacking.pth", code=1))
        assert f"lacking.pth: for --init imagenet, here the weights are those of --init {start}" in meant
    assert not (tmp_path / "run").exists()


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_that_starts_from_another_keeps_which_weights_it_had(pretrained, finetuned, tmp_path):
    state, _ = encoder_state(pretrained, pytest.fail)
    assert arguments_of(finetuned)["init"] == str(pretrained)
    assert arguments_of(finetuned)["init_blake3"] == state_digest(state)
    assert check_start("resnet18", str(pretrained), pytest.fail).arguments["init_blake3"] == state_digest(state)


def test_a_run_is_not_resumed_where_its_start_has_gone_on(small_store, pretrained, tmp_path):
    first, run = shutil.copytree(pretrained, tmp_path / "first"), tmp_path / "run"
    options = ["finetune", small_store, "--network", "fcrn", *SMALL, "--init", first, "--steps", 1, "--out", run]
    train(*options)
    train(*options, "--resume")
    shutil.rmtree(first)
    train("pretrain", small_store, "--out", first, *SMALL, "--steps", 1, "--seed", 1)
    assert "another run's arguments: init_blake3 was" in error_of(train(*options, "--resume", code=1))


def test_an_encoder_that_learnt_without_imagenets_mean_goes_on_so(small_store, tmp_path):
    """As when a network fine-tuned on one store, from ImageNet's weights, starts that of another."""
    torch.save(torchvision_state("resnet18"), tmp_path / "imagenet.pth")
    options = ["--network", "fcrn", *SMALL, "--steps", 1]
    train("finetune", small_store, "--init", "imagenet", "--weights", tmp_path / "imagenet.pth", *options,
          "--out", tmp_path / "first")  # fmt: skip
    first = arguments_of(tmp_path / "first")
    assert first["normalise"]
    assert first["init_sha256"] == hashlib.sha256((tmp_path / "imagenet.pth").read_bytes()).hexdigest()
    train("finetune", small_store, "--init", tmp_path / "first", *options, "--out", tmp_path / "second")
    assert arguments_of(tmp_path / "second")["normalise"]
    net, _ = depth_net_of_run(tmp_path / "second", pytest.fail)
    assert net.normalise


def test_random_starts_keep_their_name_alone():
    start = check_start("resnet18", "random", pytest.fail)
    assert start.arguments == {"init": "random"}
    assert not start.normalise
    assert check_start("resnet18", "imagenet", pytest.fail).normalise


def test_a_start_is_the_weights_of_its_run_or_file(pretrained, file):
    of_run = start_encoder("resnet18", str(pretrained), seed=0, say=pytest.fail)
    ended = encoder_of_run(pretrained, pytest.fail).state_dict()
    assert all(torch.equal(value, ended[key]) for key, value in of_run.state_dict().items())
    said: list[str] = []
    of_file = start_encoder("resnet18", str(file), seed=0, say=said.append)
    assert torch.equal(of_file.state_dict()[NAME], torchvision_state("resnet18", 3)[NAME])
    assert len(said) == 1
    with pytest.raises(TrainError, match="its encoder is resnet18, wanted densenet121"):
        start_encoder("densenet121", str(file), seed=0, say=pytest.fail)


# Results --------------------------------------------------------------------------------------------------------------


def test_results_of_two_stores_of_one_name_lie_beside_each_other(small_store, finetuned, nyu_mat, tmp_path):
    run = shutil.copytree(finetuned, tmp_path / "run")
    source = gfield.open_nyuv2(nyu_mat)
    other = tmp_path / small_store.name
    gfield.build_store(source, other, gfield.make_spec(source, levels_WH=[(640, 480), (80, 60)], codec="raw"))
    for store in (small_store, other, small_store):
        train("evaluate", store, run, "--protocol", "nyu-full", "--device", "cpu")
    results = [json.loads(path.read_text()) for path in (run / "evaluations").glob("nyu-full-*.json")]
    assert sorted(result["store"]["path"] for result in results) == sorted([str(small_store), str(other)])


# The released code's field --------------------------------------------------------------------------------------------


def test_the_released_codes_field_is_trained_on(nyu_mat, file, tmp_path):
    """Its fields reach from 0 to 255, and its keys too; ours are the same as a share of 255."""
    source = gfield.open_nyuv2(nyu_mat)
    spec = gfield.make_spec(source, levels_WH=[(80, 60)], field=gfield.FieldParams(variant="grmc"))
    gfield.build_store(source, tmp_path / "grmc.zarr", spec)
    fields_NHW = gfield.open_store(tmp_path / "grmc.zarr").read("80x60/gradient", range(10))
    assert (fields_NHW.reshape(10, -1).max(axis=1) == 255).all()
    zeros_N = np.zeros(10, np.int64)
    whole = Views(zeros_N, zeros_N, zeros_N + 60, zeros_N + 80, zeros_N > 0)
    keys_N3HW = field_view(torch.from_numpy(fields_NHW), whole, (60, 80))
    torch.testing.assert_close(keys_N3HW[:, 0], torch.from_numpy(fields_NHW).float() / 255)
    said = train("pretrain", tmp_path / "grmc.zarr", *SMALL, "--method", "gradient-moco", "--init", file, "--steps", 2,
                 "--out", tmp_path / "run").output  # fmt: skip
    assert "step 2 of 2; loss" in said
    assert not torch.equal(model_of(tmp_path / "run")[f"encoder_q.{NAME}"], torchvision_state("resnet18", 3)[NAME])
