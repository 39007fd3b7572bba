"""Hands what is not inference on to the controller: one HTTP exchange becomes one over its Unix socket.

The gateway routes ``/api`` and ``/metrics`` here. Bodies are streamed both ways, so that uploads of gigabytes pass
through without being held, and a slow reader slows the sender. When the controller does not answer, inference goes
on; only what is asked here is refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import httpx
import msgspec

from mofang.base.domain.errors import MofangError, ServerNotRunning
from mofang.base.identity.addresses import client_address
from mofang.surface.protocols.http import HttpResponse, HttpStream, RequestHead
from mofang.surface.wire.status import headers_of, problem, status_of

# Fields that concern one connection only (RFC 9110, 7.6.1), and those we set ourselves.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "expect",
    }
)  # fmt: skip
_OURS = frozenset({"x-request-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"})
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 300.0  # between two pieces; long polls wait a minute at most
_MAX_CONNECTIONS = 256
_log = logging.getLogger(__name__)


class Forwarder:
    """Forwards exchanges to the controller's socket. ``respond`` suits ``exchange.Streamed``."""

    def __init__(
        self, controller_socket: Path, *, trusted_proxies: Sequence[str] = (), answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self._trusted_proxies = trusted_proxies
        # A new connection for each exchange: on a Unix socket it costs little, and none is stale after a restart.
        limits = httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(controller_socket), limits=limits),
            timeout=httpx.Timeout(answer_seconds, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS),
        )

    async def respond(
        self, head: RequestHead, body: AsyncIterator[bytes], request_id: str
    ) -> HttpResponse | HttpStream:
        """Return the controller's answer, or a problem document that says why there is none."""
        request = self._client.build_request(
            head.method, _url(head), headers=self._headers(head, request_id), content=_content(head, body)
        )
        try:
            answer = await self._client.send(request, stream=True, follow_redirects=False)
        except MofangError as error:  # the body broke off on our side
            return _refusal(error, request_id)
        except httpx.TransportError as error:
            _log.warning("the controller did not answer %s %s: %s", head.method, head.path, error or type(error))
            return _refusal(
                ServerNotRunning(
                    "the controller does not answer; inference goes on",
                    hint="try again in a few seconds; `mofang status` shows the processes",
                    retry_after_seconds=2,
                ),
                request_id,
            )
        headers = _end_to_end(answer.headers.raw, {"date"})
        headers.append(("x-request-id", request_id))
        return HttpStream(answer.status_code, headers, _pieces(answer))

    async def close(self) -> None:
        """Close what is open to the controller."""
        await self._client.aclose()

    def _headers(self, head: RequestHead, request_id: str) -> list[tuple[str, str]]:
        raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in head.headers.items()]
        headers = _end_to_end(raw, _OURS)
        headers += (("x-request-id", request_id), ("x-forwarded-proto", "http"))
        if head.client:  # the controller believes this one address, since only gateways reach its socket
            client = client_address(head.client, head.headers.get("x-forwarded-for"), self._trusted_proxies)
            headers.append(("x-forwarded-for", client))
        if host := head.headers.get("host"):
            headers.append(("x-forwarded-host", host))
        return headers


def _url(head: RequestHead) -> httpx.URL:
    target = f"{head.path}?{head.query}" if head.query else head.path
    return httpx.URL("http://controller").copy_with(raw_path=target.encode("ascii"))


def _content(head: RequestHead, body: AsyncIterator[bytes]) -> AsyncIterator[bytes] | None:
    has_body = "transfer-encoding" in head.headers or head.headers.get("content-length", "0") != "0"
    return body if has_body else None


def _end_to_end(raw: list[tuple[bytes, bytes]], less: set[str] | frozenset[str]) -> list[tuple[str, str]]:
    fields = [(name.decode("ascii").lower(), value.decode("latin-1")) for name, value in raw]
    named = {token.strip().lower() for name, value in fields if name == "connection" for token in value.split(",")}
    dropped = _HOP_BY_HOP | named | less
    return [(name, value) for name, value in fields if name not in dropped]


async def _pieces(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def _refusal(error: MofangError, request_id: str) -> HttpResponse:
    headers = [("content-type", "application/problem+json"), ("x-request-id", request_id), *headers_of(error)]
    return HttpResponse(status_of(error).http, headers, msgspec.json.encode(problem(error)))
