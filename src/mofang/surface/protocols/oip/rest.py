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
from urllib.parse import unquote

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import (
    Exhausted,
    Internal,
    MofangError,
)
from mofang.base.domain.inference import InferRequest, InferResponse
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
    tell_refused,
)
from mofang.surface.protocols.oip import memory
from mofang.surface.protocols.oip.bare import is_bare, parse_bare
from mofang.surface.protocols.oip.codec import JSON_LENGTH, Wants, parse_infer
from mofang.surface.protocols.oip.looks import Looks, check_method
from mofang.surface.protocols.oip.render import answer_lines, render_infer
from mofang.surface.protocols.oip.together import Note, Together
from mofang.surface.protocols.regions import Regions
from mofang.surface.protocols.repeat import HEADER, reply_once

_log = logging.getLogger(__name__)

_PATHS_KEPT = 4096

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
        self._looks = Looks(lane, self._regions.extensions)
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
            self._tell_refused(error, request, request_id)
            response = failure(error, request_id)
        response.headers.append(("x-request-id", request_id))
        reply(response)
        return None

    def _tell_refused(self, error: Exception, request: HttpRequest, request_id: str) -> None:
        target = _infer_target(request.path)
        if target is not None:
            size, holder = len(request.body), partial(self._holder, request)
            tell_refused(self._lane, error, request_id, target[0], size, holder)

    def _dispatch(self, request: HttpRequest, request_id: str, reply: Reply) -> HttpResponse | Running | None:
        path = request.path if "%" not in request.path else unquote(request.path)
        match path.rstrip("/").split("/")[2:]:
            case ["models", name, "infer"]:
                return self._infer(request, name, "", request_id, reply)
            case ["models", name, "versions", version, "infer"]:
                return self._infer(request, name, version, request_id, reply)
            case ["systemsharedmemory", *rest]:
                return memory.answer(request, self._regions.of(self._holder(request), _origin(request)), rest)
            case rest:
                return self._looks.answer(request, rest, partial(self._holder, request))

    def _holder(self, request: HttpRequest) -> Principal:
        headers = request.headers
        return self._lane.authenticate(headers.get("authorization"), request.client, headers.get("x-forwarded-for"))

    def _infer(self, request: HttpRequest, name: str, version: str, request_id: str, reply: Reply) -> Running | None:
        principal = self._holder(request)
        check_method(request, "POST")
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
        asked, wants = self._parse(request, name, version, principal, received)
        told = self.teller(wants, principal, request_id, reply)
        try:
            return self._lane.start(
                asked, principal, request_id=request_id, deadline=deadline, input_bytes=len(request.body), told=told
            )
        except Exhausted as error:
            reply(self._outcome(error, wants, principal, request_id))
            return None

    def _parse(
        self, request: HttpRequest, name: str, version: str, principal: Principal, received: float = 0.0
    ) -> tuple[InferRequest, Wants]:
        if is_bare(request.headers):
            signature = self._lane.route(principal, name, version).revision.signature
            return parse_bare(name, version, signature, request.headers, request.body, received)
        reach = partial(self._regions.of, principal, _origin(request))
        return parse_infer(name, version, request.headers, request.body, received, reach)

    def note(self, head: RequestHead) -> Note | None:
        """Return what a head means that asks for an inference, so that such requests can be answered together."""
        if head.method != "POST" or HEADER in head.headers:
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
        return Note(together, authorization, forwarded_for, int(length or 0), head.headers.get(TRACE_PARENT))

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
            asked, wants = self._parse(request, name, version, principal)
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
            self._tell_refused(error, request, request_id)
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


def _origin(request: HttpRequest) -> str:
    """Return where the request comes from, as far as it says: a proxy on this machine does not make it local."""
    return request.headers.get("x-forwarded-for", request.client)


def _infer_target(path: str) -> tuple[str, str] | None:
    """Return endpoint and version of a path that asks to infer."""
    match (path if "%" not in path else unquote(path)).rstrip("/").split("/"):
        case ["", "v2", "models", name, "infer"]:
            return name, ""
        case ["", "v2", "models", name, "versions", version, "infer"]:
            return name, version
    return None
