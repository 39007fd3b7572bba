"""Asks the application in a task: for whatever is not answered by a call (:class:`Direct`). ``http1`` calls this."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from mofang.base.domain.errors import Cancelled, Internal, MofangError
from mofang.surface.protocols.bodies import decompress
from mofang.surface.protocols.http import HttpRequest, error_response
from mofang.surface.server.exchange import BodyStream, Direct, Exchange, Limits, Reply, Streamed, Whole

_THREAD_BYTES = 256 << 10  # compressed bodies from this size are decompressed beside the event loop
_log = logging.getLogger(__name__)


async def ask(exchange: Exchange, request_id: str, limits: Limits, gone: Callable[[], bool]) -> Reply:
    """Return the answer, whatever happens; ``gone`` tells whether the peer has left, who then needs none."""
    head, route, body = exchange.head, exchange.route, exchange.body
    assert head is not None
    try:
        if isinstance(route, Streamed) and isinstance(body, BodyStream):
            return await route.respond(head, body, request_id)
        assert isinstance(route, Whole | Direct)
        assert isinstance(body, list)
        content = body[0] if len(body) == 1 else b"".join(body)
        encoding = head.headers.get("content-encoding")
        if encoding is not None:
            content = await _decompress(encoding, content, limits)
        request = HttpRequest(head.method, head.path, head.query, head.headers, content, head.client)
        return await (route.respond if isinstance(route, Whole) else route.ask)(request, request_id)
    except MofangError as error:
        reply = error_response(error)
    except asyncio.CancelledError:
        if gone():
            raise  # it was we who cancelled
        reply = error_response(Cancelled("the request was cancelled"))
    except Exception as error:
        reply = error_response(unexpected(error))
    reply.headers.append(("x-request-id", request_id))
    return reply


async def _decompress(encoding: str, content: bytes, limits: Limits) -> bytes:
    inflate = partial(
        decompress, encoding, content, limits.body_bytes, ratio=limits.inflate_ratio, free=limits.inflate_bytes
    )
    return inflate() if len(content) < _THREAD_BYTES else await asyncio.to_thread(inflate)


def unexpected(error: BaseException | None) -> MofangError:
    """Log a defect and return what the client is told of it."""
    _log.error("a request failed", exc_info=error)
    return Internal("the server failed on this request")
