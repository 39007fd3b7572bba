"""What a client of the OpenAI API gets for completions: one object, or an event for everything that is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mofang.base.domain.deployment import Revision
from mofang.base.domain.generation import Chosen, Delta
from mofang.base.domain.names import new_id, now_us
from mofang.run.serve.pieces import Piece, Tally
from mofang.surface.protocols.openai.calls import Call, Listener
from mofang.surface.protocols.openai.errors import describe
from mofang.surface.protocols.telling import encode, event

_DONE = b"data: [DONE]\n\n"


class Shape(Protocol):
    """How one sort of completion looks, choice by choice."""

    kind: str  # of the whole object
    piece: str  # of a chunk
    prefix: str  # of ids

    def opening(self) -> list[dict[str, Any]]:
        """Return the choices of the chunks before anything is said."""
        ...

    def chunk(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """Return the choice of the chunk for ``delta``; None if there is nothing to tell yet."""
        ...

    def whole(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        """Return the choice of the whole answer."""
        ...


class Completion:
    """The :class:`Teller` of completions; ``told``: usage is among the fields of every chunk, and in one at the end."""

    def __init__(self, shape: Shape, model: str, revision: Revision, *, stream: bool, told: bool) -> None:
        self._shape = shape
        self._told = told
        self._head = {
            "id": new_id(shape.prefix),
            "object": shape.piece if stream else shape.kind,
            "created": now_us() // 1_000_000,
            "model": model,
            "system_fingerprint": revision.digest.rpartition(":")[2][:12],
        }

    def opening(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return b"".join([self._chunk([choice]) for choice in self._shape.opening()])

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """See :class:`Teller`."""
        choices = [choice for index, delta in pieces if (choice := self._shape.chunk(index, delta)) is not None]
        return b"".join([self._chunk([choice]) for choice in choices])

    def closing(self, tally: Tally) -> bytes:
        """See :class:`Teller`."""
        return (self._chunk([], _usage(tally)) if self._told else b"") + _DONE

    def failure(self, error: Exception, request_id: str) -> bytes:
        """See :class:`Teller`."""
        return event({"error": describe(error, request_id)})

    def whole(self, said: Sequence[Sequence[Delta]], tally: Tally) -> bytes:
        """See :class:`Teller`."""
        choices = [self._shape.whole(index, deltas) for index, deltas in enumerate(said)]
        return encode({**self._head, "choices": choices, "usage": _usage(tally)})

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        body: dict[str, Any] = {**self._head, "choices": choices}
        if self._told:
            body["usage"] = usage
        return event(body)


def _usage(tally: Tally) -> dict[str, Any]:
    return {
        "prompt_tokens": tally.input_tokens,
        "completion_tokens": tally.output_tokens,
        "total_tokens": tally.input_tokens + tally.output_tokens,
        "prompt_tokens_details": {"cached_tokens": tally.cached_tokens},
    }


class TextShape:
    """Choices of ``text_completion``."""

    kind = piece = "text_completion"
    prefix = "cmpl"

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

    kind, piece, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, choices: int, names: frozenset[str], *, forced: bool) -> None:
        self._choices = choices
        self._listeners = [Listener(names, forced=forced) for _ in range(choices)]

    def opening(self) -> list[dict[str, Any]]:
        """Say who speaks."""
        return [
            {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            for index in range(self._choices)
        ]

    def chunk(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """See :class:`Shape`."""
        text, calls = self._listeners[index].hear(delta)
        if not text and not delta.finish:
            return None
        said: dict[str, Any] = {"content": text} if text else {}
        if calls:
            said["tool_calls"] = [{"index": number, **_call(call)} for number, call in enumerate(calls)]
        logprobs = {"content": [chat_logprob(each) for each in delta.chosen]} if delta.chosen else None
        return {"index": index, "delta": said, "logprobs": logprobs, "finish_reason": _finish(delta, calls) or None}

    def whole(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        """See :class:`Shape`."""
        heard = [self._listeners[index].hear(delta) for delta in deltas]
        text, calls = "".join(part for part, _ in heard), heard[-1][1]
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        content = [chat_logprob(each) for delta in deltas for each in delta.chosen]
        logprobs = {"content": content, "refusal": None} if content else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": _finish(deltas[-1], calls)}


def _finish(delta: Delta, calls: Sequence[Call]) -> str:
    return "tool_calls" if calls else delta.finish


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


def chat_logprob(chosen: Chosen) -> dict[str, Any]:
    """Return a token as conversations tell it."""
    top = [_token(text, logprob) for text, logprob in chosen.alternatives]
    return {**_token(chosen.text, chosen.logprob), "top_logprobs": top}


def _likeliest(chosen: Chosen) -> Sequence[tuple[bytes, float]]:
    return chosen.alternatives or ((chosen.text, chosen.logprob),)


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _shown(text), "logprob": logprob, "bytes": list(text)}


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")
