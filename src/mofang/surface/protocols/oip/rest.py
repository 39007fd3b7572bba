"""The paths of the Open Inference Protocol under ``/v2``: from an HTTP request to an HTTP answer.

The gateway calls :meth:`OipRest.start` with complete requests. Paths: ``/v2``, ``/v2/health/live``,
``/v2/health/ready``, ``/v2/models/M[/versions/V]`` alone or followed by ``/ready``, ``/infer`` or ``/stats``,
``/v2/models/stats`` and ``/v2/repository/index``. A model of the protocol is an endpoint here. The health of the server
needs no key; whether a model is ready is told to those for whom it exists.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from mofang import __version__
from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import (
    Exhausted,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    MofangError,
    NotFound,
    ReplicaUnavailable,
    RouteNotFound,
)
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.tensors import TensorSpec
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import check_role
from mofang.run.serve.passage import Told
from mofang.run.serve.visits import TRACE_PARENT, TRACE_RESPONSE
from mofang.sell.meter.limits import Standings
from mofang.surface.protocols.http import HttpRequest, HttpResponse, RequestHead, Running, error_response, rate_headers
from mofang.surface.protocols.lane import (
    DEFAULT_TIMEOUT_SECONDS,
    PartyLane,
    check_target,
    deadline_seconds,
    refuse_loading,
)
from mofang.surface.protocols.oip import memory
from mofang.surface.protocols.oip.codec import JSON_LENGTH, Wants, parse_infer
from mofang.surface.protocols.oip.render import answer_lines, render_infer
from mofang.surface.protocols.oip.together import Note, Together
from mofang.surface.protocols.regions import Regions
from mofang.surface.protocols.repeat import HEADER, reply_once

EXTENSIONS = ("binary_tensor_data", "generate", "model_repository", "statistics")
_log = logging.getLogger(__name__)

_PATHS_KEPT = 4096
_ALONE = frozenset({HEADER, TRACE_PARENT})  # header fields of requests that are looked at one by one

Reply = Callable[[HttpResponse], None]


class OipRest:
    """Answers everything under ``/v2``. Errors are rendered inside; only cancellation leaves."""

    def __init__(
        self,
        lane: PartyLane,
        standing: Callable[[Principal], Standings | None] = lambda _: None,
        once: Once | None = None,
        regions: Regions | None = None,
    ) -> None:
        self._lane = lane
        self._once = once
        self._regions = regions or Regions()
        self.standing = standing
        self._targets: dict[str, tuple[str, str]] = {}  # endpoint and version of paths that were asked to infer
        self._together: dict[tuple[str, str, float], Together] = {}  # by target and time-out

    async def respond(self, request: HttpRequest, request_id: str) -> HttpResponse:
        """Answer one request."""
        answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()

        def reply(response: HttpResponse) -> None:
            if not answer.done():
                answer.set_result(response)

        passage = self.start(request, request_id, reply)
        try:
            return await answer
        finally:
            if passage is not None:
                passage.cancel()  # does nothing unless it was us who was cancelled

    def start(self, request: HttpRequest, request_id: str, reply: Reply) -> Running | None:
        """Answer one request by calling ``reply``: now (and return None), or later, unless the passage is cancelled."""
        try:
            target = self._targets.get(request.path)
            response = (
                self._infer(request, *target, request_id, reply)
                if target is not None
                else self._dispatch(request, request_id, reply)
            )
            if not isinstance(response, HttpResponse):
                return response  # a passage, or None: refused for now, and answered already
        except Exception as error:
            response = failure(error, request_id)
        response.headers.append(("x-request-id", request_id))
        reply(response)
        return None

    def _dispatch(self, request: HttpRequest, request_id: str, reply: Reply) -> HttpResponse | Running | None:
        path = request.path if "%" not in request.path else unquote(request.path)
        match path.rstrip("/").split("/")[2:]:
            case ["models", name, "infer"]:
                return self._infer(request, name, "", request_id, reply)
            case ["models", name, "versions", version, "infer"]:
                return self._infer(request, name, version, request_id, reply)
            case ["models", name, "ready"]:
                return self._model_ready(request, name, "")
            case ["models", name, "versions", version, "ready"]:
                return self._model_ready(request, name, version)
            case ["models", name, "stats"]:
                return self._stats(request, name, "")
            case ["models", name, "versions", version, "stats"]:
                return self._stats(request, name, version)
            case ["models", "stats"]:
                return self._stats(request, "", "")
            case ["models", name]:
                return self._model(request, name, "")
            case ["models", name, "versions", version]:
                return self._model(request, name, version)
            case ["health", "live"]:
                return self._health(request, "live", True)
            case ["health", "ready"]:
                return self._health(request, "ready", self._lane.ready)
            case ["repository", "index"]:
                return self._index(request)
            case ["repository", "models", name, "load" | "unload"]:
                self._holder(request)
                _check_method(request, "POST")
                raise refuse_loading(name)
            case ["systemsharedmemory", *rest]:
                return memory.answer(request, self._regions.of(self._holder(request), _origin(request)), rest)
            case []:
                return self._server(request)
            case _:
                self._holder(request)
                raise RouteNotFound(
                    f"no such path: {request.path[:200]!r}",
                    hint="the protocol's paths start with /v2/health, /v2/models and /v2/repository",
                )

    def _holder(self, request: HttpRequest) -> Principal:
        headers = request.headers
        return self._lane.authenticate(headers.get("authorization"), request.client, headers.get("x-forwarded-for"))

    def _infer(self, request: HttpRequest, name: str, version: str, request_id: str, reply: Reply) -> Running | None:
        principal = self._holder(request)
        _check_method(request, "POST")
        if request.path not in self._targets:
            check_target(name, version)
            if len(self._targets) < _PATHS_KEPT:
                self._targets[request.path] = (name, version)
        received = time.monotonic()
        deadline = received + deadline_seconds(request.headers, DEFAULT_TIMEOUT_SECONDS)
        if HEADER in request.headers and self._once is not None:
            return asyncio.get_running_loop().create_task(
                self._infer_once(self._once, request, name, version, principal, request_id, deadline, reply)
            )
        reach = partial(self._regions.of, principal, _origin(request))
        asked, wants = parse_infer(name, version, request.headers, request.body, received, reach)
        told = self.teller(wants, principal, request_id, reply)
        try:
            return self._lane.start(
                asked, principal, request_id=request_id, deadline=deadline, input_bytes=len(request.body), told=told
            )
        except Exhausted as error:
            reply(self._outcome(error, wants, principal, request_id))
            return None

    def note(self, head: RequestHead) -> Note | None:
        """Return what a head means that asks for an inference, so that such requests can be answered together."""
        if head.method != "POST" or not _ALONE.isdisjoint(head.headers):
            return None
        length = head.headers.get(JSON_LENGTH)
        if length is not None and not re.fullmatch("[1-9][0-9]{0,6}", length):
            return None
        try:
            target = _infer_target(head.path)
            if target is None:
                return None
            check_target(*target)
            key = (*target, deadline_seconds(head.headers, DEFAULT_TIMEOUT_SECONDS))
        except MofangError:
            return None
        together = self._together.get(key)
        if together is None:
            if len(self._together) >= _PATHS_KEPT:
                self._together.clear()
            together = self._together[key] = Together(self._lane, self, *key)
        authorization, forwarded_for = head.headers.get("authorization"), head.headers.get("x-forwarded-for")
        return Note(together, authorization, forwarded_for, int(length or 0))

    def teller(self, wants: Wants, principal: Principal, request_id: str, reply: Reply) -> Told:
        """Return what to call with the outcome of a request."""

        def told(outcome: InferResponse | Exception) -> None:
            try:
                response = self._outcome(outcome, wants, principal, request_id)
            except Exception as error:
                response = failure(error, request_id)
                response.headers.append(("x-request-id", request_id))
            reply(response)

        return told

    async def _infer_once(
        self,
        store: Once,
        request: HttpRequest,
        name: str,
        version: str,
        principal: Principal,
        request_id: str,
        deadline: float,
        reply: Reply,
    ) -> None:
        """Answer a request with an idempotency key, which may have been answered before."""

        async def work(request_id: str) -> HttpResponse:
            reach = partial(self._regions.of, principal, _origin(request))
            asked, wants = parse_infer(name, version, request.headers, request.body, memory=reach)
            answer = await self._lane.infer(
                asked, principal, request_id=request_id, deadline=deadline, input_bytes=len(request.body)
            )
            return _answer(answer, wants, request_id)

        said = (request.path, request.headers.get(JSON_LENGTH, ""), request.headers.get("content-type", ""))
        question = "\0".join(("rest", *said, "")).encode() + request.body
        try:
            check_role(principal, name)
            key = request.headers[HEADER]
            response = await reply_once(store, principal, key, question, request_id, deadline, work)
            assert isinstance(response, HttpResponse)
        except Exception as error:
            response = failure(error, request_id)
            response.headers.append(("x-request-id", request_id))
        response.headers.extend(rate_headers(self.standing(principal)))
        reply(response)

    def _outcome(
        self, outcome: InferResponse | Exception, wants: Wants, principal: Principal, request_id: str
    ) -> HttpResponse:
        if isinstance(outcome, InferResponse):
            response = _answer(outcome, wants, request_id)
        elif isinstance(outcome, Exhausted):
            response = error_response(outcome)
            response.headers.append(("x-request-id", request_id))
        else:
            raise outcome
        response.headers.extend(rate_headers(self.standing(principal)))
        return response

    def _model_ready(self, request: HttpRequest, name: str, version: str) -> HttpResponse:
        principal = self._holder(request)
        _check_method(request, "GET")
        check_target(name, version)
        if not self._lane.is_ready(principal, name, version):
            route = self._lane.route(principal, name, version)
            raise ReplicaUnavailable(f"endpoint {name!r} is not ready{_because(route)}")
        return _json({"name": name, "ready": True})

    def _model(self, request: HttpRequest, name: str, version: str) -> HttpResponse:
        principal = self._holder(request)
        _check_method(request, "GET")
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

    def _stats(self, request: HttpRequest, name: str, version: str) -> HttpResponse:
        principal = self._holder(request)
        _check_method(request, "GET")
        if name:
            check_target(name, version)
        return _json({"model_stats": self._lane.statistics(principal, name, version)})

    def _health(self, request: HttpRequest, what: str, well: bool) -> HttpResponse:
        _check_method(request, "GET")
        return _json({what: well}, status=200 if well else 503)

    def _server(self, request: HttpRequest) -> HttpResponse:
        self._holder(request)
        _check_method(request, "GET")
        return _json({"name": "mofang", "version": __version__, "extensions": [*EXTENSIONS, *self._regions.extensions]})

    def _index(self, request: HttpRequest) -> HttpResponse:
        principal = self._holder(request)
        _check_method(request, "POST")
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


def _answer(answer: InferResponse, wants: Wants, request_id: str) -> HttpResponse:
    body, json_length = render_infer(answer, wants)
    lines = answer_lines(answer.version, answer.revision, answer.digest, binary=json_length is not None).decode()
    headers = [] if json_length is None else [(JSON_LENGTH, str(json_length))]
    if answer.trace:
        headers.append((TRACE_RESPONSE, answer.trace))
    if answer.timing:
        lines += f"server-timing: {answer.timing}\r\n"
    return HttpResponse(200, headers, body, f"{lines}x-request-id: {request_id}\r\n")


def failure(error: Exception, request_id: str) -> HttpResponse:
    """Return the answer to a request that failed; of a defect only that there is one."""
    if isinstance(error, MofangError):
        return error_response(error)
    _log.error("request %s failed", request_id, exc_info=error)
    return error_response(Internal("the server failed on this request"))


class _IndexBody(msgspec.Struct):
    ready: bool = False


def _index_filter(body: bytes) -> bool:
    if not body:
        return False
    try:
        return msgspec.json.decode(body, type=_IndexBody).ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not an index request: {error}") from None


def _origin(request: HttpRequest) -> str:
    """Return where the request comes from, as far as it says: a proxy on this machine does not make it local."""
    return request.headers.get("x-forwarded-for", request.client)


def _check_method(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowed(f"{request.path} takes {method}, not {request.method}")


def _infer_target(path: str) -> tuple[str, str] | None:
    """Return endpoint and version of a path that asks to infer."""
    match (path if "%" not in path else unquote(path)).rstrip("/").split("/"):
        case ["", "v2", "models", name, "infer"]:
            return name, ""
        case ["", "v2", "models", name, "versions", version, "infer"]:
            return name, version
    return None


def _because(route: Route) -> str:
    return f": {route.broken}" if route.broken else ""


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _json(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status, [("content-type", "application/json")], msgspec.json.encode(value))
