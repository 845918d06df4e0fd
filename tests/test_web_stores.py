"""A store behind a plain web server, by http:// and https://, is read as a folder is; nothing is written there."""

from __future__ import annotations

import datetime
import functools
import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

import gfield
from gfield import object_client
from gfield.exports.export import export_store
from gfield.manifest import StoreError

from .test_object_stores import run
from .trees import tree

_SERVE = """
import logging, sys, threading
from flask import Flask
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
tls = tuple(sys.argv[2:]) or None
web = Flask("web", static_folder=sys.argv[1], static_url_path="")
server = make_server("127.0.0.1", 0, web, threaded=True, ssl_context=tls)
print(server.port, flush=True)
server.serve_forever()
"""
pytest.importorskip("flask", reason="flask is not installed, whose static files the tests read")


@pytest.fixture
def serve():
    started = []

    def start(folder, *tls):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, folder, *tls], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return int(process.stdout.readline())

    object_client.forget()
    yield start
    object_client.forget()
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_store_behind_a_web_server_reads_as_the_folder(built, serve):
    url = f"http://127.0.0.1:{serve(built.parent)}/{built.name}"
    local, remote = gfield.open_store(built), gfield.open_store(url)
    remote.check_files()
    for key in local.arrays:
        assert np.array_equal(remote.read(key, [7, 0, 1]), local.read(key, [7, 0, 1]), equal_nan=True)
    assert "all good" in run("verify", url)
    assert "root hash" in run("info", url)


def test_over_tls(built, serve, tmp_path, monkeypatch):
    key, certificate, authority = certified(tmp_path)
    url = f"https://localhost:{serve(built.parent, certificate, key)}/{built.name}"
    assert "or none whose certificate is known: SSL_CERT_FILE" in run("info", url, code=1)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    object_client.forget()
    assert "none.pem: No such file or directory; AWS_CA_BUNDLE or SSL_CERT_FILE names it" in run("info", url, code=1)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    object_client.forget()
    assert "root hash" in run("info", url)


def test_nothing_is_written_there(built, nyu_mat, serve, tmp_path):
    url = f"http://127.0.0.1:{serve(built.parent)}/{built.name}"
    assert "web servers are read alone" in run("build", "nyu", nyu_mat, url, code=1)


def test_an_input_behind_a_web_server_builds_the_same_store(built, nyu_mat, serve, tmp_path):
    url = f"http://127.0.0.1:{serve(nyu_mat.parent)}/{nyu_mat.name}"
    run("build", "nyu", url, tmp_path / "s", "--frames-per-shard", 2)
    assert gfield.open_store(tmp_path / "s").manifest.root == gfield.open_store(built).manifest.root


def test_a_server_without_byte_ranges_is_told(built):
    """Python's own answers with the whole file, whatever is asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet.of(built.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{built.name}"
        object_client.forget()
        assert "root hash" in run("info", url)
        with pytest.raises(StoreError, match="does not answer byte ranges"):
            gfield.open_store(url).read("640x480/rgb", [0])
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's server of a folder's files, without its log."""

    def log_message(self, *args):
        pass

    @classmethod
    def of(cls, folder):
        return functools.partial(cls, directory=folder)


def certified(folder):
    """A key with its certificate for localhost, and the certificate of who has signed that."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed, which makes certificates")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    today = datetime.datetime.now(datetime.UTC)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(name, of, extension):
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (name, "authority")]
        return (
            x509.CertificateBuilder(*reversed(names), of.public_key(), x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=30))
            .add_extension(extension, critical=True)
            .sign(authority, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    paths = [folder / name for name in ("key.pem", "certificate.pem", "authority.pem")]
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    paths[1].write_bytes(certificate("localhost", key, x509.SubjectAlternativeName([x509.DNSName("localhost")])))
    paths[2].write_bytes(certificate("authority", authority, x509.BasicConstraints(ca=True, path_length=None)))
    return paths


def test_a_store_behind_a_web_server_is_exported_as_the_folder(built, serve, tmp_path):
    url = f"http://127.0.0.1:{serve(built.parent)}/{built.name}"
    for store, name in ((gfield.open_store(built), "local"), (gfield.open_store(url), "remote")):
        export_store(store, tmp_path / name, "webdataset", level_WH=(320, 240))
        export_store(store, tmp_path / f"{name}.json", "croissant")
    assert tree(tmp_path / "local") == tree(tmp_path / "remote")
    here, there = (json.loads((tmp_path / f"{name}.json").read_text())["distribution"] for name in ("local", "remote"))
    assert [file["sha256"] for file in here] == [file["sha256"] for file in there]
    assert [file["contentUrl"] for file in there] == [f"{url}/{file['@id']}" for file in there]
