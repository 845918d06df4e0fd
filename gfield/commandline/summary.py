"""What `gfield build`, `plan` and `verify` say when they are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gfield.build import BuildReport
from gfield.console import print_table, readable_bytes, readable_time
from gfield.frame import LeftOut, Source, printable
from gfield.listing import counted, screenful
from gfield.object_path import Location
from gfield.plan import Plan
from gfield.spec import StoreSpec
from gfield.verify import VerifyReport

_LISTS_ALL = ", which `gfield info --json STORE` lists"


def build_summary(report: BuildReport, source: Source) -> str:
    """The lines that end a build."""
    lines = []
    if report.state == "unchanged":
        lines.append(f"{report.target}: already finished, {report.frames} frames; nothing was written")
    elif report.state == "part":
        lines.append(f"{report.target}: this part is done; other parts have shards to do")
    else:
        rate = report.frames / max(report.seconds, 1e-9)
        lines.append(
            f"{report.target}: {counted(report.frames, 'frame')} in {_shards(report.shards)}, "
            f"{report.shards_written} written now ({readable_bytes(report.bytes_written)}) "
            f"in {readable_time(report.seconds)}, {rate:.0f} frames/s"
        )
        lines.append(f"read as: {source.reading}")
    if report.shards_forgotten:
        lines.append(f"an input file had changed: {_shards(report.shards_forgotten)} of an earlier run made again")
    lines += _left_out(report.left_out, _LISTS_ALL)
    excluded = [f"frame {bad.index} ({source.names[bad.index]}): {bad.reason}" for bad in report.excluded]
    lines += [f"excluded: {line}" for line in screenful(excluded, _LISTS_ALL)]
    if report.left_out or report.excluded:
        files = sum(left_out.number for left_out in report.left_out)
        lines.append(f"left out in all: {files}, frames excluded: {len(report.excluded)}")
    lines += _splits_lost(report, source)
    if report.root:
        lines.append(f"root hash {report.root}")
    return "\n".join(map(printable, lines))


def print_plan(plan: Plan, spec: StoreSpec, source: Source, target: Location) -> None:
    """Print what a build would do."""
    rows = [
        [
            key,
            " x ".join(map(str, array.frame_shape)),
            array.dtype,
            readable_bytes(plan.raw_bytes[key]),
            readable_bytes(plan.stored_bytes[key]),
            "write" if key in plan.to_write else "keep",
        ]
        for key, array in spec.array_specs().items()
    ]
    print_table(str(target), ["array", "frame", "type", "raw", "stored, about", ""], rows)
    total = readable_bytes(sum(plan.stored_bytes.values()))
    free = "" if plan.free_bytes is None else f" of {readable_bytes(plan.free_bytes)} free"
    lines = [
        f"{plan.frames} frames in {_shards(plan.shards)} of {spec.frames_per_shard} frames, {plan.files} files, "
        f"about {total}{free}",
        f"read as: {source.reading}",
        f"{plan.shards_done} shards are done; "
        f"about {readable_time(plan.seconds)} of computing by {plan.workers} workers"
        if plan.to_write
        else "nothing to compute: the arrays are there",
        *_left_out(source.left_out),
    ]
    print("\n".join(map(printable, lines)))  # noqa: T201


def verify_summary(report: VerifyReport, store: Location) -> str:
    """The findings, and the verdict."""
    verdict = counted(len(report.findings), "finding") if report.findings else "all good"
    return "\n".join(
        [
            *(printable(f"{finding.kind}: {finding.message}") for finding in report.findings),
            f"{printable(str(store))}: {report.files} files, {readable_bytes(report.bytes)}, "
            f"{report.recomputed} fields recomputed: {verdict}",
            f"root hash {report.root}",
        ]
    )


def _splits_lost(report: BuildReport, source: Source) -> list[str]:
    """A split of which nothing could be read is one that training or testing will ask for in vain."""
    of_source = Counter(source.splits)
    excluded = Counter(source.splits[bad.index] for bad in report.excluded)
    return [
        f"Warning: no frame of split {split} could be read" for split in excluded if excluded[split] == of_source[split]
    ]


def _left_out(files: Iterable[LeftOut], where: str = "") -> list[str]:
    told = [f"{left_out.name}: {left_out.reason}" for left_out in files]
    return [f"left out: {line}" for line in screenful(told, where)]


def _shards(count: int) -> str:
    return counted(count, "shard")
