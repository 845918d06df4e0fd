"""Where and how a step computes, what a run says where it goes on elsewhere, and what is said when memory ends."""

from __future__ import annotations

import os

import pytest
import torch

from train.arithmetic import arithmetic, compute_as_begun
from train.device import memory_advice, numerics, pick_device
from train.errors import TrainError

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Torch's number of threads, which is given back."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_a_device_out_of_memory_is_one_line_with_what_helps():
    text = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.76 GiB of which 20.00 MiB "
        "is free.\nsecond line"
    )
    with pytest.raises(TrainError) as caught, memory_advice():
        raise torch.OutOfMemoryError(text)
    said = str(caught.value)
    assert said.startswith("CUDA out of memory. Tried to allocate 2.00 GiB;")
    for option in ("--accumulate", "--cache host", "--batch", "--size"):
        assert option in said
    assert "\n" not in said


def test_memory_that_this_machine_does_not_have_is_one_line_too():
    said = "this machine's memory is not enough: "
    with pytest.raises(TrainError, match=f"{said}out of memory; less: --cache none"), memory_advice():
        raise MemoryError
    with pytest.raises(TrainError, match=f"{said}.*can't allocate memory"), memory_advice():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="another"), memory_advice():
        raise RuntimeError("another")


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_cpu_computes_in_float32_unless_told(precision):
    numbers = numerics(CPU, precision)
    assert not numbers.bf16
    with numbers.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_is_for_products_and_not_for_sums():
    numbers = numerics(CPU, "bf16")
    with numbers.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.ones(2, 2).sum().dtype == torch.float32


def test_auto_is_a_device_of_this_machine():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_run_goes_on_with_the_threads_that_it_began_with(threads):
    said = []
    begun = arithmetic() | {"compute_threads": threads + 1}
    compute_as_begun(begun, CPU, said.append)
    assert torch.get_num_threads() == threads + 1
    assert said == []


def test_what_else_changes_bits_is_said(threads):
    said = []
    begun = arithmetic()
    begun_torch = begun["versions"]["torch"]
    begun = begun | {"versions": begun["versions"] | {"torch": "1.0"}, "instructions": "ALTIVEC"}
    compute_as_begun(begun, CPU, said.append)
    (line,) = said
    assert f"torch 1.0, now {begun_torch}" in line
    assert "ALTIVEC" in line
    assert os.linesep not in line
