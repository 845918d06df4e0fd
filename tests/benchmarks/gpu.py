"""Training on a GPU: images a second, use of the card, memory, waiting, beside the released code's step; one run.

``python tests/benchmarks/gpu.py [--store STORE] [--only NAME] [--budget SECONDS] [--profile] [--peak-tflops N]``

Prints a block for each kind of training and keeps all of it in build/bench/gpu.json. Contenders run in turns; what
counts is the median over rounds, and the ratios of one round. When time is short, later blocks are left out, by name.
``--tiny --device cpu`` shows that all of it runs, on any machine; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_card import (
    busiest_kernels,
    describe,
    flops_of,
    forget,
    peak_memory,
    peak_tflops,
    seconds_of,
    settle,
    waits_in,
)
from gpu_frames import Input, find_input
from gpu_steps import Feed, OurSteps, Work
from measure import HERE, Line, ratios, tell
from released_step import ReleasedStep

from train.device import pick_device

OUTPUT = HERE.parents[1] / "build" / "bench" / "gpu.json"
BUDGET_S = 450.0
CACHES = ("device", "host", "none")
WARM = 2


@dataclass(frozen=True)
class Size:
    """How much is measured: seconds and steps of a block, rounds, and rooms of the store that is built."""

    block_s: float = 1.5
    most_steps: int = 30
    rounds: int = 5
    rooms: int = 32


@dataclass(frozen=True)
class Block:
    """What is measured together.

    Attributes
    ----------
    work
        What is trained.
    caches
        Streams to run beside the constant batch.
    compiled, released
        Whether ``--compile`` and the released code's step take part.
    parts
        ``--accumulate`` of one more contender, whose micro-batches are small enough to need no split batch-norm.
    wanted_s
        Seconds that have to be left for it to begin.
    """

    work: Work
    caches: Sequence[str] = ()
    compiled: bool = False
    released: bool = False
    parts: int = 1
    wanted_s: float = 30.0


def blocks_of(tiny: bool) -> dict[str, Block]:
    """All blocks, the most wanted first: those that compile take minutes."""
    small, large = ("resnet18", "densenet121") if tiny else ("resnet50", "densenet161")
    size_WH = (80, 60) if tiny else (640, 480)
    batches, queue = ((4, 4, 2), 64) if tiny else ((64, 16, 8), 65536)
    resnet = Work(small, batches[0], size_WH, queue=queue)
    densenet = Work(large, batches[1], size_WH, queue=queue)
    fcrn = Work(small, batches[2], size_WH, network="fcrn")
    densedepth = Work(large, batches[2], size_WH, network="densedepth")
    wanted = (0.0, 0.0) if tiny else (60.0, 120.0)
    return {
        "resnet": Block(resnet, CACHES, released=True, parts=2 if tiny else 8, wanted_s=wanted[0]),
        "fcrn": Block(fcrn, CACHES, wanted_s=wanted[0] / 2),
        "densedepth": Block(densedepth, CACHES, wanted_s=wanted[0] / 2),
        "densenet": Block(densenet, CACHES[:1], released=True, wanted_s=wanted[0]),
        "compiled-resnet": Block(resnet, compiled=True, wanted_s=wanted[1]),
        "compiled-fcrn": Block(fcrn, compiled=True, wanted_s=wanted[1]),
        "compiled-densedepth": Block(densedepth, compiled=True, wanted_s=wanted[1]),
        "compiled-densenet": Block(densenet, compiled=True, wanted_s=wanted[1]),
    }


@dataclass
class Contender:
    """One way to train.

    Attributes
    ----------
    name
        In words.
    batches
        A number of steps, handed out one by one as batches; consumed by `train`.
    train
        Takes such steps and returns when they are queued.
    wait_s
        Seconds waited for data so far.
    step_s, waits, memory
        Seconds of a step, and share of waiting, a round each; the largest peak of memory in bytes.
    """

    name: str
    batches: Callable[[int], Iterator[Any]]
    train: Callable[[Iterator[Any]], None]
    wait_s: Callable[[], float] = lambda: 0.0
    step_s: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    memory: int | None = None

    def measure(self, steps: int, device: torch.device) -> None:
        """One round of ``steps``, after some to warm up."""
        forget(device)
        data = iter(self.batches(WARM + steps))
        self.train(itertools.islice(data, WARM))
        settle(device)
        before, started = self.wait_s(), time.perf_counter()
        self.step_s.append(seconds_of(lambda count: self.train(data), steps, device))
        self.waits.append((self.wait_s() - before) / (time.perf_counter() - started))
        peak = peak_memory(device)
        self.memory = peak if peak is None else max(peak, self.memory or 0)


class Clock:
    """The time that is left."""

    def __init__(self, budget_s: float) -> None:
        self._started, self._budget_s = time.monotonic(), budget_s

    @property
    def spent_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Until the end."""
        return self._budget_s - self.spent_s


@dataclass(frozen=True)
class Bench:
    """What all blocks share: where and on what frames, how much, what the card can do, and how long."""

    device: torch.device
    given: Input
    size: Size
    peak: float | None
    clock: Clock
    profile: bool

    def run(self, block: Block) -> dict[str, Any]:
        """Measure one block: its lines, and what else it has to tell."""
        facts: dict[str, Any] = {}
        with contextlib.ExitStack() as things:
            ours = OurSteps(block.work, self.device)
            constant = things.enter_context(self._feed(block.work, None))
            one = next(iter(constant.batches(1)))
            for _ in range(WARM + 1):
                ours.train_on([one])
            facts["host waits in a step"] = waits_in(lambda: ours.queue(one), self.device)
            ours.train_on([one])
            facts["flops a step"] = flops_of(lambda: ours.train_on([one]))
            if self.profile:
                facts["busiest kernels"] = busiest_kernels(lambda: ours.train_on([one]), self.device)
            contenders = [Contender("constant batch", constant.batches, ours.train_on)]
            for make in self._others(block, ours, constant, things):
                # Each of them may be too large for the card, or have no compiler: the others are measured all the same.
                try:
                    contender = make()
                    contender.train(contender.batches(WARM))
                    settle(self.device)
                except (RuntimeError, OSError) as error:
                    facts.setdefault("left out", []).append(f"{make.__doc__}: {str(error).splitlines()[0][:200]}")
                    forget(self.device)
                    continue
                contenders.append(contender)
            self._rounds(contenders)
            facts["steps skipped"] = ours.skipped
            if self.device.type == "cuda" and facts["host waits in a step"] is None:
                facts["host waits in a step"] = "none"
        lines = _lines(contenders, block.work.batch, facts["flops a step"], self.peak)
        return {"title": block.work.title, "lines": lines, "facts": facts}

    def _feed(self, work: Work, cache: str | None) -> Feed:
        return Feed(work, self.given.frames(work.arrays, work.size_WH, work.frames), self.device, cache)

    def _others(
        self, block: Block, ours: OurSteps, constant: Feed, things: contextlib.ExitStack
    ) -> Iterator[Callable[[], Contender]]:
        """Makers of the other contenders; the docstring of a maker is its name."""
        for cache in block.caches:

            def streamed(cache: str = cache) -> Contender:
                feed = things.enter_context(self._feed(block.work, cache))
                return Contender(f"--cache {cache}", feed.batches, ours.train_on, lambda: feed.wait_s)

            streamed.__doc__ = f"--cache {cache}"
            yield streamed
        if block.parts > 1:

            def in_parts() -> Contender:
                other = OurSteps(block.work, self.device, parts=block.parts)
                return Contender(f"constant, --accumulate {block.parts}", constant.batches, other.train_on)

            in_parts.__doc__ = f"--accumulate {block.parts}"
            yield in_parts
        if block.compiled:

            def compiled() -> Contender:
                other = OurSteps(block.work, self.device, compiled=True)
                return Contender("constant, --compile", constant.batches, other.train_on)

            compiled.__doc__ = "--compile"
            yield compiled
        if block.released:

            def released() -> Contender:
                size_WH = block.work.size_WH
                step = ReleasedStep(block.work.encoder, block.work.batch, (size_WH[1], size_WH[0]), self.device)
                return Contender("released code's step", lambda count: iter(range(count)), _repeat(step))

            released.__doc__ = "released code's step"
            yield released

    def _rounds(self, contenders: Sequence[Contender]) -> None:
        """All in turns, as many rounds as there is time for, one at least."""
        first = contenders[0]
        first.measure(2, self.device)
        pace = first.step_s.pop()
        first.waits.pop()
        steps = max(2, min(self.size.most_steps, round(self.size.block_s / pace)))
        for number in range(self.size.rounds):
            began = self.clock.spent_s
            for contender in contenders:
                tell(f"round {number + 1} of {self.size.rounds}: {contender.name}")
                contender.measure(steps, self.device)
            if self.clock.left_s < self.clock.spent_s - began:
                break


def _repeat(step: Callable[[], None]) -> Callable[[Iterator[Any]], None]:
    def train(numbers: Iterator[Any]) -> None:
        for _ in numbers:
            step()

    return train


def _lines(contenders: Sequence[Contender], batch: int, flops: int, peak: float | None) -> list[Line]:
    lines, constant = [], contenders[0]
    for one in contenders:
        lines.append(Line(one.name, "images/s", [batch / seconds for seconds in one.step_s]))
        if peak is not None:
            lines.append(Line("  of the card's peak", "%", [flops / s / peak / 1e10 for s in one.step_s]))
        if one.memory is not None:
            lines.append(Line("  peak memory", "GB", [one.memory / 1e9]))
        if one.name.startswith("--cache"):
            lines.append(Line("  share of waiting", "%", [100 * share for share in one.waits]))
    for one in contenders[1:]:
        speed = ratios(constant.step_s, one.step_s)
        if one.name.startswith("--cache"):
            lines.append(Line(f"{one.name} / constant batch", "x", speed, (">=", 0.97)))
        elif one.name.startswith("constant"):
            lines.append(Line(f"{one.name.removeprefix('constant, ')} / without", "x", speed))
        else:
            best = next((other for other in contenders if other.name == "--cache device"), constant)
            gain = ratios(one.step_s, best.step_s)
            lines.append(Line(f"{best.name} / released code's step", "x", gain, (">=", 3.0)))
    return lines


def print_block(result: Mapping[str, Any]) -> None:
    """One block of the table."""
    print(f"\n{result['title']}")
    print(f"  {'':40}{'median':>9} {'':9} {'min - max':<17}{'rounds':>6}  wanted")
    for line in result["lines"]:
        unit = "" if line.unit == "x" else line.unit
        digits = 2 if line.unit == "x" else 1
        spread = f"{min(line.values):.{digits}f} - {max(line.values):.{digits}f}"
        wanted = ""
        if line.target is not None:
            wanted = f"{line.target[0]} {line.target[1]:g}: {'reached' if line.reached else 'MISSED'}"
        number = f"{line.median:.{digits}f}{'x' if line.unit == 'x' else ''}"
        print(f"  {line.what:40}{number:>9} {unit:9} {spread:<17}{len(line.values):>6}  {wanted}".rstrip())
    for name, value in result["facts"].items():
        if isinstance(value, list):
            print(f"  {name}:", *(f"\n    {entry}" for entry in value))
        else:
            print(f"  {name}: {value:.4g}" if isinstance(value, int | float) else f"  {name}: {value}")
    sys.stdout.flush()


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="tests/benchmarks/gpu.py", description=summary)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--store", type=Path, help="a store with levels 640x480 and 320x240 (one is built)")
    parser.add_argument("--only", action="append", choices=list(blocks_of(tiny=False)), help="this block; repeatable")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help=f"seconds in all ({BUDGET_S:.0f})")
    parser.add_argument("--peak-tflops", type=float, help="of the card, dense bfloat16, where its name tells nothing")
    parser.add_argument("--profile", action="store_true", help="also list the busiest kernels of a step")
    parser.add_argument("--tiny", action="store_true", help="small networks and pictures: to see that all of it runs")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the JSON file")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the blocks, print them, and keep them."""
    options = arguments(given)
    clock, device = Clock(options.budget), pick_device(options.device)
    peak, source = peak_tflops(device, options.peak_tflops)
    facts = {**describe(device), "peak_tflops": peak, "peak_from": source}
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value is not None))
    if options.tiny:
        print("TINY RUN: small networks and pictures, the figures mean nothing")
    elif device.type != "cuda":
        sys.exit("no CUDA card is at hand, and no figure of this script is about a CPU; --tiny shows that it runs")
    chosen = {name: block for name, block in blocks_of(options.tiny).items() if name in (options.only or [name])}
    left_out = dict.fromkeys(chosen, "no time was left")
    result: dict[str, Any] = {"tiny": options.tiny, "machine": facts, "blocks": {}, "left_out": left_out}
    signal.signal(signal.SIGALRM, _out_of_time)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.001, clock.left_s))
        _measure(options, chosen, device, peak, clock, result)
    except OutOfTime:
        tell("")
    signal.setitimer(signal.ITIMER_REAL, 0)
    _keep(options.out, result, clock)
    for name, reason in left_out.items():
        print(f"\nleft out: {name}, {reason}; --only {name} or a larger --budget measures it")
    print(f"\n{clock.spent_s:.0f} s in all; {options.out}")


def _measure(
    options: argparse.Namespace,
    chosen: Mapping[str, Block],
    device: torch.device,
    peak: float | None,
    clock: Clock,
    result: dict[str, Any],
) -> None:
    """Measure blocks into the result, and keep it after each."""
    size = Size(block_s=0.0, most_steps=2, rounds=2, rooms=2) if options.tiny else Size()
    with tempfile.TemporaryDirectory(prefix="gfield-gpu-") as folder, _compilers(options.tiny):
        given = find_input(options.store, Path(folder), size.rooms)
        print(f"input: {given.what}", flush=True)
        result["input"] = given.what
        bench = Bench(device, given, size, peak, clock, options.profile)
        for name, block in chosen.items():
            _try(name, block, bench, result)
            _keep(options.out, result, clock)


class OutOfTime(BaseException):
    """The budget is spent, in the middle of something: no `Exception`, which compilers catch."""


def _out_of_time(number: int, frame: object) -> None:
    raise OutOfTime


def _compilers(tiny: bool) -> contextlib.AbstractContextManager[object]:
    """A tiny run goes through ``--compile`` without the minutes that a compiler takes."""
    return torch.compiler.set_stance("force_eager") if tiny else contextlib.nullcontext()


def _try(name: str, block: Block, bench: Bench, result: Mapping[str, Any]) -> None:
    """Measure and print a block, if there is time for it; one that fails does not cost the others."""
    if bench.clock.left_s < block.wanted_s:
        return
    tell(name)
    try:
        measured = bench.run(block)
    except (RuntimeError, OSError) as error:
        result["left_out"][name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        return
    finally:
        tell("")
        forget(bench.device)
    print_block(measured)
    result["blocks"][name] = {**measured, "lines": [line.to_json() for line in measured["lines"]]}
    del result["left_out"][name]


def _keep(path: Path, result: Mapping[str, Any], clock: Clock) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**result, "seconds": clock.spent_s}, indent=1) + "\n")


if __name__ == "__main__":
    main()
