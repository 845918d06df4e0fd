"""A real S3 server on loopback, moto's, and a proxy before it that fails as networks and servers do."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_SERVE = """
import logging, threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""
SECRET = "a-secret-that-no-store-and-no-log-may-hold"


def start_server() -> tuple[subprocess.Popen[str], int]:
    """An S3 server that is ready, and its port."""
    process = subprocess.Popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def make_bucket(port: int, name: str = "") -> str:
    """The name of a new bucket."""
    name = name or f"bucket-{uuid.uuid4().hex[:12]}"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{name}", headers={"Authorization": "AWS testing:x"})
    assert connection.getresponse().status == 200
    connection.close()
    return name


def settings(port: int) -> dict[str, str]:
    """The environment of whoever is to use the server; no other place is asked for credentials."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }


@dataclass
class Request:
    """One request as the proxy saw it."""

    method: str
    path: str
    range: str


# What to do instead of answering as the server does: see `_Handler`.
Fault = str
FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "short", "cut", "stall", "flip", "late list")


@dataclass
class Proxy:
    """What a proxy has seen, and what it is to do.

    Attributes
    ----------
    port
        Where it listens.
    requests
        All that were made.
    fault
        Says of a request what is to go wrong with it; "" for nothing.
    is_plain
        Whether it knows no more than plainer servers do: it passes over conditions of a put, and refuses to remove
        many objects by one request.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    fault: Callable[[Request], Fault] = lambda request: ""
    stall_s: float = 0.0
    is_plain: bool = False

    def asked(self, method: str, within: str = "") -> list[Request]:
        """The requests of a method whose path has something in it."""
        return [request for request in self.requests if request.method == method and within in request.path]


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """A proxy before the server at this port."""
    proxy = Proxy()

    class Handler(_Handler):
        upstream, told = port, proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    told: Proxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers.get("Range", ""))
        self.told.requests.append(request)
        fault = self.told.fault(request)
        if fault in ("500", "503", "403"):
            codes = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
            told = f"<Error><Code>{codes[fault]}</Code><Message>{SECRET}</Message></Error>".encode()
            self._answer(int(fault), [("Content-Type", "application/xml")], told)
            return
        if fault == "reset":
            self._hang_up()
            return
        if fault == "stall":
            time.sleep(self.told.stall_s)
            self._hang_up()
            return
        if self.told.is_plain and self.command == "POST" and "delete" in self.path:
            self._answer(400, [], b"<Error><Code>InvalidArgument</Code></Error>")
            return
        if self.told.is_plain and self.command == "PUT":
            del self.headers["If-None-Match"]
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        head = [
            (k, v)
            for k, v in answer.getheaders()
            if k.lower() not in ("transfer-encoding", "connection", "date", "server")
        ]
        self._spoilt(fault, answer.status, head, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _spoilt(self, fault: Fault, status: int, head: list[tuple[str, str]], data: bytes) -> None:
        if fault == "short" and len(data) > 1:  # fewer bytes, and says so
            head = [(k, v) for k, v in head if k.lower() != "content-length"] + [
                ("Content-Length", str(len(data) // 2))
            ]
            data = data[: len(data) // 2]
        if fault == "flip" and data:
            at = len(data) // 3
            data = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        if fault == "late list" and b"<Contents>" in data:  # without what came last
            first, last = data.index(b"<Contents>"), data.rindex(b"<Contents>")
            end = data.rindex(b"</Contents>") + len(b"</Contents>")
            if first < last:
                data = data[:last] + data[end:]
                head = [(k, v) for k, v in head if k.lower() != "content-length"] + [("Content-Length", str(len(data)))]
        self._answer(status, head, data, cut=fault == "cut")

    def _answer(self, status: int, head: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for key, value in head:
            self.send_header(key, value)
        if not any(key.lower() == "content-length" for key, _ in head):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        """End the connection by a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # whoever asked has gone, or was hung up on
            super().handle()


def objects_below(url: str) -> dict[str, bytes]:
    """Every object below a prefix, with its bytes, as `tests.trees.tree` has a folder's files."""
    from gfield.object_path import location
    from gfield.objects import listing, read

    prefix = location(url)
    return {path: read(prefix / path, 1 << 30) for path in listing(prefix)}


def put_tree(folder: Path, url: str) -> None:
    """Copy a folder below a prefix."""
    from gfield.object_path import location
    from gfield.objects import put

    for path in folder.rglob("*"):
        if path.is_file():
            put(location(url) / path.relative_to(folder).as_posix(), path)
