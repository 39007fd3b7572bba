"""The life of a request to a language model: the same steps as any other's, and streams instead of one answer.

Authenticate, route and admit are the lane's. A request is then one stream for each choice; what they say is handed to
the protocol in the order in which it comes. One usage record is in the journal before the protocol may send its last
byte; a request that is cut off is recorded with the tokens that were handed out until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import Draining, EndpointNotFound, Exhausted, MofangError, NotGenerative
from mofang.base.domain.generation import Delta, Order, Profile
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageRecord, named
from mofang.base.placement.base import StreamHandle
from mofang.run.serve.admitting import Admit, Admitted
from mofang.run.serve.desk import Observe, Record
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.pieces import Piece, Speech, Tally, merged
from mofang.run.serve.visits import Timing, Visit, Watch, look, refused

_MOST_PIECES = 128  # that wait for a reader: then they are joined, for a piece takes far more room than its text


class Generator:
    """What protocols ask for streams; ``listen`` is told of every answer that said something, when it has ended, and
    ``hear`` of its tokens as they are handed out."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        admit: Admit,
        record: Record,
        observe: Observe,
        listen: Callable[[str, Speech], None] = lambda endpoint, speech: None,
        hear: Callable[[str, int], None] = lambda endpoint, tokens: None,
        watch: Watch | None = None,
    ) -> None:
        self._fleet = fleet
        self._listen = listen
        self.hear = hear
        self._watch = watch
        self._admit = admit
        self.record = record
        self.observe = observe
        self.draining = False

    def begin(
        self,
        endpoint: str,
        orders: Sequence[Order],
        principal: Principal,
        *,
        input_bytes: int,
        prompts: int = 1,
        version: str = "",
    ) -> Generation:
        """Ask ``endpoint``, or ``endpoint:adapter``, for one stream for each of ``orders``, which have ``prompts``
        different prompts, equally many each.

        Raises what is known to be wrong at once: EndpointNotFound, NotGenerative, Forbidden, Exhausted, Unavailable.
        """
        started = time.monotonic()
        endpoint, _, adapter = endpoint.partition(":")
        try:
            route = self._fleet.pick(principal, endpoint, version)
            if adapter:
                route = replace(route, revision=route.revision.adapted(adapter))
                orders = [_with_adapter(order, adapter) for order in orders]
            if self.draining:
                raise Draining("the server is shutting down", retry_after_seconds=5)
            replica = self._fleet.replica(route)
            if not isinstance(replica, StreamHandle):
                raise NotGenerative(f"the model of {endpoint!r} generates no text")
            held = self._admit(principal, route, len(orders), input_bytes)
        except MofangError as error:
            seconds = time.monotonic() - started
            if not isinstance(error, EndpointNotFound):  # a name that anybody makes up is no label of a metric
                self.observe(endpoint, error.code, seconds)
            error.seen = self._watch is not None
            about = orders[0].request_id, endpoint, error, principal, input_bytes, seconds, None
            look(self._watch, None, lambda: refused(*about))
            raise
        generation = Generation(self, route, principal, replica, held, started, input_bytes)
        self._fleet.enter(route.revision.key)
        weight = self._fleet.snapshot.weights.get(principal.tenant, 1.0)
        choices = len(orders) // prompts
        generation.ask(
            [
                msgspec.structs.replace(order, weight=weight, part=part, choices=choices)
                for part, order in enumerate(orders)
            ]
        )
        return generation

    def profile(self, route: Route) -> Profile | None:
        """Return what the language model at ``route`` can do; None if there is none, or it cannot answer now."""
        try:
            replica = self._fleet.replica(route)
        except MofangError:
            return None
        return replica.profile if isinstance(replica, StreamHandle) else None

    def ended(self, generation: Generation, outcome: str) -> None:
        """Count a request that had begun."""
        self._fleet.leave(generation.revision.key)
        generation.held.release()
        endpoint = generation.revision.endpoint
        self.observe(endpoint, outcome, time.monotonic() - generation.started)
        if generation.tally.output_tokens:
            self._listen(endpoint, generation.speech)
        look(self._watch, None, lambda: generation.visit(outcome))


class Generation:
    """One request being answered. An asynchronous iterator of all pieces that came since the last look.

    :meth:`settle` after the last piece, :meth:`cancel` in any case in the end.
    """

    def __init__(
        self,
        generator: Generator,
        route: Route,
        principal: Principal,
        replica: StreamHandle,
        held: Admitted,
        started: float,
        input_bytes: int,
    ) -> None:
        self.revision: Revision = route.revision
        self.tally = Tally()
        self.held = held
        self.started = started
        self.request_id = ""
        self._generator = generator
        self._principal = principal
        self._replica = replica
        self._input_bytes = input_bytes
        self._streams: dict[int, _Choice] = {}  # those that go on, by their number
        self._choices = self._unbegun = 0
        self._most_tokens = 0  # of the answer, as far as it is known
        self._deadline = 0.0
        self._pieces: list[Piece] = []  # not handed out yet; of a reader who is slow, joined now and then
        self._merge_at = _MOST_PIECES
        self._failure: MofangError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def ask(self, orders: Sequence[Order]) -> None:
        """Begin the streams; the prompt of several choices is counted once."""
        self.request_id = orders[0].request_id
        self._choices = self._unbegun = len(orders)
        self._deadline = orders[0].deadline
        if self.held.charges:
            orders = [msgspec.structs.replace(order, held=True) for order in orders]
        try:
            if self.held.pending:
                self.held.wait(self._deadline, partial(self._go_on, orders))
            else:
                self._send(orders)
        except MofangError as error:
            self._failure = error
            self.cancel()
            raise

    @property
    def speech(self) -> Speech:
        """How it came."""
        tally = self.tally
        first = tally.first_at - self.started if tally.first_at else None
        more = tally.output_tokens / self._choices - 1
        between = (tally.last_at - tally.first_at) / more if more > 0 else None
        return Speech(first, between, tally.queue_us / 1e6, tally.input_tokens, tally.cached_tokens,
                      tally.output_tokens)  # fmt: skip

    def visit(self, outcome: str) -> Visit:
        """What those who look at requests are told."""
        revision, principal, tally = self.revision, self._principal, self.tally
        return Visit(
            self.request_id, principal.tenant, principal.project, principal.key_id, revision.endpoint,
            revision.number, revision.version, revision.digest, outcome, self._choices, self._input_bytes,
            time.time_ns(), time.monotonic() - self.started, Timing(tally.queue_us, tally.compute_us),
            input_tokens=tally.input_tokens, output_tokens=tally.output_tokens,
        )  # fmt: skip

    async def begun(self) -> None:
        """Return when every stream was taken, and paid for; raise why one was not. Nothing was answered until then."""
        while self._unbegun and self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> list[Piece]:
        """Return what came; raise the MofangError that ended it, when all before it was handed out."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if not self._streams:
                raise StopAsyncIteration
            await self._wait()
        pieces, self._pieces, self._merge_at = self._pieces, [], _MOST_PIECES
        for index, delta in pieces:
            (self.tally.estimated.add if delta.estimated else self.tally.estimated.discard)(index)
            self.tally.output_tokens += delta.tokens
            self.tally.compute_us += delta.compute_us
            self.tally.queue_us = max(self.tally.queue_us, delta.queue_us)
            self.tally.output_bytes += len(delta.text.encode("utf-8", "replace"))
        self._generator.hear(self.revision.endpoint, sum(delta.tokens for _, delta in pieces))
        return pieces

    async def settle(self) -> None:
        """Record what was used; return when it is in the journal. Raises StorageFull."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(error: Exception | None) -> None:
            if not written.done():
                written.set_result(None) if error is None else written.set_exception(error)

        self._end("ok", told)
        await written  # with a journal that waits for the disk, a moment later

    def cancel(self, outcome: str = "cancelled") -> None:
        """Stop what still goes on, and record what was handed out. Does nothing after :meth:`settle`."""
        if self._ended:
            return
        self._drop()
        if self._failure is not None:
            outcome = self._failure.code
            self._failure.seen = True
        self._end(outcome, (lambda error: None) if self.tally.output_tokens else None)

    def _end(self, outcome: str, told: Callable[[Exception | None], None] | None) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            if told is not None:
                self._record(told)
        finally:
            self._generator.ended(self, outcome)

    def _record(self, told: Callable[[Exception | None], None]) -> None:
        def written(error: Exception | None) -> None:
            if error is not None:
                self.held.refund()
            told(error)

        try:
            self._generator.record(self._usage(), written)
        except Exception as error:  # the journal is closed: nothing is on record, and nothing is charged
            written(error)

    def _go_on(self, orders: Sequence[Order], error: MofangError | None) -> None:
        """The budgets let the request go on, or not."""
        if self._ended:
            return
        try:
            if error is not None:
                raise error
            self._send(orders)
        except MofangError as refusal:
            self._failure = refusal
        self._wake()

    def _send(self, orders: Sequence[Order]) -> None:
        for order in orders:
            choice = _Choice(self, order.part, counts=order.part % order.choices == 0)
            choice.number = self._replica.begin(order, choice)
            self._streams[choice.number] = choice

    def _drop(self) -> None:
        streams, self._streams = self._streams, {}
        for number in streams:
            self._replica.forget(number)

    # --- what the streams say -----------------------------------------------------------------------------------------

    def took(self, choice: _Choice, input_tokens: int, output_tokens: int) -> None:
        """A stream's order was taken. When all were, it is known what the budgets have to hold."""
        self._most_tokens += output_tokens
        if choice.counts:
            self.tally.input_tokens += input_tokens
        if self._unbegun == 1 and self.held.charges:
            read = self.tally.input_tokens
            most = {"input_tokens": read, "cached_tokens": 0, "output_tokens": self._most_tokens}
            self.held.bound(most, self._deadline, self._proceed)
            return
        self._unbegun -= 1
        self._wake()

    def _proceed(self, error: MofangError | None) -> None:
        """The budgets hold what the request may use at most, or cannot."""
        if self._ended or self._failure is not None:
            return
        if error is None:
            self._unbegun -= 1
            self._replica.proceed(list(self._streams))
        else:
            if isinstance(error, Exhausted):
                read, write = self.tally.input_tokens, self._most_tokens
                error.hint = (
                    f"it reads {read:,} tokens and may write {write:,}: a lower max_tokens holds less; {error.hint}"
                )
            self._failure = error
            self._drop()
        self._wake()

    def add(self, choice: _Choice, delta: Delta) -> None:
        """Something was said."""
        now = time.monotonic()
        if delta.tokens and not self.tally.first_at:
            self.tally.first_at = now
        self.tally.last_at = now
        if choice.counts:
            self.tally.input_tokens += delta.input_tokens
            self.tally.cached_tokens += delta.cached_tokens
        if delta.finish:
            self._streams.pop(choice.number, None)
        self._pieces.append((choice.index, delta))
        if len(self._pieces) >= self._merge_at:
            self._pieces = merged(self._pieces)
            self._merge_at = len(self._pieces) + _MOST_PIECES
        self._wake()

    def fail(self, choice: _Choice, error: MofangError) -> None:
        """A stream failed, and with it the request."""
        self._streams.pop(choice.number, None)
        if self._failure is None:
            self._failure = error
            self._drop()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _usage(self) -> UsageRecord:
        revision, principal, tally = self.revision, self._principal, self.tally
        quantities = {
            "requests": 1,
            "input_tokens": tally.input_tokens - tally.cached_tokens,
            "cached_tokens": tally.cached_tokens,
            "output_tokens": tally.output_tokens,
            "compute_us": tally.compute_us,
            "input_bytes": self._input_bytes,
            "output_bytes": tally.output_bytes,
        }
        return UsageRecord(
            self.request_id, now_us(), principal.tenant, principal.project, principal.key_id, revision.endpoint,
            revision.number, revision.version, revision.digest, "ok", charges=self.held.charge(quantities),
            quantities=named(quantities, batch=principal.batch), source="estimated" if tally.estimated else "engine",
        )  # fmt: skip


def _with_adapter(order: Order, name: str) -> Order:
    return msgspec.structs.replace(order, sampling=msgspec.structs.replace(order.sampling, adapter=name))


class _Choice:
    """The listener of one stream."""

    __slots__ = ("_generation", "counts", "index", "number")

    def __init__(self, generation: Generation, index: int, *, counts: bool) -> None:
        self._generation = generation
        self.index = index
        self.counts = counts
        self.number = 0

    def begun(self, input_tokens: int, output_tokens: int) -> None:
        """See :class:`StreamListener`."""
        self._generation.took(self, input_tokens, output_tokens)

    def add(self, delta: Delta) -> None:
        """See :class:`StreamListener`."""
        self._generation.add(self, delta)

    def fail(self, error: MofangError) -> None:
        """See :class:`StreamListener`."""
        self._generation.fail(self, error)
