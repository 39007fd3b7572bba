"""What a client of OpenAI's Responses API gets for a stream: one response, or its events, numbered from 0.

https://platform.openai.com/docs/api-reference/responses-streaming. A response has items: one message, if something was
said, and after it the calls of functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mofang.base.domain.generation import Chosen, Delta
from mofang.base.domain.names import new_id, now_us
from mofang.run.serve.pieces import Piece, Tally
from mofang.surface.protocols.openai.answers import chat_logprob
from mofang.surface.protocols.openai.calls import Call, Listener
from mofang.surface.protocols.openai.errors import describe
from mofang.surface.protocols.openai.responses import NAMES, ResponseRequest
from mofang.surface.protocols.telling import encode, event

Json = dict[str, Any]


class Response:
    """The :class:`Teller` of one response."""

    def __init__(self, asked: ResponseRequest, names: frozenset[str], *, forced: bool) -> None:
        self._head = _head(asked)
        self._listener = Listener(names, forced=forced)
        self._number = 0  # of the next event
        self._message_id = new_id("msg")
        self._text: list[str] | None = None  # of the message, once it has begun
        self._chosen: list[Chosen] = []
        self._output: list[Json] = []
        self._finish = ""

    def opening(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        begun = self._response("in_progress")
        return self._tell("response.created", response=begun) + self._tell("response.in_progress", response=begun)

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """See :class:`Teller`."""
        return b"".join([self._add(delta) for _, delta in pieces])

    def closing(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        status = self._status()
        return self._tell(f"response.{status}", response=self._response(status, tally))

    def failure(self, error: Exception, request_id: str) -> bytes:
        """See :class:`Teller`."""
        known = describe(error, request_id, NAMES)
        response = self._response("failed") | {"error": {"code": known["code"], "message": known["message"]}}
        return self._tell("response.failed", response=response)

    def whole(self, said: Sequence[Sequence[Delta]], tally: Tally) -> bytes:
        """See :class:`Teller`."""
        for delta in said[0]:
            self._add(delta)
        return encode(self._response(self._status(), tally))

    def _add(self, delta: Delta) -> bytes:
        """Take in what was said, and return the events of it."""
        text, calls = self._listener.hear(delta)
        told = []
        if text or (delta.finish and not calls and self._text is None):
            told.append(self._say(text, delta.chosen))
        if delta.finish:
            self._finish = delta.finish
            if self._text is not None:
                told.append(self._end_message())
            told += [self._call(call) for call in calls]
        return b"".join(told)

    def _say(self, text: str, chosen: Sequence[Chosen]) -> bytes:
        told = b""
        place = {"item_id": self._message_id, "output_index": 0, "content_index": 0}
        if self._text is None:
            self._text = []
            item = {**self._message("in_progress"), "content": []}
            told += self._tell("response.output_item.added", output_index=0, item=item)
            told += self._tell("response.content_part.added", **place, part=_part("", ()))
        self._text.append(text)
        self._chosen += chosen
        logprobs = [chat_logprob(each) for each in chosen]
        return told + self._tell("response.output_text.delta", **place, delta=text, logprobs=logprobs)

    def _end_message(self) -> bytes:
        place = {"item_id": self._message_id, "output_index": 0, "content_index": 0}
        item = self._message(self._status())
        [part] = item["content"]
        self._output.append(item)
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        return (
            self._tell("response.output_text.done", **place, **done)
            + self._tell("response.content_part.done", **place, part=part)
            + self._tell("response.output_item.done", output_index=0, item=item)
        )

    def _call(self, call: Call) -> bytes:
        item = {"type": "function_call", "id": new_id("fc"), "call_id": new_id("call"), "name": call.name,
                "arguments": call.arguments, "status": "completed"}  # fmt: skip
        index = len(self._output)
        self._output.append(item)
        begun = {**item, "arguments": "", "status": "in_progress"}
        place = {"item_id": item["id"], "output_index": index}
        return (
            self._tell("response.output_item.added", output_index=index, item=begun)
            + self._tell("response.function_call_arguments.delta", **place, delta=call.arguments)
            + self._tell("response.function_call_arguments.done", **place, arguments=call.arguments, name=call.name)
            + self._tell("response.output_item.done", output_index=index, item=item)
        )

    def _message(self, status: str) -> Json:
        content = [_part("".join(self._text or ()), self._chosen)]
        return {"type": "message", "id": self._message_id, "role": "assistant", "status": status, "content": content}

    def _status(self) -> str:
        return "incomplete" if self._finish == "length" else "completed"

    def _response(self, status: str, tally: Tally | None = None) -> Json:
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = _usage(tally) if tally is not None else None
        return {**self._head, "status": status, "incomplete_details": reason, "output": self._output, "usage": usage}

    def _tell(self, kind: str, **fields: Any) -> bytes:
        number = self._number
        self._number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)


def _head(asked: ResponseRequest) -> Json:
    """Return what all states of a response have: what was asked, as it was understood."""
    plain: Json = msgspec.to_builtins(asked)
    form = (plain["text"] or {}).get("format")
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": now_us() // 1_000_000,
        "model": asked.model,
        "error": None,
        "background": False,
        "store": False,
        "previous_response_id": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_p": asked.top_p or 1.0,
        "top_logprobs": asked.top_logprobs or 0,
        "parallel_tool_calls": True if asked.parallel_tool_calls is None else asked.parallel_tool_calls,
        "tool_choice": plain["tool_choice"] or "auto",
        "tools": [{"strict": False, **tool} for tool in plain["tools"] or ()],
        "text": {"format": form or {"type": "text"}},
        "reasoning": {"effort": None, "summary": None},
        "truncation": "disabled",
        "metadata": asked.metadata or {},
        "user": asked.user,
    }


def _part(text: str, chosen: Sequence[Chosen]) -> Json:
    logprobs = [chat_logprob(each) for each in chosen]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _usage(tally: Tally) -> Json:
    return {
        "input_tokens": tally.input_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens},
        "output_tokens": tally.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tally.input_tokens + tally.output_tokens,
    }
