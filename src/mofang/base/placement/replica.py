"""A replica: a bounded fair queue, a batcher and an engine. The same code in a gateway's thread and in a worker.

It collects what one turn of the event loop brought and computes it in one engine call: in the loop itself while that
takes less than half a millisecond (a thread would cost more than it saves), else in a thread of its own. What turns out
to take longer in the loop than expected is interrupted and begun anew in the thread, if the engine can be interrupted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import Draining, EngineFailed, MofangError, Overloaded, RequestTooLarge
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Signature
from mofang.base.engines.base import Engine, Interruptible
from mofang.base.placement.batcher import Batch, Outcome, Shapes, compute, compute_party, form
from mofang.base.placement.deadlines import Deadlines, expired
from mofang.base.placement.pace import Pace
from mofang.base.placement.padding import Padding
from mofang.base.placement.party import Joined, Party
from mofang.base.placement.patience import Patience
from mofang.base.placement.queue import FairQueue
from mofang.base.placement.tally import Tally, Uncounted, count_answers, count_party, metered
from mofang.base.placement.ticket import FutureTicket, Ticket
from mofang.base.placement.watchdog import Watchdog

_INLINE_SECONDS = 0.0005
_LOOK_SECONDS = 0.1  # how often a long batch is looked at: whether anybody still waits for it
_FAILED_PARTIES = 10  # after so many in a row that had to go apart none is tried: this model is not made for them
_USABLE = 0.8  # of the time until a deadline may be planned for; the rest is for what takes longer than expected
_SHARED_SECONDS = 10.0  # after another tenant than before has asked, batches are kept short
_BRIEF_SECONDS = 0.002  # of a batch: shorter ones nobody minds
# Of so many batches a few in a row, the first of them soon, are of another size than was measured to cost least: one
# alone would be measured beside what the batch before it brings, and a size that was once measured badly never again.
_TRY_FROM, _TRY_EVERY, _TRIES = 8, 256, 3
_PURGE_SECONDS = 0.05  # at most so often is a full queue searched for calls nobody waits for


class Replica:
    """A :class:`ReplicaHandle` on an engine in this process. Made in any thread, it then lives in one event loop."""

    def __init__(
        self, engine: Engine, limits: ReplicaLimits, tally: Tally | None = None, padding: Padding | None = None
    ) -> None:
        self._engine = engine
        self._tally = tally or Uncounted()
        self._meters = metered(engine.signature)
        self._limits = limits
        self._queue = FairQueue(limits.max_queue, limits.max_queue_bytes)
        self._shapes = Shapes(engine.signature, join=limits.join, padding=padding)
        self._pace = Pace()
        self._patience = Patience()
        self._slowest: float | None = None  # seconds that no batch is expected to exceed, since it was asked last
        self._deadlines = Deadlines(self._waiting)
        self._thread: ThreadPoolExecutor | None = None  # made when a batch first needs it
        self._running: Batch | None = None
        self._interruptible = engine if isinstance(engine, Interruptible) else None
        self._interrupted: Batch | None = None  # the running one, if it was given up
        self._watchdog = Watchdog(engine) if isinstance(engine, Interruptible) else None
        self._turn: asyncio.Handle | None = None  # set while the formation of a batch is scheduled or waits
        self._filling: asyncio.TimerHandle | None = None  # set while that waits for a fuller batch
        self._enough = limits.max_batch_rows  # rows with which a batch that waits to be fuller starts at once
        self._crowded = False  # whether the last batch joined several calls: only then is waiting for more worth it
        self._behind = False  # whether what waits has waited for another batch
        self._purged_at = 0.0
        self._tenant = ""  # who asked last
        self._shared_until = 0.0  # on time.monotonic(): until then another may ask too
        self._failed_parties = 0
        self._formed = 0
        self._idle: asyncio.Future[None] | None = None  # what close() awaits
        self._closed = False

    @property
    def signature(self) -> Signature:
        """The engine's signature."""
        return self._engine.signature

    @property
    def load(self) -> int:
        """Calls that wait or are computed."""
        return len(self._queue) + (len(self._running.tickets) if self._running else 0)

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """See :meth:`ReplicaHandle.submit`."""
        ticket = FutureTicket(call, asyncio.get_running_loop())
        self.admit(ticket)
        return ticket

    def admit(self, ticket: Ticket) -> None:
        """Queue ``ticket``, which is told the outcome. Raises as :meth:`submit`; the ticket is not told then."""
        call = ticket.call
        if self._closed:
            raise Draining("the replica takes no more requests")
        now = ticket.queued_at = time.monotonic()
        if call.tenant != self._tenant:
            self._shared_until = now + _SHARED_SECONDS if self._tenant else 0.0
            self._tenant = call.tenant
        if call.deadline <= now:
            raise expired()
        if ticket.size_bytes > self._limits.max_queue_bytes:
            raise RequestTooLarge(
                f"{ticket.size_bytes} bytes are more than the {self._limits.max_queue_bytes} of a queue"
            )
        if self._queue.count or self._running:
            self._refuse_late(call, now)
            if self._queue.count >= self._limits.max_queue:
                self._purge(now)
        try:
            victims = self._queue.push(ticket)
        except Overloaded as error:
            error.retry_after_seconds = self._retry_after(now)
            raise
        if victims:
            self._turn_away(victims, now)
        self._deadlines.watch(call.deadline)
        if self._running is not None:
            self._make_way(ticket, self._running, now)
        elif self._turn is None or self._queue.rows >= self._enough:
            self._schedule()

    def board(self, party: Joined) -> bool:
        """See :meth:`ReplicaHandle.board`. The party is told before this returns."""
        if self._watchdog is None:
            answer, seconds = compute_party(self._engine, party)
            interrupted = False
        else:
            self._watchdog.begin()
            answer, seconds = compute_party(self._engine, party)
            interrupted = self._watchdog.end()
        self._learn(party.rows, seconds)
        if answer is None or interrupted:
            self._failed_parties += 1
            return False
        self._failed_parties = 0
        count_party(self._tally, party, answer)
        party.computed(answer)
        return True

    def takes(self, rows: int) -> bool:
        """See :meth:`ReplicaHandle.takes`: where nothing waits, and what is so short that the loop can wait for it."""
        return (
            self._running is None
            and not self._queue.count
            and not self._closed
            and rows <= self._limits.max_batch_rows
            and 0.0 < self._pace.undisturbed(rows) < _INLINE_SECONDS
            and self._shapes.joinable
            and self._failed_parties < _FAILED_PARTIES
        )

    def part(self, party: Party) -> None:
        """See :meth:`ReplicaHandle.part`: never needed, since none is under way when others get to say something."""

    def drop(self, ticket: Ticket) -> None:
        """See :meth:`ReplicaHandle.drop`: a batch leaves out what is done, and the queue is purged when it is full."""

    async def close(self) -> None:
        """Finish what was taken, then close the engine."""
        self._closed = True
        if self._idle is None:
            self._idle = asyncio.get_running_loop().create_future()
            self._settle()
        await asyncio.shield(self._idle)

    def _learn(self, rows: int, seconds: float) -> None:
        self._pace.observe(rows, seconds)
        self._slowest = None

    # --- admission ----------------------------------------------------------------------------------------------------

    def _refuse_late(self, call: Call, now: float) -> None:
        """Refuse a call that would be late. An idle replica refuses nothing, so that it goes on measuring."""
        remaining = (call.deadline - now) * _USABLE
        most = self._limits.max_batch_rows if self._shapes.joinable else 1
        if self._slowest is None:
            self._slowest = self._pace.bound(self._limits.max_batch_rows)
        if (self._queue.rows // most + 2) * self._slowest < remaining:
            return  # surely in time
        own = self._pace.expect(call.rows)
        if self._wait(self._queue.rows, now) + own <= remaining:
            return
        wait = self._wait(self._queue.rows_ahead(call.tenant, call.rows, call.weight), now) + own
        if wait > remaining:
            raise Overloaded(
                f"an answer would take about {wait:.1f} s and the deadline is in {call.deadline - now:.1f} s",
                retry_after_seconds=max(1, math.ceil(wait)),
            )

    def _wait(self, rows_ahead: float, now: float) -> float:
        """Return the seconds until the engine is free for a call that has ``rows_ahead`` before it."""
        most = self._largest(now) if self._shapes.joinable else 1
        batches, rest = divmod(math.ceil(rows_ahead), most)
        wait = batches * self._pace.expect(most) + (self._pace.expect(rest) if rest else 0.0)
        if self._running is not None:
            wait += max(0.0, self._pace.expect(self._running.rows) - (now - self._running.formed_at))
        return wait

    def _retry_after(self, now: float) -> int:
        return max(1, math.ceil(self._wait(self._queue.rows, now)))

    def _turn_away(self, victims: list[Ticket], now: float) -> None:
        for ticket in victims:
            if not ticket.done():
                ticket.set_exception(
                    Overloaded(
                        "the queue is full, and this tenant holds the largest part of it",
                        retry_after_seconds=self._retry_after(now),
                    )
                )

    def _purge(self, now: float) -> None:
        if now - self._purged_at >= _PURGE_SECONDS:
            self._purged_at = now
            self._queue.purge()

    def _waiting(self) -> Iterator[Ticket]:
        if self._running is not None:
            yield from self._running.tickets
        yield from self._queue

    # --- batches ------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Form the next batch when this turn of the event loop ends; at once also if one was waited for."""
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
            self._turn = None
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        wait = 0.0
        if self._crowded and self._queue.rows < self._limits.max_batch_rows:
            self._enough, wait = self._patience.plan(self._queue.rows, self._pace, self._limits)
        if wait:
            self._filling = asyncio.get_running_loop().call_later(wait, self._form)
        else:
            self._form()

    def _form(self) -> None:
        self._turn = self._filling = None
        self._enough = self._limits.max_batch_rows
        # What an idle replica is asked is not dropped, so that it goes on measuring.
        least = self._pace.expect(1) / _USABLE if self._behind else 0.0
        now = time.monotonic()
        batch = form(self._queue, self._shapes, self._limits, now, least, self._most(now))
        self._behind = False
        if batch is None:
            self._settle()
            return
        self._running = batch
        self._patience.formed(batch.rows, batch.formed_at)
        self._crowded = len(batch.tickets) > 1
        if self._pace.knows(batch.rows) and self._pace.undisturbed(batch.rows) < _INLINE_SECONDS:
            self._compute_here(batch)
        else:
            self._start(batch)

    def _most(self, now: float) -> int:
        """Return how many rows the next batch may have: as many as pay, and now and then another size."""
        self._formed += 1
        largest, most = self._largest(now), self._limits.max_batch_rows
        trial, number = divmod(self._formed - _TRY_FROM, _TRY_EVERY)
        if number >= _TRIES:
            return largest
        size = 1 << trial % most.bit_length()
        return min(size, most, 2 * largest + 1) if self._is_shared(now) else min(size, most)

    def _largest(self, now: float) -> int:
        """Return up to how many rows batches pay: fewer while tenants share, each of whom waits for others' batches."""
        return self._pace.thrifty(self._limits.max_batch_rows, short=self._is_shared(now))

    def _is_shared(self, now: float) -> bool:
        return now < self._shared_until and self._pace.bound(self._limits.max_batch_rows) > _BRIEF_SECONDS

    def _compute_here(self, batch: Batch) -> None:
        if self._watchdog is None:
            self._finish(batch, *compute(self._engine, self._shapes, batch))
            return
        self._watchdog.begin()
        computed = compute(self._engine, self._shapes, batch)
        if self._watchdog.end():  # it takes longer than was expected: begin anew where it may
            self._start(batch)
        else:
            self._finish(batch, *computed)

    def _start(self, batch: Batch) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, compute, self._engine, self._shapes, batch)
        future.add_done_callback(lambda done: self._finish(batch, *_result(batch, done)))
        if self._interruptible is not None:
            loop.call_later(_LOOK_SECONDS, self._look_at, batch, self._interruptible)

    def _look_at(self, batch: Batch, engine: Interruptible) -> None:
        """Interrupt a batch if all who asked for it have gone, so that the next need not wait for its end."""
        if self._running is batch:
            if all(ticket.done() for ticket in batch.tickets):
                self._interrupted = batch
                engine.interrupt()
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_at, batch, engine)

    def _make_way(self, ticket: Ticket, batch: Batch, now: float) -> None:
        """Interrupt a call of who floods, in its first half, for one that should have gone before; it begins anew then.

        What was computed in vain is charged to whom it was for, so that nobody gains by that.
        """
        engine, expected = self._interruptible, self._pace.expect(batch.rows)
        if engine is None or self._interrupted is not None or len(batch.tickets) > 1 or expected < _BRIEF_SECONDS:
            return
        part = (now - batch.formed_at) / expected
        if part < 0.5 and self._queue.goes_before(ticket, batch.tickets[0].call):
            self._queue.charge(ticket.call.tenant, part * batch.rows)
            self._interrupted = batch
            engine.interrupt()

    def _finish(self, batch: Batch, outcomes: list[Outcome], seconds: float) -> None:
        self._running = None
        interrupted, self._interrupted = batch is self._interrupted, None
        if not interrupted or seconds > self._pace.expect(batch.rows):  # it took at least so long
            self._learn(batch.rows, seconds)
        waiting = [ticket for ticket in batch.tickets if not ticket.done()]
        if interrupted and waiting and isinstance(outcomes[0], EngineFailed):
            self._queue.put_back(waiting)
        else:
            self._tell(batch, outcomes)
        if self._queue.count:
            self._behind = True
            self._schedule()
        else:
            self._settle()

    def _tell(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Count the answers, and give all outcomes to those who wait for them."""
        if self._queue.is_contended:
            said = zip(batch.tickets, outcomes, strict=True)
            self._queue.measured([(each.call, to.compute_us) for each, to in said if isinstance(to, Answer)])
        pairs = [pair for pair in zip(batch.tickets, outcomes, strict=True) if not pair[0].done()]
        answers = [(ticket, outcome) for ticket, outcome in pairs if isinstance(outcome, Answer)]
        count_answers(self._tally, answers, self._meters)
        for ticket, outcome in pairs:
            if ticket.done():
                continue  # what became of another made it go
            if isinstance(outcome, MofangError):
                ticket.set_exception(outcome)
            else:
                ticket.set_result(outcome)

    def _settle(self) -> None:
        """If the replica is to close and nothing is left, close the engine and tell those who wait for it."""
        if self._idle is None or self._idle.done() or self._running is not None or self._queue.count:
            return
        self._deadlines.close()
        if self._watchdog is not None:
            self._watchdog.close()
        if self._thread is not None:
            self._thread.shutdown()
        self._engine.close()
        self._tally.close()
        self._idle.set_result(None)


def _result(batch: Batch, done: asyncio.Future[tuple[list[Outcome], float]]) -> tuple[list[Outcome], float]:
    error = done.exception()
    if error is None:
        return done.result()
    # Not an Exception (compute catches those): an engine that tried to end the process, say.
    failures: list[Outcome] = [EngineFailed(f"the engine failed: {error!r}") for _ in batch.tickets]
    return failures, time.monotonic() - batch.formed_at
