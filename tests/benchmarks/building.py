"""The figures of builds: against other ways to the same arrays, stage by stage, on processes, and over frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from measure import Figure, Line, interleave, ratios, run_script, tell
from peers import absent, why_absent
from plan import Plan, build_by_command

# How a peer's output is opened to be checked.
_CHECKED_AS = {"plain.zarr": "zarr", "same.zarr": "zarr", "dask.zarr": "zarr", "litdata": "litdata"}


def build_figure(plan: Plan) -> Figure:
    """Ours against the plain script, Dask's arrays, LitData, and the sum of the bare stages."""
    mat, n = plan.mat(plan.frames), plan.frames
    whole: dict[str, list[float]] = {"ours": [], "plain": []}
    floors: list[dict[str, float]] = []

    def script(name: str, out: str, *options: str) -> Callable[[], float]:
        return lambda: run_script(name, mat, plan.fresh(out), *options)["seconds"]

    def command() -> float:
        whole["ours"].append(seconds := build_by_command(mat, plan.fresh("store.zarr")))
        return seconds

    def plain() -> float:
        told = run_script("plain_script.py", mat, plan.fresh("plain.zarr"))
        whole["plain"].append(told["whole"])
        return told["seconds"]

    def floor() -> float:
        floors.append(run_script("floor.py", mat, plan.fresh("floor"), str(plan.seed.frames)))
        return floors[-1]["seconds"]

    runs = {
        "floor": floor,
        "build_store": script("package_build.py", "store.zarr"),
        "build_store --codec raw": script("package_build.py", "raw.zarr", "0", "raw"),
        "plain script, Zarr's default codec": plain,
        "plain script, whole shards, our codec": script("plain_script.py", "same.zarr", "--sharded", "--same-codec"),
        "dask.array and to_zarr, our codec": script("dask_script.py", "dask.zarr"),
    }
    if not why_absent("litdata"):
        runs["LitData optimize, 2 workers, raw"] = script("litdata_script.py", "litdata")
    times = interleave({**runs, "gfield build, whole process": command}, plan.rounds)
    checked = _check_peers(plan)
    for left in ("store.zarr", "raw.zarr", "floor", *_CHECKED_AS):
        plan.fresh(left)
    ours, raw = times["build_store"], times["build_store --codec raw"]
    lines = [Line(name, "s", values) for name, values in times.items()]
    lines += [
        Line("plain script, whole process", "s", whole["plain"]),
        Line("plain script / build_store", "x", ratios(times["plain script, Zarr's default codec"], ours), (">=", 6)),
        Line("build_store / floor", "x", ratios(ours, times["floor"]), ("<=", 1.15)),
        *(
            Line(f"{name} / build_store", "x", ratios(times[name], raw if "raw" in name else ours), (">=", 2))
            for name in times
            if name.endswith((" our codec", ", raw"))
        ),
        Line("plain / gfield build, whole processes", "x", ratios(whole["plain"], whole["ours"])),
    ]
    return Figure(
        f"Build of {n} frames from the .mat to six arrays at two levels, all cores of the process",
        lines,
        [
            "all but LitData against the default codec; LitData stores raw arrays, and is compared with --codec raw",
            f"{checked} frames of every peer compared with this package's store: RGB and depth are the same",
            "stages of the floor, ms a frame (wall time of all threads together):",
            _stages_text(floors, n),
            *absent("litdata"),
        ],
        {"frames": n, "floor_stages_s": floors},
    )


def _check_peers(plan: Plan) -> int:
    """How many frames of each were looked at; ends the benchmarks where one is wrong."""
    store, compared = plan.folder / "store.zarr", 0
    for name, kind in _CHECKED_AS.items():
        if (plan.folder / name).exists():
            tell(f"checking {name}")
            compared = run_script("peer_check.py", kind, plan.folder / name, store)["compared"]
    return compared


def _stages_text(stages: Sequence[dict[str, float]], frames: int) -> str:
    names = [name for name in stages[0] if name not in ("seconds", "whole")]
    middle = {name: Line(name, "s", [one[name] for one in stages]).median for name in names}
    return "  " + ", ".join(f"{name} {1000 * value / frames:.2f}" for name, value in middle.items())


def stages_figure(plan: Plan) -> Figure:
    """The build's own stages, on one processor."""
    frames = min(96, plan.frames)  # kept in memory, 9 MB each
    tell("stages of the build")
    times = run_script("stages.py", plan.mat(frames), plan.fresh("stages"), str(plan.rounds))
    plan.fresh("stages")
    del times["whole"]
    together = times["build_store"]
    lines = [Line(name, "ms", values) for name, values in times.items()]
    return Figure(
        f"Stages of our build, one by one, ms a frame: {frames} frames, default codec, one processor",
        [*lines, Line("build_store / sum of the stages", "x", ratios(together, times["sum"]))],
        ["build_store opens, plans, publishes and syncs folders, too, which weighs more the fewer frames there are"],
        {"frames": frames},
    )


def workers_figure(plan: Plan) -> Figure:
    """One local process against two."""
    mat = plan.mat(plan.worker_frames)
    tasks: dict[str, list[float]] = {"1": [], "2": []}

    def run(count: str) -> Callable[[], float]:
        def once() -> float:
            told = run_script("package_build.py", mat, plan.fresh("store.zarr"), count)
            tasks[count].append(told["tasks"])
            return told["seconds"]

        return once

    def threads() -> float:
        return run_script("package_build.py", mat, plan.fresh("store.zarr"))["seconds"]

    times = interleave({"threads": threads, "1 worker": run("1"), "2 workers": run("2")}, min(3, plan.rounds))
    plan.fresh("store.zarr")
    one, two = times["1 worker"], times["2 workers"]
    return Figure(
        f"Local workers, {plan.worker_frames} frames",
        [
            Line("threads of one process", "s", times["threads"]),
            Line("--workers 1, with the start of the cluster", "s", one),
            Line("--workers 2, with the start of the cluster", "s", two),
            Line("1 worker / 2 workers", "x", ratios(one, two), (">=", 1.7)),
            Line("task phase of 1 worker", "s", tasks["1"]),
            Line("task phase of 2 workers", "s", tasks["2"]),
            Line("task phases, 1 worker / 2 workers", "x", ratios(tasks["1"], tasks["2"])),
        ],
        ["task phase: from the first frame that a worker asks for to the last shard that is done"],
    )


def linear_figure(plan: Plan) -> Figure:
    """Whether a build's pace depends on how many frames there are, and what verifying and opening cost of each."""
    few, many = plan.frames, plan.all_frames
    mats = {n: plan.mat(n) for n in (few, many)}
    stores: dict[int, Path] = {n: plan.folder / f"linear-{n}.zarr" for n in mats}

    def build(n: int) -> Callable[[], float]:
        return lambda: run_script("package_build.py", mats[n], plan.fresh(stores[n].name))["seconds"]

    def touch(what: str, n: int) -> Callable[[], float]:
        return lambda: run_script("touch.py", what, stores[n])["seconds"]

    times = interleave({f"{n}": build(n) for n in mats}, min(3, plan.rounds))
    pace = {n: [n / seconds for seconds in times[str(n)]] for n in mats}
    touches = {
        f"{what}, {n} frames": touch(what, n)
        for what in ("open", "read one frame", "verify", "verify --all")
        for n in mats
    }
    touched = interleave(touches, min(3, plan.rounds))
    for store in stores.values():
        plan.fresh(store.name)
    ratio = ratios(pace[many], pace[few])
    verified = ratios(touched[f"verify, {many} frames"], touched[f"verify, {few} frames"])
    whole = ratios(touched[f"verify --all, {many} frames"], touched[f"verify --all, {few} frames"])
    times_more = many / few
    return Figure(
        f"Cost over frames: {few} and {many} frames, default codec",
        [
            *(Line(f"build_store, {n} frames", "frames/s", pace[n]) for n in mats),
            Line(f"pace of {many} frames / pace of {few}", "x", ratio),
            Line("difference of the paces", "%", [100 * abs(one - 1) for one in ratio], ("<=", 5)),
            *(Line(name, "ms", [1000 * seconds for seconds in values]) for name, values in touched.items()),
            Line("a frame of verify, many / few", "x", [one / times_more for one in verified], ("<=", 1.05)),
            Line("a frame of verify --all, many / few", "x", [one / times_more for one in whole], ("<=", 1.05)),
        ],
        [
            "verify hashes every file and recomputes the fields of 32 frames, verify --all those of all; "
            "in fresh processes, imports not counted"
        ],
        {"frames": [few, many]},
    )
