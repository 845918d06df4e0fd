"""What a card can do, what a step costs on it, and whether a step holds it up. Works on a CPU too, with less to say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# Dense bfloat16 matrix products, TFLOP/s, from the vendor's data sheets; the first name that fits counts.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "A6000": 155.0,
    "4090": 165.0,
    "3090": 71.0,
}


def peak_tflops(device: torch.device, given: float | None) -> tuple[float | None, str]:
    """Peak of a device in TFLOP/s, None where it is not known, and where the number is from."""
    if given is not None:
        return given, "as given"
    if device.type != "cuda":
        return None, "not known for a CPU"
    name = torch.cuda.get_device_name(device)
    found = next(((part, peak) for part, peak in PEAK_TFLOPS.items() if part in name), None)
    if found is None:
        return None, f"not known for {name}; --peak-tflops tells it"
    return found[1], f"data sheet of {found[0]}, dense bfloat16"


def describe(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    facts: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "memory_GB": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    else:
        facts |= {"name": "CPU", "threads": torch.get_num_threads()}
    return facts


def settle(device: torch.device) -> None:
    """Return when the device has done all that was queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give cached memory back, so that contenders do not meet each other's leftovers, and count its peak anew."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Bytes that tensors took at most since `forget`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def seconds_of(steps: Callable[[int], None], count: int, device: torch.device) -> float:
    """Seconds of one of ``count`` steps, from an idle device to an idle device."""
    settle(device)
    started = time.perf_counter()
    steps(count)
    settle(device)
    return (time.perf_counter() - started) / count


def flops_of(step: Callable[[], None]) -> int:
    """Floating-point operations of one step: its convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def waits_in(step: Callable[[], None], device: torch.device) -> str | None:
    """What makes the host wait for the device in a step: None if nothing does; only CUDA can tell.

    The step should have run before: the search for the fastest kernels waits.
    """
    if device.type != "cuda":
        return "not checked: the device is no CUDA card"
    settle(device)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return f"{_place_of(error)}: {str(error).splitlines()[0]}"
    finally:
        torch.cuda.set_sync_debug_mode(before)
        settle(device)
    return None


def _place_of(error: BaseException) -> str:
    """The innermost line of this project that an error passed through."""
    place, trace = "outside of this project", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/train/" in file or "/benchmarks/" in file:
            place = f"{file.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def busiest_kernels(step: Callable[[], None], device: torch.device, count: int = 8) -> list[str]:
    """The operations that took most of the device's time in one step, by torch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        step()
        settle(device)
    by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda event: getattr(event, by), reverse=True)
    total = sum(getattr(event, by) for event in events) or 1
    return [f"{getattr(event, by) / total:5.1%}  {event.count:5d} x  {event.key[:90]}" for event in events[:count]]
