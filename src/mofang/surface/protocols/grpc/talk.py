"""What every service of the gRPC server does alike: read a message, know the caller, end a call with an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import Internal, InvalidRequest, MofangError
from mofang.surface.protocols.lane import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, Lane
from mofang.surface.wire.status import headers_of, sentence, status_of

_log = logging.getLogger(__name__)

Unary = Callable[[bytes, Any], Awaitable[bytes]]
"""A call of one message and one answer. Bytes come in and go out, so that what cannot be read gets our words."""


def service(name: str, unary: Mapping[str, Unary], **streams: Any) -> Any:
    """Return a service as gRPC wants it: its calls by name, and ``streams`` with their handlers."""
    methods = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in unary.items()}
    return grpc.method_handlers_generic_handler(name, {**methods, **streams})


def read(message: Any, data: bytes) -> Any:
    """Parse ``data``. Raises InvalidRequest."""
    try:
        return message.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"the bytes are no {message.DESCRIPTOR.name}") from None


def authorization(context: Any) -> str | None:
    """Return the caller's ``authorization``, if there is one. Raises InvalidRequest if there are two."""
    values = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(values) > 1:
        raise InvalidRequest("metadata 'authorization' is given twice")
    return str(values[0]) if values else None


def metadatum(context: Any, name: str) -> str | None:
    """Return what the caller says under ``name``, if anything; the last, if there are several."""
    found = [value for key, value in context.invocation_metadata() if key == name]
    return str(found[-1]) if found else None


def holder(lane: Lane, context: Any) -> Principal:
    """Return who calls. Raises Unauthenticated, OutOfNetwork or InvalidRequest."""
    said = [str(value) for key, value in context.invocation_metadata() if key == "x-forwarded-for"]
    return lane.authenticate(authorization(context), peer_address(context.peer()), ",".join(said))


def peer_address(peer: str) -> str:
    """Return the address in what gRPC says of a peer: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def deadline(context: Any, most: float = MAX_TIMEOUT_SECONDS) -> float:
    """Return until when, on time.monotonic(), the caller waits: as it says, or as long as usual."""
    left = context.time_remaining()
    return time.monotonic() + (DEFAULT_TIMEOUT_SECONDS if left is None else min(left, most))


def as_error(error: Exception, request_id: str) -> MofangError:
    """Return what the caller may know of ``error``; the log gets the rest."""
    if isinstance(error, MofangError):
        return error
    _log.error("request %s failed", request_id, exc_info=error)
    return Internal("the server failed on this request")


async def abort(context: Any, error: MofangError, request_id: str) -> bytes:
    """End the call with the error's status; does not return."""
    metadata = (("mofang-code", error.code), ("x-request-id", request_id), *headers_of(error))
    await context.abort(grpc.StatusCode[status_of(error).grpc_name], sentence(error), metadata)
    raise AssertionError("abort raises")
