"""Training from the command line to the last checkpoint: the whole path, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from train.checkpoint import load_checkpoint

from .small_runs import SMALL, train

ROOT = Path(__file__).parents[1]


def start(*arguments, compute_threads=2):
    """A command in a process of its own."""
    code = "import cli; cli.train(prog_name='train')"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(compute_threads)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def state_of(run):
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert checkpoint is not None
    return checkpoint


def assert_same(one, other, place="state"):
    """Bit for bit, all the way down."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_same(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}[{index}]")
    else:
        assert one == other, place


def test_the_encoder_of_a_fine_tuning_starts_where_the_pre_training_ended(small_store, pretrained, tmp_path):
    steps = ["--network", "fcrn", *SMALL, "--steps", 1, "--lr", 0]
    alone = "of this depth network the encoder alone is taken, and nothing of its decoder"
    assert alone not in train("finetune", small_store, "--out", tmp_path / "run", "--init", pretrained, *steps).output
    after_it = ["--out", tmp_path / "next", "--init", tmp_path / "run"]
    assert alone in train("finetune", small_store, *after_it, *steps).output
    before, after = state_of(pretrained).state["model"], state_of(tmp_path / "run").state["model"]
    name = "layer4.1.conv2.weight"
    assert torch.equal(before[f"encoder_q.{name}"], after[f"encoder.{name}"])


def test_pretraining_moves_query_key_and_queue(pretrained):
    state = state_of(pretrained).state
    model = state["model"]
    assert int(model["queue_filled"]) == 4
    assert torch.allclose(model["queue_CK"].norm(dim=0), torch.ones(4))
    weight = "layer1.0.conv1.weight"
    assert not torch.equal(model[f"encoder_q.{weight}"], model[f"encoder_k.{weight}"])
    meta = json.loads((pretrained / "meta.json").read_text())
    assert meta["command"] == "pretrain"
    assert meta["arguments"]["queue"] == 4
    assert len(meta["stores"][0]["fingerprint"]) == 32
    steps = [json.loads(line) for line in (pretrained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    assert {"loss", "accuracy", "wait_share", "rate"} <= steps[-1].keys()
    assert any((pretrained / "tensorboard").iterdir())


@pytest.mark.parametrize("protocol", ["nyu-eigen", "nyu-full"])
def test_evaluate_scores_and_keeps_the_result(small_store, finetuned, protocol):
    said = train("evaluate", small_store, finetuned, "--protocol", protocol, "--device", "cpu").output
    assert "3 images" in said
    assert "654" in said
    (path,) = (finetuned / "evaluations").glob(f"{protocol}-nyu*.json")
    result = json.loads(path.read_text())
    assert 0 <= result["metrics"]["d1"] <= 1
    assert result["metrics"]["rms"] > 0


def test_predict_writes_three_files_of_the_pictures_size(finetuned, frames, tmp_path):
    picture = tmp_path / "a room.jpg"
    cv2.imwrite(str(picture), cv2.cvtColor(frames[0].rgb_HWC, cv2.COLOR_RGB2BGR))
    train("predict", picture, "--run", finetuned, "--out", tmp_path / "out", "--device", "cpu")
    files = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert files == [".npy", ".png", ".png"]
    (array,) = (tmp_path / "out").glob("*.npy")
    depth = np.load(array)
    assert depth.shape == (480, 640)
    assert 0.1 <= depth.min() <= depth.max() <= 10


def test_a_bad_picture_does_not_cost_the_others(finetuned, frames, tmp_path):
    good, strip, text = tmp_path / "good.png", tmp_path / "strip.png", tmp_path / "text.jpg"
    cv2.imwrite(str(good), frames[0].rgb_HWC)
    cv2.imwrite(str(strip), np.zeros((2, 100, 3), np.uint8))
    text.write_text("no picture")
    said = train("predict", strip, text, good, "--run", finetuned, "--device", "cpu", code=1).output
    assert f"Error: {strip}: 100 x 2 pixels, wanted sides of at most 8 to 1" in said
    assert f"Error: {text}: begins with 6e 6f" in said
    assert f"{good}: " in said
    assert (tmp_path / "good-depth.npy").is_file()


@pytest.mark.parametrize(("target", "name"), [("torchvision", "encoder.pth"), ("safetensors", "encoder.safetensors")])
def test_export_prints_how_far_outputs_differ(finetuned, tmp_path, target, name):
    said = train("export", finetuned, "--to", target, "--out", tmp_path / name).output
    assert "difference" in said
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(small_store, tmp_path, command):
    options = [command, small_store, *SMALL, "--steps", 10, "--save-every", 1, "--threads", 2]
    if command == "finetune":
        options += ["--init", "random", "--network", "fcrn"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    said, _ = start(*options, "--out", straight).communicate()
    assert "step 10 of 10" in said
    # A job that is requeued may find another number of threads, on which sums of floats depend.
    for wanted, compute_threads in ((2, 2), (5, 1)):
        process = start(*options, "--out", broken, "--resume", compute_threads=compute_threads)
        while process.poll() is None and not any(broken.glob(f"checkpoints/step-00000000[{wanted}-9]")):
            time.sleep(0.02)
        process.kill()
        process.communicate()
    train(*options, "--out", broken, "--resume", "--cache", "none")
    one, other = state_of(straight), state_of(broken)
    assert one.step == other.step == 10
    assert_same(one.state, other.state)
    steps = [json.loads(line)["step"] for line in (broken / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "no step is logged twice"


def test_sigterm_saves_and_exits_0(small_store, tmp_path):
    run = tmp_path / "run"
    options = ["pretrain", small_store, *SMALL, "--steps", 100000, "--out", run]
    process = start(*options)
    while process.poll() is None and not any(run.glob("log.jsonl")):
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Stopped by SIGTERM and saved" in said
    assert state_of(run).step > 0


def test_accumulation_gives_the_gradients_of_the_whole_batch(small_store, tmp_path):
    options = ["finetune", small_store, "--init", "random", "--network", "densedepth", "--encoder", "resnet18",
               "--size", "80x60", "--batch", "4", "--steps", 1, "--loss", "l1", "--device", "cpu"]  # fmt: skip
    logged = []
    for parts in (1, 2):
        run = tmp_path / str(parts)
        train(*options, "--accumulate", parts, "--out", run)
        logged.append(json.loads((run / "log.jsonl").read_text().splitlines()[0]))
    # Batch-norm sees half of the batch at a time, so that the losses are near, not equal.
    assert logged[0]["loss"] == pytest.approx(logged[1]["loss"], rel=0.2)


def test_steps_that_are_not_finite_change_nothing_and_end_the_run(small_store, tmp_path):
    options = ["finetune", small_store, "--init", "random", "--network", "fcrn", *SMALL, "--steps", 40]
    said = train(*options, "--lr", "1e30", "--out", tmp_path / "run", code=1).output
    assert "10th step in a row" in said
    assert "--lr" in said


def test_a_run_is_not_replaced_by_accident(small_store, pretrained):
    said = train("pretrain", small_store, "--out", pretrained, *SMALL, "--steps", 4, code=1).output
    assert "--resume" in said
    assert "--overwrite" in said
    said = train("pretrain", small_store, "--out", pretrained, *SMALL, "--steps", 9, "--resume", code=1).output
    assert "steps" in said


def test_the_moco_method_needs_no_fields(small_store, tmp_path):
    train("pretrain", small_store, "--method", "moco", "--out", tmp_path / "run", *SMALL, "--steps", 2)
    assert state_of(tmp_path / "run").step == 2


def test_every_command_has_help():
    for command in ("pretrain", "finetune", "evaluate", "predict", "export"):
        assert "Usage" in train(command, "--help").output


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_two_ranks_by_torchrun_train_like_one_process(small_store, tmp_path, command):
    """One process with two batch-norm groups is what two ranks are; Adam and SGD then differ by rounding alone."""
    options = [command, small_store, "--encoder", "resnet18", "--size", "80x60", "--batch", "2", "--device", "cpu",
               "--steps", 4, "--lr", "0.01"]  # fmt: skip
    options += ["--init", "random", "--network", "fcrn", "--schedule", "constant"] if command == "finetune" else []
    code = "import warnings; warnings.simplefilter('error'); import cli; cli.train(prog_name='train')"
    script = tmp_path / "train.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}\n")
    run = tmp_path / "two"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         *map(str, options), "--out", str(run)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes" in done.stderr
    assert done.stdout.count("step 4 of 4") == 1, "one rank speaks for all"
    groups = ["--bn-groups", 2] if command == "pretrain" else []
    train(*options, *groups, "--out", tmp_path / "one")
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (tmp_path / "one", run)]
    one, two = ([json.loads(line)["loss"] for line in lines] for lines in logs)
    if command == "finetune":
        # Its batch-norm is not split, so that ranks see other statistics than one process does: near, not equal.
        assert one[0] == pytest.approx(two[0], rel=0.2)
        return
    assert one[0] == two[0] == 0, "no negatives yet"
    assert min(one[1:]) > 0
    assert one == pytest.approx(two, rel=1e-3)
    queues = [state_of(folder).state["model"]["queue_CK"] for folder in (tmp_path / "one", run)]
    assert torch.allclose(*queues, atol=1e-4)
