"""How each kind of error looks outside: HTTP status, gRPC code, exit code, and the RFC 9457 problem document.

This is the only table of its sort. Every protocol, the control API and the command line read it; the errors
themselves (``mofang.base.domain.errors``) know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mofang.base.domain.errors import (
    BudgetExhausted,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    Forbidden,
    HeadTooLarge,
    Internal,
    Invalid,
    KeyReused,
    MethodNotAllowed,
    MofangError,
    NotFound,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Status:
    """One row: how a kind of error is called by HTTP, by gRPC and by a shell."""

    http: int
    title: str
    grpc: int
    grpc_name: str
    exit_code: int


# The most specific class of an error's ancestry decides; every kind of ``errors.KINDS`` has a row. gRPC
# numbers are those of google.rpc.Code; exit code 2 is also what click uses for a wrong command line.
TABLE: Mapping[type[MofangError], Status] = MappingProxyType(
    {
        Invalid: Status(400, "Invalid request", 3, "INVALID_ARGUMENT", 2),
        MethodNotAllowed: Status(405, "Method not allowed", 3, "INVALID_ARGUMENT", 2),
        RequestTimeout: Status(408, "Request too slow", 3, "INVALID_ARGUMENT", 2),
        KeyReused: Status(422, "Idempotency key reused", 3, "INVALID_ARGUMENT", 2),
        Unauthenticated: Status(401, "Not authenticated", 16, "UNAUTHENTICATED", 3),
        Forbidden: Status(403, "Not allowed", 7, "PERMISSION_DENIED", 4),
        NotFound: Status(404, "Not found", 5, "NOT_FOUND", 5),
        Conflict: Status(409, "Conflict", 9, "FAILED_PRECONDITION", 6),
        TooLarge: Status(413, "Too large", 8, "RESOURCE_EXHAUSTED", 7),
        HeadTooLarge: Status(431, "Header too large", 8, "RESOURCE_EXHAUSTED", 7),
        Exhausted: Status(429, "Over a limit", 8, "RESOURCE_EXHAUSTED", 8),
        BudgetExhausted: Status(402, "Budget spent", 8, "RESOURCE_EXHAUSTED", 8),
        DeadlineExceeded: Status(504, "Deadline exceeded", 4, "DEADLINE_EXCEEDED", 9),
        Cancelled: Status(499, "Cancelled", 1, "CANCELLED", 10),
        Unavailable: Status(503, "Unavailable", 14, "UNAVAILABLE", 11),
        Internal: Status(500, "Internal error", 13, "INTERNAL", 1),
    }
)


def status_of(error: MofangError | type[MofangError]) -> Status:
    """Return the row of ``error``'s most specific class that has one; of a bare MofangError, Internal's."""
    cls = error if isinstance(error, type) else type(error)
    return next((TABLE[base] for base in cls.__mro__ if base in TABLE), TABLE[Internal])


def problem(error: MofangError) -> dict[str, str | int]:
    """Return the body of an ``application/problem+json`` answer (RFC 9457) with our ``code`` and ``hint``."""
    status = status_of(error)
    return {
        "type": f"urn:mofang:error:{error.code}",
        "title": status.title,
        "status": status.http,
        "code": error.code,
        "detail": error.message,
        "hint": error.hint,
    }


def headers_of(error: MofangError) -> list[tuple[str, str]]:
    """Return the header fields HTTP wants beside the body of an error answer."""
    headers: list[tuple[str, str]] = []
    if error.retry_after_seconds is not None:
        headers.append(("retry-after", str(error.retry_after_seconds)))
    if isinstance(error, Unauthenticated):
        headers.append(("www-authenticate", 'Bearer realm="mofang"'))
    return headers


def sentence(error: MofangError) -> str:
    """Return the one form people see everywhere: ``error[code]: message``, and the hint on its own line."""
    head = f"error[{error.code}]: {error.message}"
    return f"{head}\nhint: {error.hint}" if error.hint else head
