"""Training straight from a bucket ends with the weights that training from the folder ends with."""

from __future__ import annotations

import pytest
import torch

from gfield import object_client

from .object_server import make_bucket, put_tree, settings, start_server
from .small_runs import SMALL, train

pytest.importorskip("moto", reason="moto is not installed, whose S3 server the tests use")


@pytest.fixture(scope="module")
def stored(small_store):
    """The small store in a bucket of a server that is there for this module."""
    process, port = start_server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings(port).items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        object_client.forget()
        url = f"s3://{make_bucket(port)}/nyu.zarr"
        put_tree(small_store, url)
        yield url
    object_client.forget()
    process.kill()
    process.wait()
    process.stdout.close()


def weights(run):
    """The tensors that a run has ended with."""
    (file,) = sorted(run.glob("checkpoints/*/model.pt"))[-1:] or sorted(run.rglob("*.pt"))[-1:]
    return torch.load(file, weights_only=True)


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    return first == second


def test_pretraining_from_a_bucket_ends_in_the_same_weights(stored, pretrained, tmp_path):
    train("pretrain", stored, "--out", tmp_path / "run", *SMALL, "--steps", 4, "--cache", "none")
    assert same(weights(tmp_path / "run"), weights(pretrained))


def test_depth_is_learnt_from_a_bucket_whose_shards_are_kept(stored, finetuned, pretrained, tmp_path, monkeypatch):
    monkeypatch.setenv("GFIELD_CACHE", str(tmp_path / "shards"))
    run = tmp_path / "run"
    train("finetune", stored, "--out", run, "--init", pretrained, "--network", "fcrn", *SMALL, "--steps", 4)
    assert same(weights(run), weights(finetuned))
    assert [path for path in (tmp_path / "shards").rglob("*") if path.is_file()]
    assert "d1 " in train("evaluate", stored, run, "--protocol", "nyu-full", "--device", "cpu").output
