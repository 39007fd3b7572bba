"""A whole HTTP request and a whole HTTP answer, as plain values.

The HTTP/1.1 connection makes the first and writes the second; protocols over HTTP map one to the other.
Neither knows sockets here, so that a protocol is tested without any.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mofang.base.domain.errors import MofangError
from mofang.surface.protocols.status import headers_of, status_of


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


def error_response(error: MofangError) -> HttpResponse:
    """Return ``{"error", "code", "hint"}``, the form of errors outside the control API."""
    body = msgspec.json.encode({"error": error.message, "code": error.code, "hint": error.hint})
    headers = [("content-type", "application/json"), *headers_of(error)]
    return HttpResponse(status_of(error).http, headers, body)
