"""What runs on SLURM: the scripts of examples/slurm and --cluster slurm, on a stand-in for its commands."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest

from .environments import PYTHON_WITHOUT, without
from .slurm_jobs import EXAMPLES, Slurm
from .trees import tree

CONFIGURATION = """
jobqueue:
  slurm:
    cores: 1
    memory: 1GB
    scheduler-options: {host: 127.0.0.1, port: 0, dashboard: false}
"""


@pytest.fixture
def slurm(tmp_path):
    queue = Slurm(tmp_path)
    yield queue
    queue.end()


@pytest.fixture
def configured(slurm):
    slurm.configuration.write_text(CONFIGURATION)
    return slurm


def gfield(slurm, *words, python=(sys.executable,), **environ):
    """Start the command where jobs are submitted."""
    command = [*python, "-m", "cli", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=slurm.folder,
        env=slurm.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say_of_the_scripts():
    scripts = sorted(EXAMPLES.glob("*.sh"))
    assert [script.name for script in scripts] == ["array.sh", "jobqueue.sh", "pretrain.sh"]
    run = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize("array", ["1-3", pytest.param("0-4:2", marks=pytest.mark.slow)])
def test_an_array_of_jobs_builds_the_same_bytes(slurm, nyu_mat, built, array):
    job = slurm.sbatch(f"--array={array}", EXAMPLES / "array.sh", "nyu", nyu_mat, "nyu.zarr", "--frames-per-shard", "2")
    assert slurm.wait(job) == ["COMPLETED"] * 3, slurm.said()
    assert slurm.said().count("this part is done; other parts have shards to do") == 2
    assert tree(slurm.folder / "nyu.zarr") == tree(built)
    assert len(list(slurm.folder.glob(f"gfield-{job}_*.out"))) == 3


@pytest.mark.slow
def test_a_single_job_finishes_what_lost_jobs_of_an_array_have_left(slurm, nyu_mat, built):
    words = (EXAMPLES / "array.sh", "nyu", nyu_mat, "nyu.zarr", "--frames-per-shard", "2")
    job = slurm.sbatch("--array=1-4", *words)
    while "RUNNING" not in slurm.states(job)[1:]:
        time.sleep(0.01)
    subprocess.run(["scancel", str(job)], env=slurm.environ, check=True)
    assert "CANCELLED" in slurm.wait(job)
    last = slurm.sbatch("--array=3", *words)
    assert slurm.wait(last) == ["COMPLETED"], slurm.said()
    assert tree(slurm.folder / "nyu.zarr") == tree(built)


def test_a_build_on_jobs_of_slurm_writes_the_same_bytes_and_leaves_no_job(configured, nyu_mat, built):
    """A small job starts it, as does a user on a login node; that asks for two more, which are the workers."""
    words = (EXAMPLES / "jobqueue.sh", "nyu", nyu_mat, "nyu.zarr", "--frames-per-shard", "2")
    job = configured.sbatch(*words, WORKERS="2")
    assert configured.wait(job) == ["COMPLETED"], configured.said()
    assert tree(configured.folder / "nyu.zarr") == tree(built)
    said = configured.said()
    assert "SLURM: 2 jobs asked for; waiting for the first worker" in said
    assert "Traceback" not in said
    workers = sorted(int(folder.name) for folder in (configured.root / "jobs").iterdir())[1:]
    assert len(workers) == 2
    for worker in workers:
        assert configured.wait(worker) == ["CANCELLED"]
        assert "Starting established connection" in said, "the workers were Dask's"


def test_jobs_that_wait_are_told_of_and_cancelled_by_ctrl_c(configured, nyu_mat, tmp_path):
    (configured.root / "hold").touch()
    process = gfield(configured, "build", "nyu", nyu_mat, tmp_path / "s", "--cluster", "slurm", "--workers", "2")
    jobs = configured.root / "jobs"
    while process.poll() is None and len(list(jobs.glob("*/job.json"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "SLURM: 2 jobs asked for; waiting for the first worker\n" in said
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    assert [configured.wait(int(job.name)) for job in jobs.iterdir()] == [["CANCELLED"]] * 2


def refused(slurm, nyu_mat, target, **how):
    process = gfield(slurm, "build", "nyu", nyu_mat, target, "--cluster", "slurm", "--workers", "2", **how)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert not target.exists()
    return said.splitlines()[-1]


def test_without_slurm_one_line_says_so(configured, nyu_mat, tmp_path):
    line = refused(configured, nyu_mat, tmp_path / "s", PATH="/nowhere")
    assert line == "Error: --cluster slurm: no sbatch on PATH, wanted a machine where jobs are submitted to SLURM"


def test_a_configuration_that_says_too_little_is_named(slurm, nyu_mat, tmp_path):
    line = refused(slurm, nyu_mat, tmp_path / "s")
    assert "jobqueue.slurm in ~/.config/dask/jobqueue.yaml" in line
    assert "cores and memory are wanted" in line


def test_what_sbatch_refuses_is_told_in_its_words(configured, nyu_mat, tmp_path):
    (configured.root / "refuse").write_text("Batch job submission failed: Invalid partition name specified")
    assert "Invalid partition name specified" in refused(configured, nyu_mat, tmp_path / "s")


@pytest.mark.slow
def test_jobs_that_all_end_before_a_worker_comes_end_the_build(configured, nyu_mat, tmp_path):
    configured.configuration.write_text(CONFIGURATION + "    job-script-prologue: ['exit 3']\n")
    line = refused(configured, nyu_mat, tmp_path / "s")
    assert "ended before a worker came" in line


def test_without_dask_jobqueue_the_extra_is_named(slurm, nyu_mat, tmp_path):
    environ = without(tmp_path / "packages", "dask_jobqueue")
    line = refused(slurm, nyu_mat, tmp_path / "s", python=PYTHON_WITHOUT, **environ)
    assert line == "Error: --cluster slurm wants dask-jobqueue: pip install 'gfield[cluster]'"


def test_the_number_of_jobs_has_to_be_said(slurm, nyu_mat, tmp_path):
    process = gfield(slurm, "build", "nyu", nyu_mat, tmp_path / "s", "--cluster", "slurm")
    assert "Error: --cluster slurm wants --workers N, the number of jobs" in process.communicate()[1]
    assert process.returncode == 2


@pytest.mark.slow
def test_the_documented_configuration_is_one_that_dask_takes(slurm):
    """Of the file as it is: each of its settings reaches the job's script."""
    shutil.copy(EXAMPLES / "jobqueue.yaml", slurm.configuration)
    script = (
        "from dask_jobqueue import SLURMCluster\n"
        "with SLURMCluster(scheduler_options={'host': '127.0.0.1', 'dashboard': False}) as cluster:\n"
        "    print(cluster.job_script())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], env=slurm.environ, capture_output=True, text=True, check=True)
    for wanted in ("-J gfield-worker", "--cpus-per-task=4", "--mem=4G", "-t 00:30:00", "--nthreads 4"):
        assert wanted in run.stdout, wanted
