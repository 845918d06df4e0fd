"""The server of `gfield view`: one store, on this machine's loopback alone, under an address that is hard to guess.

Whoever knows the address may read the store; other users of the machine, and pages of other sites in the same browser,
do not. Nothing is ever written, and no path of a request becomes a path of a file.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from gfield.errors import UserError, printable
from gfield.object_path import Location
from gfield.view.answers import Answer

# What opens a store, and what answers are made with, takes longer to load than a browser to ask for the page: it is
# loaded meanwhile.
if TYPE_CHECKING:
    from gfield.view.opened import Shown

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8800, 20
OUR_NAMES = {HOST, "localhost"}
_KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript"}
_ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_IDLE_S = 60
_MOST_FIELDS = 16


class ViewServer(ThreadingHTTPServer):
    """Serves one store, a thread a connection.

    Parameters
    ----------
    path
        The store, which `load` opens.
    port
        Port of the loopback to listen on; 0 for any.
    source
        What the store was built from, for the commands that the page prints.

    Raises
    ------
    OSError
        If the port cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False

    def __init__(self, path: Location, port: int, source: Location | None = None) -> None:
        self.path = path
        self.source = source
        self._opened: Future[Shown] = Future()
        self.token = secrets.token_urlsafe(9)
        folder = files("gfield.view")
        self.assets = {
            entry.name: Answer(entry.read_bytes(), _KINDS[Path(entry.name).suffix])
            for entry in folder.iterdir()
            if Path(entry.name).suffix in _KINDS
        }
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @property
    def shown(self) -> Shown:
        """The store, once it is open.

        Raises
        ------
        StoreError
            If there is no such store.
        """
        return self._opened.result()

    def load(self) -> None:
        """Open the store, and load what answers are made with."""
        try:
            from gfield.view import routes  # noqa: F401
            from gfield.view.opened import Shown

            self._opened.set_result(Shown(self.path))
        except BaseException as error:
            self._opened.set_exception(error)

    def load_meanwhile(self) -> None:
        """`load` beside the serving, which it ends where there is no such store: `shown` then says why."""

        def load() -> None:
            self.load()
            if self._opened.exception() is not None:
                self.shutdown()

        threading.Thread(target=load, daemon=True).start()

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name, as the base class would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser has gone; other errors are ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    server_version, sys_version = "gfield", ""

    def do_GET(self) -> None:
        """Answer, or say in one line why not."""
        try:
            found, status = self._find(), HTTPStatus.OK
        except UserError as error:
            found, status = _refusal(str(error)), _status(error)
        except (MemoryError, OSError) as error:
            line = printable(str(error) or "not enough memory")
            found, status = _refusal(line), HTTPStatus.INTERNAL_SERVER_ERROR
        self._send(status, found)

    do_HEAD = do_GET

    def _refuse_method(self) -> None:
        # What follows such a request is its body, and no request of its own.
        self.close_connection = True
        refused = _refusal(f"method {self.command}, wanted GET")
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, refused._replace(headers={"Allow": "GET, HEAD"}))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method

    def log_message(self, *_args: Any) -> None:
        """Nobody asked for a log."""

    def _find(self) -> Answer:
        self._refuse_strangers()
        parts = urlsplit(self.path)
        token, _, name = parts.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing is here; `gfield view` printed the address")
        if (asset := self.server.assets.get(name or "page.html")) is not None:
            return asset
        try:
            query: Mapping[str, str] = dict(parse_qsl(parts.query, True, max_num_fields=_MOST_FIELDS))
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"the query has over {_MOST_FIELDS} parts") from error
        from gfield.view.routes import answer

        found = answer(name, query, self.server.shown, self.server.source)
        if found is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing has this name")
        return found

    def _refuse_strangers(self) -> None:
        """Refuse what a page of another site asks for, be it by a name of its own for our address, or by ours.

        A port that is not ours is that of a tunnel.
        """
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in OUR_NAMES and host not in OUR_NAMES:
            wanted = " or ".join(sorted(OUR_NAMES))
            raise _Refused(HTTPStatus.FORBIDDEN, f"asked for by the name {host!r:.80}, wanted {wanted}")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and self.headers.get("Sec-Fetch-Mode") != "navigate":
            raise _Refused(HTTPStatus.FORBIDDEN, f"asked for by a page of another site ({site:.40}), wanted our own")

    def _send(self, status: HTTPStatus, found: Answer) -> None:
        self.send_response(status)
        length = str(len(found.body))
        for name, value in {**_ALWAYS, **found.headers, "Content-Type": found.kind, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)


class _Refused(UserError):
    """A request that is refused for what it is."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


def _status(error: UserError) -> HTTPStatus:
    from gfield.manifest import StoreError
    from gfield.view.opened import Gone

    if isinstance(error, _Refused):
        return error.status
    if isinstance(error, Gone):
        return HTTPStatus.GONE
    return HTTPStatus.INTERNAL_SERVER_ERROR if isinstance(error, StoreError) else HTTPStatus.BAD_REQUEST


def _refusal(line: str) -> Answer:
    return Answer(json.dumps({"error": line}).encode(), "application/json")


def open_server(path: Location, port: int | None, source: Location | None = None) -> ViewServer:
    """A server of a store, on the first free port of 8800 to 8819, or any, where none is given.

    Raises
    ------
    UserError
        If the port that is given cannot be had.
    """
    if port is not None:
        try:
            return ViewServer(path, port, source)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"port {port} of {HOST}: {reason}; wanted a free one, such as --port 0 takes") from error
    for free in (*range(FIRST_PORT, FIRST_PORT + PORTS), 0):
        try:
            return ViewServer(path, free, source)
        except OSError:
            continue
    raise UserError(f"{HOST} has no free port")
