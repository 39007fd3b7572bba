"""Placement ``process``: the gateway's side of a replica that computes in a worker (``host.py`` is the other side).

A call is written when the turn of the event loop ends that brought it, together with all others of that turn. If the
connection is lost, what was written fails at once with ReplicaLost (nobody knows how far it got); what was not, and
what comes while the supervisor restarts the worker on the same socket, waits for a bounded time and is then written.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterator

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.errors import (
    Draining,
    MofangError,
    Overloaded,
    ReplicaLost,
    ReplicaUnavailable,
    RequestTooLarge,
)
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array
from mofang.base.placement.connection import Connection, probe, stay_connected
from mofang.base.placement.deadlines import Deadlines, expired
from mofang.base.placement.frames import (
    Buffer,
    Frame,
    FrameError,
    encode,
    encode_call,
    encode_calls,
    encode_party,
    form,
)
from mofang.base.placement.headers import Apart, Arrive, Forget, Hello, Refuse, Tell
from mofang.base.placement.parties import Parties
from mofang.base.placement.party import Party, parts
from mofang.base.placement.ticket import FutureTicket, Ticket
from mofang.base.placement.waiting import WaitingRoom

__all__ = ["ProcessPlacement", "ProcessReplica", "probe"]

_UNWRITTEN = 0  # the number of a ticket that is not on the connection
_MAX_WAITING = 1024  # calls that wait for a worker to come back


class ProcessPlacement:
    """Opens replicas in workers; ``reconnect_seconds`` bounds how long calls wait for a worker to come back."""

    def __init__(self, reconnect_seconds: float = 10.0) -> None:
        self._reconnect_seconds = reconnect_seconds

    async def open(self, spec: ReplicaSpec) -> ProcessReplica:
        """See :meth:`Placement.open`. Waits as long as the worker says that it is loading."""
        replica = ProcessReplica(spec, self._reconnect_seconds)
        try:
            await replica.ready()
        except BaseException:
            await replica.close()
            raise
        return replica


class _Ticket(FutureTicket):
    """A future whose cancelling is told to the worker."""

    __slots__ = ("replica",)

    def __init__(self, call: Call, replica: ProcessReplica) -> None:
        super().__init__(call, asyncio.get_running_loop())
        self.replica = replica

    def cancel(self, msg: object = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self.replica.drop(self)
        return cancelled


class ProcessReplica:
    """A :class:`ReplicaHandle` on a worker's socket. Must be made in the event loop it is used in.

    ``on_ready`` is called each time a worker says that it takes calls.
    """

    def __init__(
        self, spec: ReplicaSpec, reconnect_seconds: float, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._spec = spec
        self._reconnect_seconds = reconnect_seconds
        self._on_ready = on_ready
        self._connection: Connection | None = None
        self._hello: Hello | None = None  # the last on this connection
        self._last_number = 0
        self._parties = Parties(spec.limits)
        self._waiting: WaitingRoom[Ticket] = WaitingRoom(_MAX_WAITING, spec.limits.max_queue_bytes)  # not written yet
        self._asked: dict[int, Ticket] = {}  # written, by number
        self._forgotten: list[int] = []  # cancelled after they were written; the worker is not told yet
        self._flush: asyncio.Handle | None = None
        self._deadlines = Deadlines(self._tickets, self._sweep)
        self._down_since = time.monotonic()
        self._outage: asyncio.TimerHandle | None = None  # runs while there is no ready worker
        self._broken = ""  # why calls are refused at once: the worker failed, or stays away
        self._opened: asyncio.Future[None] = loop.create_future()
        self._idle: asyncio.Future[None] | None = None  # what close() awaits
        self._ended = asyncio.Event()  # set while there is no connection
        self._begin_outage()
        connecting = stay_connected(self, spec.socket, self._ended)
        self._connecting: asyncio.Future[None] = loop.create_task(connecting, name=f"connect {spec.id}")

    @property
    def is_connected(self) -> bool:
        """Whether a worker is there and says that it is ready, or loads."""
        return self._hello is not None and self._hello.state in ("ready", "loading")

    @property
    def is_ready(self) -> bool:
        """Whether a worker is there and takes calls."""
        return self._hello is not None and self._hello.state == "ready"

    @property
    def load(self) -> int:
        """Calls that wait or that the worker has."""
        return len(self._asked) + len(self._waiting) + self._parties.calls

    async def ready(self) -> None:
        """Wait for the first time the worker is ready. Raises what it failed with, or ReplicaUnavailable."""
        await self._opened

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """See :meth:`ReplicaHandle.submit`."""
        ticket = _Ticket(call, self)
        self.admit(ticket)
        return ticket

    def admit(self, ticket: Ticket) -> None:
        """See :meth:`ReplicaHandle.admit`."""
        if self._idle is not None:
            raise Draining("the replica takes no more requests")
        if self._broken:
            raise ReplicaUnavailable(self._broken)
        deadline = ticket.call.deadline
        if deadline <= time.monotonic():
            raise expired()
        ticket.number = _UNWRITTEN
        self._check_room(ticket)
        self._waiting.add(ticket)
        self._deadlines.watch(deadline)
        self._schedule()

    async def close(self) -> None:
        """Wait until the calls that were taken have ended, then disconnect."""
        if self._idle is None:
            self._idle = asyncio.get_running_loop().create_future()
            self._settle()
        await asyncio.shield(self._idle)
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        await self._ended.wait()
        self._connecting = self._idle  # the task's CancelledError holds frames that hold this replica

    # --- calls on their way out ---------------------------------------------------------------------------------------

    def _check_room(self, ticket: Ticket) -> None:
        limit = self._spec.limits.max_queue_bytes
        if ticket.size_bytes > limit:
            raise RequestTooLarge(f"{ticket.size_bytes} bytes are more than the {limit} of a queue")
        if not self._waiting.has_room(ticket):
            self._write()  # makes room if the worker is there and reads
        if not self._waiting.has_room(ticket):
            raise Overloaded(
                f"{len(self._waiting)} requests wait for the worker already", retry_after_seconds=self._retry_after()
            )

    def _retry_after(self) -> int:
        if self._outage is None:
            return 1
        return max(1, math.ceil(self._down_since + self._reconnect_seconds - time.monotonic()))

    def _schedule(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        """Write what waits, if the worker is there and reads."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._connection is None or self._connection.paused:
            return
        pieces: list[Buffer] = []
        if self._hello is not None and self._hello.state == "ready":
            for shared, group in itertools.groupby(self._waiting.empty(), lambda ticket: form(ticket.call.inputs)):
                pieces += self._ask(list(group), together=shared is not None)
        if self._forgotten:
            pieces.append(encode(Forget(self._forgotten)))
            self._forgotten = []
        if pieces:
            self._connection.write(pieces)

    def _ask(self, tickets: list[Ticket], *, together: bool) -> list[Buffer]:
        if together and len(tickets) > 1:
            for ticket in tickets:
                ticket.number = self._last_number = self._last_number + 1
                self._asked[ticket.number] = ticket
            return encode_calls([(ticket.number, ticket.call) for ticket in tickets])
        pieces: list[Buffer] = []
        for ticket in tickets:
            number = self._last_number = self._last_number + 1
            try:
                pieces += encode_call(number, ticket.call, self._connection.sharer if self._connection else None)
            except (FrameError, MofangError, TypeError, ValueError) as error:
                ticket.set_exception(RequestTooLarge(f"the request cannot be sent to the worker: {error}"))
                continue
            ticket.number = number
            self._asked[number] = ticket
        return pieces

    def takes(self, rows: int) -> bool:
        """See :meth:`ReplicaHandle.takes`: if the worker takes calls as they come, as far as is known here."""
        connection = self._connection
        if connection is None or connection.paused or self._hello is None or self._hello.state != "ready":
            return False
        return self._idle is None and not self._waiting and self._parties.may_go(rows)

    def board(self, party: Party) -> bool:
        """See :meth:`ReplicaHandle.board`: one frame for all, and one back."""
        assert self._connection is not None
        first = self._last_number + 1
        pieces = encode_party(first, party, self._connection.sharer)
        self._last_number += len(party.rows_of)
        self._parties.go(first, party)
        self._deadlines.watch(party.deadline)
        self._connection.write(pieces)
        return True

    def part(self, party: Party) -> None:
        """See :meth:`ReplicaHandle.part`: from now on its calls are asked like any other, by their numbers."""
        self._asked.update(self._parties.part(party))

    def drop(self, ticket: Ticket) -> None:
        """See :meth:`ReplicaHandle.drop`. The worker is told if it has the call."""
        if self._asked.pop(ticket.number, None) is not None:
            self._forgotten.append(ticket.number)
            self._schedule()
        else:
            self._waiting.keep(each for each in self._waiting if each is not ticket)
        self._settle()

    def _tickets(self) -> Iterator[Ticket]:
        self._part_all()
        yield from self._asked.values()
        yield from self._waiting

    def _part_all(self) -> None:
        for party in self._parties.going():
            self.part(party)

    def _sweep(self) -> None:
        """Drop the calls that ended at their deadline; the worker knows it too."""
        self._asked = {number: ticket for number, ticket in self._asked.items() if not ticket.done()}
        self._waiting.keep(ticket for ticket in self._waiting if not ticket.done())
        self._settle()

    # --- what the worker says (a Listener) ----------------------------------------------------------------------------

    def hear(self, connection: Connection, frame: Frame) -> None:
        """Take in a frame."""
        header, tensors = frame
        if isinstance(header, Tell):
            if ticket := self._asked.pop(header.id, None):
                answer = Answer(tensors, header.compute_us, header.queue_us, header.batch_rows, header.extras)
                ticket.set_result(answer)
                self._settle()
        elif isinstance(header, Arrive):
            self._arrived(header, tensors)
        elif isinstance(header, Apart):
            self._asked.update(self._parties.refused(header.id))
        elif isinstance(header, Refuse):
            if ticket := self._asked.pop(header.id, None):
                self._refused(ticket, header.fault.error())
                self._settle()
        elif isinstance(header, Hello):
            self._connection = connection
            self._hello = header
            self._greeted(header)
        else:
            raise FrameError(f"a worker does not say {type(header).__name__}")

    def _arrived(self, header: Arrive, tensors: dict[str, Array]) -> None:
        answer = Answer(tensors, header.compute_us, header.queue_us, header.batch_rows)
        party = self._parties.arrive(header.id)
        if party is not None:
            party.computed(answer)
        else:  # it went apart here after the worker had begun
            for number, part in enumerate(parts(answer, self._parties.parted(header.id)), header.id):
                if ticket := self._asked.pop(number, None):
                    ticket.set_result(part)
        self._settle()

    def writable(self, connection: Connection) -> None:
        """Write what waited for the worker to read on."""
        self._write()

    def lost(self, connection: Connection) -> None:
        """Fail what was written, keep what was not."""
        self._connection = self._hello = None
        self._ended.set()
        self._part_all()
        self._parties.forget()
        lost, self._asked, self._forgotten = self._asked, {}, []
        for ticket in lost.values():
            ticket.set_exception(ReplicaLost(f"the worker of {self._spec.id!r} died while it had the request"))
        self._begin_outage()
        self._settle()

    def _refused(self, ticket: Ticket, error: MofangError) -> None:
        if isinstance(error, Draining) and not self._broken:
            ticket.number = _UNWRITTEN  # never begun: the worker's successor shall compute it
            self._waiting.add(ticket)
        else:
            ticket.set_exception(error)

    def _greeted(self, hello: Hello) -> None:
        if hello.state == "ready":
            self._end_outage()
            if not self._opened.done():
                self._opened.set_result(None)
            self._write()
            self._on_ready()
            return
        self._begin_outage()
        if hello.state == "failed":
            error = hello.fault.error() if hello.fault else ReplicaUnavailable("the worker failed")
            self._give_up(f"the replica {self._spec.id!r} cannot be loaded: {error}", error)

    # --- staying connected --------------------------------------------------------------------------------------------

    def _begin_outage(self) -> None:
        if self._outage is None and not self._closed():
            self._down_since = time.monotonic()
            loop = asyncio.get_running_loop()
            self._outage = loop.call_later(self._reconnect_seconds, self._stayed_away)

    def _end_outage(self) -> None:
        self._broken = ""
        if self._outage is not None:
            self._outage.cancel()
            self._outage = None

    def _stayed_away(self) -> None:
        self._outage = None
        state = f"is {self._hello.state}" if self._hello else "does not answer"
        reason = f"the worker of {self._spec.id!r} {state} for {self._reconnect_seconds:g} s"
        self._give_up(reason, None if self._hello else ReplicaUnavailable(reason))

    def _give_up(self, reason: str, error: MofangError | None) -> None:
        """Fail what waits, and refuse new calls until a worker is ready; ``error`` also ends :meth:`ready`."""
        self._broken = reason
        for ticket in self._waiting.empty():
            ticket.set_exception(ReplicaUnavailable(reason))
        if error is not None and not self._opened.done():
            self._opened.set_exception(error)
        self._settle()

    def _closed(self) -> bool:
        return self._idle is not None and self._idle.done()

    def _settle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self.load:
            self._idle.set_result(None)
            self._end_outage()
            self._deadlines.close()
