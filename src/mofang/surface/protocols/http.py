"""A whole HTTP request and a whole HTTP answer, as plain values.

The HTTP/1.1 connection makes the first and writes the second; protocols over HTTP map one to the other.
Neither knows sockets here, so that a protocol is tested without any.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that was received completely, decompressed, and is within every limit.

    ``path`` is the raw path (percent-encoded as it came), ``query`` what followed ``?``; header names are
    lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class HttpResponse(msgspec.Struct, frozen=True, gc=False):
    """An answer; the connection adds ``content-length``, ``date`` and ``connection``."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
