"""Stores and inputs in a bucket: a real S3 server on loopback, and a proxy that tells what was asked."""

from __future__ import annotations

import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import cli
import gfield
from gfield import object_client
from gfield.bucket.build import ObjectJob, build_object_shard
from gfield.bucket.staging import ObjectStaging
from gfield.build import build_store
from gfield.field import FieldParams
from gfield.manifest import StoreError
from gfield.object_path import location
from gfield.objects import listing, put, remove
from gfield.specify import make_spec
from gfield.staging import BuildError

from .dask_clusters import Cluster
from .object_server import SECRET, make_bucket, objects_below, proxy_before, put_tree, settings, start_server
from .trees import tree

pytest.importorskip("moto", reason="moto is not installed, whose S3 server the tests use")


@pytest.fixture(scope="module")
def server():
    process, port = start_server()
    yield port
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def proxy(server, monkeypatch):
    with proxy_before(server) as proxy:
        for name, value in settings(proxy.port).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        object_client.forget()
        yield proxy
        object_client.forget()


@pytest.fixture
def bucket(server, proxy):
    return f"s3://{make_bucket(server)}"


@pytest.fixture
def spec(source):
    return make_spec(source, frames_per_shard=2)


@pytest.fixture
def stored(bucket, built):
    """The small store, copied into a bucket."""
    put_tree(built, f"{bucket}/nyu.zarr")
    return f"{bucket}/nyu.zarr"


def run(*words, command=cli.gfield, code=0):
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


# Reading


def test_a_store_in_a_bucket_reads_as_the_folder_it_was_copied_from(stored, built):
    local, remote = gfield.open_store(built), gfield.open_store(stored)
    rows = np.array([9, 0, 3, 3, 8, 1])
    for key in local.arrays:
        assert np.array_equal(remote.read(key, rows), local.read(key, rows), equal_nan=True)
    assert remote.names.tolist() == local.names.tolist()
    assert remote.manifest.root == local.manifest.root
    remote.check_files()


def test_the_report_of_a_store_in_a_bucket_is_that_of_the_folder(stored, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run("report", stored, "--frames", 2, "--worst", 1)
    assert "\nnyu.zarr.html: " in said
    run("report", built, "--frames", 2, "--worst", 1, "--out", "local.html")
    assert (tmp_path / "nyu.zarr.html").read_bytes() == (tmp_path / "local.html").read_bytes()


def test_frames_that_lie_together_are_one_request(stored, proxy):
    store = gfield.open_store(stored)
    proxy.requests.clear()
    store.read("320x240/gradient", range(10))
    asked = [request.range for request in proxy.asked("GET", "gradient/c/")]
    assert len(asked) == 2 * 5  # the index of each of five shards, and then both frames of it


def test_a_cache_keeps_whole_shards_for_all_who_read(stored, built, proxy, tmp_path):
    local = gfield.open_store(built)
    for asked in (5, 0):
        store = gfield.open_store(stored, cache=tmp_path / "cache")
        proxy.requests.clear()
        assert np.array_equal(store.read("640x480/depth", range(10), threads=2), local.read("640x480/depth", range(10)))
        assert len(proxy.asked("GET", "depth/c/")) == asked
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept == {entry.blake3 for path, entry in local.manifest.files.items() if "640x480/depth/c" in path}


def test_a_cache_takes_in_nothing_that_is_not_what_the_manifest_says(stored, proxy, tmp_path):
    store = gfield.open_store(stored, cache=tmp_path / "cache")
    proxy.fault = lambda request: "flip" if "depth/c/" in request.path and request.method == "GET" else ""
    with pytest.raises(StoreError, match="does not match its hash"):
        store.read("640x480/depth", [0])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_shard_that_is_replaced_while_the_store_is_open_is_told(stored, bucket, source, spec):
    store = gfield.open_store(stored)
    store.read("640x480/gradient", [0])
    put_name = store.arrays["640x480/gradient"].shard_path(0)
    put(location(stored) / put_name, b"x" * store.manifest.files[put_name].size)
    with pytest.raises(StoreError, match="replaced since it was opened"):
        store.read("640x480/gradient", [1])


def test_info_verify_and_preview_take_urls(stored, built, tmp_path):
    assert "10 x 480 x 640 x 3" in run("info", stored)
    assert "all good" in run("verify", stored, "--all")
    run("preview", stored, "--out", tmp_path / "sheet.png", "--frames", 2)
    run("preview", built, "--out", tmp_path / "local.png", "--frames", 2)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "local.png").read_bytes()


def test_verify_names_damage_in_a_bucket_and_mends_it(stored, built, nyu_mat, proxy):
    target, store = location(stored), gfield.open_store(stored)
    rgb, field, depth = (store.arrays[f"640x480/{name}"].shard_path(1) for name in ("rgb", "gradient", "depth"))
    data = bytearray((built / rgb).read_bytes())
    data[100] ^= 1
    put(target / rgb, bytes(data))
    put(target / depth, b"short")
    remove([target / field, target / "name/zarr.json"])
    put(target / "stray", b"!")
    said = run("verify", stored, code=3)
    for expected in (f"content: {rgb}: hash", f"size: {depth}", f"missing: {field}", "missing: name/zarr.json",
                     "unknown file: stray", "frames 2 fail their checksums"):  # fmt: skip
        assert expected in said
    said = run("verify", stored, "--repair", nyu_mat, code=3)
    assert "unknown file: stray" in said
    remove([target / "stray"])
    assert objects_below(stored) == tree(built)


# Building


def test_a_build_from_bucket_to_bucket_is_the_same_bytes(bucket, nyu_mat, built):
    put_tree(nyu_mat.parent, f"{bucket}/raw")
    words = ("build", "nyu", f"{bucket}/raw/{nyu_mat.name}", f"{bucket}/out/nyu.zarr", "--frames-per-shard", 2)
    assert "10 frames in 5 shards, 5 written now" in run(*words)
    assert objects_below(f"{bucket}/out/nyu.zarr") == tree(built)
    assert {path.split("/")[0] for path in listing(location(f"{bucket}/out"))} == {"nyu.zarr"}
    assert "nothing was written" in run(*words)
    assert "nothing to compute" in run("plan", *words[1:])


def test_the_input_is_read_by_ranges_and_never_copied(bucket, nyu_mat, built, proxy, tmp_path):
    """No file may grow to the size of the input, and no answer has all of it."""
    put_tree(nyu_mat.parent, f"{bucket}/raw")
    size = nyu_mat.stat().st_size
    proxy.requests.clear()
    command = [sys.executable, "-m", "cli", "build", "nyu", f"{bucket}/raw/{nyu_mat.name}", tmp_path / "s"]
    done = subprocess.run(
        [*command, "--frames-per-shard", "2"], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "s") == tree(built)
    assert all(request.range for request in proxy.asked("GET", nyu_mat.name))


def test_processes_build_in_a_bucket(bucket, nyu_mat, built):
    run("build", "nyu", nyu_mat, f"{bucket}/nyu.zarr", "--frames-per-shard", 2, "--workers", 2)
    assert objects_below(f"{bucket}/nyu.zarr") == tree(built)


def test_parts_build_in_a_bucket(bucket, nyu_mat, built):
    for part in ("2/3", "1/3", "3/3"):
        said = run("build", "nyu", nyu_mat, f"{bucket}/nyu.zarr", "--frames-per-shard", 2, "--part", part)
        assert ("root hash" in said) == (part == "3/3")
    assert objects_below(f"{bucket}/nyu.zarr") == tree(built)


def test_a_build_that_is_killed_goes_on_and_its_temporary_files_are_removed(
    bucket, nyu_mat, built, proxy, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "cli", "build", "nyu", nyu_mat, f"{bucket}/nyu.zarr", "--frames-per-shard", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not proxy.asked("PUT", "building/0") and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    with pytest.raises(StoreError, match="unfinished"):
        gfield.open_store(f"{bucket}/nyu.zarr")
    kept = [path for path in listing(location(f"{bucket}/nyu.zarr.building")) if path[0].isdecimal()]
    assert kept
    assert list(tmp_path.glob("gfield-work-*"))
    proxy.requests.clear()
    subprocess.run(command, check=True, capture_output=True)
    assert objects_below(f"{bucket}/nyu.zarr") == tree(built)
    assert len(proxy.asked("PUT", "rgb/c/")) <= 2 * (5 - len(kept))
    assert not list(tmp_path.iterdir())


def test_a_server_without_conditions_and_without_removal_of_many_at_once_will_do(bucket, nyu_mat, built, proxy):
    proxy.is_plain = True
    url = f"{bucket}/nyu.zarr"
    words = ("build", "nyu", nyu_mat, url, "--frames-per-shard", 2)
    run(*words, "--part", "2/3")
    kept = [path for path in listing(location(f"{url}.building")) if path[0].isdecimal()]
    assert kept
    assert "unfinished" in run(*words[:-1], 5, code=1)
    proxy.requests.clear()
    run(*words)
    assert objects_below(url) == tree(built)
    assert len(proxy.asked("PUT", "640x480/rgb/c/")) == 5 - len(kept)
    assert not listing(location(f"{url}.building"))
    assert proxy.asked("DELETE", "building/claim.json")


def test_marks_of_folders_are_no_objects(bucket, nyu_mat, built, server):
    """As a console's "create folder" leaves them."""
    target = f"{bucket}/out/nyu.zarr"
    for mark in ("out/", "out/nyu.zarr/", "out/nyu.zarr/640x480/"):
        connection = http.client.HTTPConnection("127.0.0.1", server)
        connection.request("PUT", f"/{urlsplit(bucket).netloc}/{mark}", b"",
                           {"Authorization": "AWS testing:x"})  # fmt: skip
        assert connection.getresponse().status == 200
        connection.close()
    assert not listing(location(target))
    run("build", "nyu", nyu_mat, target, "--frames-per-shard", 2)
    run("verify", target)
    assert objects_below(target) == tree(built)
    put(location(f"{target}/640x480/stray"), b"")
    put(location(f"{target}/out/nyu.zarr"), b"named as the store is")
    said = run("verify", target, code=3)
    assert "unknown file: 640x480/stray" in said
    assert "unknown file: out/nyu.zarr" in said


def test_other_thresholds_write_the_fields_alone(stored, source, proxy, tmp_path):
    other = make_spec(source, frames_per_shard=2, field=FieldParams(low=60))
    proxy.requests.clear()
    report = build_store(source, stored, other)
    build_store(source, tmp_path / "s", other)
    assert report.shards_written == 5
    assert objects_below(stored) == tree(tmp_path / "s")
    assert len(proxy.asked("PUT", "gradient/c/")) == 10
    assert not proxy.asked("PUT", "rgb/c")
    assert not proxy.asked("PUT", "depth/c")


def test_a_failed_update_leaves_the_store_that_was_there(stored, nyu_mat, tmp_path):
    """An array that is new has a frame that cannot be read: nothing was changed, so the old store is back."""
    spoilt = tmp_path / nyu_mat.name
    spoilt.write_bytes(nyu_mat.read_bytes())
    with h5py.File(spoilt, "r+") as file:
        file["rawDepths"][7] = np.nan
    source = gfield.open_nyuv2(spoilt)
    before = build_store(source, stored, make_spec(source, frames_per_shard=10), overwrite=True)
    with pytest.raises(BuildError, match="such as nan"):
        build_store(source, stored, make_spec(source, frames_per_shard=10, optional=("raw_depth",)))
    again = gfield.open_store(stored)
    assert again.manifest.root == before.root
    assert not gfield.verify_store(again).findings
    assert not listing(location(f"{stored}.building"))


def test_what_differs_is_refused_unless_it_is_to_be_overwritten(stored, nyu_mat, source, tmp_path):
    words = ("build", "nyu", nyu_mat, stored, "--frames-per-shard", 5)
    assert "frames a shard" in run(*words, code=1) or "frames_per_shard" in run(*words, code=1)
    run(*words, "--overwrite")
    build_store(source, tmp_path / "s", make_spec(source, frames_per_shard=5))
    assert objects_below(stored) == tree(tmp_path / "s")


def test_what_is_no_store_is_left_alone(bucket, nyu_mat):
    put(location(f"{bucket}/photos/a.jpg"), b"mine")
    for options in ([], ["--overwrite"]):
        said = run("build", "nyu", nyu_mat, f"{bucket}/photos", *options, code=1)
        assert "1 object such as a.jpg and no manifest" in said
    assert objects_below(f"{bucket}/photos") == {"a.jpg": b"mine"}


def test_who_is_overtaken_by_other_parameters_says_so(bucket, source, spec):
    target = location(f"{bucket}/nyu.zarr")
    slow = ObjectStaging(target, spec)
    slow.begin(False)
    build_store(source, target, make_spec(source, frames_per_shard=2, field=FieldParams(low=60)))
    with pytest.raises(BuildError, match="has taken over"):
        build_object_shard(ObjectJob(source, slow), 0)
    assert not gfield.verify_store(gfield.open_store(target)).findings


def test_who_helps_a_build_that_has_ended_changes_nothing(bucket, source, spec, built):
    target = location(f"{bucket}/nyu.zarr")
    late = ObjectStaging(target, spec)
    late.begin(False)
    build_store(source, target, spec)
    assert build_object_shard(ObjectJob(source, late), 0).bytes_written == 0
    assert objects_below(f"{bucket}/nyu.zarr") == tree(built)


# Credentials and mistakes


def test_no_secret_gets_into_a_store_or_onto_the_terminal(bucket, nyu_mat, proxy):
    said = run("build", "nyu", nyu_mat, f"{bucket}/nyu.zarr", "--on-error", "skip")
    everything = objects_below(f"{bucket}/nyu.zarr")
    assert not [path for path, data in everything.items() if SECRET.encode() in data or b"testing" in data]
    proxy.fault = lambda request: "403"
    said += run("info", f"{bucket}/nyu.zarr", code=1) + run("build", "nyu", nyu_mat, f"{bucket}/other", code=1)
    assert "permission denied (403 Forbidden)" in said
    assert SECRET not in said


def test_a_profile_gives_credentials_region_and_endpoint(stored, proxy, tmp_path, monkeypatch):
    config = f"[profile lab]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:{proxy.port}\n"
    (tmp_path / "config").write_text(config)
    (tmp_path / "credentials").write_text(f"[lab]\naws_access_key_id = abc\naws_secret_access_key = {SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    object_client.forget()
    assert len(gfield.open_store(stored)) == 10
    monkeypatch.setenv("AWS_PROFILE", "none")
    object_client.forget()
    assert "no credentials: The config profile (none) could not be found" in run("info", stored, code=1)


def test_no_credentials_are_told_at_once(stored, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    object_client.forget()
    assert "no credentials; wanted AWS_ACCESS_KEY_ID" in run("info", stored, code=1)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    object_client.forget()
    assert "permission denied" in run("info", stored, code=1)


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        ("s3://no-such-bucket/nyu.zarr", "s3://no-such-bucket: no such bucket", 1),
        ("{bucket}/nothing.zarr", "{bucket}/nothing.zarr: no such store", 1),
        ("gs://bucket/nyu.zarr", "gs:// is not read here", 2),
        ("s3:///nyu.zarr", "no bucket", 2),
        ("s3://key:secret@bucket/x", "s3://...@bucket: a URL with a password", 2),
        ("{bucket}/a/../b", "a part of the key is empty or made of dots", 2),
    ],
)
def test_mistakes_are_one_line(bucket, url, said, code):
    output = run("info", url.format(bucket=bucket), code=code)
    assert said.format(bucket=bucket) in output
    assert "secret" not in output.replace("credentials", "")


def test_a_server_that_is_not_there_is_told_at_once(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    object_client.forget()
    assert "no server answers there" in run("info", f"{bucket}/nyu.zarr", code=1)
    assert "no server answers there" in run("info", "http://127.0.0.1:9/nyu.zarr", code=1)


def test_what_is_read_from_disks_alone_says_so(bucket, tmp_path):
    assert "make3d is read from this machine's disks alone" in run(
        "build", "make3d", bucket + "/x", tmp_path / "s", code=2
    )


def test_the_library_that_is_missing_is_named(tmp_path):
    script = "import sys; sys.modules['obstore'] = None; sys.modules['obstore.store'] = None; import cli; cli.gfield()"
    done = subprocess.run(
        [sys.executable, "-c", script, "info", "s3://b/x"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "Error: s3://b: obstore is not installed; pip install 'gfield[s3]'\n")


# Clusters


def test_workers_of_a_cluster_build_in_a_bucket_by_credentials_of_their_own(bucket, nyu_mat, built, tmp_path_factory):
    words = ("build", "nyu", nyu_mat, f"{bucket}/nyu.zarr", "--frames-per-shard", 2)
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), stack)
        poor = cluster.add_worker(env={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "none"})
        said = run(*words, "--scheduler", cluster.address, code=1)
        assert "no credentials" in said
        assert "wanted a bucket that all workers may use" in said
        poor.kill()
        poor.wait()
        cluster.add_worker()
        run(*words, "--scheduler", cluster.address)
    assert objects_below(f"{bucket}/nyu.zarr") == tree(built)
    assert {path.split("/")[0] for path in listing(location(bucket + "/"))} == {"nyu.zarr"}


def test_chunks_of_the_input_that_lie_together_are_one_request(bucket, nyu_mat, built, proxy, tmp_path):
    put_tree(nyu_mat.parent, f"{bucket}/raw")
    source = gfield.open_nyuv2(f"{bucket}/raw/{nyu_mat.name}")
    proxy.requests.clear()
    frames = [np.array(frame.arrays["depth"]) for frame in source.read(0, 10, frozenset({"depth"}))]
    assert np.array_equal(frames, gfield.open_store(built).read("640x480/depth", range(10)))
    assert len(proxy.asked("GET", nyu_mat.name)) < 10
