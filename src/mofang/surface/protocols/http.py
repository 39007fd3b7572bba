"""A whole HTTP request and a whole HTTP answer, as plain values.

The HTTP/1.1 connection makes the first and writes the second; protocols over HTTP map one to the other.
Neither knows sockets here, so that a protocol is tested without any.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from mofang.base.domain.errors import Internal, MofangError
from mofang.sell.meter.limits import SECOND_NS, Standings
from mofang.surface.wire.status import headers_of, status_of


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """What stands before the body. Header names are lower case; ``client`` is the peer's address, if it has one."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str = ""


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
    client: str = ""  # the peer's address, if it has one


class HttpResponse(msgspec.Struct, frozen=True, gc=False):
    """An answer; the connection adds ``content-length``, ``date`` and ``connection``.

    ``lines`` are further header fields as :func:`header_lines` writes them: made once for many answers.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    lines: str = ""

    def fields(self) -> list[tuple[str, str]]:
        """Return all header fields."""
        pairs = [line.split(": ", 1) for line in self.lines.splitlines()]
        return [*((name, value) for name, value in pairs), *self.headers]


class Running(Protocol):
    """A request that is being answered."""

    def cancel(self) -> object:
        """Drop it: nobody waits for the answer any more, and it is not told."""


class Note(Protocol):
    """What a protocol keeps of a head whose bytes come again and again."""

    @property
    def together(self) -> Together:
        """Who answers requests with such heads."""


class Together(Protocol):
    """Answers all that one turn of the event loop brought."""

    def answer(self, asked: Sequence[Any], /) -> None:
        """Answer all of them (:class:`Asked`), now or later."""


class Asked(Protocol):
    """A complete request whose head is known, as the connection holds it."""

    note: Any  # the protocol's own Note
    client: Any  # the peer's address
    body: Any  # bytes

    def reply(self, lines: bytes, body: bytes, /) -> None:
        """Answer well: ``lines`` are header fields as :func:`header_lines` writes them."""

    def respond(self, response: HttpResponse, /) -> None:
        """Answer anything else."""

    def start(self) -> None:
        """Ask for an answer to this request alone."""

    def wait(self, running: Running, /) -> None:
        """Say what to cancel if the client leaves before it has an answer."""


def header_lines(headers: Sequence[tuple[str, str]]) -> str:
    """Return header fields as they are written. Raises Internal if one would break the head."""
    if not headers:
        return ""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if not lines.count("\r") == lines.count("\n") == len(headers):
        raise Internal("a header field of the answer has a line break")
    return lines


Ended = Callable[[bytes | None], None]
"""Told once how a stream ended."""


class HttpStream(msgspec.Struct, frozen=True):
    """An answer whose body comes piece by piece; the connection closes ``chunks`` in the end, whatever happens.

    With a ``content-length`` among the headers the pieces are sent as they are, else as chunks. ``ended`` are told the
    whole body of an answer that came to a good end, before its last piece leaves; or None if it broke off. ``pause`` is
    what may be sent between any two pieces and means nothing: it finds out whether somebody still reads.
    """

    status: int
    headers: list[tuple[str, str]]
    chunks: AsyncGenerator[bytes, None]
    ended: list[Ended] = msgspec.field(default_factory=list)
    pause: bytes = b""


def credentials(headers: Mapping[str, str]) -> str | None:
    """Return what a caller under ``/v1`` shows: ``Authorization``, or her key as clients of Anthropic's API send it."""
    key = headers.get("x-api-key")
    return headers.get("authorization") or (f"Bearer {key}" if key else None)


def error_response(error: MofangError) -> HttpResponse:
    """Return ``{"error", "code", "hint"}``, the form of errors outside the control API."""
    body = msgspec.json.encode({"error": error.message, "code": error.code, "hint": error.hint})
    headers = [("content-type", "application/json"), *headers_of(error)]
    return HttpResponse(status_of(error).http, headers, body)


def rate_headers(standings: Standings | None) -> list[tuple[str, str]]:
    """Return where a caller stands with her limits on requests and tokens a minute, in the words of the OpenAI API."""
    headers: list[tuple[str, str]] = []
    for units, standing in zip(("requests", "tokens"), standings or (), strict=False):
        if standing is not None:
            headers += (
                (f"x-ratelimit-limit-{units}", str(standing.limit)),
                (f"x-ratelimit-remaining-{units}", str(standing.remaining)),
                (f"x-ratelimit-reset-{units}", f"{standing.reset_ns / SECOND_NS:.3f}s"),
            )
    return headers
