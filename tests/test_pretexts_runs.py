"""Every method from the command line: it trains, resumes to the same bits, and hands on its encoder."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

import gfield
from train.checkpoint import load_checkpoint
from train.frames import Frames
from train.pretexts import METHODS
from train.restore import encoder_state
from train.stream import Stream
from train.weights import read_state

from .small_runs import SMALL, train

pytestmark = pytest.mark.usefixtures("one_thread")
OTHERS = [name for name in METHODS if name != "gradient-moco"]
SCALARS = {"loss", "accuracy", "gradient_norm", "rate"}


def model_of(run):
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert checkpoint is not None
    return checkpoint.state["model"]


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("method", OTHERS)
def test_a_method_trains_resumes_and_hands_on_its_encoder(small_store, tmp_path, method):
    straight, broken, depth = (tmp_path / name for name in ("straight", "broken", "depth"))
    options = ["pretrain", small_store, "--method", method, *SMALL, "--steps", 3, "--save-every", 2]
    train(*options, "--out", straight)
    # A run that ended at its second step, as far as anybody can see.
    shutil.copytree(straight, broken)
    shutil.rmtree(broken / "checkpoints" / "step-000000003")
    said = train(*options, "--out", broken, "--resume").stderr
    assert "resumed at step 2 of 3" in said
    one, other = model_of(straight), model_of(broken)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for line in log_of(straight):
        assert line.keys() >= SCALARS
        assert math.isfinite(line["loss"])
        assert 0 <= line["accuracy"] <= 1
    arguments = json.loads((straight / "meta.json").read_text())["arguments"]
    assert arguments["method"] == method
    assert arguments["recipe"] in ("paper", "v2")
    # The encoder that is handed on is the one that was trained.
    train("finetune", small_store, "--init", straight, "--out", depth, "--network", "fcrn", *SMALL,
          "--steps", 1, "--lr", 0)  # fmt: skip
    state, name = encoder_state(straight, pytest.fail)
    assert name == "resnet18"
    after = model_of(depth)
    weight = "layer4.1.conv2.weight"
    assert torch.equal(state[weight], after[f"encoder.{weight}"])


def test_the_encoder_of_a_method_without_queue_is_exported(small_store, tmp_path):
    run, file = tmp_path / "run", tmp_path / "encoder.safetensors"
    train("pretrain", small_store, "--method", "exemplar", "--out", run, *SMALL, "--steps", 1)
    assert "difference" in train("export", run, "--to", "safetensors", "--out", file).output
    exported, model = read_state(file), model_of(run)
    assert all(torch.equal(value, model[f"encoder.{name}"]) for name, value in exported.items())
    assert model["head.2.weight"].shape == (7, 512), "a class for each of the frames of train and unlabeled"


def test_a_few_steps_teach_rotation_something(small_store, tmp_path):
    run = tmp_path / "run"
    train("pretrain", small_store, "--method", "rotation", "--out", run, *SMALL, "--steps", 16, "--lr", "0.02",
          "--schedule", "constant", "--crop", 1)  # fmt: skip
    losses = [line["loss"] for line in log_of(run)]
    assert np.mean(losses[-4:]) < 0.9 * math.log(4), losses


def test_moco_v1_is_a_recipe(small_store, tmp_path):
    train("pretrain", small_store, "--method", "moco", "--recipe", "v1", "--out", tmp_path / "run", *SMALL,
          "--steps", 5, "--lr", "0.1")  # fmt: skip
    arguments = json.loads((tmp_path / "run" / "meta.json").read_text())["arguments"]
    assert {name: arguments[name] for name in ("recipe", "head", "temperature", "schedule", "dim", "crop")} == {
        "recipe": "v1", "head": "linear", "temperature": 0.07, "schedule": "stairs", "dim": 128, "crop": 0.2,
    }  # fmt: skip
    assert [line["rate"] for line in log_of(tmp_path / "run")] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("norm", ["fixed", "log", "binary"])
def test_fields_of_every_norm_train(small_store, tmp_path, norm):
    run = tmp_path / norm
    train("pretrain", small_store, "--out", run, *SMALL, "--steps", 2, "--field-norm", norm, "--jitter", 0.4,
          "--grey", 0.2, "--blur", 0.5, "--own-keys", "kept")  # fmt: skip
    arguments = json.loads((run / "meta.json").read_text())["arguments"]
    assert (arguments["field_norm"], arguments["own_keys"]) == (norm, "kept")


def test_a_frames_own_keys_count_from_the_second_epoch_on_if_they_are_kept(small_store, tmp_path):
    losses = []
    for kept in ("masked", "kept"):
        train("pretrain", small_store, "--out", tmp_path / kept, *SMALL, "--steps", 6, "--own-keys", kept)
        losses.append([line["loss"] for line in log_of(tmp_path / kept)])
    assert losses[0][:3] == losses[1][:3], "an epoch of three steps shows every frame once"
    assert losses[0][3] < losses[1][3], "a queue of four holds two thirds of the frames seen before"


def test_a_batchs_places_are_those_of_its_frames_in_every_epoch_and_on_every_rank(small_store):
    store = gfield.open_store(small_store)
    frames = Frames([(store, store.rows())], {"rgb": "80x60/rgb"})
    for rank in range(2):
        with Stream(frames, batch=2, seed=3, rank=rank, world=2) as stream:
            for batch in stream.batches(0, 3 * stream.steps_per_epoch):
                wanted = frames.empty("rgb", len(batch.index_N))
                frames.read("rgb", batch.index_N, wanted)
                assert np.array_equal(batch.arrays["rgb"].numpy(), wanted)


def test_frames_of_keys_are_kept(small_store, pretrained):
    model = model_of(pretrained)
    frames = model["queue_frame_K"].tolist()
    assert len(set(frames)) == len(frames) == 4
    assert all(0 <= frame < 7 for frame in frames)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "rotation", "--queue", 4], "--queue 4 with --method rotation, which takes --crop"),
        (["--method", "simclr", "--accumulate", 2], "--accumulate 2 with simclr, whose negatives are"),
        (["--method", "simclr", "--batch", 1], "--batch 1 with simclr leaves no negatives"),
        (["--method", "jigsaw", "--encoder", "densenet121"], "jigsaw's tiles of 80x60 have 22x17 pixels, wanted 32"),
        (["--method", "moco", "--recipe", "v9"], "--recipe v9 with --method moco, wanted v2 or v1"),
    ],
)
def test_what_does_not_fit_is_one_line(small_store, tmp_path, options, said):
    result = train("pretrain", small_store, "--out", tmp_path / "run", *SMALL, "--steps", 1, *options, code=1)
    assert said in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("Error")]) == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_method_is_a_mistake_of_the_command_line(small_store, tmp_path):
    said = train("pretrain", small_store, "--out", tmp_path / "run", "--method", "dino", code=2).output
    assert "'dino' is not one of 'gradient-moco', 'moco'" in said


def test_help_lists_methods_and_every_option_once():
    text = train("pretrain", "--help").output
    for name in METHODS:
        assert f"  {name} " in text
    for option in ("--method", "--queue", "--crop", "--permutations", "--resume", "--size", "--lr"):
        assert text.count(f"\n  {option} ") == 1, option
    assert "STORE..." not in text.partition("\n\n")[2].partition("What is learnt")[2]
