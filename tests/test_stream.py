"""Batches: their order, their pixels, and the threads that read them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfield import StoreError, build_store, make_spec, open_nyuv2, open_store
from train.cache import fill_device
from train.errors import TrainError
from train.frames import Frames
from train.prefetch import prefetched
from train.stream import Stream, epoch_order, in_order

KEYS = {"rgb": "320x240/rgb", "gradient": "320x240/gradient", "depth": "320x240/depth"}
CPU = torch.device("cpu")
PATIENCE_S = 60


@pytest.fixture(scope="module")
def path(nyu_mat, tmp_path_factory):
    """A store of four frames a shard; not to be changed."""
    source = open_nyuv2(nyu_mat)
    target = tmp_path_factory.mktemp("stream") / "nyu.zarr"
    build_store(source, target, make_spec(source, levels_WH=[(320, 240)], frames_per_shard=4))
    return target


@pytest.fixture(scope="module")
def listed(path):
    """Nine rows, not in order, so that a row is not its place."""
    store = open_store(path)
    return Frames([(store, [9, 3, 4]), (store, [0, 1, 8, 2, 7, 6])], KEYS)


@pytest.fixture
def damaged(path, tmp_path):
    """The rows of a copy whose row 4, the first in its shard of RGB, has a flipped bit."""
    shutil.copytree(path, tmp_path / "nyu.zarr")
    shard = tmp_path / "nyu.zarr/320x240/rgb/c/1/0/0/0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 16
    shard.write_bytes(data)
    return Frames([(open_store(tmp_path / "nyu.zarr"), range(10))], KEYS)


def stream_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("stream", "in-order"))]


def copied(batch):
    """A batch's numbers, for after it has been overwritten."""
    return batch.step, batch.index_N.tolist(), {name: tensor.clone() for name, tensor in batch.arrays.items()}


def assert_same(one, other):
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    for name, tensor in one[2].items():
        np.testing.assert_array_equal(tensor.numpy(), other[2][name].numpy())


def assert_true_to_the_store(listed, batch):
    for name, tensor in batch.arrays.items():
        for place, index in enumerate(batch.index_N.tolist()):
            store, row = listed.locate(index)
            np.testing.assert_array_equal(tensor[place].numpy(), store.read(KEYS[name], [row])[0])


@given(st.integers(0, 300), st.integers(0, 2**32), st.integers(0, 50))
def test_an_epochs_order_is_a_permutation_and_a_pure_function(length, seed, epoch):
    order = epoch_order(length, seed, epoch)
    assert order.dtype == np.intp
    assert sorted(order.tolist()) == list(range(length))
    np.testing.assert_array_equal(order, epoch_order(length, seed, epoch))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(st.data(), st.integers(1, 8), st.integers(1, 12), st.integers(0, 9))
def test_a_global_batch_is_dealt_out_to_any_number_of_ranks(data, world, batch, epoch):
    whole = world * batch
    length = data.draw(st.integers(whole, 5 * whole))
    permutation = epoch_order(length, 3, epoch)
    for rank in range(world):
        mine = epoch_order(length, 3, epoch, rank, world)
        for t in range(length // whole):
            of_batch = permutation[t * whole : (t + 1) * whole]
            np.testing.assert_array_equal(mine[t * batch : (t + 1) * batch], of_batch[rank::world])


def test_ranks_stream_the_parts_of_one_global_batch(listed):
    def indices(**rank):
        with Stream(listed, seed=5, cache="none", **rank) as stream:
            return [batch.index_N.tolist() for batch in stream.batches(0, 7)]

    whole = indices(batch=4)
    for rank in range(2):
        assert indices(batch=2, rank=rank, world=2) == [index[rank::2] for index in whole]


@pytest.mark.parametrize("cache", ["none", "host", "auto", "device"])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_what_the_store_holds(listed, cache, threads):
    with Stream(listed, batch=4, seed=1, cache=cache, threads=threads) as stream:
        assert stream.steps_per_epoch == 2
        for step, batch in enumerate(stream.batches(0, 5)):
            assert batch.step == step
            epoch, place = divmod(step, 2)
            np.testing.assert_array_equal(batch.index_N, epoch_order(9, 1, epoch)[4 * place : 4 * place + 4])
            assert [tensor.dtype for tensor in batch.arrays.values()] == [torch.uint8, torch.float16, torch.float32]
            assert_true_to_the_store(listed, batch)
    assert step == 4


@pytest.mark.parametrize("cache", ["none", "host"])
def test_a_restart_in_the_middle_goes_on_as_if_nothing_had_been(listed, cache):
    with Stream(listed, batch=2, seed=2, cache=cache) as stream:
        whole = [copied(batch) for batch in stream.batches(0, 9)]
    for start in (1, 4, 7):
        with Stream(listed, batch=2, seed=2, cache=cache, threads=1) as stream:
            for batch, wanted in zip(stream.batches(start, 9), whole[start:], strict=True):
                assert_same(copied(batch), wanted)


def test_no_steps_are_no_batches(listed):
    with Stream(listed, batch=2, seed=2, cache="none") as stream:
        assert list(stream.batches(5, 5)) == []
        assert list(stream.batches(5, 3)) == []


@pytest.mark.parametrize(
    ("batch", "world", "said"),
    [
        (10, 1, "batch 10 is larger than the data, 9 frames"),
        (5, 2, "batch 10 is larger than the data, 9 frames"),
        (0, 1, "batch 0, wanted 1 or more"),
    ],
)
def test_a_batch_that_the_data_cannot_fill_is_refused(listed, batch, world, said):
    with pytest.raises(TrainError, match=said):
        Stream(listed, batch=batch, world=world, seed=0)
    assert not stream_threads()


@pytest.mark.parametrize("cache", ["none", "host"])
def test_a_batch_of_all_the_data_is_an_epoch(listed, cache):
    with Stream(listed, batch=9, seed=0, cache=cache, threads=1) as stream:  # a thread reads two frames at a time
        for batch in stream.batches(0, 3):
            np.testing.assert_array_equal(batch.index_N, epoch_order(9, 0, batch.step))
            assert_true_to_the_store(listed, batch)


def test_the_next_batch_is_read_while_one_is_in_use_and_the_one_after_is_not(listed):
    """The reader fills buffers with its step's number, and says which steps it has been asked for."""
    done = [threading.Event() for _ in range(8)]
    asked = []

    def read(name, index_N, out):
        step = int(index_N[0])
        asked.append(step)
        out[...] = step
        if name == "depth":
            done[step].set()

    plan = ((step, np.array([step], np.intp)) for step in range(8))
    with ThreadPoolExecutor(1) as pool:  # one thread: its pieces end in order, depth last
        batches = prefetched(plan, read, listed, batch=1, device=CPU, pool=pool, threads=1)
        for step, batch in enumerate(batches):
            ahead = min(step + 1, 7)
            assert done[ahead].wait(PATIENCE_S)
            time.sleep(0.01)  # for a reader that would go on
            assert max(asked) == ahead
            assert all((tensor == step).all() for tensor in batch.arrays.values())


def test_waiting_is_the_time_without_data_and_not_the_steps_own(listed):
    waited = []
    ready = threading.Event()
    release = threading.Event()

    def read(name, index_N, out):
        if index_N[0] == 0:
            release.wait(PATIENCE_S)
        elif name == "depth":
            ready.set()

    plan = ((step, np.array([step], np.intp)) for step in range(2))
    with ThreadPoolExecutor(1) as pool:
        batches = prefetched(plan, read, listed, batch=1, device=CPU, pool=pool, threads=1, on_wait=waited.append)
        threading.Timer(0.3, release.set).start()
        next(batches)
        assert ready.wait(PATIENCE_S)
        time.sleep(0.5)
        next(batches)
    assert waited[0] > 0.2
    assert waited[1] < 0.4


def test_a_stream_adds_up_what_it_waited(listed):
    with Stream(listed, batch=3, seed=0, cache="none", threads=1) as stream:
        assert stream.wait_s == 0
        seen = [stream.wait_s for _ in stream.batches(0, 4)]
    assert seen == sorted(seen)
    assert seen[0] > 0


@pytest.mark.parametrize("cache", ["none", "host"])
def test_threads_end_with_the_stream(listed, cache):
    with Stream(listed, batch=2, seed=0, cache=cache, threads=3) as stream:
        next(stream.batches(0, 9))
        assert stream_threads()
    assert not stream_threads()


def test_an_iterator_may_be_abandoned_and_begun_again(listed):
    with Stream(listed, batch=2, seed=0, cache="none") as stream:
        first = [copied(batch) for batch in stream.batches(0, 4)]
        for batch in stream.batches(0, 100):
            if batch.step == 2:
                break
        for batch, wanted in zip(stream.batches(0, 4), first, strict=True):
            assert_same(copied(batch), wanted)
        left = stream.batches(0, 100)
        next(left)
    assert not stream_threads()
    left.close()


def test_what_a_reader_raises_reaches_the_consumer_as_it_is(listed):
    wrong = RuntimeError("mine")

    def read(name, index_N, out):
        if index_N[0] == 2:
            raise wrong

    plan = ((step, np.array([step], np.intp)) for step in range(8))
    with ThreadPoolExecutor(2) as pool:
        batches = prefetched(plan, read, listed, batch=1, device=CPU, pool=pool, threads=2)
        assert [next(batches).step, next(batches).step] == [0, 1]
        with pytest.raises(RuntimeError) as caught:
            next(batches)
    assert caught.value is wrong


def test_a_damaged_chunk_names_its_shard(damaged):
    said = r"320x240/rgb/c/1/0/0/0: frame at place 0 .*gfield verify --repair"
    with (
        pytest.raises(StoreError, match=said),
        Stream(damaged, batch=2, seed=0, cache="none") as stream,
    ):
        assert len(list(stream.batches(0, 5))) == 5
    assert not stream_threads()
    with (
        pytest.raises(StoreError, match=said),
        Stream(damaged, batch=2, seed=0, cache="host") as stream,
    ):
        assert len(list(stream.batches(0, 5))) == 5
    with pytest.raises(StoreError, match=said), ThreadPoolExecutor(2) as pool:
        fill_device(damaged, torch.device("cpu"), pool)
    assert not stream_threads()
    with pytest.raises(StoreError, match=said):
        list(in_order(damaged, 3))
    assert not stream_threads()


@pytest.mark.parametrize("batch", [1, 4, 9, 20])
def test_in_order_covers_all_once(listed, batch):
    seen = []
    for step, one in enumerate(in_order(listed, batch)):
        assert one.step == step
        assert all(len(tensor) == len(one.index_N) for tensor in one.arrays.values())
        assert_true_to_the_store(listed, one)
        seen += one.index_N.tolist()
    assert seen == list(range(9))
    assert not stream_threads()


def test_in_order_may_be_abandoned(listed):
    for _ in in_order(listed, 1, threads=2):
        break
    assert not stream_threads()


def test_control_c_ends_a_program_that_streams(path):
    code = f"""
import signal
from gfield import open_store
from train.cache import fill_device
from train.frames import Frames
from train.stream import Stream
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's would be ignored
store = open_store({str(path)!r})
stream = Stream(Frames([(store, range(10))], {KEYS!r}), batch=2, seed=0, cache="none", threads=2)
for batch in stream.batches(0, 10**9):
    if batch.step == 3:
        print("streaming", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"streaming\n"
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode != 0
    assert said.decode().splitlines()[-1].startswith("KeyboardInterrupt")
