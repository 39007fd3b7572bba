"""Conversations with language models: the client's own small way to the OpenAI API of a Mofang server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mofang.base.domain.errors import Internal
from mofang.surface.sdk.transport import Transport, rebuild

_GRACE_SECONDS = 2.0
Message = Mapping[str, str]


@dataclass(slots=True)
class Turn:
    """One answer while it is being said; iterate over it once. What it used is known in the end."""

    pieces: Iterator[str]
    text: str = ""
    finish: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    first_seconds: float = 0.0  # until the first piece
    seconds: float = 0.0  # until the end
    request_id: str = ""
    model: dict[str, str] = field(default_factory=dict)  # version, revision, digest

    def __iter__(self) -> Iterator[str]:
        return self.pieces

    @property
    def tokens_per_second(self) -> float:
        """Tokens said in a second, once the first was."""
        said = self.seconds - self.first_seconds
        return (self.output_tokens - 1) / said if said > 0 and self.output_tokens > 1 else 0.0


class Chat:
    """``client.chat``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def say(
        self,
        endpoint: str,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout_seconds: float = 600.0,
    ) -> Turn:
        """Return the answer to ``messages`` (each with role and content), piece by piece as the model says it.

        What the server refuses is raised at the first piece.
        """
        body: dict[str, Any] = {"model": endpoint, "messages": list(messages), "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        body |= {"max_completion_tokens": max_tokens} if max_tokens is not None else {}
        body |= {"temperature": temperature} if temperature is not None else {}
        turn = Turn(iter(()))
        turn.pieces = self._pieces(turn, body, timeout_seconds)
        return turn

    def _pieces(self, turn: Turn, body: Mapping[str, Any], timeout_seconds: float) -> Iterator[str]:
        started = time.perf_counter()
        headers = {"content-type": "application/json", "x-request-timeout-ms": str(int(timeout_seconds * 1000))}
        content = msgspec.json.encode(body)
        path = "/v1/chat/completions"
        with self._wire.stream("POST", path, content, headers, timeout_seconds + _GRACE_SECONDS) as response:
            turn.request_id = response.headers.get("x-request-id", "")
            turn.model = {name: response.headers.get(f"mofang-{name}", "") for name in ("version", "digest")}
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                piece = _read(turn, line.removeprefix("data: "))
                turn.seconds = time.perf_counter() - started
                if piece:
                    turn.first_seconds = turn.first_seconds or turn.seconds
                    turn.text += piece
                    yield piece


def _read(turn: Turn, data: str) -> str:
    """Take in one event; return what it says."""
    event: Any = msgspec.json.decode(data)
    if failure := event.get("error"):
        raise rebuild(str(failure.get("code")), str(failure.get("message")), "")  # the message ends with its hint
    if usage := event.get("usage"):
        turn.input_tokens, turn.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        turn.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
    if not event.get("choices"):
        return ""
    choice = event["choices"][0]
    if not isinstance(choice.get("delta"), dict):
        raise Internal("the server sent an event without a delta")
    turn.finish = choice["finish_reason"] or turn.finish
    return choice["delta"].get("content") or ""
