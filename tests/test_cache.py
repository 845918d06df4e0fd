"""Where decoded frames are kept, and how much memory a process believes to have."""

from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from gfield import build_store, make_spec, open_nyuv2, open_store
from train.cache import HostCache, available_memory, choose_cache, fill_device
from train.errors import TrainError
from train.frames import Frames

KEYS = {"rgb": "640x480/rgb", "gradient": "640x480/gradient"}
CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture(scope="module")
def listed(nyu_mat, tmp_path_factory):
    """Ten frames of 1.5 MB."""
    source = open_nyuv2(nyu_mat)
    target = tmp_path_factory.mktemp("cache") / "nyu.zarr"
    build_store(source, target, make_spec(source, levels_WH=[(640, 480)], frames_per_shard=4))
    return Frames([(open_store(target), [9, 3, 4, 5, 0, 1, 8, 2, 7, 6])], KEYS)


@contextmanager
def memory_left(more):
    """A limit on the address space that leaves this process so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_frames_that_fit_in_half_of_the_memory_are_kept(listed, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    with memory_left(200 * MIB):
        assert choose_cache("auto", listed, CPU)[0] == "host"
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
        assert choose_cache("auto", listed, CPU)[0] == "none"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with memory_left(24 * MIB):
        mode, reason = choose_cache("auto", listed, CPU)
    assert mode == "none"
    assert reason.startswith("0.0154 GB decoded, more than half of 0.0")


def test_what_is_asked_for_is_done_or_refused(listed, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert choose_cache("none", listed, CPU) == ("none", "as asked for")
    with memory_left(24 * MIB):
        assert choose_cache("host", listed, CPU) == ("host", "0.0154 GB decoded, as asked for")
        assert choose_cache("device", listed, CPU)[0] == "host"
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        with pytest.raises(TrainError, match=r"--cache host: 0.0154 GB decoded, this process has 0.0\d+ GB free"):
            choose_cache("host", listed, CPU)


def check(listed, name, index_N, frames_N):
    for index, frame in zip(index_N, frames_N, strict=True):
        store, row = listed.locate(index)
        np.testing.assert_array_equal(frame, store.read(KEYS[name], [row])[0])


def test_a_filled_cache_holds_every_frame_at_its_place(listed):
    with ThreadPoolExecutor(3) as pool:
        on_device = fill_device(listed, CPU, pool)
    for name, tensor in on_device.items():
        check(listed, name, range(10), tensor.numpy())


def test_the_host_cache_decodes_a_frame_once_and_only_when_it_is_asked_for(listed, monkeypatch):
    decoded = []
    read = Frames.read
    monkeypatch.setattr(
        Frames,
        "read",
        lambda self, name, index_N, out: (decoded.append((name, *index_N)), read(self, name, index_N, out)),
    )
    cache = HostCache(listed)
    assert decoded == []
    for asked in ([3, 1], [1, 7, 3], [7, 7, 1], [0, 3, 0]):
        for name in KEYS:
            index_N = np.asarray(asked)
            out = listed.empty(name, len(index_N))
            cache.read(name, index_N, out)
            check(listed, name, index_N, out)
    assert [index for name, index in decoded if name == "rgb"] == [3, 1, 7, 0, 0]  # asked for twice in one batch
    assert [index for name, index in decoded if name == "gradient"] == [3, 1, 7, 0, 0]


def test_many_threads_may_ask_the_host_cache_for_the_same_frames(listed):
    for _ in range(3):
        cache = HostCache(listed)
        outs = [listed.empty("rgb", 10) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda out, cache=cache: cache.read("rgb", np.arange(10), out), outs))
        for out in outs:
            check(listed, "rgb", range(10), out)


def write(root, texts):
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


MEMINFO = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nMemAvailable:     500000 kB\n"


def test_memory_of_the_machine(tmp_path):
    write(tmp_path, {"proc/meminfo": MEMINFO})
    assert available_memory(tmp_path) == 500_000 * 1024


def test_the_tightest_control_group_counts_and_files_in_it_can_be_dropped(tmp_path):
    """Version 2: a job in a slice; the slice has the tighter limit."""
    groups = "sys/fs/cgroup"
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/slice/job\n",
            f"{groups}/slice/job/memory.max": "max\n",
            f"{groups}/slice/job/memory.current": "100\n",
            f"{groups}/slice/memory.max": "1000000\n",
            f"{groups}/slice/memory.current": "900000\n",
            f"{groups}/slice/memory.stat": "anon 600000\nfile 300000\ninactive_file 200000\nactive_file 50000\n",
        },
    )
    assert available_memory(tmp_path) == 100_000 + 250_000


def test_control_groups_of_version_1_in_a_container(tmp_path):
    """The path is the host's, and only the mount is there; 4096 less than 2^63 is no limit."""
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/7f\n4:memory:/docker/7f\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 30000\ntotal_active_file 4000\n",
        },
    )
    assert available_memory(tmp_path) == 534_000
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert available_memory(tmp_path) == 500_000 * 1024


def test_more_used_than_allowed_leaves_nothing(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "1200\n",
        },
    )
    assert available_memory(tmp_path) == 0


def test_a_limit_on_the_address_space_counts():
    with memory_left(64 * MIB):
        assert 48 * MIB < available_memory() <= 64 * MIB
