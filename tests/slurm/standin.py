"""A small stand-in for SLURM on this machine: jobs run, are signalled, cancelled and requeued as SLURM's are.

The commands in ``bin`` are doors to the functions here. What they know of each other stands in files below the folder
that SLURM_STANDIN names: ``jobs/NUMBER/`` with ``job.json``, a state for each task, and files by which a job is told
what to do: ``cancel``, ``requeue``, and ``limit``, which a test makes when the time limit shall be near. While there is
a file ``hold`` beside ``jobs``, no job starts; ``refuse`` holds what sbatch shall say instead of taking a job.

Every task of a job is a process session of its own, so that all that it started can be ended with it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOOK_S = 0.02
KILL_AFTER_S = 30.0  # SLURM's KillWait
FLAGS = ("--parsable", "--requeue", "--no-requeue", "--exclusive", "--wait")
SHORT = {"-J": "job-name", "-e": "error", "-o": "output", "-p": "partition", "-A": "account", "-n": "ntasks",
         "-t": "time", "-a": "array", "-N": "nodes", "-c": "cpus-per-task"}  # fmt: skip


def root() -> Path:
    return Path(os.environ["SLURM_STANDIN"])


def parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options of a command line up to the first word that is none, and the rest."""
    options: dict[str, str] = {}
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in FLAGS:
            options[word[2:]] = ""
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name] = value if equals else words.pop(0)
        else:
            options[SHORT[word[:2]]] = word[2:] or words.pop(0)
    return options, words


def directives(script: str) -> dict[str, str]:
    """Options of a script's #SBATCH lines, which end at its first command."""
    options: dict[str, str] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            options |= parse(shlex.split(line[len("#SBATCH") :], comments=True))[0]
        elif line.strip() and not line.startswith("#"):
            break
    return options


def array_indices(text: str) -> list[int]:
    """``1-4``, ``1-7:2``, ``1,3`` and ``1-4%2``, of which the last number is heeded by nobody here."""
    indices: list[int] = []
    for part in text.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        indices += range(int(first), int(last or first) + 1, int(step or 1))
    return indices


def sbatch() -> None:
    """Take a job, and leave a process behind that runs it."""
    refuse = root() / "refuse"
    if refuse.exists():
        sys.exit(f"sbatch: error: {refuse.read_text()}")
    given, rest = parse(sys.argv[1:])
    script = Path(rest[0]).read_text()
    if not script.startswith("#!"):
        sys.exit("sbatch: error: This does not look like a batch script.")
    jobs = root() / "jobs"
    jobs.mkdir(exist_ok=True)
    number = 1
    while True:
        folder = jobs / str(number)
        try:
            folder.mkdir()
            break
        except FileExistsError:
            number += 1
    (folder / "script").write_text(script)
    (folder / "script").chmod(0o700)
    options = directives(script) | given
    job = {"number": number, "options": options, "arguments": rest[1:], "folder": os.getcwd()}
    for index in array_indices(options["array"]) if "array" in options else [None]:
        state_path(folder, index).write_text("PENDING")
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, __file__, str(folder)]
    with (folder / "log").open("wb") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    print(number if "parsable" in options else f"Submitted batch job {number}")


def state_path(folder: Path, index: int | None) -> Path:
    return folder / ("state" if index is None else f"state_{index}")


def run_job(folder: Path) -> None:
    """Run a job's tasks, those of an array one after another, until each has ended for good."""
    job = json.loads((folder / "job.json").read_text())
    options = job["options"]
    indices: list[Any] = array_indices(options["array"]) if "array" in options else [None]
    for index in indices:
        restarts = 0
        while (how := run_task(folder, job, index, indices, restarts)) == "REQUEUED":
            restarts += 1
        state_path(folder, index).write_text(how)


def run_task(folder: Path, job: dict[str, Any], index: int | None, indices: list[Any], restarts: int) -> str:
    """One task of a job from its start to its end; how it ended."""
    while (root() / "hold").exists():
        if (folder / "cancel").exists():
            return "CANCELLED"
        time.sleep(LOOK_S)
    if (folder / "cancel").exists():
        return "CANCELLED"
    state_path(folder, index).write_text("RUNNING")
    options = job["options"]
    environ = environment(job, index, indices, restarts)
    mode = "ab" if options.get("open-mode") == "append" else "wb"
    with output_path(job, index).open(mode) as output:
        batch = subprocess.Popen(
            [folder / "script", *job["arguments"]], cwd=job["folder"], env=environ,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        while batch.poll() is None:
            for order, how in (("cancel", "CANCELLED"), ("requeue", "REQUEUED")):
                if (folder / order).exists():
                    end(batch)
                    (folder / order).unlink()
                    return how
            if (folder / "limit").exists():
                (folder / "limit").unlink()
                tell_of_limit(batch, options)
            time.sleep(LOOK_S)
    if (folder / "requeue").exists():
        (folder / "requeue").unlink()
        return "REQUEUED"
    return "COMPLETED" if batch.returncode == 0 else "FAILED"


def tell_of_limit(batch: subprocess.Popen[bytes], options: dict[str, str]) -> None:
    """Send what --signal asks for: to the batch shell alone with B:, else to what it has started."""
    match = re.fullmatch(r"(B:)?(?:SIG)?(\w+)(?:@\d+)?", options.get("signal", ""))
    if match is None:
        end(batch)
        return
    number = signal.Signals[f"SIG{match[2]}"]
    if match[1]:
        batch.send_signal(number)
    else:
        for pid in session(batch.pid) - {batch.pid}:
            os.kill(pid, number)


def end(batch: subprocess.Popen[bytes]) -> None:
    """SIGTERM to all of a task, and SIGKILL to what is left of it after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in session(batch.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + KILL_AFTER_S
        while session(batch.pid) and time.monotonic() < deadline:
            batch.poll()
            time.sleep(LOOK_S)
    batch.wait()


def session(leader: int) -> set[int]:
    """Living processes of a session, and those that they started into sessions of their own."""
    parents, found = {}, set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z":
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        if int(fields[3]) == leader:
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def environment(job: dict[str, Any], index: int | None, indices: list[Any], restarts: int) -> dict[str, str]:
    """What a batch script finds in its environment; the submitter's, and SLURM's."""
    options, number = job["options"], job["number"]
    nodes = int(options.get("nodes", 1))
    per_node = int(options.get("ntasks-per-node", 1))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_A")}
    environ |= {
        "SLURM_JOB_ID": str(number),
        "SLURM_JOBID": str(number),
        "SLURM_JOB_NAME": options.get("job-name", "script"),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": options.get("ntasks", str(nodes * per_node)),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_CPUS_PER_TASK": options.get("cpus-per-task", "1"),
        "SLURM_JOB_NODELIST": f"127.0.0.[1-{nodes}]" if nodes > 1 else "127.0.0.1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_SUBMIT_DIR": job["folder"],
        "SLURM_RESTART_COUNT": str(restarts),
    }
    if restarts == 0:
        del environ["SLURM_RESTART_COUNT"]  # nor does SLURM set it then
    if index is not None:
        environ |= {
            "SLURM_ARRAY_JOB_ID": str(number),
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
            "SLURM_ARRAY_TASK_MIN": str(min(indices)),
            "SLURM_ARRAY_TASK_MAX": str(max(indices)),
            "SLURM_ARRAY_TASK_STEP": options["array"].partition(":")[2].partition("%")[0] or "1",
        }
    return environ


def output_path(job: dict[str, Any], index: int | None) -> Path:
    options = job["options"]
    pattern = options.get("output", "slurm-%j.out" if index is None else "slurm-%A_%a.out")
    values = {
        "j": job["number"],
        "J": job["number"],
        "A": job["number"],
        "a": index,
        "x": options.get("job-name", "script"),
    }
    return Path(job["folder"], re.sub(r"%([jJAax])", lambda match: str(values[match[1]]), pattern))


def srun() -> None:
    """Run a command once for each task of the job, on all its nodes, and hand signals on to them."""
    options, command = parse(sys.argv[1:])
    nodes = int(os.environ["SLURM_NNODES"])
    per_node = int(options.get("ntasks-per-node", os.environ["SLURM_NTASKS_PER_NODE"]))
    tasks = []
    for place in range(nodes * per_node):
        node, local = divmod(place, per_node)
        own = {
            "SLURM_PROCID": str(place),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": str(local),
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(nodes * per_node),
            "SLURMD_NODENAME": f"127.0.0.{node + 1}",
        }
        tasks.append(subprocess.Popen(command, env=os.environ | own))

    def hand_on(number: int, _frame: Any) -> None:
        for task in tasks:
            task.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    codes = [task.wait() for task in tasks]
    sys.exit(max(code if code >= 0 else 128 - code for code in codes))


def scontrol() -> None:
    """``requeue JOB`` and ``show hostnames [LIST]``."""
    what, *rest = sys.argv[1:]
    if what == "requeue":
        (root() / "jobs" / rest[0] / "requeue").touch()
        return
    nodes = (rest[1:] or [os.environ["SLURM_JOB_NODELIST"]])[0]
    match = re.fullmatch(r"(.*)\[(\d+)-(\d+)\]", nodes)
    print("\n".join(f"{match[1]}{node}" for node in range(int(match[2]), int(match[3]) + 1)) if match else nodes)


def squeue() -> None:
    """States of jobs that have not ended."""
    options, _ = parse(
        [word.replace("-h", "--noheader=", 1) if word == "-h" else word for word in noheader(sys.argv[1:])]
    )
    numbers = options["jobs"].split(",") if "jobs" in options else sorted(os.listdir(root() / "jobs"))
    for number in numbers:
        for state in sorted((root() / "jobs" / number).glob("state*")):
            text = state.read_text()
            if text in ("PENDING", "RUNNING"):
                reason = "Priority" if text == "PENDING" else "None"
                values = {"i": number, "T": text, "r": reason}
                print(re.sub(r"%([iTr])", lambda match, of=values: of[match[1]], options.get("format", "%i %T")))


def noheader(words: list[str]) -> list[str]:
    return [word for word in words if word != "--noheader"]


def scancel() -> None:
    """End jobs."""
    for number in parse(sys.argv[1:])[1]:
        folder = root() / "jobs" / number
        if any(state.read_text() in ("PENDING", "RUNNING") for state in folder.glob("state*")):
            (folder / "cancel").touch()


if __name__ == "__main__":
    run_job(Path(sys.argv[1]))
