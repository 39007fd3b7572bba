"""The paths of the shared memory extension: ``/v2/systemsharedmemory/...``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mofang.base.domain.errors import InvalidRequest, MethodNotAllowed, RouteNotFound
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.regions import Memory, Region


class Registration(msgspec.Struct):
    """The shared memory ``key`` that a region shall stand for."""

    key: str
    byte_size: int
    offset: int = 0


def answer(request: HttpRequest, memory: Memory, path: Sequence[str]) -> HttpResponse:
    """Answer what is asked about regions; ``path`` is what follows ``systemsharedmemory``."""
    match path:
        case ["status"]:
            return _list(request, memory, "")
        case ["region", name, "status"]:
            return _list(request, memory, name)
        case ["region", name, "register"]:
            _check(request, "POST")
            memory.register(_region(name, request.body))
        case ["region", name, "unregister"]:
            _check(request, "POST")
            memory.unregister(name)
        case ["unregister"]:
            _check(request, "POST")
            memory.unregister()
        case _:
            raise RouteNotFound(f"no such path: {request.path[:200]!r}")
    return HttpResponse(200, [("content-type", "application/json")], b"{}")


def _list(request: HttpRequest, memory: Memory, name: str) -> HttpResponse:
    _check(request, "GET")
    return HttpResponse(200, [("content-type", "application/json")], msgspec.json.encode(memory.list(name)))


def _region(name: str, body: bytes) -> Region:
    try:
        said = msgspec.json.decode(body, type=Registration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not a registration of shared memory: {error}") from None
    return Region(name, said.key, said.offset, said.byte_size)


def _check(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowed(f"{request.path} takes {method}, not {request.method}")
