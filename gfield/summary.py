"""What `gfield build`, `plan` and `verify` say when they are done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gfield.build import BuildReport
from gfield.console import print_table, readable_bytes, readable_time
from gfield.frame import LeftOut, Source
from gfield.plan import Plan
from gfield.spec import StoreSpec
from gfield.verify import VerifyReport


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
            f"{report.target}: {report.frames} frames in {_shards(report.shards)}, {report.shards_written} written now "
            f"({readable_bytes(report.bytes_written)}) in {readable_time(report.seconds)}, {rate:.0f} frames/s"
        )
        lines.append(f"read as: {source.reading}")
    lines += _left_out(report.left_out)
    lines += [f"excluded: frame {bad.index} ({source.names[bad.index]}): {bad.reason}" for bad in report.excluded]
    if report.left_out or report.excluded:
        lines.append(f"files left out: {len(report.left_out)}, frames excluded: {len(report.excluded)}")
    if report.root:
        lines.append(f"root hash {report.root}")
    return "\n".join(lines)


def print_plan(plan: Plan, spec: StoreSpec, source: Source, target: Path) -> None:
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
    lines = [
        f"{plan.frames} frames in {_shards(plan.shards)} of {spec.frames_per_shard} frames, {plan.files} files, "
        f"about {total} of {readable_bytes(plan.free_bytes)} free",
        f"read as: {source.reading}",
        f"{plan.shards_done} shards are done; "
        f"about {readable_time(plan.seconds)} of computing by {plan.workers} workers"
        if plan.to_write
        else "nothing to compute: the arrays are there",
        *_left_out(source.left_out),
    ]
    print("\n".join(lines))  # noqa: T201


def verify_summary(report: VerifyReport, store: Path) -> str:
    """The findings, and the verdict."""
    verdict = f"{len(report.findings)} findings" if report.findings else "all good"
    return "\n".join(
        [
            *(f"{finding.kind}: {finding.message}" for finding in report.findings),
            f"{store}: {report.files} files, {readable_bytes(report.bytes)}, "
            f"{report.recomputed} fields recomputed: {verdict}",
            f"root hash {report.root}",
        ]
    )


def _left_out(files: Iterable[LeftOut]) -> list[str]:
    return [f"left out: {left_out.name}: {left_out.reason}" for left_out in files]


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count} shards"
