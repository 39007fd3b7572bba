"""One HTTP/1.1 connection: from bytes to requests, from answers to bytes.

llhttp (``httptools``) parses. A request becomes an :class:`Exchange` when its head is complete; exchanges wait in a
queue and are answered one after the other, so that pipelined requests are answered in order and a connection never
has more than one request running. ``listener`` makes connections and looks at their deadlines.

The life of a request here::

    data_received -> on_message_begin -> on_headers_complete -> on_body ... -> on_message_complete
                                           (Streamed: _begin)                   (Whole: _begin)
    _begin -> start (Direct: a call) ................. -> respond -> _end -> the next in the queue
           -> _answer (others: a task) ............... -> _end

A client sends the same head again and again. The bytes of a head that led to a Direct answer are remembered, with what
they mean, for all connections: if a packet is such a head and a body of its length, it is not parsed (``known``).
What a turn of the event loop brought, parsed or not, is answered together, if the application can do that::

    data_received -> (the turn ends) -> reply -> _end

Whatever is wrong with the bytes becomes a refusal: an exchange whose answer is known. After it nothing more is read,
since nobody can say where the next request would start.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from mofang.base.domain.errors import InvalidRequest, MofangError, RequestTimeout, RequestTooLarge, TooManyConnections
from mofang.base.domain.names import new_id
from mofang.surface.protocols.http import HttpRequest, HttpResponse, Running
from mofang.surface.server.asking import ask, unexpected
from mofang.surface.server.exchange import BodyStream, Direct, Exchange, House, Streamed
from mofang.surface.server.heads import HeadBuilder, body_too_large, keeps_alive
from mofang.surface.server.known import find_known, noted, remember
from mofang.surface.server.writer import Writer

_STREAM_HIGH = 256 << 10  # held bytes of a streamed body at which reading pauses


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._limits = house.limits
        self._transport: asyncio.Transport
        self._writer: Writer
        self._parser = HttpRequestParser(self)
        self.client = ""
        self._builder: HeadBuilder | None = None  # while a head is being received
        self._receiving: Exchange | None = None  # while a body is being received
        self._queue: deque[Exchange] = deque()  # the first is being answered
        self.running: Running | None = None  # answers the first of the queue
        self._packet = b""  # what is being parsed, if a request begins with it
        self._head_bytes = 0
        self._since = house.loop.time()  # when the message being received began, or idling did
        self._made_at = self._since
        self._aged = False  # the next answer is the last
        self._fresh = True  # no byte came yet
        self._deaf = False  # nothing more is parsed
        self._ended_at: float | None = None  # when the peer stopped sending
        self._closed_at: float | None = None
        self._paused_at: float | None = None  # reading

    # --- the transport calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it if there are too many."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one by duck typing only
        self._transport = transport
        self._writer = Writer(transport, self._house)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        if len(self._house.connections) >= 2 * self._limits.connections:
            transport.abort()
        elif (reason := self._house.enter(self, self.client)) is not None:
            self._refuse(TooManyConnections(reason, retry_after_seconds=1))

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._deaf:
            return
        self._fresh = False
        if not self._queue and self._builder is None:
            known = find_known(self._house, data, self)
            if known is not None:
                self._queue.append(known)
                known.set_off(self._house.turn)
                return
            self._packet = data
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._builder is not None and self._head_bytes > self._limits.head_bytes:
                self._builder.add_target(b"x" * self._head_bytes)  # a field that does not end is refused the same
        except HttpParserUpgrade:
            self._deaf = True  # the request stands, and is answered as if it had not asked
            if self._queue:
                self._queue[-1].keep_alive = False
        except HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, MofangError) else unexpected(cause))
        except HttpParserError as error:
            self._refuse(InvalidRequest(f"not HTTP/1.1: {error}"))
        except MofangError as error:
            self._refuse(error)
        self._packet = b""

    def eof_received(self) -> bool:
        """Note that the peer sends no more: it may still read, if it waits for an answer."""
        self._ended_at = self._house.loop.time()
        self._deaf, self._builder = True, None
        unfinished, self._receiving = self._receiving, None
        if self._closed_at is None and self._queue and unfinished is not self._queue[0]:
            if unfinished is not None:
                self._queue.remove(unfinished)
            self._queue[-1].keep_alive = False
            self._writer.knock()
            return True
        self._closed_at = self._ended_at
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what was running for a peer that is gone."""
        self._deaf = True
        self._closed_at = self._house.loop.time()
        self._house.leave(self, self.client)
        self._queue.clear()
        if self.running is not None:
            self.running.cancel()
        self._notice_quiet()

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self._writer.block()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._writer.unblock()

    # --- the parser calls ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._deaf:
            return
        if len(self._queue) >= self._limits.pipelined:
            raise RequestTooLarge(f"more than {self._limits.pipelined} requests ahead of their answers")
        self._builder = HeadBuilder(self._limits)
        self._head_bytes = 0
        self._since = self._house.loop.time()

    def on_url(self, part: bytes) -> None:
        """Part of the target."""
        if self._builder is not None:
            self._builder.add_target(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; those after a body in chunks are dropped."""
        if self._builder is not None:
            self._builder.add_field(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: find who answers."""
        builder, self._builder = self._builder, None
        if builder is None:
            return
        version = self._parser.get_http_version()
        head = builder.build(self._parser.get_method().decode("ascii"), version, self.client)
        if self._parser.should_upgrade() and head.method not in ("GET", "HEAD"):
            raise InvalidRequest("this server does not change protocols", hint="send the request without `upgrade`")
        exchange = Exchange(head, None, keeps_alive(builder.headers, version))
        self._receiving = exchange
        self._queue.append(exchange)
        exchange.route = self._house.router(head)
        expect = builder.headers.get("expect")
        if expect is not None and expect.lower() != "100-continue":
            raise InvalidRequest(f"nothing here answers `expect: {expect[:40]}`")
        exchange.wants_continue = expect is not None and version == "1.1"
        if isinstance(exchange.route, Streamed):
            exchange.body = BodyStream(self._watch_reading)
        elif int(builder.headers.get("content-length", "0")) > self._limits.body_bytes:
            raise body_too_large(self._limits.body_bytes)
        if len(self._queue) == 1:
            self._begin(exchange)
        else:
            self._watch_reading()

    def on_chunk_header(self) -> None:
        """A chunk starts, or what ends them."""
        exchange = self._receiving
        if exchange is not None:
            exchange.chunks += 1
            if exchange.chunks > self._limits.chunks + 1 and not isinstance(exchange.route, Streamed):
                raise RequestTooLarge(f"the body has over {self._limits.chunks} chunks", hint="send larger chunks")

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        exchange = self._receiving
        if exchange is None:
            return
        exchange.received += len(piece)
        if isinstance(exchange.body, BodyStream):
            exchange.body.feed(piece)
            self._watch_reading()
            return
        if exchange.received > self._limits.body_bytes:
            raise body_too_large(self._limits.body_bytes)
        exchange.body.append(piece)

    def on_message_complete(self) -> None:
        """The request is complete."""
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            return
        exchange.complete = True
        if not exchange.keep_alive:
            self._deaf = True
        if isinstance(exchange.body, BodyStream):
            exchange.body.finish()
        elif self._queue[0] is exchange:
            if self._packet:
                remember(self._house.known_heads, self._packet, exchange)
            self._begin(exchange)

    # --- answering -------------------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> None:
        """Go on with the first of the queue as far as it is there."""
        if exchange.refusal is not None:
            self._answer_refusal(exchange, exchange.refusal)
        elif isinstance(exchange.route, Direct) and exchange.head and "content-encoding" not in exchange.head.headers:
            if exchange.complete:
                self._queue[0] = known = noted(exchange, exchange.head, exchange.route, self)
                known.set_off(self._house.turn)
        elif exchange.complete or isinstance(exchange.body, BodyStream):
            self.running = self._house.loop.create_task(self._answer(exchange))
        if exchange.wants_continue and not exchange.complete and self._closed_at is None:
            exchange.wants_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start(self, exchange: Exchange, route: Direct, body: bytes) -> None:
        """Ask the application without a task."""
        if self._closed_at is not None:  # in the very turn in which it asked
            return
        head = exchange.head
        assert head is not None
        request = HttpRequest(head.method, head.path, head.query, head.headers, body, self.client)
        running = route.start(request, new_id("req"), partial(self.respond, exchange))
        if running is not None:
            self.running = running

    def respond(self, exchange: Exchange, reply: HttpResponse) -> None:
        """Send what the application says."""
        if self._closed_at is None and not exchange.answering:
            exchange.answering = True
            self._house.answered += 1
            self._sent(exchange, self._writer.send_whole(exchange.method, reply, self._may_stay(exchange)))

    def reply(self, exchange: Exchange, lines: bytes, body: bytes) -> None:
        """Send a good answer to a request that was answered together with others."""
        if self._closed_at is None:
            exchange.answering = True
            self._house.answered += 1
            keep = self._may_stay(exchange)
            self._writer.send_well(lines, body, keep)
            self._sent(exchange, keep)

    def _sent(self, exchange: Exchange, keep: bool) -> None:
        if self._writer.blocked_at is None:
            self._end(exchange, keep)
        else:
            self.running = self._house.loop.create_task(self._end_when_read(exchange, keep))

    async def _end_when_read(self, exchange: Exchange, keep: bool) -> None:
        await self._writer.room()
        self._end(exchange, keep)

    async def _answer(self, exchange: Exchange) -> None:
        """Ask the application and send what it says."""
        reply = await ask(exchange, new_id("req"), self._limits, lambda: self._closed_at is not None)
        self._house.answered += 1
        exchange.answering = True
        keep = await self._writer.send(exchange.method, reply, self._may_stay(exchange))
        self._end(exchange, keep)

    def _may_stay(self, exchange: Exchange) -> bool:
        """Tell whether the connection may stay open after the answer."""
        wanted = exchange.keep_alive and exchange.complete and self._ended_at is None
        return wanted and not self._aged and not self._house.draining

    def _end(self, exchange: Exchange, keep: bool) -> None:
        """Close after an answer, or go on with the next request."""
        self.running = None
        self._queue.popleft()
        if not keep or (self._ended_at is not None and not self._queue):  # it may have ended while we answered
            self._close(linger=not exchange.complete)
            return
        if self._queue:
            if not self._queue[0].complete:
                self._since = self._house.loop.time()
            self._house.loop.call_soon(self._go_on, self._queue[0])
        elif self._builder is None:
            self._since = self._house.loop.time()
        self._watch_reading()
        self._notice_quiet()

    def _go_on(self, exchange: Exchange) -> None:
        if self.running is None and self._queue and self._queue[0] is exchange:
            self._begin(exchange)

    # --- refusing and closing --------------------------------------------------------------------------------

    def _refuse(self, error: MofangError) -> None:
        """Answer ``error`` in the place of the request being received, then close."""
        if self._deaf:
            return
        self._deaf = True
        exchange, self._receiving, self._builder = self._receiving, None, None
        if exchange is None:
            exchange = Exchange(None, None, keep_alive=False)
            self._queue.append(exchange)
        exchange.keep_alive = False
        if self.running is not None and self._queue[0] is exchange:
            assert isinstance(exchange.body, BodyStream)
            exchange.body.finish(error)  # whoever reads it gets the error, and answers it
            return
        exchange.refusal = error
        if self._queue[0] is exchange:
            self._begin(exchange)
        self._watch_reading()

    def _answer_refusal(self, exchange: Exchange, error: MofangError) -> None:
        self._writer.write("", self._house.refusal(exchange.head, error), keep=False)
        self._queue.clear()
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Close; with ``linger``, let the peer read our answer before the unread rest of its request resets it."""
        self._deaf = True
        self._closed_at = self._house.loop.time()
        if linger and self._ended_at is None and self._transport.can_write_eof():
            self._transport.write_eof()
            self._watch_reading()
        else:
            self._transport.close()
        self._notice_quiet()

    # --- back-pressure, deadlines, shutdown ------------------------------------------------------------------

    def _watch_reading(self) -> None:
        """Pause reading while requests wait or a streamed body is not taken; what is deaf reads on to notice an end."""
        if self._ended_at is not None or (not self._queue and self._paused_at is None):
            return
        first = self._queue[0].body if self._queue else None
        full = isinstance(first, BodyStream) and first.held_bytes > _STREAM_HIGH
        pause = not self._deaf and (len(self._queue) > 1 or full)
        if pause and self._paused_at is None:
            self._paused_at = self._house.loop.time()
            self._transport.pause_reading()
        elif not pause and self._paused_at is not None:
            self._since += self._house.loop.time() - self._paused_at
            self._paused_at = None
            if not self._transport.is_closing():
                self._transport.resume_reading()

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        return bool(self._queue) or self._builder is not None

    def check(self, now: float) -> None:
        """Enforce the deadlines; the sweep calls this."""
        limits = self._limits
        self._aged = now > self._made_at + limits.age_seconds
        if self._closed_at is not None:
            if now > self._closed_at + limits.linger_seconds:
                self._stop_lingering(now)
        elif self._writer.blocked_at is not None:
            waiting = self._transport.get_write_buffer_size()
            if now > self._writer.blocked_at + limits.write_seconds + waiting / limits.body_rate:
                self._transport.abort()
        elif self._ended_at is not None:
            if not self._queue[0].answering and now > self._ended_at + limits.half_close_seconds:
                self._transport.abort()
        elif self._builder is not None:
            if self._paused_at is None and now > self._since + limits.head_seconds:
                self._refuse(RequestTimeout(f"the head did not arrive within {limits.head_seconds:g} s"))
        elif self._receiving is not None:
            grown = self._receiving.received / limits.body_rate
            if self._paused_at is None and now > self._since + limits.body_seconds + grown:
                self._refuse(RequestTimeout("the body arrives too slowly"))
        elif not self._queue and now > self._since + (limits.head_seconds if self._fresh else limits.idle_seconds):
            self._close(linger=False)

    def _stop_lingering(self, now: float) -> None:
        """Give a peer that still reads a long answer the time it needs; abort the others."""
        limits = self._limits
        waiting = self._transport.get_write_buffer_size()
        if not waiting or (self._closed_at or now) + limits.write_seconds + waiting / limits.body_rate < now:
            self._transport.abort()

    def drain(self) -> None:
        """Close at once if idle; else the answer being made is the last."""
        if not self.busy and self._closed_at is None:
            self._close(linger=False)

    def abort(self) -> None:
        """Drop the connection and what runs for it."""
        self._transport.abort()

    def _notice_quiet(self) -> None:
        if self._house.draining:
            self._house.notice_quiet()
