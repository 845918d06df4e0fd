"""What is sent back for a request."""

from __future__ import annotations

from typing import NamedTuple


class Answer(NamedTuple):
    """Bytes for the page, their type, and what is said beside them."""

    body: bytes
    kind: str = "application/octet-stream"
    headers: dict[str, str] = {}  # noqa: RUF012 (of a tuple, and never changed)
