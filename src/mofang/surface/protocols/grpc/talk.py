"""What every service of the gRPC server does alike: read a message, know the caller, end a call with an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import Internal, InvalidRequest, MofangError
from mofang.base.domain.names import new_id
from mofang.surface.protocols.grpc.http2.heads import Head, block
from mofang.surface.protocols.grpc.http2.stream import Method, Stream
from mofang.surface.protocols.lane import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, Lane

_log = logging.getLogger(__name__)

Unary = Callable[[bytes, Stream, str], Awaitable[bytes]]
"""A call of one message and one answer; gets its request id. Bytes come in and go out, so that what cannot be read gets
our words."""
Begin = Callable[[Stream], object]
"""Looks at a head before any message is kept. Raises MofangError."""


def unary(call: Unary, begin: Begin) -> Method:
    """Return a method that answers in a task."""

    async def work(stream: Stream, data: bytes, request_id: str) -> None:
        try:
            reply = await call(data, stream, request_id)
        except Exception as error:
            stream.fail(as_error(error, request_id), request_id)
        else:
            stream.reply(block([("x-request-id", request_id)]), reply, block(stream.trailing))

    def answer(stream: Stream, data: bytes) -> None:
        stream.spawn(work(stream, data, new_id("req")))

    return Method(begin, answer)


def streamed(call: Callable[[Stream, str], Awaitable[None]], begin: Begin) -> Method:
    """Return a method that has the whole stream, in a task."""

    async def run(stream: Stream) -> None:
        request_id = new_id("req")
        try:
            await call(stream, request_id)
        except Exception as error:
            stream.fail(as_error(error, request_id), request_id)
        else:
            stream.finish()

    return Method(begin, run=run)


def anybody(stream: Stream) -> None:
    """Let everybody in."""


def read(message: Any, data: bytes) -> Any:
    """Parse ``data``. Raises InvalidRequest."""
    try:
        return message.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"the bytes are no {message.DESCRIPTOR.name}") from None


def authorization(head: Head) -> str | None:
    """Return the caller's ``authorization``, if there is one. Raises InvalidRequest if there are two."""
    values = head.values("authorization")
    if len(values) > 1:
        raise InvalidRequest("metadata 'authorization' is given twice")
    return values[0] if values else None


def forwarded_for(head: Head) -> str:
    """Return what proxies say of the caller's address."""
    return ",".join(head.values("x-forwarded-for"))


def holder(lane: Lane, stream: Stream) -> Principal:
    """Return who calls. Raises Unauthenticated, OutOfNetwork or InvalidRequest."""
    return lane.authenticate(authorization(stream.head), stream.peer, forwarded_for(stream.head))


def timeout(head: Head, most: float = MAX_TIMEOUT_SECONDS) -> float:
    """Return how many seconds the caller waits: as she says, or as long as usual."""
    said = head.timeout_seconds
    return DEFAULT_TIMEOUT_SECONDS if said is None else min(said, most)


def deadline(head: Head, most: float = MAX_TIMEOUT_SECONDS) -> float:
    """Return until when, on time.monotonic(), the caller waits from now on."""
    return time.monotonic() + timeout(head, most)


def as_error(error: Exception, request_id: str) -> MofangError:
    """Return what the caller may know of ``error``; the log gets the rest."""
    if isinstance(error, MofangError):
        return error
    _log.error("request %s failed", request_id, exc_info=error)
    return Internal("the server failed on this request")
