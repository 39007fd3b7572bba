"""The rules for a request's head that go beyond its grammar, and the writing of an answer's head.

llhttp refuses what is not HTTP, and most smuggling forms; here stands what two readers of the same bytes could still
take differently. ``http1`` calls this; it knows no sockets.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from mofang.base.domain.errors import HeadTooLarge, InvalidRequest, RequestTooLarge
from mofang.surface.protocols.http import RequestHead, header_lines
from mofang.surface.server.exchange import Limits

# Fields of which a second one would leave open which counts.
_ONCE = frozenset(
    {
        "host", "content-length", "transfer-encoding", "content-encoding", "content-type", "authorization", "expect",
        "inference-header-content-length", "x-request-timeout-ms",
    }
)  # fmt: skip
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_STATUS_LINES = {
    **{status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus},
    499: "HTTP/1.1 499 Client Closed Request\r\n",
}


class HeadBuilder:
    """Collects one request's head as the parser finds its parts."""

    __slots__ = ("_limits", "_size", "_target", "headers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._size = 0
        self._target = b""
        self.headers: dict[str, str] = {}

    def add_target(self, part: bytes) -> None:
        """Add a part of the request target."""
        self._grow(len(part))
        self._target += part

    def add_field(self, raw_name: bytes, raw_value: bytes) -> None:
        """Add a header field; raise if it is one too many, or a second of its kind."""
        self._grow(len(raw_name) + len(raw_value) + 4)
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1").strip(" \t")
        headers = self.headers
        if name not in headers:
            if len(headers) >= self._limits.headers:
                raise HeadTooLarge(f"more than {self._limits.headers} header fields")
            headers[name] = value
        elif name in _ONCE:
            raise InvalidRequest(f"header {name!r} is given twice")
        else:
            headers[name] += ("; " if name == "cookie" else ", ") + value

    def build(self, method: str, version: str, client: str) -> RequestHead:
        """Return the head, checked."""
        headers = self.headers
        if version not in ("1.1", "1.0"):
            raise InvalidRequest(f"HTTP version {version[:10]} is not spoken here", hint="use HTTP/1.1")
        host = headers.get("host")
        if host is None:
            if version == "1.1":
                raise InvalidRequest("header 'host' is missing")
        elif not _HOST.fullmatch(host):
            raise InvalidRequest(f"header 'host' is malformed: {host[:80]!r}")
        encoding = headers.get("transfer-encoding")
        if encoding is not None and (encoding.lower() != "chunked" or version == "1.0"):
            raise InvalidRequest(f"transfer-encoding {encoding[:40]!r} is not taken", hint="use `chunked`")
        path, _, query = self._target.decode("ascii").partition("?")
        if not path.startswith("/") and not (path == "*" and method == "OPTIONS"):
            raise InvalidRequest(f"the request target {path[:80]!r} is no path", hint="ask for /path")
        if "#" in path or "#" in query:
            raise InvalidRequest("the request target has a fragment; it belongs to the client")
        if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
            raise InvalidRequest(f"the path {path[:80]!r} has dot segments", hint="ask for the path they lead to")
        return RequestHead(method, path, query, headers, client)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.head_bytes:
            raise HeadTooLarge(f"the head of the request is over {self._limits.head_bytes} bytes")


def keeps_alive(headers: dict[str, str], version: str) -> bool:
    """Tell whether the client would send another request on the connection; HTTP/1.0 ones never do here."""
    connection = headers.get("connection")
    if connection is None:
        return version == "1.1"
    return version == "1.1" and "close" not in (token.strip() for token in connection.lower().split(","))


def body_too_large(limit: int) -> RequestTooLarge:
    """Return the refusal of a body, which its head may announce already."""
    return RequestTooLarge(f"the body is over {limit} bytes", hint="send it in several requests")


def response_head(status: int, headers: list[tuple[str, str]], *more: str) -> bytes:
    """Return the bytes of an answer's head; ``more`` are whole lines. Raise Internal if a field would break it."""
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"
    return "".join((line, header_lines(headers), *more, "\r\n")).encode("latin-1", "replace")
