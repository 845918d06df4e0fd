"""Encoders in files of other programs: any prefix, older names, heads beside them; one line for what is no encoder."""

from __future__ import annotations

import functools
import hashlib
import pickle

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.serialization import get_crc32_options, set_crc32_options

from train.encoder_files import find_encoder, names_file, read_encoder, report
from train.encoders import ENCODERS, make_encoder
from train.errors import TrainError
from train.weights import load_weights, read_tensors, state_digest

from .foreign_weights import Canary, State, dotted, torchvision_state

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSIFIERS = ("fc.", "classifier.")
# Of the released code's pre-training: encoder_q is torchvision's ResNet, or a DenseNet in a module of that name.
RELEASED = {"resnet50": "", "densenet161": "original_model."}


@functools.cache
def whole(name: str) -> State:
    """Torchvision's state dict, the classifier's part too; not to be changed."""
    return torchvision_state(name)


@functools.cache
def shapes(name: str) -> State:
    """The same names and shapes, in no memory."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    return {key: torch.zeros(()).expand(value.shape) for key, value in model.state_dict().items()}


def encoder_part(name: str) -> State:
    return {key: value for key, value in whole(name).items() if not key.startswith(CLASSIFIERS)}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def assert_loads(name: str, state: State) -> None:
    """Into an encoder of other weights, which has all of torchvision's after that."""
    encoder = make_encoder(name, 1)
    load_weights(encoder, state, "test")
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, whole(name)[key]), key


def refused(tensors: State, name: str | None) -> str:
    with pytest.raises(TrainError) as caught:
        find_encoder(tensors, name, "file.pth")
    message = str(caught.value)
    assert message.startswith("file.pth: ")
    assert "\n" not in message
    return message


# What is found --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder_q.", "module.encoder_q.", "backbone.", "original_model."])
def test_an_encoder_is_found_behind_any_prefix(name, prefix):
    tensors = prefixed(prefix, whole(name))
    found = find_encoder(tensors, name, "file.pth")
    assert found.prefix == prefix
    assert tensors.keys() - found.used == {f"{prefix}{key}" for key in whole(name) if key.startswith(CLASSIFIERS)}
    assert_loads(name, found.state)


@given(words=st.lists(st.sampled_from(["module", "conv1", "layer1", "0", "features", "encoder"]), max_size=4))
@settings(max_examples=20)
def test_prefixes_of_the_encoders_own_words_do_not_mislead(words):
    prefix = "".join(f"{word}." for word in words)
    found = find_encoder(prefixed(prefix, shapes("resnet18")), "resnet18", "file.pth")
    assert found.prefix == prefix
    assert found.state.keys() == encoder_part("resnet18").keys()


def test_older_names_without_batch_counts_are_today_ones():
    tensors = prefixed("module.", dotted(whole("densenet121")))
    assert any(".norm.1." in key for key in tensors)
    found = find_encoder(tensors, "densenet121", "file.pth")
    encoder = make_encoder("densenet121", 1)
    load_weights(encoder, found.state, "test")
    for key, value in encoder.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(value, whole("densenet121")[key]), key


def test_the_features_of_a_densenet_alone_are_its_encoder():
    tensors = {key.removeprefix("features."): value for key, value in encoder_part("densenet121").items()}
    assert_loads("densenet121", find_encoder(tensors, None, "file.pth").state)


@pytest.mark.parametrize("order", ["qk", "kq"])
def test_of_two_encoders_the_querys_is_taken_and_the_rest_is_told(order):
    q, k = encoder_part("resnet18"), torchvision_state("resnet18", 5)
    k = {key: value for key, value in k.items() if key in q}
    parts = {"q": prefixed("module.encoder_q.", q), "k": prefixed("module.encoder_k.", k)}
    tensors = {**parts[order[0]], **parts[order[1]]}
    tensors |= {"module.encoder_q.fc.0.weight": torch.zeros(2), "module.encoder_q.fc.0.bias": torch.zeros(2)}
    tensors |= {"module.queue": torch.zeros(2), "module.queue_ptr": torch.zeros(1)}
    found = find_encoder(tensors, "resnet18", "file.pth")
    assert_loads("resnet18", found.state)
    said = report("file.pth", tensors, found.used, f"resnet18 (prefix {found.prefix!r})")
    assert said == (
        "file.pth: 120 of 244 names matched resnet18 (prefix 'module.encoder_q.'); not used: "
        "module.encoder_k (120 names), module.encoder_q.fc (2 names), module.queue, module.queue_ptr"
    )


def test_a_long_list_of_other_names_is_cut_short():
    tensors = {**whole("resnet18"), **{f"head{index}.weight": torch.zeros(1) for index in range(7)}}
    found = find_encoder(tensors, "resnet18", "file.pth")
    said = report("file.pth", tensors, found.used, "resnet18")
    assert said.endswith("; not used: fc (2 names), head0.weight, head1.weight, head2.weight, head3.weight and 3 more")


@pytest.mark.parametrize("name", ENCODERS)
def test_which_encoder_it_is_is_found_out(name):
    """All sizes, the released code's two among them, by shapes that take no memory."""
    found = find_encoder(prefixed(RELEASED.get(name, ""), shapes(name)), None, "file.pth")
    assert (found.name, found.prefix) == (name, RELEASED.get(name, ""))
    assert len(found.state) == len(shapes(name)) - 2


# What is refused ------------------------------------------------------------------------------------------------------


def test_missing_and_reshaped_weights_are_named():
    tensors = prefixed("module.", encoder_part("resnet18"))
    del tensors["module.layer4.1.conv2.weight"], tensors["module.bn1.running_mean"]
    tensors["module.conv1.weight"] = torch.zeros(64, 1, 7, 7)
    assert refused(tensors, "resnet18") == (
        "file.pth: no whole resnet18 (prefix 'module.'): 2 missing (bn1.running_mean, layer4.1.conv2.weight); "
        "1 of another shape (conv1.weight 64x1x7x7 where 64x3x7x7 is wanted)"
    )
    assert "no whole resnet18" in refused(tensors, None)


@pytest.mark.parametrize(
    ("deeper", "name", "block"),
    [
        ("resnet34", "resnet18", "layer1.2"),
        ("resnet101", "resnet50", "layer3.6"),
        ("resnet152", "resnet50", "layer2.4"),
    ],
)
def test_a_deeper_resnet_is_not_taken_in_part(deeper, name, block):
    for expected in (name, None):
        said = refused(prefixed("module.", shapes(deeper)), expected)
        assert said == (f"file.pth: a deeper network than {name} (prefix 'module.'), it has {block}, …; {name} wanted")


def test_which_of_two_whole_encoders_is_meant_is_not_guessed():
    both = {**prefixed("target_encoder.", encoder_part("resnet18")), **prefixed("online.", encoder_part("resnet18"))}
    assert refused(both, "resnet18") == (
        "file.pth: holds resnet18 more than once, under 'target_encoder.' and 'online.'; a file with the one that is "
        "meant wanted"
    )
    queries = {**prefixed("encoder_k.", encoder_part("resnet18")), **prefixed("encoder_q.", encoder_part("resnet18"))}
    assert find_encoder(queries, "resnet18", "file.pth").prefix == "encoder_q."


def test_a_damaged_query_encoder_is_told_and_the_key_encoder_not_taken_for_it():
    queries = prefixed("module.encoder_q.", encoder_part("resnet18"))
    del queries["module.encoder_q.layer4.1.bn2.running_var"]
    said = refused({**queries, **prefixed("module.encoder_k.", encoder_part("resnet18"))}, None)
    assert said == "file.pth: no whole resnet18 (prefix 'module.encoder_q.'): 1 missing (layer4.1.bn2.running_var)"


def test_of_two_networks_the_one_that_is_asked_for_is_taken():
    both = {**prefixed("student.", encoder_part("resnet18")), **prefixed("teacher.", encoder_part("resnet50"))}
    assert find_encoder(both, "resnet18", "file.pth").prefix == "student."
    assert find_encoder(both, "resnet50", "file.pth").prefix == "teacher."
    assert refused(both, None) == (
        "file.pth: holds resnet18 (prefix 'student.') and resnet50 (prefix 'teacher.'); --encoder tells which of them "
        "is wanted"
    )


def test_negative_variances_are_no_weights():
    tensors = {**encoder_part("resnet18")}
    tensors["bn1.running_var"] = -tensors["bn1.running_var"].abs() - 1
    assert refused(tensors, "resnet18") == "file.pth: bn1.running_var has negative values, wanted variances"


def test_what_torch_save_did_not_write_is_told_in_words(tmp_path, recwarn):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(TrainError, match=r"text\.pth: not what torch\.save writes; wanted a state dict"):
        read_tensors(tmp_path / "text.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Canary(tmp_path / "ran")}, protocol=4))
    with pytest.raises(TrainError, match=r"plain\.pth: .*wanted a state dict"):
        read_tensors(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()
    assert not recwarn.list


def test_another_encoder_is_told_by_its_name():
    assert refused(whole("resnet18"), "resnet50") == "file.pth: its encoder is resnet18, wanted resnet50 (--encoder)"


def test_a_file_of_something_else_is_told():
    tensors = {"encoder.0.0.weight": torch.zeros(3), "encoder.1.0.weight": torch.zeros(3)}
    assert refused(tensors, "resnet18") == (
        "file.pth: no name of resnet18 in it, it has encoder.0.0.weight, encoder.1.0.weight; wanted torchvision's names"
    )
    assert "no name of an encoder in it" in refused(tensors, None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((64,), float("nan")), "bn1.bias has values that are not finite"),
        (torch.zeros(64, dtype=torch.int64), "bn1.bias is torch.int64, torch.strided on cpu, wanted real numbers"),
        (torch.zeros(64).to_sparse(), "bn1.bias is torch.float32, torch.sparse_coo on cpu, wanted real numbers"),
        (torch.zeros(64, device="meta"), "bn1.bias is torch.float32, torch.strided on meta, wanted real numbers"),
    ],
    ids=["nan", "integers", "sparse", "meta"],
)
def test_tensors_that_are_no_weights_are_told(value, said):
    assert said in refused({**whole("resnet18"), "bn1.bias": value}, "resnet18")


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_read_with_its_hash_and_a_line_on_its_names(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        other = {0: {"momentum_buffer": torch.zeros(2)}}
        torch.save({"epoch": 3, "state_dict": prefixed("module.", whole("resnet18")), "optimizer": other}, path)
        names, prefix = 123, "state_dict.module."
        left = "state_dict.module.fc (2 names), optimizer.0.momentum_buffer"
    else:
        save_file(whole("resnet18"), path)
        names, prefix, left = 122, "", "fc (2 names)"
    read = read_encoder(path, "resnet18")
    assert_loads("resnet18", read.state)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.said == f"{path}: 120 of {names} names matched resnet18 (prefix {prefix!r}); not used: {left}"


def test_what_is_no_state_dict_is_one_line(tmp_path):
    canary, kept = tmp_path / "executed", tmp_path / "whole.pth"
    torch.save(prefixed("module.", whole("resnet18")), kept)
    (tmp_path / "cut.pth").write_bytes(kept.read_bytes()[:100_000])
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "folder.pth").mkdir()
    torch.save({"epoch": 3, "names": ["a"]}, tmp_path / "numbers.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    for name, write in (("plain.pth", pickle.dump), ("zip.pth", torch.save)):
        with (tmp_path / name).open("wb") as file:
            write({"conv1.weight": Canary(canary)}, file)
    paths = [path for path in sorted(tmp_path.glob("*.pth")) if path != kept]
    assert len(paths) == 8
    for path in [*paths, tmp_path / "none.pth"]:
        with pytest.raises(TrainError) as caught:
            read_encoder(path, "resnet18")
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert not canary.exists()
    with pytest.raises(TrainError, match=r"zip.pth: holds a Python object, [\w.]+, which is not loaded"):
        read_encoder(tmp_path / "zip.pth", "resnet18")


def test_dicts_in_dicts_are_read_to_an_end(tmp_path):
    """A dict that holds itself is a file that torch.load takes."""
    content: dict = {"model": {"a": torch.ones(1)}, 3: {"b": {"c": torch.zeros(2)}}, "epoch": 1}
    content["self"] = content
    torch.save(content, tmp_path / "nested.pth")
    names = read_tensors(tmp_path / "nested.pth").keys()
    assert {"model.a", "3.b.c", "self.model.a"} <= names
    assert all(name.count("self") < 4 for name in names)


def test_torchvisions_own_file_is_sent_to_its_option(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    torch.save(whole("resnet18"), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"].value
    monkeypatch.setattr(published, "url", f"https://example.org/resnet18-{digest[:8]}.pth")
    with pytest.raises(TrainError, match=rf"wanted as --init imagenet --weights {path}$"):
        read_encoder(path, "resnet18")


def test_a_start_is_a_file_by_what_is_there_or_by_its_name(tmp_path):
    (tmp_path / "weights").write_bytes(b"")
    (tmp_path / "run.pth").mkdir()
    assert names_file(str(tmp_path / "weights"))
    assert names_file(str(tmp_path / "not-there.pth"))
    assert not names_file(str(tmp_path / "run.pth"))
    assert not names_file(str(tmp_path / "not-there"))


def test_a_digest_is_of_names_types_shapes_and_values_alone():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    same = {"b": torch.tensor(3), "a": torch.arange(6.0).reshape(3, 2).flatten().reshape(2, 3)}
    assert state_digest(state) == state_digest(same)
    assert state_digest({**state, "a": state["a"].T.contiguous().T}) == state_digest(state)
    others = [
        {**state, "a": state["a"].reshape(3, 2)},
        {**state, "a": state["a"].double()},
        {**state, "b": torch.tensor(4)},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"]},
    ]
    assert len({state_digest(other) for other in [state, *others]}) == 6


def flip_bit(path, piece: bytes) -> None:
    """Flip the lowest bit of a piece of a file that is there once."""
    data = bytearray(path.read_bytes())
    assert data.count(piece) == 1
    data[data.index(piece)] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_in_a_file_of_torch_is_found(tmp_path):
    """torch.load does not look at the checksums of its zip file."""
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.full((8, 8), 1.25)}, path)
    flip_bit(path, torch.full((8, 8), 1.25).numpy().tobytes())
    assert not torch.equal(torch.load(path)["conv1.weight"], torch.full((8, 8), 1.25))
    with pytest.raises(TrainError, match=r"weights.pth: 'weights/data/0' in it does not match its CRC-32"):
        read_tensors(path)


def test_a_file_that_torch_wrote_without_checksums_is_read(tmp_path):
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "weights.pth")
    finally:
        set_crc32_options(before)
    assert torch.equal(read_tensors(tmp_path / "weights.pth")["conv1.weight"], torch.ones(3))


def test_a_flipped_bit_in_safetensors_is_found_where_they_have_a_digest(tmp_path):
    state, path = {"conv1.weight": torch.full((8, 8), 1.25)}, tmp_path / "weights.safetensors"
    save_file(state, path, metadata={"tensors_blake3": state_digest(state)})
    assert torch.equal(read_tensors(path)["conv1.weight"], state["conv1.weight"])
    flip_bit(path, state["conv1.weight"].numpy().tobytes())
    with pytest.raises(TrainError, match=r"weights.safetensors: BLAKE3 of its tensors is .*: it is damaged"):
        read_tensors(path)
