"""From streams to the bytes of an answer: whole, or as server-sent events. What they look like is the teller's.

Every sort of answer (completions, responses, messages, generate) is a :class:`Teller`; the order of things is here,
once: nothing is sent before all orders were taken, nothing ends before it is on record, and whatever breaks off stops
the computation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import msgspec

from mofang.base.domain.deployment import Revision
from mofang.base.domain.generation import Delta
from mofang.run.serve.generate import Generation
from mofang.run.serve.pieces import Piece, Tally
from mofang.surface.protocols.http import Ended, HttpResponse, HttpStream

encode = msgspec.json.Encoder().encode
_COMMENT = b":\n\n"  # in a stream of events, which clients pass over


def event(value: object, name: str = "") -> bytes:
    """Return a server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    kind = b"event: " + name.encode() + b"\n" if name else b""
    return kind + b"data: " + encode(value) + b"\n\n"


class Teller(Protocol):
    """How the streams of one request are told to its client, as events or whole."""

    def opening(self, tally: Tally) -> bytes:
        """Return the events before anything is said."""
        ...

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Return the events for what was said; none if there is nothing to tell yet."""
        ...

    def closing(self, tally: Tally) -> bytes:
        """Return the events that end a good answer, which is on record."""
        ...

    def failure(self, error: Exception, request_id: str) -> bytes:
        """Return the event that ends a bad one: the status was sent long ago."""
        ...

    def whole(self, said: Sequence[Sequence[Delta]], tally: Tally) -> bytes:
        """Return the body of a whole answer: what was said of each choice."""
        ...


async def answer(generation: Generation, teller: Teller, *, stream: bool) -> HttpResponse | HttpStream:
    """Answer whole, or return a stream: which, is decided when all orders were taken."""
    try:
        await generation.begun()
        body = b"" if stream else await _whole(generation, teller)
    except BaseException:
        generation.cancel()
        raise
    headers = _version_headers(generation.revision)
    if not stream:
        return HttpResponse(200, [("content-type", "application/json"), *headers], body)
    headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), *headers]
    ended: list[Ended] = []
    return HttpStream(200, headers, _events(generation, teller, ended), ended, _COMMENT)


async def _whole(generation: Generation, teller: Teller) -> bytes:
    """Return the whole answer once it is recorded."""
    said: dict[int, list[Delta]] = {}
    async for pieces in generation:
        for index, delta in pieces:
            said.setdefault(index, []).append(delta)
    body = teller.whole([said[index] for index in sorted(said)], generation.tally)
    await generation.settle()
    return body


async def _events(generation: Generation, teller: Teller, ended: Sequence[Ended]) -> AsyncGenerator[bytes, None]:
    """Yield the events of an answer; whatever ends it early ends the streams, and bills what was handed out."""
    sent: list[bytes] = []
    waiting = list(ended)

    def noted(events: bytes) -> bytes:
        if waiting:
            sent.append(events)
        return events

    def end(body: bytes | None) -> None:
        while waiting:
            waiting.pop()(body)

    try:
        yield noted(teller.opening(generation.tally))
        async for pieces in generation:
            if told := teller.pieces(pieces):
                yield noted(told)
        await generation.settle()
        closing = noted(teller.closing(generation.tally))
        end(b"".join(sent))
        yield closing
    except Exception as error:
        yield teller.failure(error, generation.request_id)
    finally:
        generation.cancel()
        end(None)


def _version_headers(revision: Revision) -> list[tuple[str, str]]:
    return [
        ("mofang-version", str(revision.version)),
        ("mofang-revision", str(revision.number)),
        ("mofang-digest", revision.digest),
    ]
