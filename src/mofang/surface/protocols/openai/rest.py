"""The paths under ``/v1``, OpenAI's and Anthropic's: from an HTTP request to an HTTP answer, or a stream of events.

The gateway calls :meth:`OpenAi.respond` with complete requests. A model of these APIs is an endpoint here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import EndpointNotFound, MethodNotAllowed, MofangError, NotFound, RouteNotFound
from mofang.base.domain.generation import Order
from mofang.base.identity.deputies import is_word
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import check_infers
from mofang.run.serve.generate import Generation, Generator
from mofang.sell.meter.limits import Standings
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream, credentials, rate_headers
from mofang.surface.protocols.lane import Lane, deadline_seconds
from mofang.surface.protocols.openai import messages, messages_answers, responses
from mofang.surface.protocols.openai.answers import ChatShape, Completion, Shape, TextShape
from mofang.surface.protocols.openai.audio import transcribe
from mofang.surface.protocols.openai.embeddings import Asker, EmbeddingRequest, RerankRequest, embed, rerank
from mofang.surface.protocols.openai.errors import error_reply
from mofang.surface.protocols.openai.models import describe
from mofang.surface.protocols.openai.moderations import ModerationRequest, moderate
from mofang.surface.protocols.openai.orders import Terms, chat_orders, forced_calls, text_orders, tool_names
from mofang.surface.protocols.openai.requests import ChatRequest, CompletionRequest, parse
from mofang.surface.protocols.openai.responses_answers import Response
from mofang.surface.protocols.repeat import HEADER, named, question_of, reply_once
from mofang.surface.protocols.telling import answer

_REQUEST_ID = re.compile(r"req_[0-9a-z]{26}")
_TIMEOUT_SECONDS = 600.0  # for callers who name no deadline: the patience of OpenAI's own client

Reply = HttpResponse | HttpStream


class OpenAi:
    """Answers everything under ``/v1``. Errors are rendered inside; only cancellation leaves."""

    def __init__(
        self,
        lane: Lane,
        generator: Generator,
        standing: Callable[[Principal], Standings | None] = lambda _: None,
        once: Once | None = None,
    ) -> None:
        self._lane = lane
        self._once = once
        self._generator = generator
        self._standing = standing

    async def respond(self, request: HttpRequest, request_id: str) -> Reply:
        """Answer one request."""
        reply: Reply
        refuse = refusal_of(request.path)
        try:
            told = credentials(request.headers), request.client, request.headers.get("x-forwarded-for")
            principal = self._lane.authenticate(*told)
            request_id = _own_id(request, told[0]) or request_id
            try:
                reply = await self._dispatch(request, principal, request_id)
            except Exception as error:
                self._tell_refused(error, request, request_id, principal)
                reply = refuse(error, request_id)
            reply.headers.extend(rate_headers(self._standing(principal)))
        except Exception as error:
            self._tell_refused(error, request, request_id)
            reply = refuse(error, request_id)
        return named(reply, request_id)

    def _tell_refused(
        self, error: Exception, request: HttpRequest, request_id: str, principal: Principal | None = None
    ) -> None:
        """Tell those who look at requests, of one to infer; which model it named is not known here."""
        if isinstance(error, MofangError) and request.path.removeprefix("/v1/").rstrip("/") in self._answers:
            self._lane.refused(error, request_id, "", principal, len(request.body))

    async def _dispatch(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        path = request.path if "%" not in request.path else unquote(request.path)
        parts = path.rstrip("/").split("/")[2:]
        if parts[:1] == ["models"] and len(parts) <= 2:
            _check_method(request, "GET")
            return _json(self._model(principal, parts[1]) if len(parts) == 2 else self._models(principal))
        respond = self._answers.get("/".join(parts))
        if respond is None:
            raise RouteNotFound(f"no such path: {request.path[:200]!r}", hint="see the list of paths under /v1")
        _check_method(request, "POST")
        check_infers(principal)
        key = request.headers.get(HEADER)
        if key is None or self._once is None:
            return await respond(self, request, principal, request_id)
        question = question_of(request, principal)
        work = partial(respond, self, request, principal)
        return await reply_once(self._once, principal, key, question, request_id, _deadline(request), work)

    # --- models -------------------------------------------------------------------------------------------------------

    def _models(self, principal: Principal) -> dict[str, Any]:
        found = []
        for name in self._lane.names(principal):
            if principal.may_ask(name):
                with suppress(NotFound):  # it has no revision yet
                    route = self._lane.route(principal, name)
                    profile = self._generator.profile(route)
                    found += [describe(form, profile) for form in route.revision.forms]
        ids = [each["id"] for each in found] or [None]
        return {"object": "list", "data": found, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}

    def _model(self, principal: Principal, name: str) -> dict[str, Any]:
        endpoint, _, adapter = name.partition(":")
        if not principal.may_ask(endpoint):
            raise EndpointNotFound(f"there is no endpoint {name[:80]!r}")
        route = self._lane.route(principal, endpoint)
        revision = route.revision.adapted(adapter) if adapter else route.revision
        return describe(revision, self._generator.profile(route))

    # --- what generates -----------------------------------------------------------------------------------------------

    async def _chat(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, ChatRequest)
        generation, names, forced = self._converse(asked, request, principal, request_id)
        return await self._complete(generation, ChatShape(asked.n or 1, names, forced=forced), asked)

    async def _text(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, CompletionRequest)
        orders = text_orders(asked, Terms(request_id, principal.tenant, _deadline(request)))
        generation = self._begin(asked.model, orders, request, principal, prompts=len(asked.prompts))
        return await self._complete(generation, TextShape(), asked)

    async def _complete(self, generation: Generation, shape: Shape, asked: ChatRequest | CompletionRequest) -> Reply:
        stream = bool(asked.stream)
        teller = Completion(shape, asked.model, generation.revision, stream=stream, told=asked.include_usage)
        return await answer(generation, teller, stream=stream)

    async def _response(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, responses.ResponseRequest)
        generation, names, forced = self._converse(responses.chat_of(asked), request, principal, request_id)
        return await answer(generation, Response(asked, names, forced=forced), stream=bool(asked.stream))

    async def _message(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, messages.MessageRequest)
        generation, names, forced = self._converse(messages.chat_of(asked), request, principal, request_id)
        teller = messages_answers.Message(asked.model, names, forced=forced)
        return await answer(generation, teller, stream=bool(asked.stream))

    def _converse(
        self, asked: ChatRequest, request: HttpRequest, principal: Principal, request_id: str
    ) -> tuple[Generation, frozenset[str], bool]:
        """Begin a conversation's streams; also return the functions that may be called, and whether one has to be."""
        orders = chat_orders(asked, Terms(request_id, principal.tenant, _deadline(request)))
        names = frozenset() if asked.tool_choice == "none" else tool_names(asked.tools)
        return self._begin(asked.model, orders, request, principal), names, bool(forced_calls(asked))

    def _begin(
        self, model: str, orders: Sequence[Order], request: HttpRequest, principal: Principal, prompts: int = 1
    ) -> Generation:
        return self._generator.begin(model, orders, principal, input_bytes=len(request.body), prompts=prompts)

    # --- vectors ------------------------------------------------------------------------------------------------------

    async def _embed(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, EmbeddingRequest)
        return _json(await embed(asked, self._asker(request, principal, request_id)))

    async def _rerank(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, RerankRequest)
        return _json(await rerank(asked, self._asker(request, principal, request_id)))

    async def _moderate(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, ModerationRequest)
        return _json(await moderate(asked, self._lane, request, principal, request_id))

    def _asker(self, request: HttpRequest, principal: Principal, request_id: str) -> Asker:
        return Asker(self._lane, principal, request_id, _deadline(request), len(request.body))

    # --- recordings ---------------------------------------------------------------------------------------------------

    async def _transcribe(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        return await transcribe(self._lane, request, principal, request_id, _deadline(request), translate=False)

    async def _translate(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        return await transcribe(self._lane, request, principal, request_id, _deadline(request), translate=True)

    _answers: dict[str, Callable[[OpenAi, HttpRequest, Principal, str], Awaitable[Reply]]] = {  # noqa: RUF012
        "chat/completions": _chat,
        "completions": _text,
        "responses": _response,
        "messages": _message,
        "embeddings": _embed,
        "rerank": _rerank,
        "moderations": _moderate,
        "audio/transcriptions": _transcribe,
        "audio/translations": _translate,
    }


def refusal_of(path: str) -> Callable[[Exception, str], HttpResponse]:
    """Return how errors look to those who ask there."""
    if path.startswith("/v1/messages"):
        return messages_answers.error_reply
    return partial(error_reply, names=responses.NAMES) if path.startswith("/v1/responses") else error_reply


def _own_id(request: HttpRequest, authorization: str | None) -> str:
    """Return the request's own id, if it is a batch's: one that is asked again is billed once. Else nothing."""
    name = request.headers.get("x-request-id", "")
    is_batch = authorization is not None and is_word(authorization.removeprefix("Bearer "))
    return name if is_batch and _REQUEST_ID.fullmatch(name) else ""


def _check_method(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowed(f"{request.path} takes {method}, not {request.method}")


def _deadline(request: HttpRequest) -> float:
    return time.monotonic() + deadline_seconds(request.headers, _TIMEOUT_SECONDS)


def _json(value: Any) -> HttpResponse:
    return HttpResponse(200, [("content-type", "application/json")], msgspec.json.encode(value))
