"""What clients ask of the protocol besides inferences: health, metadata, statistics, the repository's index.

``rest`` hands over what follows ``/v2/``, and how to learn who asks; the health of the server needs no key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mofang import __version__
from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ReplicaUnavailable,
    RouteNotFound,
)
from mofang.base.domain.tensors import TensorSpec
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.lane import Lane, check_target, refuse_loading

EXTENSIONS = ("binary_tensor_data", "generate", "model_repository", "statistics")

Holder = Callable[[], Principal]
"""Return who asks; raise Unauthenticated or OutOfNetwork."""


class Looks:
    """Answers about what is there; ``extensions`` are served besides the usual ones."""

    def __init__(self, lane: Lane, extensions: Sequence[str]) -> None:
        self._lane = lane
        self._extensions = extensions

    def answer(self, request: HttpRequest, path: Sequence[str], holder: Holder) -> HttpResponse:
        """Answer one request. Raises RouteNotFound for a path that is none, and what the lane raises."""
        match path:
            case ["models", name, "ready"]:
                return self._model_ready(request, holder, name, "")
            case ["models", name, "versions", version, "ready"]:
                return self._model_ready(request, holder, name, version)
            case ["models", name, "stats"]:
                return self._stats(request, holder, name, "")
            case ["models", name, "versions", version, "stats"]:
                return self._stats(request, holder, name, version)
            case ["models", "stats"]:
                return self._stats(request, holder, "", "")
            case ["models", name]:
                return self._model(request, holder, name, "")
            case ["models", name, "versions", version]:
                return self._model(request, holder, name, version)
            case ["health", "live"]:
                return self._health(request, "live", True)
            case ["health", "ready"]:
                return self._health(request, "ready", self._lane.ready)
            case ["repository", "index"]:
                return self._index(request, holder)
            case ["repository", "models", name, "load" | "unload"]:
                holder()
                check_method(request, "POST")
                raise refuse_loading(name)
            case []:
                return self._server(request, holder)
            case _:
                holder()
                raise RouteNotFound(
                    f"no such path: {request.path[:200]!r}",
                    hint="the protocol's paths start with /v2/health, /v2/models and /v2/repository",
                )

    def _model_ready(self, request: HttpRequest, holder: Holder, name: str, version: str) -> HttpResponse:
        principal = holder()
        check_method(request, "GET")
        check_target(name, version)
        if not self._lane.is_ready(principal, name, version):
            route = self._lane.route(principal, name, version)
            raise ReplicaUnavailable(f"endpoint {name!r} is not ready{_because(route)}")
        return _json({"name": name, "ready": True})

    def _model(self, request: HttpRequest, holder: Holder, name: str, version: str) -> HttpResponse:
        principal = holder()
        check_method(request, "GET")
        check_target(name, version)
        revision = self._lane.route(principal, name, version).revision
        return _json(
            {
                "name": name,
                "versions": [str(revision.version)],
                "platform": revision.engine,
                "inputs": [_spec(spec) for spec in revision.signature.inputs],
                "outputs": [_spec(spec) for spec in revision.signature.outputs],
            }
        )

    def _stats(self, request: HttpRequest, holder: Holder, name: str, version: str) -> HttpResponse:
        principal = holder()
        check_method(request, "GET")
        if name:
            check_target(name, version)
        return _json({"model_stats": self._lane.statistics(principal, name, version)})

    def _health(self, request: HttpRequest, what: str, well: bool) -> HttpResponse:
        check_method(request, "GET")
        return _json({what: well}, status=200 if well else 503)

    def _server(self, request: HttpRequest, holder: Holder) -> HttpResponse:
        holder()
        check_method(request, "GET")
        return _json({"name": "mofang", "version": __version__, "extensions": [*EXTENSIONS, *self._extensions]})

    def _index(self, request: HttpRequest, holder: Holder) -> HttpResponse:
        principal = holder()
        check_method(request, "POST")
        only_ready = _index_filter(request.body)
        entries = [self._index_entry(principal, name) for name in self._lane.names(principal)]
        return _json([entry for entry in entries if not only_ready or entry["state"] == "READY"])

    def _index_entry(self, principal: Principal, name: str) -> dict[str, str]:
        try:
            route = self._lane.route(principal, name)
        except NotFound as error:
            return {"name": name, "version": "", "state": "UNAVAILABLE", "reason": error.message}
        state = "READY" if self._lane.is_ready(principal, name) else "UNAVAILABLE"
        return {"name": name, "version": str(route.revision.version), "state": state, "reason": route.broken}


def check_method(request: HttpRequest, method: str) -> None:
    """Raise MethodNotAllowed for any other method."""
    if request.method != method:
        raise MethodNotAllowed(f"{request.path} takes {method}, not {request.method}")


class IndexRequest(msgspec.Struct):
    """What of the repository's index is wanted."""

    ready: bool = False


def _index_filter(body: bytes) -> bool:
    if not body:
        return False
    try:
        return msgspec.json.decode(body, type=IndexRequest).ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not an index request: {error}") from None


def _because(route: Route) -> str:
    return f": {route.broken}" if route.broken else ""


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _json(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status, [("content-type", "application/json")], msgspec.json.encode(value))
