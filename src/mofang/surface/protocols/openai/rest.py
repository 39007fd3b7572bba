"""The paths of the OpenAI API under ``/v1``: from an HTTP request to an HTTP answer, or a stream of events.

The gateway calls :meth:`OpenAi.respond` with complete requests. A model of the API is an endpoint here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import EndpointNotFound, InvalidRequest, MethodNotAllowed, NotFound, RouteNotFound
from mofang.base.domain.generation import Delta
from mofang.run.serve.generate import Generation, Generator
from mofang.sell.meter.limits import Standing
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream, rate_headers
from mofang.surface.protocols.lane import MAX_TIMEOUT_SECONDS, Lane
from mofang.surface.protocols.openai.answers import DONE, ChatShape, Envelope, Shape, TextShape, event, usage_of
from mofang.surface.protocols.openai.embeddings import Asker, EmbeddingRequest, RerankRequest, embed, rerank
from mofang.surface.protocols.openai.errors import describe, error_reply
from mofang.surface.protocols.openai.orders import (
    Terms,
    chat_orders,
    forced_calls,
    prompts_of,
    text_orders,
    tool_names,
)
from mofang.surface.protocols.openai.requests import ChatRequest, CompletionRequest, parse

_TIMEOUT_SECONDS = 600.0  # for callers who name no deadline: the patience of OpenAI's own client
_MOST_TIMEOUT_MS = int(MAX_TIMEOUT_SECONDS * 1000)

Reply = HttpResponse | HttpStream


class OpenAi:
    """Answers everything under ``/v1``. Errors are rendered inside; only cancellation leaves."""

    def __init__(
        self, lane: Lane, generator: Generator, standing: Callable[[Principal], Standing | None] = lambda _: None
    ) -> None:
        self._lane = lane
        self._generator = generator
        self._standing = standing

    async def respond(self, request: HttpRequest, request_id: str) -> Reply:
        """Answer one request."""
        reply: Reply
        try:
            headers = request.headers
            told = headers.get("authorization"), request.client, headers.get("x-forwarded-for")
            principal = self._lane.authenticate(*told)
            try:
                reply = await self._dispatch(request, principal, request_id)
            except Exception as error:
                reply = error_reply(error, request_id)
            reply.headers.extend(rate_headers(self._standing(principal)))
        except Exception as error:
            reply = error_reply(error, request_id)
        reply.headers.append(("x-request-id", request_id))
        return reply

    async def _dispatch(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        path = request.path if "%" not in request.path else unquote(request.path)
        match path.rstrip("/").split("/")[2:]:
            case ["models"]:
                _check_method(request, "GET")
                return _json({"object": "list", "data": self._models(principal)})
            case ["models", name]:
                _check_method(request, "GET")
                return _json(self._model(principal, name))
            case ["chat", "completions"]:
                _check_method(request, "POST")
                return await self._chat(request, principal, request_id)
            case ["completions"]:
                _check_method(request, "POST")
                return await self._complete(request, principal, request_id)
            case ["embeddings"]:
                _check_method(request, "POST")
                wanted = parse(request.body, EmbeddingRequest)
                return _json(await embed(wanted, self._asker(request, principal, request_id)))
            case ["rerank"]:
                _check_method(request, "POST")
                asked = parse(request.body, RerankRequest)
                return _json(await rerank(asked, self._asker(request, principal, request_id)))
            case _:
                raise RouteNotFound(f"no such path: {request.path[:200]!r}", hint="see the list of paths under /v1")

    def _asker(self, request: HttpRequest, principal: Principal, request_id: str) -> Asker:
        return Asker(self._lane, principal, request_id, _deadline(request), len(request.body))

    # --- models -------------------------------------------------------------------------------------------------------

    def _models(self, principal: Principal) -> list[dict[str, Any]]:
        found = []
        for name in self._lane.names(principal):
            if principal.may_ask(name):
                with suppress(NotFound):  # it has no revision yet
                    found.append(_describe(self._lane.route(principal, name).revision))
        return found

    def _model(self, principal: Principal, name: str) -> dict[str, Any]:
        if not principal.may_ask(name):
            raise EndpointNotFound(f"there is no endpoint {name[:80]!r}")
        return _describe(self._lane.route(principal, name).revision)

    # --- completions --------------------------------------------------------------------------------------------------

    async def _chat(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, ChatRequest)
        orders = chat_orders(asked, Terms(request_id, principal.tenant, _deadline(request)))
        generation = self._generator.begin(asked.model, orders, principal, input_bytes=len(request.body))
        names = frozenset() if asked.tool_choice == "none" else tool_names(asked.tools)
        shape = ChatShape(len(orders), names, forced=bool(forced_calls(asked)))
        kind = "chat.completion.chunk" if asked.stream else "chat.completion"
        return await self._answer(generation, shape, kind, "chatcmpl", asked)

    async def _complete(self, request: HttpRequest, principal: Principal, request_id: str) -> Reply:
        asked = parse(request.body, CompletionRequest)
        orders = text_orders(asked, Terms(request_id, principal.tenant, _deadline(request)))
        prompts = len(prompts_of(asked))
        generation = self._generator.begin(
            asked.model, orders, principal, input_bytes=len(request.body), prompts=prompts
        )
        return await self._answer(generation, TextShape(), "text_completion", "cmpl", asked)

    async def _answer(
        self, generation: Generation, shape: Shape, kind: str, prefix: str, asked: ChatRequest | CompletionRequest
    ) -> Reply:
        """Answer whole, or return a stream: which, is decided when all orders were taken."""
        revision = generation.revision
        envelope = Envelope(kind, asked.model, int(time.time()), revision.digest.rpartition(":")[2][:12], prefix)
        try:
            await generation.begun()
            if not asked.stream:
                body = await _collect(generation, shape, envelope)
        except BaseException:
            generation.cancel()
            raise
        headers = _version_headers(revision)
        if asked.stream:
            headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), *headers]
            return HttpStream(200, headers, _events(generation, shape, envelope, asked.include_usage))
        return HttpResponse(200, [("content-type", "application/json"), *headers], body)


async def _collect(generation: Generation, shape: Shape, envelope: Envelope) -> bytes:
    """Return the whole answer once it is recorded."""
    said: dict[int, list[Delta]] = {}
    async for pieces in generation:
        for index, delta in pieces:
            said.setdefault(index, []).append(delta)
    choices = [shape.whole(index, said[index]) for index in sorted(said)]
    await generation.settle()
    return envelope.whole(choices, usage_of(generation.tally))


async def _events(generation: Generation, shape: Shape, envelope: Envelope, told: bool) -> AsyncGenerator[bytes, None]:
    """Yield the events of an answer; whatever ends it early ends the streams, and bills what was handed out."""
    try:
        yield b"".join([envelope.chunk([choice], told=told) for choice in shape.opening()])
        async for pieces in generation:
            choices = [choice for index, delta in pieces if (choice := shape.chunk(index, delta)) is not None]
            if choices:
                yield b"".join([envelope.chunk([choice], told=told) for choice in choices])
        await generation.settle()
        if told:
            yield envelope.chunk([], usage_of(generation.tally), told=True)
        yield DONE
    except Exception as error:  # the status is sent: the error is the last event
        yield event({"error": describe(error, generation.request_id)})
    finally:
        generation.cancel()


def _describe(revision: Revision) -> dict[str, Any]:
    created = revision.created_at // 1_000_000
    return {"id": revision.endpoint, "object": "model", "created": created, "owned_by": "mofang"}


def _version_headers(revision: Revision) -> list[tuple[str, str]]:
    return [
        ("mofang-version", str(revision.version)),
        ("mofang-revision", str(revision.number)),
        ("mofang-digest", revision.digest),
    ]


def _check_method(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowed(f"{request.path} takes {method}, not {request.method}")


def _deadline(request: HttpRequest) -> float:
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return time.monotonic() + _TIMEOUT_SECONDS
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 0 < int(text) <= _MOST_TIMEOUT_MS):
        raise InvalidRequest(f"x-request-timeout-ms is {text[:40]!r}; it takes 1 to {_MOST_TIMEOUT_MS}")
    return time.monotonic() + int(text) / 1000


def _json(value: Any) -> HttpResponse:
    return HttpResponse(200, [("content-type", "application/json")], msgspec.json.encode(value))
