"""`gfield view` served from a thread of the tests, and what a page or a client asks of it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from gfield.store import open_store
from gfield.view.server import ViewServer, open_server


@contextmanager
def served(store: Path, source: Path | None = None) -> Iterator[ViewServer]:
    """The server, at a free port."""
    with open_server(store, 0, source) as server:
        server.load()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Reply(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(server: ViewServer, path: str, method: str = "GET", **headers: str) -> Reply:
    """One request on a connection of its own; ``Host`` as a browser sends it, if no other is given."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def ask(server: ViewServer, name: str, **query: object) -> Reply:
    """What the page would ask of the store that is there now."""
    root = open_store(server.shown.path).manifest.root
    return request(server, f"{urlsplit(server.address).path}{name}?{urlencode({'store': root, **query})}")
