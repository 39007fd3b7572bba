"""One call: messages in, messages out, an end; within the windows that both sides give each other.

The connection makes a :class:`Stream` for each head and feeds it; a :class:`Method` answers it. A message is five bytes
(whether it is compressed, its length) and its bytes ("gRPC over HTTP2").
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from mofang.base.domain.errors import DeadlineExceeded, InvalidRequest, MofangError, RequestTimeout, RequestTooLarge
from mofang.surface.protocols.bodies import decompress
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.http2.heads import GOOD_END, GOOD_HEAD, Fields, Head, bad_end, block
from mofang.surface.wire.status import headers_of, sentence, status_of

WINDOW = 1 << 20  # bytes of one call that the client may send ahead of our reading
_KEPT_BYTES = 64  # that a message takes besides its own: one without bytes is not free


class Link(Protocol):
    """The connection, as its streams see it."""

    peer: str
    loop: asyncio.AbstractEventLoop
    message_bytes: int  # the most that one message may have
    window: int  # bytes the client takes on this connection now
    frame_bytes: int  # ... in one frame
    blocked_at: float | None  # since when the peer has not kept up
    stuck: dict[int, Stream]  # waiting for a window

    def write(self, data: bytes, /) -> None:
        """Send frames."""

    def hold(self, count: int, /) -> None:
        """Count bytes of messages that are not whole. Raises RequestTooLarge if they become too many."""

    def leave(self, stream: Stream, /) -> None:
        """A stream has ended."""


class Running(Protocol):
    """What computes an answer."""

    def cancel(self) -> object:
        """Drop it."""


@dataclass(frozen=True, slots=True)
class Method:
    """Who answers calls of one path.

    ``begin`` looks at the head, before any message is kept, and may raise a MofangError. Then either ``answer`` gets
    the only message, or ``run`` the whole stream.
    """

    begin: Callable[[Stream], object]
    answer: Callable[[Stream, bytes], None] | None = None
    run: Callable[[Stream], Coroutine[Any, Any, None]] | None = None


class Stream:
    """One call. ``head`` is what it said, ``peer`` the address of who calls, ``running`` what ends if the call does."""

    __slots__ = (
        "_buffer", "_connection", "_credit", "_head_sent", "_messages", "_out", "_reader", "_room", "_since", "_tail",
        "_timer", "_unread", "closed", "ended", "head", "method", "number", "peer", "running", "trailing", "window",
    )  # fmt: skip

    def __init__(self, connection: Link, number: int, head: Head, method: Method, window: int) -> None:
        self._connection = connection
        self.number = number
        self.head = head
        self.method = method
        self.peer = connection.peer
        self.window = window  # what the client takes of this call
        self.running: Running | None = None
        self.trailing: Fields = ()  # metadata after a good answer
        self.ended = False  # the client says no more
        self.closed = False
        self._credit = WINDOW  # what the client may send
        self._buffer: bytearray | None = None  # the message being received
        self._since = 0.0  # when that began, or the call did
        self._messages: deque[bytes] | None = None  # of a stream, until they are read
        self._unread = 0
        self._reader: asyncio.Future[None] | None = None
        self._head_sent = False
        self._out: deque[bytes] | None = None  # what waits for a window
        self._tail = b""  # what comes after it
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- what the connection tells ----------------------------------------------------------------------------

    def begin(self) -> None:
        """The head is here. Raises MofangError."""
        if self.head.refusal is not None:
            raise self.head.refusal
        self.method.begin(self)
        if self.closed:  # it has ended the call in words of its own
            return
        self._since = self._connection.loop.time()
        if self.method.run is not None:
            self._messages = deque()
            self.spawn(self.method.run(self))

    def feed(self, payload: bytes, size: int, ended: bool) -> None:
        """Take a piece that counts as ``size`` bytes. Raises MofangError and ConnectionFault."""
        self._credit -= size
        if self._credit < 0:
            raise http2.ConnectionFault(http2.Code.FLOW_CONTROL_ERROR, "more than the window of a call")
        self.ended = ended
        answer = self.method.answer
        if ended and answer is not None and self._buffer is None and self._is_message(payload):
            answer(self, payload[5:])  # mostly: all of it at once
            return
        if payload:
            self._keep(payload)
        if ended:
            self._finish_receiving()
        else:
            self._give_credit()

    def finish_receiving(self) -> None:
        """The client says no more. Raises MofangError."""
        self.ended = True
        self._finish_receiving()

    def check(self, now: float, body_seconds: float, body_rate: int) -> None:
        """Raise RequestTimeout if a message does not arrive."""
        waits = self._buffer is not None or (self.method.answer is not None and not self.ended)
        arrived = len(self._buffer or b"") / body_rate
        if waits and now > self._since + body_seconds + arrived:
            raise RequestTimeout("the message arrives too slowly")

    def cancel(self) -> None:
        """Nobody waits for this call any more."""
        if not self.closed:
            self._close()
            if self.running is not None:
                self.running.cancel()

    @property
    def _most(self) -> int:
        return self._connection.message_bytes

    def _is_message(self, payload: bytes) -> bool:
        """Tell whether ``payload`` is one message as it is."""
        return payload[:1] == b"\0" and int.from_bytes(payload[1:5], "big") == len(payload) - 5 <= self._most

    def _keep(self, payload: bytes) -> None:
        if self._buffer is None:
            self._buffer = bytearray()
            self._since = self._connection.loop.time()
        buffer = self._buffer
        buffer += payload
        self._connection.hold(len(payload))
        start, end = 0, len(buffer)
        while end - start >= 5:
            size = int.from_bytes(buffer[start + 1 : start + 5], "big")
            if size > self._most:
                raise RequestTooLarge(
                    f"a message of {size} bytes; at most {self._most} are taken", hint="send fewer rows at once"
                )
            if end - start < 5 + size:
                break
            self._take(buffer[start], bytes(memoryview(buffer)[start + 5 : start + 5 + size]))
            start += 5 + size
        if start:
            self._connection.hold(-start)
            self._buffer = buffer[start:] or None
            self._since = self._connection.loop.time()

    def _take(self, compressed: int, message: bytes) -> None:
        if compressed:
            if compressed != 1 or self.head.encoding == "identity":
                raise InvalidRequest("a message says it is compressed, and the call does not say how")
            message = decompress(self.head.encoding, message, self._most)
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        self._unread += len(message) + _KEPT_BYTES
        if self.method.answer is not None and len(self._messages) > 1:
            raise InvalidRequest("a call of one message has several")
        self._wake()

    def _finish_receiving(self) -> None:
        if self._buffer is not None:
            raise InvalidRequest("the last message is cut off")
        answer = self.method.answer
        if answer is None:
            self._wake()
        elif self._messages:
            answer(self, self._messages.popleft())
        else:
            raise InvalidRequest("a call without a message")

    def _give_credit(self) -> None:
        """Let the client send more, unless it is far ahead of who reads."""
        if self._credit < WINDOW // 2 and self._unread < WINDOW and not self.ended and not self.closed:
            self._connection.write(http2.window_update(self.number, WINDOW - self._credit))
            self._credit = WINDOW

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- what a method does -----------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Answer in a task, which ends with the call, and at its deadline."""
        loop = self._connection.loop
        self.running = loop.create_task(work)
        if self.head.timeout_seconds is not None:
            self._timer = loop.call_later(self.head.timeout_seconds, self._expire)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next message."""
        messages = self._messages
        assert messages is not None
        while not messages:
            if self.ended or self.closed:
                raise StopAsyncIteration
            self._reader = self._connection.loop.create_future()
            await self._reader
        message = messages.popleft()
        self._unread -= len(message) + _KEPT_BYTES
        self._give_credit()
        return message

    def start(self, metadata: Fields) -> None:
        """Send the head of the answer."""
        if not self._head_sent and not self.closed:
            self._head_sent = True
            head = GOOD_HEAD + block(metadata)
            self._connection.write(http2.frame(http2.HEADERS, http2.END_HEADERS, self.number, head))

    async def write(self, message: bytes) -> None:
        """Send a message; returns when the client has room for the next."""
        self.start(())
        self._put(_framed(message))
        while not self.closed and (self._out or self._connection.blocked_at is not None):
            self._room = self._connection.loop.create_future()
            await self._room

    def reply(self, head: bytes, message: bytes, end: bytes) -> None:
        """Send a whole good answer; ``head`` and ``end`` are the metadata before and after it, as :func:`block`s."""
        if self.closed:
            return
        number, connection = self.number, self._connection
        head, end = GOOD_HEAD + head, GOOD_END + end
        size = len(message) + 5
        if self._head_sent or size > min(self.window, connection.window, connection.frame_bytes):
            if not self._head_sent:
                self._head_sent = True
                connection.write(http2.frame(http2.HEADERS, http2.END_HEADERS, number, head))
            self._put(_framed(message))
            self._end_with(end)
            return
        connection.window -= size
        pack = http2.HEAD.pack
        connection.write(
            b"".join(
                (
                    pack(len(head) << 8 | http2.HEADERS, http2.END_HEADERS, number),
                    head,
                    pack(size << 8 | http2.DATA, 0, number),
                    b"\0",
                    size_bytes(message),
                    message,
                    pack(len(end) << 8 | http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, number),
                    end,
                )
            )
        )
        self._close()

    def finish(self) -> None:
        """End the call well."""
        if not self.closed:
            self.start(())
            self._end_with(GOOD_END + block(self.trailing))

    def fail(self, error: MofangError, request_id: str) -> None:
        """End the call with the error's status."""
        said = (("mofang-code", error.code), ("x-request-id", request_id), *headers_of(error))
        self.end_badly(status_of(error).grpc, sentence(error), said)

    def end_badly(self, status: int, message: str, metadata: Fields) -> None:
        """End the call with a status of gRPC's."""
        if self.closed:
            return
        self._out = None  # whatever waited is in vain
        end = bad_end(status, message) + block(metadata)
        self._end_with(end if self._head_sent else GOOD_HEAD + end)

    # --- sending ----------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Send of what waits as much as the windows allow."""
        out, connection = self._out, self._connection
        while out:
            room = min(self.window, connection.window, connection.frame_bytes)
            if room <= 0:
                connection.stuck[self.number] = self
                return
            piece = out[0]
            if len(piece) > room:
                out[0], piece = piece[room:], piece[:room]
            else:
                out.popleft()
            self.window -= len(piece)
            connection.window -= len(piece)
            connection.write(http2.frame(http2.DATA, 0, self.number, bytes(piece)))
        self._out = None
        connection.stuck.pop(self.number, None)
        if self._tail:
            self._end_with(self._tail)
        else:
            self.notice_room()

    def notice_room(self) -> None:
        """Let who writes go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _put(self, data: bytes) -> None:
        if self.closed:
            return
        if self._out is None:
            self._out = deque()
        self._out.append(memoryview(data))  # type: ignore[arg-type]
        self.push()

    def _end_with(self, end: bytes) -> None:
        if self._out:
            self._tail = end
            return
        flags = http2.END_HEADERS | http2.END_STREAM
        self._connection.write(http2.frame(http2.HEADERS, flags, self.number, end))
        if not self.ended:  # what the client still sends is of no use
            self._connection.write(http2.reset(self.number, http2.Code.NO_ERROR))
        self._close()

    def _expire(self) -> None:
        """The deadline of the client has passed."""
        running = self.running
        if not self.closed:
            self.end_badly(
                status_of(DeadlineExceeded).grpc, sentence(DeadlineExceeded("the deadline of the call has passed")), ()
            )
            if running is not None:
                running.cancel()

    def _close(self) -> None:
        self.closed = True
        if self._buffer is not None:
            self._connection.hold(-len(self._buffer))
            self._buffer = None
        if self._timer is not None:
            self._timer.cancel()
        self._out = None
        self._wake()
        self.notice_room()
        self._connection.leave(self)


def size_bytes(message: bytes) -> bytes:
    """Return the length of a message as it stands before it."""
    return len(message).to_bytes(4, "big")


def _framed(message: bytes) -> bytes:
    return b"\0" + size_bytes(message) + message
