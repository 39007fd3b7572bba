"""Who asks, and whether she may: the door before every route, and the table every router is made of.

The door (ASGI middleware) authenticates before anything is routed, so that an anonymous caller learns nothing, not
even which paths exist. A router is a table of routes, each with its permission: one without cannot be written.
"""

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mofang.base.domain import access
from mofang.base.domain.access import NOTHING, Permission, Principal
from mofang.base.domain.errors import Cancelled, Forbidden, Internal, MofangError, OutOfReach, RequestTooLarge
from mofang.base.domain.names import new_id
from mofang.surface.api.problems import PROBLEMS, problem_response

PREFIX = "/api/v1"
SIGN_IN = f"{PREFIX}/sign-in"
PUBLIC = frozenset(("POST", SIGN_IN + way) for way in ("", "/code", "/oidc", "/oidc/finish"))
"""All that needs no key here: method and path. Everything else is refused before it is routed."""
UPLOADS = frozenset({f"{PREFIX}/uploads", f"{PREFIX}/files"})
_REQUEST_ID = re.compile(r"req_[0-9a-z]{26}")
_bearer = HTTPBearer(auto_error=False, description="An API key of a project")
_log = logging.getLogger("mofang.api")


Authenticate = Callable[[str | None, str], Principal]
"""From an Authorization value, and the address it comes from, to its holder."""


class Door:
    """Gives every request an id, lets in who has a good key, bounds bodies, and turns crashes into problems.

    Everything behind it sees the world through the caller's scope (``acting``): what is not hers does not exist.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticate: Authenticate,
        acting: Callable[[access.Scope], AbstractContextManager[None]],
        body_limit_bytes: int,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._acting = acting
        self._body_limit_bytes = body_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        answer = _Answer(send, given if _REQUEST_ID.fullmatch(given) else new_id("req"))
        try:
            address = _address(headers)
            scope.setdefault("state", {})["address"] = address
            if (scope["method"], scope["path"]) in PUBLIC:
                sees = NOTHING
            else:
                who = replace(self._authenticate(headers.get("authorization"), address), address=address)
                scope["state"]["principal"], sees = who, who.scope
            limit = None if scope["path"] in UPLOADS else self._body_limit_bytes
            with self._acting(sees):
                await self._app(scope, _bounded(receive, headers, limit), answer.send)
        except ClientDisconnect:
            await answer.fail(scope, receive, Cancelled("the client went away before all of the body had come"))
        except MofangError as error:
            await answer.fail(scope, receive, error)
        except Exception:
            _log.exception("request %s failed: %s %s", answer.request_id, scope["method"], scope["path"])
            message = f"the server failed to answer; the log tells of request {answer.request_id}"
            await answer.fail(scope, receive, Internal(message))


def _address(headers: Headers) -> str:
    """Return the client's address; the gateway, which alone reaches this, has replaced whatever a client said."""
    return headers.get("x-forwarded-for", "")[:100]


class _Answer:
    """The answer to one request: knows whether it has begun, and adds the headers all answers carry."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def fail(self, scope: Scope, receive: Receive, error: MofangError) -> None:
        if not self.has_begun:  # else the connection is cut, which is all that is left to say
            await problem_response(error)(scope, receive, self.send)


def _bounded(receive: Receive, headers: Headers, limit: int | None) -> Receive:
    """Return ``receive`` that raises RequestTooLarge after ``limit`` bytes, or at once if more are announced."""
    if limit is None:
        return receive
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return bounded


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is over {limit} bytes", hint="files go to POST /api/v1/uploads")


@dataclass(frozen=True, slots=True)
class Permit:
    """A dependency that lets a principal through whose role carries ``permission``, and who reaches ``everywhere`` if
    the route is about the platform as a whole."""

    permission: Permission
    everywhere: bool = False

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        """Raise Forbidden unless the caller may."""
        who = caller(request)
        if not who.may(self.permission):
            raise Forbidden(f"a key of role {who.role!r} lacks the permission {self.permission!r}")
        if self.everywhere and who.reach != "platform":
            raise OutOfReach(f"this is for keys that reach the whole platform, not only a {who.reach}")


def caller(request: Request) -> Principal:
    """Return who asks, as the door found out."""
    principal: Principal = request.state.principal
    return principal


async def _caller(request: Request) -> Principal:
    return caller(request)


Caller = Annotated[Principal, Depends(_caller)]
"""Type of a route's parameter that receives who asks."""


async def _address_of(request: Request) -> str:
    address: str = request.state.address
    return address


Address = Annotated[str, Depends(_address_of)]
"""Type of a route's parameter that receives where the request comes from."""


def check_bounding(who: Principal, scope: access.LimitScope) -> None:
    """Raise OutOfReach unless the caller may bound what a ``scope`` uses: who is bounded does not set the bound."""
    width = {"key": 0, "project": 1, "tenant": 2}[scope]
    if access.WIDTH[who.reach] < width:
        raise OutOfReach(f"a key that reaches a {who.reach} sets no bounds to a {scope}")


def needs(permission: Permission, *, everywhere: bool = False) -> Any:
    """Return the dependency that asks for ``permission``."""
    return Depends(Permit(permission, everywhere))


@dataclass(frozen=True, slots=True)
class Route:
    """One line of a router's table; ``options`` go to FastAPI. ``everywhere``: for who reaches the whole platform.

    No ``permission``: it is one of :data:`PUBLIC`, and needs no key.
    """

    method: str
    path: str
    permission: Permission | None
    endpoint: Callable[..., Any]
    status: int = 200
    options: dict[str, Any] | None = None
    everywhere: bool = False


def table(stage: str, *routes: Route) -> APIRouter:
    """Make the router of a stage."""
    router = APIRouter(prefix=PREFIX, tags=[stage], responses=PROBLEMS)
    for route in routes:
        permits = [needs(route.permission, everywhere=route.everywhere)] if route.permission else []
        assert permits or (route.method, PREFIX + route.path) in PUBLIC, route
        router.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            status_code=route.status,
            dependencies=permits,
            operation_id=route.endpoint.__name__,
            **_described(route),
        )
    return router


def _described(route: Route) -> dict[str, Any]:
    """Return a route's options; its description says what permission and reach it takes."""
    options = route.options or {}
    if route.permission is None:
        return options
    needed = {"x-mofang-permission": route.permission, "x-mofang-reach": "platform" if route.everywhere else "project"}
    return {**options, "openapi_extra": {**options.get("openapi_extra", {}), **needed}}
