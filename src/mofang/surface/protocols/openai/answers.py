"""What a client of the OpenAI API gets for its streams: one object, or an event for everything that is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from mofang.base.domain.generation import Chosen, Delta
from mofang.base.domain.names import new_id
from mofang.run.serve.generate import Tally
from mofang.surface.protocols.openai.calls import Call, Listener

DONE = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


def event(value: object) -> bytes:
    """Return a server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: " + _encoder.encode(value) + b"\n\n"


class Shape(Protocol):
    """How one sort of answer looks, choice by choice."""

    def opening(self) -> list[dict[str, Any]]:
        """Return the choices of the chunks before anything is said."""
        ...

    def chunk(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """Return the choice of the chunk for ``delta``; None if there is nothing to tell yet."""
        ...

    def whole(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        """Return the choice of the whole answer."""
        ...


class Envelope:
    """What is around the choices: id, model, time, usage."""

    def __init__(self, kind: str, model: str, created: int, fingerprint: str, prefix: str) -> None:
        self._head = {"id": new_id(prefix), "object": kind, "created": created, "model": model,
                      "system_fingerprint": fingerprint}  # fmt: skip

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None, *, told: bool) -> bytes:
        """Return an event; with ``told`` usage is among its fields, as clients expect who asked for it."""
        body: dict[str, Any] = {**self._head, "choices": choices}
        if told:
            body["usage"] = usage
        return event(body)

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        """Return the body of a whole answer."""
        return _encoder.encode({**self._head, "choices": choices, "usage": usage})


def usage_of(tally: Tally) -> dict[str, Any]:
    """Return what was used, as clients read it."""
    return {
        "prompt_tokens": tally.input_tokens,
        "completion_tokens": tally.output_tokens,
        "total_tokens": tally.input_tokens + tally.output_tokens,
        "prompt_tokens_details": {"cached_tokens": tally.cached_tokens},
    }


class TextShape:
    """Choices of ``text_completion``."""

    def opening(self) -> list[dict[str, Any]]:
        """Nothing comes before the text."""
        return []

    def chunk(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """See :class:`Shape`."""
        if not delta.text and not delta.finish:
            return None
        return _text_choice(index, delta.text, delta.chosen, delta.finish)

    def whole(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        """See :class:`Shape`."""
        chosen = tuple(each for delta in deltas for each in delta.chosen)
        return _text_choice(index, "".join(delta.text for delta in deltas), chosen, deltas[-1].finish)


class ChatShape:
    """Choices of ``chat.completion``; ``names`` are the functions that may be called, ``forced``: one has to be."""

    def __init__(self, choices: int, names: frozenset[str], *, forced: bool) -> None:
        self._choices = choices
        self._listeners = [Listener(names, forced=forced) for _ in range(choices)] if names else []

    def opening(self) -> list[dict[str, Any]]:
        """Say who speaks."""
        return [
            {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            for index in range(self._choices)
        ]

    def chunk(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """See :class:`Shape`."""
        text, calls, finish = self._heard(index, delta)
        if not text and not finish:
            return None
        said: dict[str, Any] = {"content": text} if text else {}
        if calls:
            said["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
        logprobs = {"content": [_chat_logprob(each) for each in delta.chosen]} if delta.chosen else None
        return {"index": index, "delta": said, "logprobs": logprobs, "finish_reason": finish or None}

    def whole(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        """See :class:`Shape`."""
        heard = [self._heard(index, delta) for delta in deltas]
        text, (_, calls, finish) = "".join(part for part, _, _ in heard), heard[-1]
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        content = [_chat_logprob(each) for delta in deltas for each in delta.chosen]
        logprobs = {"content": content, "refusal": None} if content else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}

    def _heard(self, index: int, delta: Delta) -> tuple[str, list[dict[str, Any]], str]:
        if not self._listeners:
            return delta.text, [], delta.finish
        listener = self._listeners[index]
        text = listener.feed(delta.text)
        calls: list[Call] = []
        if delta.finish:
            rest, calls = listener.finish()
            text += rest
        return text, [_call(call) for call in calls], "tool_calls" if calls else delta.finish


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": new_id("call"), "type": "function", "function": function}


def _text_choice(index: int, text: str, chosen: Sequence[Chosen], finish: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": _text_logprobs(chosen), "finish_reason": finish or None}


def _text_logprobs(chosen: Sequence[Chosen]) -> dict[str, Any] | None:
    if not chosen:
        return None
    offsets, offset = [], 0
    for each in chosen:
        offsets.append(offset)
        offset += len(_shown(each.text))
    return {
        "tokens": [_shown(each.text) for each in chosen],
        "token_logprobs": [each.logprob for each in chosen],
        "top_logprobs": [{_shown(text): logprob for text, logprob in _likeliest(each)} for each in chosen],
        "text_offset": offsets,
    }


def _chat_logprob(chosen: Chosen) -> dict[str, Any]:
    top = [_token(text, logprob) for text, logprob in chosen.alternatives]
    return {**_token(chosen.text, chosen.logprob), "top_logprobs": top}


def _likeliest(chosen: Chosen) -> Sequence[tuple[bytes, float]]:
    return chosen.alternatives or ((chosen.text, chosen.logprob),)


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _shown(text), "logprob": logprob, "bytes": list(text)}


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")
