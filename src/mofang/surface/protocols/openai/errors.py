"""How errors look to a client of the OpenAI API: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
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
_SAME: Mapping[str, str] = MappingProxyType({})
_log = logging.getLogger(__name__)


def describe(error: Exception, request_id: str, names: Mapping[str, str] = _SAME) -> dict[str, Any]:
    """Return the error object; of a defect only that there is one. ``names``: what parameters are called instead."""
    known = _renamed(known_error(error, request_id), names)
    kind = next((word for base, word in _TYPES.items() if isinstance(known, base)), "invalid_request_error")
    param = known.message.partition(":")[0] if isinstance(known, InvalidParameter) else None
    code = "model_not_found" if isinstance(known, EndpointNotFound) else known.code
    if isinstance(known, EndpointNotFound):
        param = "model"
    return {"message": sentence(known), "type": kind, "param": param, "code": code}


def error_reply(error: Exception, request_id: str, names: Mapping[str, str] = _SAME) -> HttpResponse:
    """Return the answer to a request that failed."""
    known = known_error(error, request_id)
    headers = [("content-type", "application/json"), *headers_of(known)]
    body = msgspec.json.encode({"error": describe(known, request_id, names)})
    return HttpResponse(status_of(known).http, headers, body)


def sentence(error: MofangError) -> str:
    """Return what is wrong and what to do, as one text."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def known_error(error: Exception, request_id: str) -> MofangError:
    """Return ``error`` if it is for clients; what is not is a defect, and logged."""
    if isinstance(error, MofangError):
        return error
    _log.error("request %s failed", request_id, exc_info=error)
    return Internal("the server failed on this request")


def _renamed(error: MofangError, names: Mapping[str, str]) -> MofangError:
    if not isinstance(error, InvalidParameter):
        return error
    name, _, rest = error.message.partition(":")
    root = name.partition("[")[0]
    if root not in names:
        return error
    return InvalidParameter.of(names[root] + name[len(root) :], rest.strip())
