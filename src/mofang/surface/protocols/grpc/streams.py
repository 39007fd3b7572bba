"""Streams in both directions that answer each message in its turn, while a few messages ahead are computed already.

A message may be answered by many, as they are made; these come between the answers to others.

What a stream answers is handed in; this knows how many messages run at once, how long a stream may be silent, and that
a server which stops does not wait for streams that only might say something.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from mofang.base.domain.errors import RequestTimeout
from mofang.surface.protocols.grpc.http2.stream import Stream

Answer = Callable[[bytes, Stream], Awaitable[bytes | AsyncGenerator[bytes, None]]]
_AHEAD = 64  # messages of one stream that are computed at the same time


class Streams:
    """All open streams of a server."""

    def __init__(self, silent_seconds: float = 300.0) -> None:
        self._silent_seconds = silent_seconds
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, stream: Stream, answer: Answer) -> None:
        """Answer the messages of ``stream`` until they end.

        Raises what ``answer`` raises, or RequestTimeout after a silence.
        """
        if self._stopping:
            return
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(stream, answer, group))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def stop(self) -> None:
        """Read no more; what has been read is still answered."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def _read(self, stream: Stream, answer: Answer, group: asyncio.TaskGroup) -> None:
        slots = asyncio.Semaphore(_AHEAD)
        last: asyncio.Task[None] | None = None
        messages = aiter(stream)
        while True:
            await slots.acquire()
            try:
                async with asyncio.timeout(self._silent_seconds):
                    data = await anext(messages)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if last is not None:
                    await last
                raise RequestTimeout(f"no message came for {self._silent_seconds:g} s") from None
            last = group.create_task(_answer_in_turn(data, stream, answer, last, slots))


async def _answer_in_turn(
    data: bytes, stream: Stream, answer: Answer, before: asyncio.Task[None] | None, slots: asyncio.Semaphore
) -> None:
    reply = await answer(data, stream)
    if isinstance(reply, bytes):
        if before is not None:
            await before
        await stream.write(reply)
    else:
        async with aclosing(reply):
            async for each in reply:
                await stream.write(each)
    slots.release()
