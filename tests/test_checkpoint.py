"""Checkpoints: what goes in comes out, one wrong bit is noticed, nothing in them is executed, kills tear none."""

from __future__ import annotations

import functools
import io
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from train.checkpoint import load_checkpoint, load_module_state, save_checkpoint
from train.errors import TrainError
from train.state_file import plain_state

ROOT = Path(__file__).parents[1]
META = {"command": "pretrain", "arguments": {"seed": 3, "lr": 0.1}, "note": "süß"}


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A little network, and an optimizer with a state, after some steps on data of a fixed seed."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    with torch.no_grad():
        for index, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape) * (index + 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    go_on(net, optimizer, range(steps))
    return net, optimizer


def go_on(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x_NCHW = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(step))
        net(x_NCHW).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@functools.cache
def state_of(step: int) -> dict:
    """A state that tells its step, with what real ones have: half precision, odd numbers, ordered dicts."""
    net, optimizer = trained(step % 7)
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": torch.tensor(step),
        "half": torch.linspace(-3, 3, 50, dtype=torch.bfloat16),
        "others": [(1, 2**70, True, None, float("inf"), "ü"), {}],
    }


def same(a: object, b: object) -> bool:
    """Whether two states have the same types, numbers and bits of tensors."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        bits = [x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or [math.isnan(x) for x in (a, b)] == [True, True])


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A run with checkpoints of steps 5 and 10; not to be changed."""
    folder = tmp_path_factory.mktemp("original")
    for step in (5, 10):
        save_checkpoint(folder, step, state_of(step), META)
    return folder


@pytest.fixture
def run(original, tmp_path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(original, tmp_path / "run")


def load(run: Path) -> tuple[int | None, list[str]]:
    """The step of the checkpoint that is loaded, and what is said; its state must be that of its step."""
    said: list[str] = []
    checkpoint = load_checkpoint(run, say=said.append)
    if checkpoint is None:
        return None, said
    assert same(plain_state(state_of(checkpoint.step)), checkpoint.state)
    return checkpoint.step, said


# What goes in comes out.


def test_a_checkpoint_comes_back_whole_and_is_readable_for_people(run):
    assert load(run) == (10, [])
    checkpoint = load_checkpoint(run, say=pytest.fail)
    assert (checkpoint.step, checkpoint.meta, checkpoint.path.name) == (10, META, "step-000000010")
    meta = json.loads((checkpoint.path / "meta.json").read_text())
    data = (checkpoint.path / "state.pt").read_bytes()
    assert meta["step"] == 10
    assert meta["size"] == len(data)
    assert meta["blake3"] == blake3(data).hexdigest()
    assert meta["meta"] == META
    assert type(checkpoint.state["model"]) is dict


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
    | st.builds(
        lambda shape, dtype: torch.arange(shape[0] * shape[1], dtype=torch.int64).to(dtype).reshape(shape),
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]),
    )
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=30)
@given(tree=TREES)
def test_any_nested_state_comes_back(tmp_path_factory, tree):
    run = tmp_path_factory.mktemp("run")
    save_checkpoint(run, 1, {"tree": tree}, {})
    assert same(load_checkpoint(run, say=pytest.fail).state["tree"], tree)


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    straight, optimizer = trained(3)
    state = {"model": straight.state_dict(), "optimizer": optimizer.state_dict()}
    save_checkpoint(tmp_path, 3, state, {})
    go_on(straight, optimizer, range(3, 6))

    resumed, optimizer = trained(0)
    checkpoint = load_checkpoint(tmp_path, say=pytest.fail)
    resumed.load_state_dict(checkpoint.state["model"])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    go_on(resumed, optimizer, range(3, 6))
    assert same(plain_state(straight.state_dict()), plain_state(resumed.state_dict()))


def test_a_tensor_keeps_its_layout_and_leaves_its_gradient(tmp_path):
    weight = torch.nn.Parameter(torch.rand(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    save_checkpoint(tmp_path, 1, {"weight": weight}, {})
    seen = load_checkpoint(tmp_path, say=pytest.fail).state["weight"]
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert not seen.requires_grad
    assert torch.equal(seen, weight)


def test_a_part_of_a_large_storage_is_saved_alone(tmp_path):
    storage = torch.zeros(1 << 22)
    path = save_checkpoint(tmp_path, 1, {"a": storage[:10], "b": storage[100:].view(-1, 4)[:2, :1]}, {})
    assert (path / "state.pt").stat().st_size < 10_000
    assert load_checkpoint(tmp_path, say=pytest.fail).state["b"].shape == (2, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_state_on_a_card_comes_back_on_the_cpu_or_on_the_card(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": torch.arange(5, device="cuda")}, {})
    assert load_checkpoint(tmp_path, say=pytest.fail).state["x"].tolist() == [0, 1, 2, 3, 4]
    assert load_checkpoint(tmp_path, say=pytest.fail, device="cuda").state["x"].is_cuda


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float64(1.5), r"state\['a'\]\[1\] is a float64"),
        (np.zeros(3), r"state\['a'\]\[1\] is a ndarray"),
        ({1, 2}, r"is a set"),
        (Path("x"), r"is a PosixPath"),
        (b"x", r"is a bytes"),
        ({1.5: 1}, r"key 1.5 is a float"),
        (torch.eye(3).to_sparse(), "layout torch.sparse_coo"),
        (torch.float32, "is a dtype"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(run, value, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(run, 15, {"a": [0, value]}, META)
    assert names(run) == ["step-000000005", "step-000000010"]


def test_a_meta_that_json_does_not_have_is_not_saved(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_checkpoint(run, 15, state_of(15), {"loss": float("nan")})
    save_checkpoint(run, 15, state_of(15), {"sizes": (1, 2), 3: "x"})
    assert load_checkpoint(run, say=pytest.fail).meta == {"sizes": [1, 2], "3": "x"}


# Which ones remain.


def test_as_many_remain_as_are_to_be_kept(run):
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000010", "step-000000015"]
    save_checkpoint(run, 20, state_of(20), META, keep=3)
    assert names(run) == ["step-000000010", "step-000000015", "step-000000020"]
    save_checkpoint(run, 1_000_000_000, state_of(1), META, keep=1)
    assert names(run) == ["step-1000000000"]


def test_a_step_that_is_saved_again_is_replaced_and_later_ones_go(run):
    save_checkpoint(run, 10, state_of(10), {"again": True})
    assert names(run) == ["step-000000005", "step-000000010"]
    assert load_checkpoint(run, say=pytest.fail).meta == {"again": True}
    save_checkpoint(run, 7, state_of(7), META, keep=1)
    assert names(run) == ["step-000000007"]


def test_strangers_and_leftovers(run):
    """What a kill left behind goes at the next save; what others put there stays, and is not taken for a checkpoint."""
    leftover = run / "checkpoints" / "0123.tmp"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    (run / "checkpoints" / "step-12").mkdir()
    (run / "checkpoints" / "step-000000099.bak").mkdir()
    assert load(run) == (10, [])
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000010", "step-000000015", "step-000000099.bak", "step-12"]


def test_a_kill_between_the_two_renames_of_a_step_saved_again(run):
    newest = run / "checkpoints" / "step-000000010"
    newest.rename(newest.with_name("step-000000010.old"))
    assert load(run) == (10, [])
    save_checkpoint(run, 15, state_of(15), META)
    assert names(run) == ["step-000000005", "step-000000015"]


def test_no_run_and_no_checkpoint(tmp_path):
    assert load(tmp_path) == (None, [])
    assert load(tmp_path / "nothing") == (None, [])
    (tmp_path / "checkpoints").mkdir()
    assert load(tmp_path) == (None, [])


# Damage.


def truncate(path: Path) -> None:
    os.truncate(path / "state.pt", (path / "state.pt").stat().st_size // 2)


def append(path: Path) -> None:
    with (path / "state.pt").open("ab") as file:
        file.write(b"x")


def replaced_by(what: str, name: str):
    def damage(path: Path) -> None:
        moved = path.parent.parent / "moved"
        (path / name).rename(moved)
        if what == "folder":
            (path / name).mkdir()
        elif what == "link":
            (path / name).symlink_to(moved)
        elif what == "pipe":
            os.mkfifo(path / name)

    return damage


def folder_behind_a_link(path: Path) -> None:
    moved = path.parent.parent / "moved"
    path.rename(moved)
    path.symlink_to(moved)


def of_the_other_step(path: Path) -> None:
    other = path.with_name("step-000000005")
    for name in ("meta.json", "state.pt"):
        (path / name).write_bytes((other / name).read_bytes())


DAMAGES = {
    "truncated": (truncate, "state.pt has .* bytes, wanted"),
    "longer": (append, "state.pt has .* bytes, wanted"),
    "empty state": (lambda path: os.truncate(path / "state.pt", 0), "state.pt has 0 bytes, wanted"),
    "empty meta": (lambda path: os.truncate(path / "meta.json", 0), "meta.json is not readable"),
    "no state": (replaced_by("nothing", "state.pt"), "state.pt: No such file"),
    "no meta": (replaced_by("nothing", "meta.json"), "meta.json: No such file"),
    "folder for state": (replaced_by("folder", "state.pt"), "state.pt: Is a directory"),
    "folder for meta": (replaced_by("folder", "meta.json"), "meta.json: Is a directory"),
    "link for state": (replaced_by("link", "state.pt"), "state.pt: a link leads there"),
    "link for meta": (replaced_by("link", "meta.json"), "meta.json: a link leads there"),
    "pipe for state": (replaced_by("pipe", "state.pt"), "state.pt is no file"),
    "pipe for meta": (replaced_by("pipe", "meta.json"), "meta.json is no file"),
    "folder behind a link": (folder_behind_a_link, "a link leads there"),
    "another step's": (of_the_other_step, "meta.json is of step 5, wanted 10"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_aloud_and_the_checkpoint_before_is_taken(run, damage):
    hurt, message = DAMAGES[damage]
    newest = run / "checkpoints" / "step-000000010"
    hurt(newest)
    step, said = load(run)
    assert step == 5
    assert len(said) == 2
    assert said[0].startswith(f"{newest}: damaged: ")
    assert "\n" not in "".join(said)
    assert re.search(message, said[0])
    assert said[1] == f"{newest.with_name('step-000000005')}: taken instead, with 5 steps done"


def test_training_goes_on_after_damage_and_the_damaged_one_goes(run):
    truncate(run / "checkpoints" / "step-000000010")
    assert load(run)[0] == 5
    save_checkpoint(run, 8, state_of(8), META)
    assert names(run) == ["step-000000005", "step-000000008"]
    assert load(run) == (8, [])


def test_if_all_are_damaged_each_is_named(run):
    truncate(run / "checkpoints" / "step-000000010")
    (run / "checkpoints" / "step-000000005" / "meta.json").unlink()
    with pytest.raises(
        TrainError, match=r"no checkpoint is whole: step-000000010: state.pt has .*; step-000000005: me"
    ):
        load(run)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A checkpoint that is damaged and mended, over and over."""
    run = tmp_path_factory.mktemp("small")
    return save_checkpoint(run, 1, {"x": torch.arange(30), "y": [1, "z"]}, META)


@given(data=st.data(), name=st.sampled_from(["state.pt", "meta.json"]))
def test_one_flipped_bit_anywhere_is_noticed(small, data, name):
    whole = (small / name).read_bytes()
    position = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position // 8] ^= 1 << position % 8
    try:
        (small / name).write_bytes(damaged)
        with pytest.raises(TrainError, match="no checkpoint is whole"):
            load_checkpoint(small.parents[1], say=lambda text: None)
    finally:
        (small / name).write_bytes(whole)
    assert load_checkpoint(small.parents[1], say=pytest.fail).step == 1


# Malice: whoever can compute a hash can make it fit.


def sign(path: Path, **changes: object) -> None:
    """Write ``meta.json`` anew with some changes, and with the digest that fits."""
    content = json.loads((path / "meta.json").read_bytes())
    del content["digest"]
    content.update(changes)
    digest = blake3(json.dumps(content).encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps({**content, "digest": digest}, indent=2) + "\n")


def forge(path: Path, data: bytes) -> None:
    (path / "state.pt").write_bytes(data)
    sign(path, size=len(data), blake3=blake3(data).hexdigest())


class Canary:
    """Whoever unpickles it without care makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def zip_with(pickled: bytes) -> bytes:
    """A file of torch.save whose data.pkl is another one."""
    buffer, whole = io.BytesIO(), io.BytesIO()
    torch.save({"x": torch.zeros(3)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(buffer, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, pickled if item.filename.endswith("data.pkl") else old.read(item))
    return buffer.getvalue()


def legacy(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


MALICE = {
    "bare pickle": pickle.dumps,
    "torch's old format": legacy,
    "zip": lambda value: zip_with(pickle.dumps(value, protocol=2)),
    "zip, inside a dict": lambda value: zip_with(pickle.dumps({"model": {"weight": value}}, protocol=2)),
}


@pytest.mark.parametrize("kind", MALICE)
def test_a_malicious_pickle_with_the_right_hash_is_never_executed(run, kind):
    canary = run / "canary"
    data = MALICE[kind](Canary(canary))
    torch.load(io.BytesIO(data), weights_only=False) if kind != "bare pickle" else pickle.loads(data)
    assert canary.is_dir(), "the canary is dead"
    canary.rmdir()

    newest = run / "checkpoints" / "step-000000010"
    forge(newest, data)
    step, said = load(run)
    assert step == 5
    assert not canary.exists()
    assert "state.pt: " in said[0]
    assert "\n" not in said[0]
    with pytest.raises(TrainError, match=r"damaged: state.pt: "):
        load_module_state(newest, say=pytest.fail)
    assert not canary.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "12"},
        {"size": 1 << 60},
        {"size": -1},
        {"blake3": 12},
        {"blake3": ""},
        {"step": "10"},
        {"step": True},
        {"meta": [1]},
        {"format": 2},
        {"stranger": 1},
    ],
    ids=str,
)
def test_a_forged_meta_is_damage_and_no_crash(run, changes):
    sign(run / "checkpoints" / "step-000000010", **changes)
    assert load(run)[0] == 5


@pytest.mark.parametrize("data", [b"[" * 200_000, b"null", b"[1]", b"\xff\xfe", b'{"digest": 1}', b"9" * 5000])
def test_any_other_meta_is_damage_and_no_crash(run, data):
    (run / "checkpoints" / "step-000000010" / "meta.json").write_bytes(data)
    assert load(run)[0] == 5


def test_a_harmless_file_of_another_format_is_damage_too(run):
    forge(run / "checkpoints" / "step-000000010", legacy(state_of(10)))
    step, said = load(run)
    assert step == 5
    assert "state.pt: is no file of torch.save" in said[0]


def test_a_state_that_is_no_dict_is_damage(run):
    buffer = io.BytesIO()
    torch.save(torch.zeros(3), buffer)
    forge(run / "checkpoints" / "step-000000010", buffer.getvalue())
    step, said = load(run)
    assert step == 5
    assert "holds a Tensor, wanted a dict" in said[0]


# The network alone.


def test_the_network_of_a_run_or_of_one_checkpoint(run):
    for path in (run, run / "checkpoints" / "step-000000010"):
        state, meta = load_module_state(path, say=pytest.fail)
        assert same(state, plain_state(state_of(10)["model"]))
        assert meta == META


def test_no_network(tmp_path):
    with pytest.raises(TrainError, match="no such folder, wanted a run"):
        load_module_state(tmp_path / "nothing", say=pytest.fail)
    with pytest.raises(TrainError, match="has no checkpoint yet"):
        load_module_state(tmp_path, say=pytest.fail)
    save_checkpoint(tmp_path, 1, {"queue": torch.zeros(2), "model": 3}, {})
    with pytest.raises(TrainError, match="holds queue, model, wanted a model"):
        load_module_state(tmp_path, say=pytest.fail)


# Kills and full disks, in processes of their own.

KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from train.checkpoint import load_checkpoint, save_checkpoint

run, keep, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
numbers = random.Random(1)
size = 500_000

def save(step, salt):
    save_checkpoint(run, step, {"a": torch.full((size,), salt), "b": torch.full((size,), salt)}, {"salt": salt}, keep)

step = salt = 0
for kill in range(10):
    saved, told = os.pipe()
    child = os.fork()
    if child == 0:
        for count in range(1, 10_000):
            save(step + stride * count, salt + count)
            os.write(told, b".")
    # A save has been seen to take this long here, so the kill falls anywhere within the next two.
    os.read(saved, 1)
    before = time.monotonic()
    os.read(saved, 1)
    time.sleep(numbers.uniform(0, 2 * (time.monotonic() - before)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    checkpoint = load_checkpoint(run, say=sys.exit)
    assert checkpoint.meta["salt"] >= salt + 2, "a kill lost a finished checkpoint"
    step, salt = checkpoint.step, checkpoint.meta["salt"]
    assert (checkpoint.state["a"] == salt).all() and (checkpoint.state["b"] == salt).all()
    os.close(saved), os.close(told)
save(step + stride, salt + 1)
left = sorted(os.listdir(run / "checkpoints"))
assert len(left) == keep and all(name[5:].isdigit() for name in left), left
"""


def in_a_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


KEPT = [(2, 1), (1, 0)]
KEPT_IDS = ["new steps", "the same step, one kept"]


@pytest.mark.parametrize(("keep", "stride"), KEPT, ids=KEPT_IDS)
def test_kills_at_any_moment_leave_a_whole_checkpoint(tmp_path, keep, stride):
    in_a_process(KILLS, tmp_path, keep, stride)


EVERY_CALL = """
import os, signal, sys
from pathlib import Path
import torch
from train.checkpoint import load_checkpoint, save_checkpoint

run, keep, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)

def save_until_call(calls):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event == "open" or event.startswith(("os.", "shutil.")):
            seen += 1
            if seen == calls + 1:  # and not at os.kill itself
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    save_checkpoint(run, 5 + stride, {"x": torch.full((9,), calls)}, {"calls": calls}, keep)
    os._exit(0)

save_checkpoint(run, 5, {"x": torch.full((9,), -1)}, {"calls": -1}, keep)
for calls in range(1000):
    child = os.fork()
    if child == 0:
        save_until_call(calls)
    _, status = os.waitpid(child, 0)
    checkpoint = load_checkpoint(run, say=sys.exit)
    assert (checkpoint.state["x"] == checkpoint.meta["calls"]).all()
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
assert calls > 10 and checkpoint.meta["calls"] == calls
left = sorted(os.listdir(run / "checkpoints"))
assert len(left) == min(keep, 1 + stride) and all(name[5:].isdigit() for name in left), left
"""


@pytest.mark.parametrize(("keep", "stride"), KEPT, ids=KEPT_IDS)
def test_a_kill_before_any_call_to_the_file_system_leaves_a_whole_checkpoint(tmp_path, keep, stride):
    in_a_process(EVERY_CALL, tmp_path, keep, stride)


FULL = """
import os, resource, sys
from pathlib import Path
import torch
from train.checkpoint import save_checkpoint
from train.errors import TrainError

run = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for size in (60_000, 300_000):
    try:
        save_checkpoint(run, 15, {"a": torch.zeros(size), "b": torch.zeros(1000)}, {})
    except TrainError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_the_older_ones_stay(run):
    out = in_a_process(FULL, run).splitlines()
    assert len(out) == 1
    assert out[0] == (
        f"{run / 'checkpoints'}: step 15 was not saved: File too large; what was saved before is still there"
    )
    assert names(run) == ["step-000000010", "step-000000015"]
    assert load_checkpoint(run, say=pytest.fail).state["a"].shape == (60_000,)
