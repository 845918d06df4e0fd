"""What is refused of a cluster, in one line each: addresses, versions, files that workers do not see, reports."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numcodecs
import pytest
from click.testing import CliRunner

import cli
import gfield
from gfield.build import build_store
from gfield.cluster.errors import ClusterError, UnfitWorker
from gfield.cluster.opening import existing_cluster
from gfield.cluster.worker_check import Wanted, check_cluster, wanted_of, why_unfit
from gfield.specify import make_spec
from gfield.staging import Staging

from .dask_clusters import Cluster
from .environments import PYTHON_WITHOUT, with_version, without
from .trees import tree

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster(tmp_path_factory):
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture
def spec(source):
    return make_spec(source, frames_per_shard=2)


def command(*words, python=(sys.executable,), environ=None):
    """Run the command in a process; its exit code, what it wrote, and its lines for people."""
    run = subprocess.run(
        [*python, "-m", "cli", *map(str, words)], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout, run.stderr.splitlines()


def words(nyu_mat, target, *options):
    return ["build", "nyu", str(nyu_mat), str(target), "--frames-per-shard", "2", *map(str, options)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--scheduler", "foo"], "'foo' has no port, wanted a Dask scheduler's, for example tcp://host:8786"),
        (["--scheduler", "tcp://foo"], "'tcp://foo' has no port"),
        (["--scheduler", "tcp://"], "'tcp://' is no address"),
        (["--scheduler", "tcp://:8786"], "'tcp://:8786' is no address"),
        (["--scheduler", "tcp://foo:99999"], "'tcp://foo:99999' is no address"),
        (["--scheduler", "tcp://foo:8786/status"], "is no address"),
        (["--scheduler", "http://foo:8787"], "'http://foo:8787' begins with http://, wanted"),
        (["--scheduler", ""], "'' is no address"),
        (["--cluster", "slurm"], "--cluster slurm wants --workers N, the number of jobs"),
        (["--cluster", "pbs", "--workers", "2"], "'pbs' is not 'slurm'"),
        (["--cluster", "slurm", "--part", "1/2"], "--cluster, --scheduler and --part exclude each other"),
        (["--scheduler", "tcp://foo:1", "--workers", "2"], "--workers, --scheduler and --part exclude each other"),
        (["--report", "r.html"], "it goes with --workers, --scheduler or --cluster"),
        (["--report", "r.html", "--part", "1/2"], "it goes with --workers, --scheduler or --cluster"),
        (["--report", "r.pdf", "--workers", "2"], "--report r.pdf: the name ends in '.pdf', wanted .html"),
        (["--report", "missing/r.html", "--workers", "2"], "wanted a file in a folder that is there"),
    ],
)
def test_a_command_line_that_names_no_cluster_is_refused(nyu_mat, tmp_path, options, why):
    run = CliRunner().invoke(cli.gfield, words(nyu_mat, tmp_path / "s", *options))
    assert run.exit_code == 2
    assert why in run.output.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "node7:8786", "tls://[::1]:8786"])
def test_addresses_of_schedulers_are_taken(nyu_mat, tmp_path, address, monkeypatch):
    asked = []
    monkeypatch.setattr("gfield.build.build_store", lambda *_, scheduler, **__: asked.append(scheduler))
    CliRunner().invoke(cli.gfield, words(nyu_mat, tmp_path / "s", "--scheduler", address))
    assert asked == [address]


def test_a_server_that_is_no_scheduler_is_told_of_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError) as raised, existing_cluster(address, timeout_s=2):
            pass
    answers = "what answers is something else, such as a dashboard"
    assert str(raised.value) == f"{address}: no Dask scheduler answers there ({answers})"


def test_a_scheduler_that_ends_while_workers_are_looked_at_is_told_of_in_one_line(cluster, tmp_path):
    with existing_cluster(cluster.address, timeout_s=2) as client:
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        with pytest.raises(ClusterError, match="the Dask scheduler has ended") as raised:
            check_cluster(client, Wanted((), (), tmp_path), lambda _note: None)
    assert "\n" not in str(raised.value)


@contextmanager
def unfit(cluster, source, spec, target):
    """A build that is refused before its first task; its one line is what comes of it."""
    with pytest.raises(UnfitWorker) as raised:
        build_store(source, target, spec, scheduler=cluster.address)
    yield str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Staging(target, spec).folder.exists(), "nothing is left, and nothing was done"


def await_workers(cluster, number):
    from distributed import Client

    with Client(cluster.address) as client:
        client.wait_for_workers(number, timeout=60)
        return [*client.scheduler_info()["workers"]]


def test_a_worker_with_another_version_is_named_before_anything_is_done(cluster, source, spec, tmp_path):
    environ = with_version(tmp_path / "other", "numcodecs", "0.1.0")
    cluster.add_worker(env=environ)
    (address,) = await_workers(cluster, 1)
    with unfit(cluster, source, spec, tmp_path / "s") as line:
        assert line == (
            f"worker {address}: numcodecs 0.1.0 there, {numcodecs.__version__} here; "
            "wanted the same versions, which the store's bytes depend on"
        )


def test_a_worker_with_another_gfield_that_comes_in_mid_build_spoils_nothing(cluster, source, built, spec, tmp_path):
    staging = Staging(tmp_path / "s", spec)
    notes = []
    environ = with_version(tmp_path / "other", "gfield", "9.9.9")

    def on_note(note):
        notes.append(note)
        # Elsewhere, since an installation in place leaves its own version in the checkout.
        cluster.add_worker(env=environ, cwd=tmp_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gfield.cluster.dispatch._LOOK_EVERY_S", 0.05)
        with pytest.raises(UnfitWorker) as raised:
            build_store(source, staging.target, spec, scheduler=cluster.address, on_note=on_note)
    assert f"gfield 9.9.9 there, {gfield.__version__} here" in str(raised.value)
    assert str(raised.value).startswith("worker tcp://127.0.0.1:")
    assert not staging.target.exists()
    build_store(source, staging.target, spec)
    assert tree(staging.target) == tree(built)


def test_a_worker_without_gfield_is_named(cluster, source, spec, tmp_path):
    environ = without(tmp_path / "packages", "gfield")
    cluster.add_worker(env=environ, python=PYTHON_WITHOUT, cwd=tmp_path)
    (address,) = await_workers(cluster, 1)
    with unfit(cluster, source, spec, tmp_path / "s") as line:
        assert line.startswith(f"worker {address}: gfield is missing there, {gfield.__version__} here")


@pytest.mark.slow
def test_one_without_gfield_that_comes_later_is_told_of_too(cluster, source, spec, tmp_path, monkeypatch):
    monkeypatch.setattr("gfield.cluster.dispatch._LOOK_EVERY_S", 0.05)
    environ = without(tmp_path / "packages", "gfield")

    def on_note(_note):
        cluster.add_worker(env=environ, python=PYTHON_WITHOUT, cwd=tmp_path)

    with pytest.raises(UnfitWorker, match=r"worker tcp://127\.0\.0\.1:.* gfield is missing there"):
        build_store(source, tmp_path / "s", spec, scheduler=cluster.address, on_note=on_note)


@pytest.mark.slow
def test_the_scheduler_needs_nothing_of_ours(source, built, spec, tmp_path):
    environ = without(tmp_path / "packages", "gfield")
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, python=PYTHON_WITHOUT, cwd=tmp_path, **environ)
        cluster.add_worker(env={"PYTHONPATH": str(ROOT)})
        build_store(source, tmp_path / "s", spec, scheduler=cluster.address)
    assert tree(tmp_path / "s") == tree(built)


def test_a_fit_worker_has_nothing_to_say(source, tmp_path):
    with wanted_of(source.inputs(), tmp_path) as wanted:
        assert why_unfit(wanted) == ""
        assert dict(wanted.versions)["numcodecs"] == numcodecs.__version__
    assert not list(tmp_path.iterdir())


def test_a_worker_that_does_not_see_the_files_says_which(nyu_mat, tmp_path):
    token, size = tmp_path / "token", nyu_mat.stat().st_size
    token.touch()
    assert why_unfit(Wanted((), ((nyu_mat, size),), token)) == ""
    assert "wanted the same file" in why_unfit(Wanted((), ((nyu_mat, size + 1),), token))
    missing = tmp_path / "nyu.mat"
    assert why_unfit(Wanted((), ((missing, 1),), token)).startswith(
        f"{missing}: No such file or directory; wanted the input"
    )
    elsewhere = tmp_path / "missing" / "token"
    assert (
        why_unfit(Wanted((), (), elsewhere))
        == f"does not see {elsewhere.parent}; wanted a folder that all workers share"
    )
    assert "does not see" in why_unfit(Wanted((), (), tmp_path / "another"))


def can_unshare():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="this process may not make mounts of its own")
@pytest.mark.parametrize("hidden", [pytest.param("input", marks=pytest.mark.slow), "target"])
def test_a_worker_on_a_machine_with_other_disks_is_named(cluster, nyu_mat, source, spec, tmp_path, hidden):
    folder = nyu_mat.parent if hidden == "input" else tmp_path
    shell = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh", sys.executable)
    cluster.add_worker(python=shell)
    (address,) = await_workers(cluster, 1)
    with unfit(cluster, source, spec, tmp_path / "s") as line:
        seen = f"{nyu_mat}: No such file or directory" if hidden == "input" else f"does not see {tmp_path}/s.building-"
        assert line.startswith(f"worker {address}: {seen}")


@pytest.mark.slow
def test_workers_elsewhere_find_files_that_were_named_from_here(cluster, nyu_mat, built, tmp_path, monkeypatch):
    cluster.add_worker(cwd="/")
    monkeypatch.chdir(tmp_path)
    Path("data.mat").symlink_to(nyu_mat)
    options = ["--splits", nyu_mat.with_name("splits.mat"), "--scheduler", cluster.address]
    run = CliRunner().invoke(cli.gfield, words("data.mat", "s", *options))
    assert run.exit_code == 0, run.output
    assert gfield.open_store("s").rows("test").tolist() == gfield.open_store(built).rows("test").tolist()


@pytest.mark.slow
def test_certificates_are_the_usual_ones_and_wanted(nyu_mat, built, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    options = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, "--protocol", "tls", *map(str, options))
        cluster.add_worker()
        assert cluster.address.startswith("tls://")
        told = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in
                {"CA_FILE": certificate, "CLIENT__CERT": certificate, "CLIENT__KEY": key}.items()}  # fmt: skip
        line = words(nyu_mat, tmp_path / "s", "--scheduler", cluster.address)
        code, _, said = command(*line)
        assert (code, len(said)) == (1, 1), said
        assert "no certificates here: distributed.comm.tls in ~/.config/dask/distributed.yaml names them" in said[0]
        code, _, said = command(*line, environ=cluster.environ | told)
        assert code == 0, said
    assert tree(tmp_path / "s") == tree(built)


def test_the_address_of_the_dashboard_is_told_and_a_report_written(nyu_mat, built, tmp_path):
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack, "--dashboard-address", "127.0.0.1:0")
        cluster.add_worker()
        options = ["--scheduler", cluster.address, "--report", tmp_path / "report.html"]
        code, _, said = command(*words(nyu_mat, tmp_path / "s", *options))
    assert code == 0, said
    assert len(said) == 1, said
    assert said[0].startswith("dashboard: http://127.0.0.1:")
    assert said[0].endswith("/status")
    page = (tmp_path / "report.html").read_text()
    assert "Dask Performance Report" in page
    assert tree(tmp_path / "s") == tree(built)
    assert not list(tmp_path.glob(".report*"))


def test_a_report_without_bokeh_names_the_extra(nyu_mat, tmp_path):
    environ = without(tmp_path / "packages", "bokeh")
    line = words(nyu_mat, tmp_path / "s", "--workers", "1", "--report", tmp_path / "r.html")
    code, _, said = command(*line, python=PYTHON_WITHOUT, environ=environ)
    assert (code, said) == (1, ["Error: --report wants bokeh, which the client has not: pip install 'gfield[cluster]'"])
    assert not (tmp_path / "r.html").exists()
