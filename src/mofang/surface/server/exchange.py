"""What passes between an HTTP connection and the application behind it.

For each request head the application's :data:`Router` chooses who answers and how the body is given: :class:`Direct`
and :class:`Whole` get it collected (the inference lane; what is asked rarely), :class:`Streamed` piece by piece with
back-pressure (what is forwarded). The last two may answer at once (:class:`HttpResponse`) or piece by piece
(:class:`HttpStream`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from mofang.base.domain.errors import Internal, MofangError
from mofang.base.domain.names import new_id
from mofang.surface.protocols.http import (
    HttpRequest,
    HttpResponse,
    HttpStream,
    Note,
    RequestHead,
    Running,
    Together,
    error_response,
)

Reply = HttpResponse | HttpStream
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one HTTP server. Seconds are absolute: a byte now and then does not extend them."""

    head_bytes: int = 32 << 10  # request line and header fields together
    headers: int = 100
    body_bytes: int = 64 << 20  # of a whole body, also after decompression
    chunks: int = 16_384  # of a whole body
    inflate_ratio: int = 100  # a body may grow this much when decompressed ...
    inflate_bytes: int = 1 << 20  # ... or to this size, whichever is more
    pipelined: int = 1024  # requests sent ahead of their answers
    connections: int = 10_000  # from here on refused in words, from twice as many without
    address_connections: int = 1000  # from one remote address
    age_seconds: float = 3600.0  # of a connection; its next answer is its last, so that clients spread anew
    head_seconds: float = 10.0  # from the first byte to the end of the head
    body_seconds: float = 12.0  # from the first byte to the end of the body, and
    body_rate: int = 64 << 10  # bytes a second more for what has arrived
    idle_seconds: float = 75.0  # between requests
    write_seconds: float = 30.0  # for a peer that does not read, and at the same rate for what waits
    linger_seconds: float = 2.0  # for a peer to read a refusal and hang up
    half_close_seconds: float = 0.5  # for an answer to a peer that stopped sending: it may be gone
    sweep_seconds: float = 0.25  # how often all of these are looked at


class BodyStream:
    """A body as it arrives. The connection feeds it; the one who answers iterates over it, once.

    Each piece is all that has arrived since the last: many small chunks cost the reader no more than a few large ones.
    """

    def __init__(self, on_read: Callable[[], None]) -> None:
        self._on_read = on_read
        self._pieces: deque[bytes] = deque()
        self._ended: MofangError | bool = False
        self._waiter: asyncio.Future[None] | None = None
        self.held_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self.held_bytes += len(piece)
        self._wake()

    def finish(self, error: MofangError | None = None) -> None:
        """End the body, or break it off with an error that the reader gets."""
        self._ended = error or True
        self._wake()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if isinstance(self._ended, MofangError):
                raise self._ended
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.held_bytes = 0
        self._on_read()
        return piece

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Direct:
    """Answer when the whole body is here, decompressed, without a task: the fast lane.

    ``start`` takes the request, its id and what to call with the answer. It raises nothing, and returns what is
    running, or None if it has answered already. ``note`` says what is to be remembered of a head: requests whose heads
    were noted are handed over together, all of a turn at once.
    """

    start: Callable[[HttpRequest, str, Callable[[HttpResponse], None]], Running | None]
    note: Callable[[RequestHead], Note | None] = lambda _: None

    async def ask(self, request: HttpRequest, request_id: str) -> HttpResponse:
        """Do the same in a task."""
        answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        running = self.start(request, request_id, answer.set_result)
        try:
            return await answer
        except asyncio.CancelledError:
            if running is not None:
                running.cancel()
            raise


@dataclass(frozen=True, slots=True)
class Whole:
    """Answer when the whole body is here, decompressed. Takes the request and its id."""

    respond: Callable[[HttpRequest, str], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Answer as soon as the head is here; the body comes while it is read. Takes head, body and request id."""

    respond: Callable[[RequestHead, AsyncIterator[bytes], str], Awaitable[Reply]]


Route = Direct | Whole | Streamed
Refused = Callable[[RequestHead, MofangError, str], HttpResponse]
"""Is told of a request that is refused before anybody is asked to answer it, and its id; says how that looks there."""
Router = Callable[[RequestHead], Route]
"""Chooses who answers; may raise a MofangError, which becomes the answer."""


class Sender(Protocol):
    """A connection, as its exchanges see it."""

    def start(self, exchange: Exchange, route: Direct, body: bytes) -> None:
        """Ask the application without a task."""

    def reply(self, exchange: Exchange, lines: bytes, body: bytes) -> None:
        """Send a good answer."""

    def respond(self, exchange: Exchange, reply: HttpResponse) -> None:
        """Send what the application says."""

    client: str  # the peer's address
    running: Running | None  # cancelled if the peer leaves


class Exchange:
    """One request on a connection, from its head to the end of its answer."""

    __slots__ = (
        "answering", "body", "chunks", "complete", "head", "keep_alive", "received", "refusal", "route",
        "wants_continue",
    )  # fmt: skip

    def __init__(self, head: RequestHead | None, route: Route | None, keep_alive: bool) -> None:
        self.head = head
        self.route = route
        self.keep_alive = keep_alive
        self.body: list[bytes] | BodyStream = []
        self.received = 0
        self.chunks = 0
        self.complete = False
        self.answering = False  # the answer is being written
        self.wants_continue = False
        self.refusal: MofangError | None = None

    @property
    def method(self) -> str:
        """The method, empty for what never became a request."""
        return self.head.method if self.head is not None else ""


class KnownExchange(Exchange):
    """One request whose head was known and whose body is here: what an :class:`Asked` is."""

    __slots__ = ("_sender", "client", "note")

    body: bytes  # type: ignore[assignment]

    def __init__(self, sender: Sender, known: KnownHead, body: bytes) -> None:
        self._sender = sender
        self.client = sender.client
        self.note = known.note
        self.head = known.head
        self.route = known.route
        self.body = body
        self.keep_alive = self.complete = True
        self.answering = self.wants_continue = False
        self.received = self.chunks = 0
        self.refusal = None

    def reply(self, lines: bytes, body: bytes) -> None:
        """See :class:`Asked`."""
        self._sender.reply(self, lines, body)

    def respond(self, response: HttpResponse) -> None:
        """See :class:`Asked`."""
        self._sender.respond(self, response)

    def start(self) -> None:
        """See :class:`Asked`."""
        assert isinstance(self.route, Direct)
        self._sender.start(self, self.route, self.body)

    def wait(self, running: Running) -> None:
        """See :class:`Asked`."""
        if not self.answering:
            self._sender.running = running

    def set_off(self, turn: Turn) -> None:
        """Be answered: together with what this turn brings, or alone."""
        if self.note is not None:
            turn.add(self, self.note.together)
        else:
            self.start()


class KnownHead(msgspec.Struct, frozen=True, gc=False):
    """What the bytes of a head mean that was read before: parsing is for bytes that are new."""

    head: RequestHead  # without the peer's address
    route: Direct
    body_bytes: int
    note: Note | None  # the application's, if it answers such requests together


class Turn:
    """Collects what one turn of the event loop brings, to have it answered together when the turn ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[Together, list[KnownExchange]] = {}

    def add(self, exchange: KnownExchange, together: Together) -> None:
        """Add a request."""
        asked = self._asked.get(together)
        if asked is not None:
            asked.append(exchange)
            return
        if not self._asked:
            self._loop.call_soon(self._end)
        self._asked[together] = [exchange]

    def _end(self) -> None:
        turn, self._asked = self._asked, {}
        for together, asked in turn.items():
            try:
                together.answer(asked)
            except Exception:  # a defect, for which nobody may wait for ever
                _log.exception("requests of a turn failed")
                for exchange in asked:
                    exchange.respond(error_response(Internal("the server failed on this request")))


class Member(Protocol):
    """A connection, as the others of its house see it."""

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""

    def check(self, now: float) -> None:
        """Enforce the deadlines."""

    def drain(self) -> None:
        """Close at once if idle; else the answer being made is the last."""

    def abort(self) -> None:
        """Drop the connection and what runs for it."""


@dataclass(slots=True)
class House:
    """What the connections of one server share."""

    router: Router
    limits: Limits
    loop: asyncio.AbstractEventLoop
    turn: Turn
    refused: Refused = lambda head, error, request_id: error_response(error)
    date: str = ""  # the header line, kept fresh by the sweep
    well: bytes = b""  # how good answers begin: status line and date
    draining: bool = False
    answered: int = 0
    known_heads: dict[bytes, KnownHead] = field(default_factory=dict)  # bounded by whoever adds
    connections: set[Member] = field(default_factory=set)
    addresses: Counter[str] = field(default_factory=Counter)  # connections from each
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # while draining: nobody is busy any more
    empty: asyncio.Event = field(default_factory=asyncio.Event)  # the last connection is gone

    def enter(self, member: Member, address: str) -> str | None:
        """Count a new connection; say why it has to go again, if it has to. Unix sockets have no address."""
        self.connections.add(member)
        if address:
            self.addresses[address] += 1
        if len(self.connections) > self.limits.connections:
            return "too many connections"
        if self.addresses[address] > self.limits.address_connections:
            return f"more than {self.limits.address_connections} connections from {address}"
        return None

    def leave(self, member: Member, address: str) -> None:
        """A connection is gone."""
        if member not in self.connections:
            return
        self.connections.remove(member)
        self.addresses[address] -= 1
        if self.addresses[address] <= 0:
            del self.addresses[address]
        if not self.connections:
            self.empty.set()

    def refusal(self, head: RequestHead | None, error: MofangError) -> HttpResponse:
        """Return the answer to a request that nobody is asked to answer."""
        request_id = new_id("req")
        reply = error_response(error) if head is None else self.refused(head, error, request_id)
        reply.headers.append(("x-request-id", request_id))
        return reply

    def notice_quiet(self) -> None:
        """Set ``quiet`` if nobody is busy."""
        if not any(member.busy for member in self.connections):
            self.quiet.set()
