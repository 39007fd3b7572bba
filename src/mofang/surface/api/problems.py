"""Everything that goes wrong, as ``application/problem+json`` (RFC 9457) with a stable code and a hint.

The app calls these for what routes raise; the door for what never reaches a route. The framework's own complaints
(a path, a method, a field) are told in our words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mofang.base.domain.errors import InvalidRequest, MethodNotAllowed, MofangError, RouteNotFound
from mofang.surface.wire.status import headers_of, problem

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of every answer that is not a good one."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What went wrong", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}
"""What every route may answer, for the description of the API."""


def problem_response(error: MofangError, headers: dict[str, str] | None = None) -> Response:
    """Render ``error``."""
    body = problem(error)
    given = {**dict(headers_of(error)), **(headers or {})}
    return JSONResponse(body, status_code=int(body["status"]), headers=given, media_type=MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let ``app`` answer with problems only."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        MofangError: _raised,
        RequestValidationError: _invalid,
        HTTPException: _complaint,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _raised(request: Request, error: MofangError) -> Response:
    return problem_response(error)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Tell the first thing that is wrong; values are not echoed, they may be secret."""
    first = error.errors()[0]
    where, *path = (str(part) for part in first["loc"])
    field = ".".join(path)
    if first["type"] == "json_invalid":
        return problem_response(InvalidRequest(f"the body is no JSON: {first['ctx']['error']}"))
    named = f"{'field' if where == 'body' else where + ' parameter'} {field!r}" if field else f"the {where}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return problem_response(
        InvalidRequest(f"{named}: {message}", hint="GET /api/v1/openapi.json describes every route")
    )


async def _complaint(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if isinstance(error.__cause__, MofangError):  # raised by us while the framework read the body
        return problem_response(error.__cause__)
    if error.status_code == 404:
        return problem_response(RouteNotFound(f"there is no {request.url.path!r}", hint="see GET /api/v1/openapi.json"))
    if error.status_code == 405:
        allowed = f"allowed: {headers['Allow']}" if "Allow" in headers else None
        wrong = MethodNotAllowed(f"{request.method} does not go with {request.url.path!r}", hint=allowed)
        return problem_response(wrong, headers)
    return problem_response(InvalidRequest(f"the request cannot be read: {error.detail}"))
