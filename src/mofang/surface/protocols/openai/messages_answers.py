"""What a client of Anthropic's Messages API gets for a stream: one message, or its events; and how errors look.

https://docs.anthropic.com/en/api/messages-streaming and /errors. Tokens of the prompt that were taken from the cache
are not among ``input_tokens`` there, but apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from mofang.base.domain.generation import Delta
from mofang.base.domain.names import new_id
from mofang.run.serve.pieces import Piece, Tally
from mofang.surface.protocols.http import HttpResponse
from mofang.surface.protocols.openai.calls import Call, Listener
from mofang.surface.protocols.openai.errors import known_error, sentence
from mofang.surface.protocols.telling import encode, event
from mofang.surface.wire.status import headers_of, status_of

Json = dict[str, Any]

_TYPES: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


class Message:
    """The :class:`Teller` of one message."""

    def __init__(self, model: str, names: frozenset[str], *, forced: bool) -> None:
        self._head = {"id": new_id("msg"), "type": "message", "role": "assistant", "model": model}
        self._listener = Listener(names, forced=forced)
        self._text: list[str] | None = None  # of the block that is open
        self._content: list[Json] = []
        self._last = Delta(0)
        self._called = False

    def opening(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return _tell("message_start", message=self._message(tally))

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """See :class:`Teller`."""
        return b"".join([self._add(delta) for _, delta in pieces])

    def closing(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        ended = {"stop_reason": self._reason(), "stop_sequence": self._last.stopped_at or None}
        return _tell("message_delta", delta=ended, usage=_usage(tally)) + _tell("message_stop")

    def failure(self, error: Exception, request_id: str) -> bytes:
        """See :class:`Teller`."""
        return event(_error(error, request_id), "error")

    def whole(self, said: Sequence[Sequence[Delta]], tally: Tally) -> bytes:
        """See :class:`Teller`."""
        for delta in said[0]:
            self._add(delta)
        return encode(self._message(tally))

    def _add(self, delta: Delta) -> bytes:
        """Take in what was said, and return the events of it."""
        text, calls = self._listener.hear(delta)
        told = []
        if text or (delta.finish and not calls and self._text is None):
            told.append(self._say(text))
        if delta.finish:
            self._last, self._called = delta, bool(calls)
            if self._text is not None:
                self._content.append({"type": "text", "text": "".join(self._text)})
                told.append(_tell("content_block_stop", index=0))
            told += [self._call(call) for call in calls]
        return b"".join(told)

    def _say(self, text: str) -> bytes:
        told = b""
        if self._text is None:
            self._text = []
            told = _tell("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self._text.append(text)
        return told + _tell("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def _call(self, call: Call) -> bytes:
        block = {"type": "tool_use", "id": new_id("toolu"), "name": call.name}
        index = len(self._content)
        self._content.append({**block, "input": msgspec.json.decode(call.arguments)})
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        return (
            _tell("content_block_start", index=index, content_block={**block, "input": {}})
            + _tell("content_block_delta", index=index, delta=delta)
            + _tell("content_block_stop", index=index)
        )

    def _message(self, tally: Tally) -> Json:
        return {
            **self._head,
            "content": self._content,
            "stop_reason": self._reason(),
            "stop_sequence": self._last.stopped_at or None,
            "usage": _usage(tally),
        }

    def _reason(self) -> str | None:
        if self._called:
            return "tool_use"
        if self._last.stopped_at:
            return "stop_sequence"
        return {"stop": "end_turn", "length": "max_tokens"}.get(self._last.finish)


def error_reply(error: Exception, request_id: str) -> HttpResponse:
    """Return the answer to a request that failed."""
    known = known_error(error, request_id)
    headers = [("content-type", "application/json"), *headers_of(known), ("request-id", request_id)]
    return HttpResponse(status_of(known).http, headers, msgspec.json.encode(_error(known, request_id)))


def _error(error: Exception, request_id: str) -> Json:
    known = known_error(error, request_id)
    kind = _TYPES.get(status_of(known).http, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": sentence(known)}, "request_id": request_id}


def _tell(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


def _usage(tally: Tally) -> Json:
    return {
        "input_tokens": tally.input_tokens - tally.cached_tokens,
        "cache_read_input_tokens": tally.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": tally.output_tokens,
    }
