"""How errors look to a client of the OpenAI API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from mofang.base.domain.errors import (
    EndpointNotFound,
    Exhausted,
    Forbidden,
    Internal,
    InvalidParameter,
    MofangError,
    Unauthenticated,
    Unavailable,
)
from mofang.surface.protocols.http import HttpResponse
from mofang.surface.wire.status import headers_of, status_of

_TYPES: dict[type[MofangError], str] = {
    Unauthenticated: "authentication_error",
    Forbidden: "permission_error",
    Exhausted: "rate_limit_error",
    Unavailable: "service_unavailable_error",
    Internal: "server_error",
}
_log = logging.getLogger(__name__)


def describe(error: Exception, request_id: str) -> dict[str, Any]:
    """Return the error object; of a defect only that there is one."""
    known = _known(error, request_id)
    kind = next((word for base, word in _TYPES.items() if isinstance(known, base)), "invalid_request_error")
    param = known.message.partition(":")[0] if isinstance(known, InvalidParameter) else None
    code = "model_not_found" if isinstance(known, EndpointNotFound) else known.code
    if isinstance(known, EndpointNotFound):
        param = "model"
    message = f"{known.message} ({known.hint})" if known.hint else known.message
    return {"message": message, "type": kind, "param": param, "code": code}


def error_reply(error: Exception, request_id: str) -> HttpResponse:
    """Return the answer to a request that failed."""
    known = _known(error, request_id)
    headers = [("content-type", "application/json"), *headers_of(known)]
    body = msgspec.json.encode({"error": describe(known, request_id)})
    return HttpResponse(status_of(known).http, headers, body)


def _known(error: Exception, request_id: str) -> MofangError:
    if isinstance(error, MofangError):
        return error
    _log.error("request %s failed", request_id, exc_info=error)
    return Internal("the server failed on this request")
