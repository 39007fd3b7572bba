"""The generate extension of the Open Inference Protocol: text in, text out, whole or as server-sent events.

``POST /v2/models/M[/versions/V]/generate`` and ``.../generate_stream``, as
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/generate_rest.yaml has them.
The endpoint's model is a language model; the prompt is the very text it goes on from.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import InvalidParameter, InvalidRequest, MethodNotAllowed, MofangError
from mofang.base.domain.generation import Chosen, Delta, Order
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import check_infers
from mofang.run.serve.generate import Generator
from mofang.run.serve.pieces import Piece, Tally
from mofang.sell.meter.limits import Standings
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream, rate_headers
from mofang.surface.protocols.lane import Lane, check_target, deadline_seconds
from mofang.surface.protocols.oip.codec import refuse_duplicates
from mofang.surface.protocols.oip.rest import failure
from mofang.surface.protocols.repeat import HEADER, named, question_of, reply_once
from mofang.surface.protocols.telling import answer, encode, event
from mofang.surface.protocols.texts import TEXT_TIMEOUT_SECONDS, Parameters, finish_reason

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/generate(_stream)?/?")

Json = dict[str, Any]


class GenerateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    text_input: str
    id: str | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)


_KEYS = [f'"{name}"'.encode() for name in GenerateRequest.__struct_fields__ + Parameters.__struct_fields__]


class OipGenerate:
    """Answers the two paths. Errors are rendered inside; only cancellation leaves."""

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

    async def respond(self, request: HttpRequest, request_id: str) -> HttpResponse | HttpStream:
        """Answer one request."""
        reply: HttpResponse | HttpStream
        try:
            headers = request.headers
            told = headers.get("authorization"), request.client, headers.get("x-forwarded-for")
            principal = self._lane.authenticate(*told)
            try:
                reply = await self._generate(request, principal, request_id)
            except Exception as error:
                self._tell_refused(error, request, request_id, principal)
                reply = failure(error, request_id)
            reply.headers.extend(rate_headers(self._standing(principal)))
        except Exception as error:
            self._tell_refused(error, request, request_id)
            reply = failure(error, request_id)
        return named(reply, request_id)

    def _tell_refused(
        self, error: Exception, request: HttpRequest, request_id: str, principal: Principal | None = None
    ) -> None:
        found = _PATH.fullmatch(unquote(request.path))
        if isinstance(error, MofangError) and found is not None:
            self._lane.refused(error, request_id, found[1], principal, len(request.body))

    async def _generate(self, request: HttpRequest, principal: Principal, request_id: str) -> HttpResponse | HttpStream:
        found = _PATH.fullmatch(unquote(request.path))
        assert found is not None  # is_generate() was asked
        name, version, stream = found[1], found[2] or "", bool(found[3])
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.path} takes POST, not {request.method}")
        check_infers(principal)
        check_target(name, version)
        asked = _parse(request.body)
        deadline = time.monotonic() + deadline_seconds(request.headers, TEXT_TIMEOUT_SECONDS)

        async def work(request_id: str) -> HttpResponse | HttpStream:
            order = Order(request_id, principal.tenant, deadline, asked.parameters.sampling, text=asked.text_input)
            generation = self._generator.begin(name, [order], principal, input_bytes=len(request.body), version=version)
            return await answer(generation, _Answer(asked, generation.revision), stream=stream)

        key = request.headers.get(HEADER)
        if key is None or self._once is None:
            return await work(request_id)
        return await reply_once(self._once, principal, key, question_of(request, principal), request_id, deadline, work)


def is_generate(path: str) -> bool:
    """Tell whether a path is one of the two."""
    return "/generate" in path and _PATH.fullmatch(unquote(path)) is not None


class _Answer:
    """The :class:`Teller` of generated text: every event has what was added."""

    def __init__(self, asked: GenerateRequest, revision: Revision) -> None:
        self._head = {"model_name": revision.endpoint, "model_version": str(revision.version)} | (
            {"id": asked.id} if asked.id is not None else {}
        )
        self._details = asked.parameters.details

    def opening(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return b""

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """See :class:`Teller`."""
        return b"".join([event(self._said([delta])) for _, delta in pieces if delta.text or delta.finish])

    def closing(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return b""

    def failure(self, error: Exception, request_id: str) -> bytes:
        """See :class:`Teller`."""
        return event(msgspec.json.decode(failure(error, request_id).body))

    def whole(self, said: Sequence[Sequence[Delta]], tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return encode(self._said(said[0]))

    def _said(self, deltas: Sequence[Delta]) -> Json:
        body: Json = {"text_output": "".join([delta.text for delta in deltas]), **self._head}
        if self._details:
            chosen = [each for delta in deltas for each in delta.chosen]
            body["details"] = {
                "finish_reason": finish_reason(deltas[-1]),
                "logprobs": [_logprob(each) for each in chosen],
            }
        return body


def _parse(body: bytes) -> GenerateRequest:
    try:
        asked = msgspec.json.decode(body, type=GenerateRequest)
        if any(body.count(key) > 1 for key in _KEYS):
            refuse_duplicates(body)
        return asked
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        raise InvalidParameter.of(place.rstrip("`").removeprefix("$.") or "body", what[:300]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {str(error)[:200]}", hint="send a JSON object") from None


def _logprob(chosen: Chosen) -> Json:
    return {"text": chosen.text.decode("utf-8", "replace"), "logprob": chosen.logprob}
